"""Two processes that share every step make the run of one."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tests_support import SMALL
from torch import Tensor, nn

import cvsa.training.loop as loop
from cvsa.config import FinetuneConfig, PretrainConfig, resolve
from cvsa.data.datasets import load_splits
from cvsa.errors import CVSAError
from cvsa.evaluation.finetune import finetune, finetune_here
from cvsa.launch import FAILURE, check_devices, explain, launch
from cvsa.methods import world as worlds
from cvsa.methods.catalogue import ROWS
from cvsa.methods.heads import MomentumCopy, mlp
from cvsa.methods.simclr import nt_xent
from cvsa.methods.world import World, join, world
from cvsa.records import Record
from cvsa.training.checkpoint import CHECKPOINT, load_checkpoint
from cvsa.training.loop import fit
from cvsa.training.pretrain import build_views, initialise, load_method, pretrain, pretrain_here
from cvsa.training.runtime import Runtime, seeded
from cvsa.training.shared import SharedBatchNorm, connect, synchronise
from cvsa.training.step import TrainStep
from cvsa.views import Views

SIZE = 2
# Every base, with the alignment and without: what else rows differ in are views.
ALL = {(row.base, row.align_weight > 0): name for name, row in ROWS.items() if row.base != "none"}
NAMES = sorted(ALL.values())
EPS = 1e-9  # in double precision only the order of sums differs, and training makes that little grow a little


def learn(row: str, folder: Path) -> dict[str, Any]:
    """Train a row for four steps in double precision; history and weights."""
    config = resolve(PretrainConfig, **{**SMALL, "batch_size": 30, "epochs": 2, "row": row, "device": "cpu"})
    runtime = Runtime.of(config)
    bank = load_splits(config)["train"]
    method, views = initialise(config, runtime).double(), build_views(config, bank)

    def make_batch(index: Tensor, generator: torch.Generator) -> tuple[Views, ...]:
        made = []
        for view in views(index, generator):
            masks = view.masks.double()
            masks[:3] = 0  # no object: the processes have different numbers of images with a mask
            made.append(replace(view, images=view.images.double(), masks=masks))
        return tuple(made)

    with seeded(config.seed, runtime.device):
        history, _ = fit(method, make_batch, bank, config, runtime, folder, row)
    return {"history": history.drop(columns="seconds"), "state": method.state_dict()}


class Spare(nn.Module):
    """Has weights that it does not use, as some published backbones have."""

    weights = {"distance": 1.0}

    def __init__(self) -> None:
        super().__init__()
        self.diagnostics: dict[str, Tensor] = {}
        torch.manual_seed(0)
        self.used, self.spare = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        return {"distance": self.used(rows).square().mean()}

    def after_step(self, progress: float) -> None: ...


def train_spare() -> Spare:
    config = resolve(PretrainConfig, weight_decay=0.1)
    module = Spare()
    step = TrainStep(module, config, Runtime(torch.device("cpu"), False))
    for _ in range(2):
        step(torch.arange(12.0).view(4, 3).sin(), 1.0)
    return module


def norms() -> dict[str, tuple[nn.Module, Tensor]]:
    """Layers and the whole batch they see."""
    draw = torch.Generator().manual_seed(1)
    shapes = {
        "vectors": (12, 5),
        "maps": (6, 5, 3, 4),
        "affine": (12, 5),
        "average": (12, 5),
        "act": (6, 5, 3, 4),
    }
    from timm.layers import BatchNormAct2d

    layers = {
        "vectors": nn.BatchNorm1d(5), "maps": nn.BatchNorm2d(5), "affine": nn.BatchNorm1d(5, affine=False),
        "average": nn.BatchNorm1d(5, momentum=None), "act": BatchNormAct2d(5),
    }  # fmt: skip
    return {
        name: (nn.Sequential(layers[name]).double(), torch.randn(shape, generator=draw).double() * 3 + 2)
        for name, shape in shapes.items()
    }


def normalise(layer: nn.Module, whole: Tensor) -> dict[str, Tensor]:
    """Values, gradients and second derivatives of a layer for this process's rows, and its state."""
    here = world()
    rows = here.share(whole).clone().requires_grad_()
    y = layer(rows)
    weights = here.share(torch.linspace(-1, 2, whole.numel(), dtype=torch.double).view_as(whole).sin())
    (first,) = torch.autograd.grad((weights * y.pow(2)).sum(), rows, create_graph=True)
    (second,) = torch.autograd.grad((weights * first.pow(2)).sum(), rows)
    return {"y": y.detach(), "first": first.detach(), "second": second, **layer.state_dict()}


