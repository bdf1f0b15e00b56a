from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.methods import SaliencyAlignment, alignment_loss, attention, build_method
from cvsa.methods.base import Method


def triple_loop(query: Tensor, key: Tensor, mask: Tensor) -> float:
    """METHOD's equation, position by position, the sigmoid before the maximum."""
    batch, _, height, width = query.shape
    total = 0.0
    for b in range(batch):
        for i in range(height * width):
            q = query[b, :, i // width, i % width]
            scores = []
            for j in range(key.shape[2] * key.shape[3]):
                k = key[b, :, j // key.shape[3], j % key.shape[3]]
                scores.append(1 / (1 + math.exp(-float(q @ k))))
            total += (max(scores) - float(mask[b, 0, i // width, i % width])) ** 2
    return total / (batch * height * width)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (5, 2)])
def test_equals_the_triple_loop(size: tuple[int, int]) -> None:
    query, key = draw(2, 6, *size), draw(2, 6, *size, seed=1)
    mask = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert float(alignment_loss(query, key, mask)) == pytest.approx(triple_loop(query, key, mask), rel=1e-12)


def test_the_maximum_before_the_sigmoid_has_the_gradient_of_the_one_after() -> None:
    query, key = draw(2, 4, 3, 3).requires_grad_(), draw(2, 4, 3, 3, seed=1)
    mask = torch.ones(2, 1, 3, 3, dtype=torch.float64)
    (ours,) = torch.autograd.grad(alignment_loss(query, key, mask), query)
    scores = torch.einsum("bcq,bck->bqk", query.flatten(2), key.flatten(2)).sigmoid().amax(2)
    (naive,) = torch.autograd.grad((scores - 1).square().mean(), query)
    torch.testing.assert_close(ours, naive)


def test_gradcheck() -> None:
    query, key = draw(2, 3, 2, 3).requires_grad_(), draw(2, 3, 2, 3, seed=1).requires_grad_()
    mask = (draw(2, 1, 2, 3, seed=2) > 0).double()
    assert torch.autograd.gradcheck(alignment_loss, (query, key, mask))


def test_query_and_key_may_differ_in_size() -> None:
    query, key = draw(2, 4, 3, 2), draw(2, 4, 5, 1, seed=1)
    mask = torch.zeros(2, 1, 3, 2, dtype=torch.float64)
    assert float(alignment_loss(query, key, mask)) == pytest.approx(triple_loop(query, key, mask), rel=1e-12)
    assert attention(query, key).shape == (2, 1, 3, 2)


def test_the_order_of_the_key_does_not_matter_and_that_of_the_query_carries_over() -> None:
    query, key = draw(2, 4, 3, 3), draw(2, 4, 3, 3, seed=1)
    a = attention(query, key)
    torch.testing.assert_close(attention(query, key.flip(2, 3)), a)
    torch.testing.assert_close(attention(query.flip(3), key), a.flip(3))


@pytest.mark.parametrize(("sign", "value"), [(1, 1.0), (-1, 0.0)])
def test_masks_of_ones_and_zeros(sign: int, value: float) -> None:
    """All positions agree strongly: A = 1, right for a mask of ones, wrong for zeros; opposed, A = 0."""
    query = torch.full((2, 4, 3, 3), 5.0)
    ones, zeros = torch.ones(2, 1, 3, 3), torch.zeros(2, 1, 3, 3)
    assert float(alignment_loss(query, sign * query, ones)) == pytest.approx((1 - value) ** 2, abs=1e-6)
    assert float(alignment_loss(query, sign * query, zeros)) == pytest.approx(value**2, abs=1e-6)


def test_a_larger_mask_is_averaged_over_the_area() -> None:
    query, key = draw(1, 4, 2, 2), draw(1, 4, 2, 2, seed=1)
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    mask[..., :4, :2] = 1  # half of the upper left quarter
    reduced = torch.tensor([[[[0.5, 0], [0, 0]]]], dtype=torch.float64)
    torch.testing.assert_close(alignment_loss(query, key, mask), alignment_loss(query, key, reduced))


def test_no_tensor_is_larger_than_the_scores() -> None:
    """O(B (HW)^2): no tensor made on the way, forward or backward, exceeds the score matrix."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for o in out if isinstance(out, tuple | list) else [out]:
                largest = max(largest, o.numel() if isinstance(o, Tensor) else 0)
            return out

    query, key = draw(2, 16, 6, 6).requires_grad_(), draw(2, 16, 6, 6, seed=1)
    with Watch():
        alignment_loss(query, key, torch.ones(2, 1, 6, 6, dtype=torch.float64)).backward()
    assert largest == 2 * 36 * 36


@pytest.mark.parametrize("shape", [(2, 4, 4), (2, 3, 4, 4), (1, 1, 4, 4)])
def test_a_mask_of_wrong_shape_is_told(shape: tuple[int, ...]) -> None:
    with pytest.raises(CVSAError, match=r"mask is \(B, 1, H, W\)"):
        alignment_loss(draw(2, 4, 4, 4), draw(2, 4, 4, 4), torch.ones(shape))


def test_maps_of_different_channels_are_told() -> None:
    with pytest.raises(CVSAError, match="same B and C"):
        attention(draw(2, 4, 4, 4), draw(2, 5, 4, 4))


def test_losses_are_taken_in_full_precision_under_autocast() -> None:
    query, key, mask = draw(2, 8, 4, 4).float(), draw(2, 8, 4, 4, seed=1).float(), torch.ones(2, 1, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        under = alignment_loss(query, key, mask)
        assert alignment_loss(query.bfloat16(), key, mask).dtype == torch.float32
    torch.testing.assert_close(under, alignment_loss(query, key, mask), rtol=0, atol=0)


@pytest.mark.parametrize("scores", ["normalised", "raw"])
def test_the_module_is_the_equation_on_its_own_features(scores: str) -> None:
    module = SaliencyAlignment(8, dim=6, scores=scores)  # type: ignore[arg-type]
    query_map, key_map, mask = (
        draw(3, 8, 4, 4).float(),
        draw(3, 8, 4, 4, seed=1).float(),
        torch.ones(3, 1, 16, 16),
    )
    loss, gap = module(query_map, key_map, mask)
    query, key = module.p_conv(module.g_conv(query_map)), module.g_conv(key_map)
    if scores == "normalised":
        scaled = 5 * F.normalize(query, dim=1)
        expected = alignment_loss(scaled, F.normalize(key, dim=1), mask, bias=-2.5)
    else:
        expected = alignment_loss(query, key, mask)
    torch.testing.assert_close(loss, expected)
    assert not gap.requires_grad


@pytest.mark.parametrize("base", ["byol", "simclr"])
def test_one_way_alignment_is_the_first_of_two_terms(configure, views, base: str) -> None:  # type: ignore[no-untyped-def]
    both, one = (
        build_method(configure(base=base, align_weight=1.0, align_symmetric=s)) for s in (True, False)
    )
    terms = []
    for query, key in (views, views[::-1]):  # each view its own batch of the convolutions' BatchNorm
        if base == "byol":
            maps = both.encoder(query.images), both.target_encoder(key.images)
        else:
            first, second = both.encoder(torch.cat([v.images for v in views])).chunk(2)
            maps = (first, second) if query is views[0] else (second, first)
        a = both.alignment.attention(*maps)  # (B, 1, h, w)
        m = F.avg_pool2d(query.masks, query.masks.shape[-1] // a.shape[-1])
        terms.append((a - m).square().mean())
    symmetric, single = both(views), one(views)
    torch.testing.assert_close(single["alignment"], terms[0])
    torch.testing.assert_close(symmetric["alignment"], terms[0] + terms[1])
    assert torch.equal(single["contrastive"], symmetric["contrastive"])
    torch.testing.assert_close(one(views[::-1])["alignment"], terms[1])


def test_one_way_changes_nothing_where_the_base_has_one_direction(configure, views) -> None:  # type: ignore[no-untyped-def]
    one, other = (
        build_method(configure(base="moco_v2", align_weight=1.0, align_symmetric=s))(views)
        for s in (True, False)
    )
    assert all(torch.equal(one[name], other[name]) for name in ("contrastive", "alignment"))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_depth_is_the_number_of_convolutions(configure, depth: int) -> None:  # type: ignore[no-untyped-def]
    d, c = 64, 16
    module = build_method(configure(align_weight=1.0, align_dim=c, align_depth=depth)).alignment
    for part, inputs in ((module.g_conv, d), (module.p_conv, c), (module.target_g_conv.module, d)):
        kinds = [type(layer).__name__ for layer in part]
        assert kinds == ["Conv2d", "BatchNorm2d", "ReLU"] * (depth - 1) + ["Conv2d"]
        hidden = [inputs * c + 2 * c, *[c * c + 2 * c] * (depth - 2)] if depth > 1 else []
        last = (inputs if depth == 1 else c) * c + c
        assert sum(p.numel() for p in part.parameters()) == sum(hidden) + last
    loss, _ = module(draw(3, d, 4, 4).float(), draw(3, d, 4, 4, seed=1).float(), torch.ones(3, 1, 8, 8))
    loss.backward()
    assert all(p.grad is not None for n, p in module.named_parameters() if not n.startswith("target"))


def test_normalised_scores_start_unsaturated() -> None:
    module = SaliencyAlignment(8, dim=6)
    a = module.attention(draw(4, 8, 4, 4).float(), draw(4, 8, 4, 4, seed=1).float())
    assert float(a.detach().min()) > 0.005 and float(a.detach().max()) < 0.95


def test_no_gradient_reaches_the_key() -> None:
    module = SaliencyAlignment(8, dim=6)
    query_map, key_map = (
        draw(3, 8, 4, 4).float().requires_grad_(),
        draw(3, 8, 4, 4, seed=1).float().requires_grad_(),
    )
    module(query_map, key_map, torch.ones(3, 1, 4, 4))[0].backward()
    assert key_map.grad is None
    assert query_map.grad is not None
    assert all(p.grad is None for p in module.target_g_conv.parameters())
    assert all(p.grad is not None for n, p in module.named_parameters() if not n.startswith("target"))


def test_learns_to_tell_the_shared_patch_from_the_backgrounds(configure) -> None:  # type: ignore[no-untyped-def]
    """A patch shared by two views of noise: L_Align falls and the attention finds new patches."""
    from cvsa.views import Views

    generator = torch.Generator().manual_seed(0)

    def pair(batch: int = 24) -> tuple[Views, Views]:
        patch = F.interpolate(
            torch.rand(batch, 3, 4, 4, generator=generator), size=16
        )  # 4 px checks, any colours
        made = []
        for _ in range(2):
            images = torch.rand(batch, 3, 32, 32, generator=generator)
            masks = torch.zeros(batch, 1, 32, 32)
            for n, (x, y) in enumerate(torch.randint(0, 17, (batch, 2), generator=generator).tolist()):
                images[n, :, y : y + 16, x : x + 16] = patch[n]
                masks[n, :, y : y + 16, x : x + 16] = 1
            made.append(Views(images, masks))
        return made[0], made[1]

    method: Method = build_method(configure(align_weight=1.0, projector_hidden=16))
    optimiser = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
    history = []
    for step in range(40):
        losses = method(pair())
        optimiser.zero_grad()
        sum(losses.values()).backward()  # type: ignore[union-attr]
        optimiser.step()
        method.after_step(step / 40)
        history.append(float(losses["alignment"].detach()))
    assert sum(history[-5:]) < 0.5 * sum(history[:5])
    method.eval()
    fresh = pair(64)
    a, m = (
        method.attention(fresh),
        F.adaptive_avg_pool2d(fresh[0].masks, method.encoder(fresh[0].images).shape[2:]),
    )
    assert float(a[m > 0.75].mean() - a[m < 0.25].mean()) > 0.3


def test_normalised_attention_never_saturates() -> None:
    """Whatever the scale is driven to, an attention near 1 still passes a gradient."""
    module = SaliencyAlignment(6, dim=8).eval()
    with torch.no_grad():
        module.ends.copy_(torch.tensor([1e6, 1e6]))
    maps = draw(2, 6, 4, 4, dtype=torch.float32).requires_grad_()
    assert float(module.attention(maps, maps).detach().max()) <= 1 / (1 + math.exp(-4)) + 1e-6
    with torch.no_grad():
        module.ends.copy_(torch.tensor([3.0, -3.0]))
    loss, _ = module(maps, maps, torch.zeros(2, 1, 4, 4))
    loss.backward()
    assert maps.grad is not None and float(maps.grad.abs().sum()) > 0
