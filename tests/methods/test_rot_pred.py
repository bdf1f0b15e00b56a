from __future__ import annotations

import math

import pytest
import torch
from methods_support import crop, early_and_late, scenes, train

from cvsa.errors import CVSAError
from cvsa.methods import SaliencyAlignment, build_method


def test_loss_and_accuracy_equal_the_naive_ones(configure, views) -> None:  # type: ignore[no-untyped-def]
    """Image by image and turn by turn, the pixels moved by hand; in eval mode images do not interact."""
    method = build_method(configure(base="rot_pred")).eval()
    total, right = 0.0, 0
    with torch.no_grad():
        for image in views[0].images:
            turned = image
            for turn in range(4):
                logits = method.classifier(method.encoder(turned[None]).mean((2, 3)))[0].tolist()
                total += -math.log(math.exp(logits[turn]) / sum(map(math.exp, logits)))
                right += logits.index(max(logits)) == turn
                turned = turned.flip(2).transpose(1, 2)  # a quarter turn anticlockwise
        losses = method(views)
    assert float(losses["pretext"]) == pytest.approx(total / 32, rel=1e-4)
    assert float(method.diagnostics["pretext_accuracy"]) == pytest.approx(right / 32)
    assert set(losses) == set(method.weights) == {"pretext"}
    assert set(method.diagnostics) == {"pretext_accuracy"}


def test_all_turns_are_one_batch_and_only_the_first_view_is_seen(configure, views) -> None:  # type: ignore[no-untyped-def]
    method, sizes = build_method(configure(base="rot_pred")), []
    method.encoder.register_forward_hook(lambda m, x, y: sizes.append(len(x[0])))
    torch.testing.assert_close(method(views), method(views[:1]))
    assert sizes == [32, 32]


def test_gradient_reaches_everything_and_nothing_else_is_kept(configure, views) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="rot_pred"))
    method(views)["pretext"].backward()
    assert all(parameter.grad is not None for parameter in method.parameters())
    assert {name.split(".")[0] for name in method.state_dict()} == {"encoder", "classifier"}
    method.after_step(0.5)  # nothing to update


def test_no_view_and_an_alignment_are_told(configure) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="rot_pred"))
    with pytest.raises(CVSAError, match=r"^RotPred takes 1 view \(image\), got 0"):
        method(())
    with pytest.raises(CVSAError, match="^RotPred has no pair of views to align"):
        method.attach_alignment(SaliencyAlignment(64), 1.0)


def test_learns(configure) -> None:  # type: ignore[no-untyped-def]
    method, generator = build_method(configure(base="rot_pred")), torch.Generator().manual_seed(1)

    def views():  # type: ignore[no-untyped-def]
        images, masks, _ = scenes(16, generator)
        return (crop(images, masks, generator),)

    history = train(method, views, 50)
    early, late = early_and_late(history["pretext"])
    assert late < 0.6 * early
    assert early_and_late(history["pretext_accuracy"])[1] > 0.6  # chance 0.25
