from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from cvsa.errors import CVSAError
from cvsa.methods import build_method
from cvsa.methods.base import embedding_std
from cvsa.methods.catalogue import BASES
from cvsa.methods.heads import MomentumCopy
from cvsa.views import Views

both = pytest.mark.parametrize("base", ["byol", "moco_v2"])


every = pytest.mark.parametrize("base", sorted(BASES))


def made(configure: Any, base: str, **fields: Any) -> tuple[Any, tuple[Views, ...]]:
    """A method and as many views as it takes, with boxes and labels."""
    method, generator = (
        build_method(configure(base=base, cast_weight=3.0, **fields)),
        torch.Generator().manual_seed(0),
    )
    corners = torch.tensor([[2.0, 4.0, 22.0, 26.0]])

    def one() -> Views:
        images = torch.rand(8, 3, 32, 32, generator=generator)
        masks = (torch.rand(8, 1, 32, 32, generator=generator) > 0.5).float()
        return Views(images, masks, corners.repeat(8, 1), torch.arange(8))

    return method, tuple(one() for _ in method.takes)


def test_catalogue_and_package_import_no_torch() -> None:
    code = "import sys, cvsa.methods, cvsa.methods.catalogue; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_is_there() -> None:
    import cvsa.methods

    assert all(getattr(cvsa.methods, name) is not None for name in cvsa.methods.__all__)
    with pytest.raises(AttributeError, match="no attribute 'simsiam'"):
        _ = cvsa.methods.simsiam


def test_unknown_base_is_told(configure) -> None:  # type: ignore[no-untyped-def]
    for base, why in (("nowhere:Nothing", "cannot be imported"), ("math:sqrt", "is no Method")):
        with pytest.raises(CVSAError, match=f"'{base}' {why}"):
            build_method(configure(base=base))


@both
def test_losses_are_scalars_with_a_weight_each(configure, views, base: str) -> None:  # type: ignore[no-untyped-def]
    plain, aligned = build_method(configure(base=base)), build_method(configure(base=base, align_weight=0.5))
    assert set(plain(views)) == {"contrastive"} == set(plain.weights)
    losses = aligned(views)
    assert aligned.weights == {"contrastive": 1.0, "alignment": 0.5}
    assert set(losses) == set(aligned.weights)
    assert all(value.shape == () and value.requires_grad for value in losses.values())
    assert set(aligned.diagnostics) == {"embedding_std", "attention_gap"}
    assert not any(value.requires_grad for value in aligned.diagnostics.values())


@both
def test_the_alignment_changes_neither_the_start_nor_the_contrastive_loss(
    configure, views, base: str
) -> None:  # type: ignore[no-untyped-def]
    plain, aligned = build_method(configure(base=base)), build_method(configure(base=base, align_weight=1.0))
    for name, value in plain.state_dict().items():
        assert torch.equal(value, aligned.state_dict()[name]), name
    assert torch.equal(plain(views)["contrastive"], aligned(views)["contrastive"])


def test_building_follows_the_seed_and_leaves_the_global_generator_alone(configure) -> None:  # type: ignore[no-untyped-def]
    before = torch.get_rng_state()
    weights = [next(build_method(configure(seed=seed)).parameters()) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@both
def test_gradient_reaches_all_but_the_momentum_copies(configure, views, base: str) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base=base, align_weight=1.0))
    sum(method(views).values()).backward()
    for name, parameter in method.named_parameters():
        assert (parameter.grad is None) == ("target" in name), name
        assert parameter.requires_grad == ("target" not in name), name