def embeddings() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(2)
    return tuple(torch.randn(8, 4, generator=draw, dtype=torch.double) for _ in range(2))  # type: ignore[return-value]


def take_part(rank: int, folder: Path) -> None:
    """What each of two processes does: all that needs a second one, so that only one pair is started."""
    torch.set_num_threads(1)
    join(rank, SIZE, folder / "meeting", cuda=False)
    told: dict[str, Any] = {"learned": {name: learn(name, folder / name) for name in NAMES}}
    told["spare"] = train_spare()
    told["norms"] = {}
    for name, (layer, whole) in norms().items():
        synchronise(layer)
        assert isinstance(layer[0], SharedBatchNorm)
        told["norms"][name] = normalise(layer, whole)
    pair = [world().share(z).clone().requires_grad_() for z in embeddings()]
    loss = nt_xent(*(world().gather(z) for z in pair), 0.2)
    told["nt_xent"] = loss.detach(), torch.autograd.grad(loss, pair)
    told["gathered"] = world().gather(torch.arange(3) + 3 * rank)
    torch.save(told, folder / f"{rank}.pt")
    worlds.part()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, _own_cache: None) -> list[dict[str, Any]]:
    """What two processes found."""
    folder = tmp_path_factory.mktemp("pair")
    load_splits(resolve(PretrainConfig, **SMALL))  # before two processes want it
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=take_part, args=(rank, folder), daemon=True) for rank in range(SIZE)]
    for process in processes:
        process.start()
    until = time.monotonic() + 120
    for process in processes:
        process.join(max(0.0, until - time.monotonic()))
        process.kill()
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(SIZE)]


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Path]:
    """A folder for the same by one process."""
    assert world() == World()
    yield tmp_path


