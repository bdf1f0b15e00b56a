from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from methods_support import early_and_late, retrieval_accuracy, scenes, train
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.methods import build_method
from cvsa.methods.moco import info_nce
from cvsa.views import Views

Pair = tuple[Views, Views]


@pytest.fixture
def boxed(views: Pair) -> Pair:
    boxes = torch.tensor([[4.0, 8.0, 28.0, 30.0]]).expand(8, 4) + torch.arange(8.0)[:, None] / 4
    return replace(views[0], boxes=boxes - 3), replace(views[1], boxes=boxes)


def bilinear(image: Tensor, y: float, x: float) -> Tensor:
    """Value of (C, H, W) at a point, pixel centres at whole numbers, the border repeated."""
    height, width = image.shape[1:]
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    y0, x0 = min(int(y), height - 2), min(int(x), width - 2)
    fy, fx = y - y0, x - x0
    top = image[:, y0, x0] * (1 - fx) + image[:, y0, x0 + 1] * fx
    below = image[:, y0 + 1, x0] * (1 - fx) + image[:, y0 + 1, x0 + 1] * fx
    return top * (1 - fy) + below * fy


def test_pooling_equals_naive_bilinear_pooling(configure, boxed: Pair) -> None:  # type: ignore[no-untyped-def]
    """7 x 7 bins of the box on the 4 x 4 map, a sample in the middle of each, then their mean."""
    method = build_method(configure(base="insloc"))
    features = torch.randn(8, 5, 4, 4, generator=torch.Generator().manual_seed(3))
    pooled = method.pool(features, boxed[0])
    for n in range(8):
        x1, y1, x2, y2 = (float(v) * 4 / 32 for v in boxed[0].boxes[n])
        samples = [
            bilinear(features[n], y1 + (i + 0.5) * (y2 - y1) / 7 - 0.5, x1 + (j + 0.5) * (x2 - x1) / 7 - 0.5)
            for i in range(7)
            for j in range(7)
        ]
        torch.testing.assert_close(pooled[n], torch.stack(samples).mean(0), rtol=1e-4, atol=1e-5)


def test_a_box_of_the_whole_view_is_nearly_the_global_average(configure, views: Pair) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="insloc"))
    whole = replace(views[0], boxes=torch.tensor([[0.0, 0.0, 32.0, 32.0]]).expand(8, 4))
    flat = torch.linspace(0, 1, 4).expand(8, 2, 4, 4)
    torch.testing.assert_close(method.pool(flat, whole), flat.mean((2, 3)), rtol=0, atol=0.02)


def test_what_lies_outside_the_box_does_not_count(configure, views: Pair) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="insloc"))
    corner = replace(views[0], boxes=torch.tensor([[0.0, 0.0, 12.0, 12.0]]).expand(8, 4))
    features = torch.randn(8, 5, 4, 4, generator=torch.Generator().manual_seed(3))
    other = features.clone()
    other[:, :, 3], other[:, :, :, 3] = 9, 9
    assert torch.equal(method.pool(features, corner), method.pool(other, corner))


def test_loss_is_mocos_between_the_boxes(configure, boxed: Pair) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="insloc"))
    with torch.no_grad():
        for parameter in method.target_encoder.parameters():
            parameter.mul_(1.1)
    q = F.normalize(method.projector(method.pool(method.encoder(boxed[0].images), boxed[0])), dim=1)
    k = F.normalize(method.projector(method.pool(method.target_encoder(boxed[1].images), boxed[1])), dim=1)
    losses = method(boxed)
    torch.testing.assert_close(losses["contrastive"], info_nce(q, k, method.queue.keys, 0.2))
    total = 0.0
    for a, b in zip(q.detach(), k.detach(), strict=True):
        scores = [math.exp(float(a @ n) / 0.2) for n in (b, *method.queue.keys)]
        total += -math.log(scores[0] / sum(scores))
    assert float(losses["contrastive"].detach()) == pytest.approx(total / 8, rel=1e-4)
    method.after_step(0.5)
    torch.testing.assert_close(method.queue.keys[:8], k.detach())


def test_gradient_reaches_the_backbone_through_the_box_only(configure, boxed: Pair) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="insloc"))
    features = torch.randn(8, 64, 4, 4, generator=torch.Generator().manual_seed(3)).requires_grad_()
    method.pool(
        features, replace(boxed[0], boxes=boxed[0].boxes * 0 + torch.tensor([0.0, 0, 8, 8]))
    ).sum().backward()
    assert float(features.grad[:, :, 2:].abs().max()) == 0 < float(features.grad[:, :, 0, 0].min())
    method(boxed)["contrastive"].backward()
    for name, parameter in method.named_parameters():
        assert (parameter.grad is None) == ("target" in name), name


def test_bf16_agrees_with_fp32(configure, boxed: Pair) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="insloc"))
    plain = method(boxed)["contrastive"]
    with torch.autocast("cpu", torch.bfloat16):
        mixed = method(boxed)["contrastive"]
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, plain, rtol=0.05, atol=0.01)


def test_momentum_stays(configure) -> None:  # type: ignore[no-untyped-def]
    assert [build_method(configure(base="insloc")).momentum(t) for t in (0.0, 1.0)] == [0.9, 0.9]


def test_wrong_views_are_told(configure, views: Pair, boxed: Pair) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="insloc"))
    with pytest.raises(CVSAError, match=r"^InsLoc takes 2 views \(query, key\), got 1"):
        method(boxed[:1])
    with pytest.raises(CVSAError, match="needs views with boxes.*random_paste"):
        method(views)


def test_learns_to_find_the_pasted_image_again(configure) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base="insloc", projector_norm=True, queue_size=64))
    generator = torch.Generator().manual_seed(1)

    def paste(images: Tensor) -> Views:
        canvas, boxes = scenes(len(images), generator)[0], []
        for n, (size, x, y) in enumerate(torch.rand(len(images), 3, generator=generator).tolist()):
            side = int(20 + 9 * size)
            x, y = int(x * (33 - side)), int(y * (33 - side))
            canvas[n, :, y : y + side, x : x + side] = F.interpolate(
                images[n : n + 1], size=side, mode="area"
            )[0]
            boxes.append([x, y, x + side, y + side])
        return Views(canvas, torch.ones(len(images), 1, 32, 32), torch.tensor(boxes).float())

    def views(count: int = 32) -> Pair:
        images = scenes(count, generator)[0]
        return paste(images), paste(images)

    train(method, views, 4, lr=0.0)  # a queue of real keys
    early, late = early_and_late(train(method, views, 60)["contrastive"])
    assert late < 0.8 * early
    method.eval()
    z = [method.projector(method.pool(method.encoder(v.images), v)) for v in views(128)]
    assert retrieval_accuracy(z[0], z[1]) > 0.12  # chance 0.008, untrained 0.03
