"""A training step: the same outcome in either precision and compiled or not; no value is read back in it."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cvsa.config import FinetuneConfig, PretrainConfig, resolve
from cvsa.evaluation.finetune import finetune
from cvsa.methods.catalogue import ROWS
from cvsa.steps import noise, row_views
from cvsa.training.optim import build_optimizer
from cvsa.training.pretrain import build_views, initialise, pretrain
from cvsa.training.runtime import Runtime
from cvsa.training.step import Totals, TrainStep

TRAINED = [name for name, row in ROWS.items() if row.base != "none"]
# Reads a value, or a number of values, from the device: a GPU would be waited for.
READS = {"aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::equal", "aten::is_nonzero"}


def config_of(row: str, small: dict[str, Any], **fields: Any) -> PretrainConfig:
    return resolve(PretrainConfig, **{**small, "row": row, "device": "cpu", **fields})


def steps(config: PretrainConfig, count: int) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """What so many steps tell, on the same views, and the weights after them."""
    runtime = Runtime.of(config)
    method = initialise(config, runtime).train()
    step, make = TrainStep(method, config, runtime), row_views(config, runtime)
    told = [step(make(), 0.5) for _ in range(count)]
    return [{k: float(v) for k, v in each.items()} for each in told], method.state_dict()


class Reads(TorchDispatchMode):
    """Collects the operations that read from the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name in READS:
            self.found.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def test_reading_is_noticed() -> None:
    with Reads() as reads:
        float(torch.ones(1) + 1)
        torch.ones(2).nonzero()
    assert len(reads.found) == 2


@pytest.mark.parametrize("row", TRAINED)
def test_no_step_reads_from_the_device(row: str, small: dict[str, Any]) -> None:
    config = config_of(row, small)
    runtime = Runtime.of(config)
    step, views = (
        TrainStep(initialise(config, runtime).train(), config, runtime),
        row_views(config, runtime)(),
    )
    totals = Totals(runtime.device)
    with Reads() as reads:
        for _ in range(2):
            totals.add(step(views, 0.5))
    assert reads.found == []
    assert set(totals.means(2)) >= {"loss", "gradient_norm"}


@pytest.mark.parametrize("row", TRAINED)
def test_views_and_steps_run_where_nothing_can_be_read(
    row: str, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the meta device, which has shapes but no values: asking it for one fails, and so does mixing it with
    the CPU, as on a GPU.
    """
    config, meta = config_of(row, small), torch.device("meta")
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # knows no meta device
    bank = noise(64, 2 * config.bank_size, torch.Generator().manual_seed(0))
    maker = build_views(config, bank)
    maker.bank = bank.to(meta)
    views = maker(torch.arange(config.batch_size), torch.Generator().manual_seed(0))
    method = initialise(config, Runtime(torch.device("cpu"), False)).to(meta).train()
    # The fused optimiser knows no meta device either, so it is the one part left out.
    monkeypatch.setattr(
        "cvsa.training.step.build_optimizer",
        lambda module, config: torch.optim.SGD(
            [p for p in module.parameters() if p.requires_grad], lr=config.lr, momentum=0.9, foreach=True
        ),
    )
    told = TrainStep(method, config, Runtime(meta, False))(views, 0.5)
    assert {value.device for value in [*told.values(), *(view.images for view in views)]} == {meta}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("row", TRAINED)
def test_a_gpu_is_not_waited_for(row: str, small: dict[str, Any]) -> None:
    config = config_of(row, small, device="cuda")
    runtime = Runtime.of(config)
    bank = noise(64, config.bank_size, torch.Generator().manual_seed(0))
    make, method = row_views(config, runtime, bank), initialise(config, runtime).train()
    step, totals = TrainStep(method, config, runtime), Totals(runtime.device)
    totals.add(step(make(), 0.5))  # the first makes constants and chooses convolutions
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(2):
            totals.add(step(make(), 0.5))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.isfinite(torch.tensor(list(totals.means(3).values()))))


def test_totals_are_means_of_what_was_added() -> None:
    totals = Totals(torch.device("cpu"))
    for value in (1.0, 2.0, 6.0):
        totals.add({"a": torch.tensor(value), "b": torch.tensor(-value, dtype=torch.bfloat16)})
    assert totals.means(3) == {"a": 3.0, "b": -3.0}


def test_a_cpu_takes_fp32_unless_asked(small: dict[str, Any]) -> None:
    """Whatever units it has: a run's numbers do not depend on the processor's age."""
    assert not Runtime.of(config_of("BYOL", small)).bf16
    assert Runtime.of(config_of("BYOL", small, precision="bf16")).bf16


def test_both_precisions_learn_to_classify(tmp_path: Path) -> None:
    found = {}
    for precision in ("fp32", "bf16"):
        record = finetune(
            tmp_path / precision, row="Random", precision=precision, device="cpu", num_classes=10,
            habitat_bias=0.1, bank_size=32, image_size=32, train_images=400, val_images=20, test_images=300,
            epochs=12, batch_size=50, lr=0.1, warmup_epochs=1,
        )  # fmt: skip
        assert record.hardware["precision"] == precision
        found[precision] = record.metrics["test_accuracy"]
    assert min(found.values()) > 0.4  # ten classes: chance is 0.1
    assert abs(found["fp32"] - found["bf16"]) < 0.1


def test_both_precisions_learn_to_align(small: dict[str, Any], tmp_path: Path) -> None:
    found = {}
    for precision in ("fp32", "bf16"):
        config = config_of("BYOL+CVSA", small, precision=precision, epochs=20, lr=0.1, train_images=100)
        found[precision] = pretrain(config, tmp_path / precision).metrics
    low, high = (found[precision]["attention_gap"] for precision in ("fp32", "bf16"))
    assert min(low, high) > 0.15 and abs(low - high) < 0.08
    assert found["bf16"]["alignment"] == pytest.approx(found["fp32"]["alignment"], rel=0.15)


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler")
def test_compiled_or_not_the_steps_agree(small: dict[str, Any]) -> None:
    fields = {**small, "batch_size": 8}
    plain, weights = steps(config_of("BYOL+CVSA", fields), 3)
    compiled, others = steps(config_of("BYOL+CVSA", fields, compile=True), 3)
    for one, other in zip(plain, compiled, strict=True):
        assert other == pytest.approx(one, rel=1e-3, abs=1e-4)
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=1e-3, atol=1e-4)


def test_where_a_run_computes_is_not_its_identity(small: dict[str, Any]) -> None:
    here = config_of("BYOL", small)
    assert here.identity() == config_of("BYOL", small, compile=True, gpus=2).identity()
    assert here.identity() != config_of("BYOL", small, precision="bf16").identity()


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_optimisers_update_all_weights_in_one_go(name: str) -> None:
    config = resolve(FinetuneConfig, optimizer=name, row="Random")
    assert build_optimizer(torch.nn.Linear(3, 2), config).defaults["fused"]