def assert_one_run(ours: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    for told in ours:
        assert list(told["state"]) == list(expected["state"])
        for name, value in expected["state"].items():
            torch.testing.assert_close(told["state"][name], value, rtol=EPS, atol=EPS, msg=name)
        # Scalars are summed up in single precision.
        pd.testing.assert_frame_equal(told["history"], expected["history"], rtol=1e-5, atol=1e-6)
    first, second = (told["state"] for told in ours)
    assert all(
        torch.equal(first[name], second[name]) for name in first
    )  # to the last bit: queues, copies, all


@pytest.mark.parametrize("row", NAMES)
def test_two_processes_learn_what_one_learns(row: str, pair: list[dict[str, Any]], alone: Path) -> None:
    assert_one_run([told["learned"][row] for told in pair], learn(row, alone))


def test_weights_that_are_not_used_stay_as_they_are(pair: list[dict[str, Any]]) -> None:
    expected = train_spare()
    for told in pair:
        for name, value in told["spare"].named_parameters():
            torch.testing.assert_close(value, expected.get_parameter(name))
        assert told["spare"].spare.weight.grad is None
    assert torch.equal(expected.spare.weight, Spare().spare.weight)  # no gradient, hence no decay either


@pytest.mark.parametrize("name", list(norms()))
def test_shared_batch_norm_is_batch_norm_of_the_whole_batch(name: str, pair: list[dict[str, Any]]) -> None:
    layer, whole = norms()[name]
    expected = normalise(layer, whole)
    ours = [told["norms"][name] for told in pair]
    for key, value in expected.items():
        found = torch.cat([told[key] for told in ours]) if key in ("y", "first", "second") else ours[0][key]
        torch.testing.assert_close(found, value, rtol=1e-10, atol=1e-10, msg=key)
    layer.eval()
    shared = copy.deepcopy(layer)
    synchronise(shared)
    assert torch.equal(shared(whole), layer(whole))


def test_the_gradient_of_nt_xent_spans_the_processes(pair: list[dict[str, Any]]) -> None:
    z = [e.requires_grad_() for e in embeddings()]
    loss = nt_xent(*z, 0.2)
    expected = torch.autograd.grad(loss, z)
    for told in pair:
        torch.testing.assert_close(told["nt_xent"][0], loss.detach(), rtol=1e-12, atol=0)
    # Each process has all of the loss, and gradients of weights are averaged: what reaches a row is the sum.
    for view in range(2):
        found = torch.cat([told["nt_xent"][1][view] for told in pair]) / SIZE
        torch.testing.assert_close(found, expected[view], rtol=1e-10, atol=1e-12)


def test_rows_are_gathered_in_the_order_of_ranks(pair: list[dict[str, Any]]) -> None:
    assert all(told["gathered"].tolist() == list(range(6)) for told in pair)


def test_a_batch_is_shared_in_one_piece_a_process() -> None:
    images, masks = torch.rand(6, 3, 4, 4), torch.rand(6, 1, 4, 4)
    batch = (Views(images, masks, labels=torch.arange(6)), Views(images, masks, boxes=torch.rand(6, 4)))
    first, second = World(1, 3).share(batch)
    assert torch.equal(first.images, images[2:4]) and first.labels.tolist() == [2, 3] and first.boxes is None
    assert torch.equal(second.boxes, batch[1].boxes[2:4]) and torch.equal(second.masks, masks[2:4])
    assert [part.tolist() for part in World(2, 3).share((torch.arange(6), torch.arange(6)))] == [[4, 5]] * 2


def test_alone_all_is_returned_as_it_is() -> None:
    here, value, network = World(), torch.rand(3), nn.BatchNorm1d(3)
    assert all(does(value) is value for does in (here.share, here.gather, here.total, here.mean))
    assert connect(network) is network and type(network) is nn.BatchNorm1d


def test_momentum_copies_follow_a_converted_network() -> None:
    online = mlp(3, 4, 2, norm=True)
    both = nn.ModuleDict({"online": online, "copy": MomentumCopy(online)})
    names = list(both.state_dict())
    synchronise(both)
    assert list(both.state_dict()) == names and isinstance(both["copy"].module[1], SharedBatchNorm)
    with torch.no_grad():
        both["online"][1].weight.fill_(3)
    both["copy"].update(0.0)
    assert both["copy"].module[1].weight.tolist() == [3.0] * 4


def test_a_batch_norm_of_its_own_kind_is_refused() -> None:
    class Odd(nn.BatchNorm1d):
        def forward(self, x: Tensor) -> Tensor:
            return x

    with pytest.raises(CVSAError, match=r"head.*Odd.*gpus 1"):
        synchronise(nn.ModuleDict({"head": Odd(3)}))


# ---- whole runs, started as a user starts them


def impatient(config: PretrainConfig, out: Path) -> Record | None:
    """Pre-train with a checkpoint after every epoch."""
    loop.CHECKPOINT_SECONDS = -1.0
    return pretrain_here(config, out)


def raise_in_the_second(config: PretrainConfig, out: Path) -> None:
    if world().rank == 1:
        raise CVSAError("No such bird: 'dodo'. Choose another.")
    world().total(torch.ones(1))  # would wait for ever


def sleep(config: PretrainConfig, out: Path) -> None:
    (out / f"pid-{world().rank}").write_text(str(os.getpid()))
    time.sleep(600)


@pytest.fixture
def shared() -> PretrainConfig:
    return resolve(PretrainConfig, **SMALL, row="BYOL+CVSA", device="cpu", gpus=SIZE)


def test_a_run_of_two_is_interrupted_and_finished_by_one(
    trained: Path, shared: PretrainConfig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        while not (tmp_path / CHECKPOINT).exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        launch(impatient, shared, tmp_path)
    assert "BYOL+CVSA" in capfd.readouterr().err  # the progress bar
    state = load_checkpoint(tmp_path, shared.identity(), loop.code_hash(shared))
    assert state is not None and state["epoch"] < 3 and not (tmp_path / "record.json").exists()
    one = resolve(PretrainConfig, **SMALL, row="BYOL+CVSA", device="cpu")
    record, whole = pretrain(one, tmp_path), pretrain(one, trained)
    # In single precision, three epochs on.
    assert record.metrics == pytest.approx(whole.metrics, rel=2e-2, abs=1e-3)
    assert "processes" not in record.hardware
    load_method(one, tmp_path, Runtime.of(one))


def test_fine_tuning_is_shared_too(trained: Path, tmp_path: Path) -> None:
    names = ("batch_size", "epochs", "warmup_epochs")
    given = {"pretrained": trained, "device": "cpu", **{name: SMALL[name] for name in names}}
    one, two = finetune(tmp_path / "one", **given), finetune(tmp_path / "two", **given, gpus=SIZE)
    assert two.hardware["processes"] == SIZE and two.run_id == one.run_id
    histories = [
        pd.read_csv(tmp_path / name / "history.csv").drop(columns="seconds") for name in ("one", "two")
    ]
    pd.testing.assert_frame_equal(*histories, rtol=1e-3, atol=1e-4)
    found = [pd.read_csv(tmp_path / name / "predictions.csv") for name in ("one", "two")]
    assert (found[0] == found[1]).mean().min() > 0.95
    assert two.images_per_second > 0 and not (tmp_path / "two" / CHECKPOINT).exists()
    again = finetune(tmp_path / "two", **given)  # by any number: it is the same run
    assert again == two


def test_the_line_of_a_failing_process_comes_out(shared: PretrainConfig, tmp_path: Path) -> None:
    with pytest.raises(CVSAError, match=r"^No such bird: 'dodo'. Choose another.$"):
        launch(raise_in_the_second, shared, tmp_path)


def test_what_went_wrong_first_is_told(tmp_path: Path) -> None:
    with pytest.raises(CVSAError, match=r"^Process 2 of 3 ended with status 3\. Run it again.*\.$"):
        explain([None, 0, 3], tmp_path)
    lost = {"ours": False, "line": "RuntimeError: connection closed", "time": 2.0, "trace": "..."}
    (tmp_path / FAILURE.format(0)).write_text(json.dumps(lost))
    with pytest.raises(CVSAError, match=r"^Process 0 of 3 failed: RuntimeError: connection closed$"):
        explain([1, None, None], tmp_path)
    with pytest.raises(
        CVSAError, match=r"^Process 1 of 3 was ended by SIGKILL; often memory ran out\. Run.*$"
    ):
        explain([1, -9, None], tmp_path)
    (tmp_path / FAILURE.format(2)).write_text(json.dumps(lost | {"ours": True, "line": "Mine.", "time": 3.0}))
    with pytest.raises(CVSAError, match=r"^Mine\.$"):
        explain([1, -9, 1], tmp_path)


def test_labels_too_few_to_be_shared_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {name: value for name, value in SMALL.items() if name in FinetuneConfig.model_fields}
    fields |= {"batch_size": 21, "label_fraction": 0.25, "gpus": 3}
    monkeypatch.setattr(worlds, "_world", World(0, 3))
    with pytest.raises(CVSAError, match=r"20 images cannot be shared by gpus 3.* 20 training images"):
        finetune_here(resolve(FinetuneConfig, row="Random", **fields, device="cpu"), tmp_path)


def test_processes_end_with_the_one_that_started_them(shared: PretrainConfig, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cvsa.config import PretrainConfig, resolve\n"
        f"sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}\n"
        "import test_world; from cvsa.launch import launch\n"
        f"config = resolve(PretrainConfig, gpus={SIZE}, device='cpu')\n"
        f"launch(test_world.sleep, config, Path({str(tmp_path)!r}))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    files = [tmp_path / f"pid-{rank}" for rank in range(SIZE)]
    until = time.monotonic() + 60
    while not all(file.exists() and file.read_text() for file in files) and time.monotonic() < until:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    pids = [int(file.read_text()) for file in files]
    until = time.monotonic() + 10
    while any(map(runs, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(runs, pids))


def runs(pid: int) -> bool:
    """Whether a process has not ended; in some containers those that nobody waits for stay, as zombies."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("device", "count", "words"),
    [
        ("cuda", 0, "Parameter gpus = 2: this machine has no GPU; set gpus 1 or device cpu."),
        ("auto", 0, "Parameter gpus = 2: this machine has no GPU; set gpus 1 or device cpu."),
        ("auto", 1, "Parameter gpus = 2: this machine has 1 GPU; set gpus 1 or device cpu."),
        ("cuda:3", 4, "Parameter gpus = 2: each process takes a GPU of its own"),
    ],
)
def test_too_few_gpus_are_told_before_anything_starts(
    device: str, count: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    config = resolve(PretrainConfig, **SMALL, device=device, gpus=SIZE)
    with pytest.raises(CVSAError) as error:
        pretrain(config, tmp_path / "run")
    assert str(error.value).startswith(words) and "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
    check_devices(config.model_copy(update={"device": "cpu"}))
