from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from methods_support import crop, early_and_late, scenes, train
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.methods import build_method
from cvsa.methods.cast import cast_loss
from cvsa.methods.grad_cam import grad_cam
from cvsa.views import Views

Pair = tuple[Views, Views]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def method(configure: Any) -> Any:
    return build_method(configure(base="moco_cast", cast_weight=3.0))


def test_grad_cam_equals_finite_differences_position_by_position() -> None:
    """The weight of a channel is the mean over its positions of how the score answers to a nudge there."""
    features, head, key = draw(2, 3, 2, 2), draw(4, 3, seed=1), draw(2, 4, seed=2)

    def score(a: Tensor) -> Tensor:
        return (F.normalize((a.mean((2, 3)) @ head.T).tanh(), dim=1) * key).sum(1)

    ours = grad_cam(features.requires_grad_(), score(features)).detach()
    plain, nudge = features.detach(), 1e-6
    for b in range(2):
        weights = []
        for c in range(3):
            slopes = []
            for i in range(4):
                there = plain.clone()
                there[b, c, i // 2, i % 2] += nudge
                slopes.append(float(score(there)[b] - score(plain)[b]) / nudge)
            weights.append(sum(slopes) / 4)
        for i in range(4):
            cam = sum(w * float(plain[b, c, i // 2, i % 2]) for c, w in enumerate(weights))
            assert float(ours[b, 0, i // 2, i % 2]) == pytest.approx(max(cam, 0.0), rel=1e-4, abs=1e-8)


def test_loss_equals_the_naive_one_over_images_with_a_mask() -> None:
    cam, mask = draw(4, 1, 2, 3).abs(), draw(4, 1, 2, 3, seed=1).abs()
    mask[2] = 0
    total = 0.0
    for b in (0, 1, 3):
        g, m = cam[b].flatten().tolist(), mask[b].flatten().tolist()
        dot = sum(x * y for x, y in zip(g, m, strict=True))
        total += 1 - dot / (sum(x * x for x in g) * sum(y * y for y in m)) ** 0.5
    assert float(cast_loss(cam, mask)) == pytest.approx(total / 3, rel=1e-9)
    assert float(cast_loss(cam, mask * 0)) == 0
    assert float(cast_loss(5 * mask, mask)) == pytest.approx(0, abs=1e-9)


def test_a_larger_mask_is_averaged_over_the_area() -> None:
    cam, mask = draw(1, 1, 2, 2).abs(), torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    mask[..., :4, :2] = 1
    reduced = torch.tensor([[[[0.5, 0], [0, 0]]]], dtype=torch.float64)
    torch.testing.assert_close(cast_loss(cam, mask), cast_loss(cam, reduced))


def test_the_loss_differentiates_through_the_grad_cam() -> None:
    """A second derivative: the gradient by the map and by the head, against finite differences."""
    features, head = draw(2, 3, 2, 2).abs().requires_grad_(), draw(4, 3, seed=1).requires_grad_()
    key, mask = draw(2, 4, seed=2), draw(2, 1, 2, 2, seed=3).abs()

    def loss(a: Tensor, h: Tensor) -> Tensor:
        q = F.normalize((a.mean((2, 3)) @ h.T).tanh(), dim=1)
        return cast_loss(grad_cam(a, (q * key).sum(1)), mask)

    assert float(loss(features, head).detach()) < 1  # some position is active
    assert torch.autograd.gradcheck(loss, (features, head))


def test_contrast_is_mocos_and_the_masked_key_stays_out_of_the_queue(
    method: Any, configure, views: Pair
) -> None:  # type: ignore[no-untyped-def]
    plain = build_method(configure(base="moco_v2"))
    losses = method(views)
    torch.testing.assert_close(losses["contrastive"], plain(views)["contrastive"])
    assert method.weights == {"contrastive": 1.0, "cast": 3.0} and set(losses) == set(method.weights)
    method.after_step(0.1)
    plain.after_step(0.1)
    torch.testing.assert_close(method.queue.keys, plain.queue.keys)


def test_the_score_is_that_of_the_key_without_its_background(method: Any, views: Pair) -> None:
    method.eval()
    expected = method(views)["cast"]
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    painted = torch.where(views[1].masks > 0, views[1].images, mean)
    online = method.encoder(views[0].images)
    q = F.normalize(method.projector(online.mean((2, 3))), dim=1)
    k = F.normalize(method.target_projector(method.target_encoder(painted).mean((2, 3))), dim=1)
    cam = grad_cam(online, (q * k).sum(1) / 0.2)
    torch.testing.assert_close(expected, cast_loss(cam, views[0].masks))
    other = replace(views[1], images=views[1].images * views[1].masks)  # another background
    torch.testing.assert_close(method((views[0], other))["cast"], expected)


def test_gradient_reaches_backbone_and_head_but_no_copy(method: Any, views: Pair) -> None:
    method(views)["cast"].backward()
    for name, parameter in method.named_parameters():
        assert (parameter.grad is None) == ("target" in name), name


def test_bf16_agrees_with_fp32(method: Any, views: Pair) -> None:
    plain = method(views)["cast"]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = method(views)["cast"]
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, plain, rtol=0.1, atol=0.05)


def test_another_number_of_views_is_told(method: Any, views: Pair) -> None:
    with pytest.raises(CVSAError, match=r"^MoCoCAST takes 2 views \(query, key\), got 1"):
        method(views[:1])


def test_learns(configure) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="moco_cast", cast_weight=1.0, projector_norm=True, queue_size=64))
    generator = torch.Generator().manual_seed(1)

    def views() -> Pair:
        images, masks, _ = scenes(24, generator)
        return crop(images, masks, generator), crop(images, masks, generator)

    train(method, views, 3, lr=0.0)  # a queue of real keys
    history = train(method, views, 50)
    early, late = early_and_late(history["cast"])
    assert late < 0.85 * early
    early, late = early_and_late(history["contrastive"])
    assert late < 0.9 * early