@both
def test_after_step_moves_every_copy_by_the_formula(configure, base: str) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base=base, align_weight=1.0))
    with torch.no_grad():
        for parameter in method.parameters():
            if parameter.requires_grad:
                parameter.add_(1.0)
    before = copy.deepcopy(method.state_dict())
    method.after_step(0.3)
    m = method.momentum(0.3)
    followed = {
        "target_encoder": method.encoder,
        "target_projector": method.projector,
        "alignment.target_g_conv": method.alignment.g_conv,
    }
    copies = {name for name, module in method.named_modules() if isinstance(module, MomentumCopy)}
    assert copies == set(followed)
    for name, online in followed.items():
        for key, value in online.named_parameters():
            old, new = before[f"{name}.module.{key}"], method.state_dict()[f"{name}.module.{key}"]
            torch.testing.assert_close(new, m * old + (1 - m) * value.detach())
            assert torch.equal(before[f"{name}.module.{key}"] + 1, value), (
                "the online module itself must not move"
            )


def test_momentum_copy_keeps_its_own_statistics_and_follows_a_deep_copy() -> None:
    online = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    pair = nn.ModuleDict({"online": online, "target": MomentumCopy(online)})
    twin = copy.deepcopy(pair)
    twin["online"](torch.ones(4, 2))
    twin["target"].update(0.0)
    assert int(twin["online"][1].num_batches_tracked) == 1
    assert int(twin["target"].module[1].num_batches_tracked) == 0
    with torch.no_grad():
        twin["online"][0].weight.fill_(7.0)
    twin["target"].update(0.0)
    assert bool((twin["target"].module[0].weight == 7).all())
    assert not bool((pair["target"].module[0].weight == 7).any())


def test_embedding_std_is_one_when_isotropic_and_zero_when_collapsed() -> None:
    generator = torch.Generator().manual_seed(0)
    assert float(embedding_std(torch.randn(4000, 32, generator=generator))) == pytest.approx(1, abs=0.02)
    assert float(embedding_std(torch.ones(10, 32))) == pytest.approx(0, abs=1e-6)


@both
def test_attention_of_the_first_view(configure, views, base: str) -> None:  # type: ignore[no-untyped-def]
    method = build_method(configure(base=base, align_weight=1.0)).eval()
    a = method.attention(views)
    assert a.shape == (8, 1, *method.encoder(views[0].images).shape[2:])
    assert not a.requires_grad and float(a.min()) > 0 and float(a.max()) < 1
    with pytest.raises(CVSAError, match="No alignment module"):
        build_method(configure(base=base)).attention(views)


@every
def test_bf16_autocast_and_channels_last_agree_with_fp32(configure, base: str) -> None:  # type: ignore[no-untyped-def]
    method, views = made(configure, base, align_weight=float(BASES[base].alignment))
    plain = method(views)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = method.to(memory_format=torch.channels_last)(views)
    for name, value in plain.items():
        assert mixed[name].dtype == torch.float32
        torch.testing.assert_close(mixed[name], value, rtol=0.05, atol=0.05)


@every
def test_passes_are_those_of_the_catalogue(configure, base: str) -> None:  # type: ignore[no-untyped-def]
    """The cost estimates rest on them: images through a backbone per reference, with gradient and without."""
    method, views = made(configure, base)
    images = {True: 0, False: 0}

    def count(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        images[output.requires_grad] += len(output)

    method.encoder.register_forward_hook(count)
    if hasattr(method, "target_encoder"):
        method.target_encoder.register_forward_hook(count)
    method(views)
    assert (images[True] / 8, images[False] / 8) == BASES[base].passes


@every
def test_resumes_from_its_state_exactly(configure, base: str) -> None:  # type: ignore[no-untyped-def]
    """Whatever a method keeps between steps is in its state: a reloaded one goes on bit for bit."""

    def steps(method: Any, count: int) -> list[float]:
        optimiser = torch.optim.SGD(method.parameters(), lr=0.1)
        history = []
        for n in range(count):
            total = torch.stack(list(method(views).values())).sum()
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
            method.after_step(n / count)
            history.append(float(total.detach()))
        return history

    fields = {"align_weight": float(BASES[base].alignment), "queue_size": 20}
    first, views = made(configure, base, **fields)
    steps(first, 2)
    second, _ = made(configure, base, seed=1, **fields)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert steps(first, 2) == steps(second, 2)
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
