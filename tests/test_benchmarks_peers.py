"""Peers do the same in kind as we do: recipe, network, images; and parts and points are those of our step."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests_support import SMALL
from torch import Tensor, nn
from torchvision.transforms import v2

from benchmarks import growth, point
from benchmarks.contenders import Ours
from benchmarks.entries import Both, Stage
from benchmarks.images import Endless, Pictures, decoded, write_png
from benchmarks.lightly_models import MODELS, build_lightly
from benchmarks.parts import Watch, instrumented
from benchmarks.recipes import Recipe, by_kornia, by_lightly, by_torchvision, recipes
from benchmarks.rounds import Clock, Entry
from benchmarks.settings import SETTINGS, Setting
from cvsa import steps
from cvsa.config import PretrainConfig
from cvsa.data.bank import ImageBank
from cvsa.data.datasets import load_splits
from cvsa.methods import build_method
from cvsa.report.speed_records import PARTS, Contender, Point
from cvsa.training.runtime import Runtime

SMOKE = Setting("smoke", "as small as it gets", False, "tiny", SMALL)
CPU = Runtime(torch.device("cpu"), bf16=False)


@pytest.fixture(scope="module")
def bank() -> ImageBank:
    return load_splits(SMOKE.data())["train"]


@pytest.fixture(scope="module")
def stage(bank: ImageBank, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    files = write_png(bank, tmp_path_factory.mktemp("png"))
    return Stage(SMOKE, CPU, bank, files, decoded(bank))


def configs() -> list[PretrainConfig]:
    """Both recipes that peers meet: the tiny preset's for all, and MoCo v2's own."""
    return [SMOKE.config("BYOL"), SETTINGS["gpu-resnet18-128"].config("MoCo.v2")]


@pytest.mark.parametrize("config", configs(), ids=lambda config: config.augmentation)
def test_torchvision_has_our_recipe(config: PretrainConfig) -> None:
    for recipe in recipes(config):
        _check(recipe, list(by_torchvision(recipe).transforms))  # type: ignore[arg-type]


@pytest.mark.parametrize("config", configs(), ids=lambda config: config.augmentation)
def test_lightly_has_our_recipe(config: PretrainConfig) -> None:
    first, second = recipes(config)
    for recipe, view in zip((first, second), by_lightly(first, second).transforms, strict=True):
        steps = view.transform.transforms
        _check(recipe, [step for step in steps if type(step).__module__.startswith("torchvision")])
        (blur,) = (step for step in steps if type(step).__name__ == "GaussianBlur")
        assert (blur.prob, tuple(blur.sigmas)) == (recipe.colours.blur, recipe.sigma)
        (solarise,) = (step for step in steps if type(step).__name__ == "RandomSolarization")
        assert (solarise.prob, solarise.threshold) == (recipe.colours.solarise, 128)


def _check(recipe: Recipe, steps: list[Any]) -> None:
    """Whatever of torchvision is among the steps has the recipe's numbers."""
    colours = recipe.colours
    named = {type(step).__name__: step for step in steps if not isinstance(step, v2.RandomApply)}
    crop, flip = named["RandomResizedCrop"], named["RandomHorizontalFlip"]
    assert tuple(crop.scale) == recipe.scale and tuple(crop.ratio) == pytest.approx(recipe.ratio)
    assert tuple(crop.size) == (recipe.size, recipe.size)
    assert flip.p == recipe.flip and named["RandomGrayscale"].p == colours.grey
    applied = {type(step.transforms[0]).__name__: step for step in steps if isinstance(step, v2.RandomApply)}
    jitter = applied["ColorJitter"].transforms[0]
    assert applied["ColorJitter"].p == colours.jitter
    for name in ("brightness", "contrast", "saturation"):
        strength = getattr(colours, name)
        assert getattr(jitter, name) == pytest.approx((1 - strength, 1 + strength))
    assert jitter.hue == pytest.approx((-colours.hue, colours.hue))
    if "GaussianBlur" in applied:
        blur = applied["GaussianBlur"]
        assert (blur.p, tuple(blur.transforms[0].sigma)) == (colours.blur, recipe.sigma)
    if "RandomSolarize" in named:
        assert (named["RandomSolarize"].p, named["RandomSolarize"].threshold) == (colours.solarise, 128)


@pytest.mark.parametrize("config", configs(), ids=lambda config: config.augmentation)
def test_kornia_has_our_recipe(config: PretrainConfig) -> None:
    pytest.importorskip("kornia")
    for recipe in recipes(config):
        made = by_kornia(recipe)
        named = {type(step).__name__: step for step in made.children()}
        colours, probability = recipe.colours, {name: step.p for name, step in named.items()}
        wanted = {"ColorJitter": colours.jitter, "RandomGrayscale": colours.grey}
        wanted |= {"RandomGaussianBlur": colours.blur, "RandomHorizontalFlip": recipe.flip}
        wanted |= {"RandomSolarize": colours.solarise} if colours.solarise else {}
        assert {name: probability[name] for name in wanted} == wanted
        assert set(named) == {*wanted, "RandomResizedCrop"}
        images = torch.rand(64, 3, 40, 40, generator=torch.Generator().manual_seed(0))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made(images)
        drawn = named["ColorJitter"]._params
        for name in ("brightness", "contrast", "saturation"):
            factors, strength = drawn[f"{name}_factor"], getattr(colours, name)
            assert len(factors.unique()) > 16, "one draw for the whole batch"
            assert 1 - strength <= float(factors.min()) and float(factors.max()) <= 1 + strength
        sigma = named["RandomGaussianBlur"]._params["sigma"]
        low, high = recipe.sigma
        assert low <= float(sigma.min()) and float(sigma.max()) <= high
        assert len(sigma.unique()) == len(sigma)


def looks(views: list[Tensor]) -> dict[str, float]:
    """What is the same for the same kind of changes: brightness, spread, share without colour, roughness."""
    images = torch.stack(views)
    grey = (images.amax(1) - images.amin(1)).amax((1, 2)) < 0.02
    return {
        "mean": float(images.mean()), "spread": float(images.std()), "grey": float(grey.float().mean()),
        "rough": float(images.diff(dim=3).abs().mean()),
    }  # fmt: skip


@pytest.mark.parametrize("library", ["torchvision", "lightly", "kornia"])
def test_views_look_alike(library: str, stage: Stage, bank: ImageBank) -> None:
    if library == "kornia":
        pytest.importorskip("kornia")
    config = SMOKE.config("BYOL").model_copy(update={"batch_size": 240})
    ours = steps.row_views(config, CPU, bank)()
    dataset = stage.dataset(library, config, "memory")
    numbers = next(iter(Endless(len(bank), 240)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 (lightly draws from it)
        if library == "kornia":
            theirs = [list(view) for view in dataset[numbers]]
        else:
            theirs = [list(view) for view in zip(*(dataset[number] for number in numbers), strict=True)]
    if library == "lightly":
        network = build_method(config).encoder
        theirs = [[view * network.std[0] + network.mean[0] for view in each] for each in theirs]
    for mine, others in zip(ours, theirs, strict=True):
        wanted, found = looks(list(mine.images)), looks(others)
        assert found["grey"] == pytest.approx(wanted["grey"], abs=0.09)
        for name in ("mean", "spread", "rough"):
            assert found[name] == pytest.approx(wanted[name], rel=0.2), name


def test_peers_see_the_very_images(stage: Stage, bank: ImageBank) -> None:
    for sources in (stage.files, stage.memory):
        pictures = Pictures(sources, lambda image: torch.from_numpy(np.array(image)).permute(2, 0, 1))
        assert len(pictures) == len(bank)
        assert torch.equal(pictures[7], bank.images[7, :3])
    assert isinstance(Image.open(stage.files[0]), Image.Image)
    assert Both(str, len)("ab") == ["ab", 2]


@pytest.mark.parametrize("row", ["BYOL", "MoCo.v2"])
@pytest.mark.parametrize("setting", [SMOKE, SETTINGS["gpu-resnet18-128"]], ids=lambda s: s.name)
def test_lightly_trains_as_many_weights_as_we_do(row: str, setting: Setting) -> None:
    config = setting.config(row, "cpu").model_copy(update={"device": "cpu"})

    def trained(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters() if p.requires_grad)

    model = build_lightly(config, CPU)
    assert isinstance(model, MODELS[config.base])
    assert trained(model) == trained(build_method(config))
    if row == "MoCo.v2":
        assert model.criterion.memory_bank.bank.shape == (config.queue_size, config.projector_dim)
        assert model.criterion.temperature == config.temperature


def entries() -> list[str]:
    peers = [(library, images) for library in ("lightly", "torchvision") for images in ("files", "memory")]
    named = [f"peer: {library} {row}, {images}" for row in ("BYOL", "MoCo.v2")
             for library, images in [*peers, ("kornia", "memory")]]  # fmt: skip
    ours = [f"ours: cvsa {row}, bank" for row in ("BYOL", "MoCo.v2", "MoCo.v2+SS", "BYOL+SS", "BYOL+CVSA")]
    return [*(f"ceiling: cvsa {row}, fixed" for row in ("BYOL", "MoCo.v2", "BYOL+CVSA")), *ours, *named]


@pytest.mark.parametrize("name", entries())
def test_every_contender_makes_a_step_and_leaves_nothing_behind(name: str, stage: Stage) -> None:
    if "kornia" in name:
        pytest.importorskip("kornia")
    made: dict[str, Entry] = {entry.name: entry for entry in stage.contenders(("ceiling", "ours", "peers"))}
    running, work = made[name].running, made[name].work
    assert isinstance(work, Contender)
    workers = 1 if work.images == "files" and work.row == "BYOL" else 0
    running.open(1, workers)
    try:
        running.train()
        running.step()
        running.feed()
        assert len(multiprocessing.active_children()) == workers
        assert running.warm_up >= 2 + 2 * workers  # all that waited when the first step was made
    finally:
        running.stop()
    assert not multiprocessing.active_children()
    running.stop()  # harmless


def captured(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The methods that steps are made of."""
    made: list[nn.Module] = []
    initialise = steps.initialise

    def keep(config: PretrainConfig, runtime: Runtime) -> Any:
        made.append(initialise(config, runtime))
        return made[-1]

    monkeypatch.setattr(steps, "initialise", keep)
    return made


def test_the_ceiling_sees_the_same_views_again(bank: ImageBank, monkeypatch: pytest.MonkeyPatch) -> None:
    made, seen = captured(monkeypatch), []
    for fixed in (True, False):
        running = Ours(SMOKE.config("BYOL"), CPU, bank, fixed)
        running.open(1, 0)
        running.train()
        made[-1].register_forward_pre_hook(lambda _, views: seen.append(views[0][0].images))
        running.step()
        running.step()
        running.stop()
    assert seen[0] is seen[1] and torch.equal(seen[1], seen[2])
    assert not torch.equal(seen[2], seen[3])


@pytest.mark.parametrize("row", ["MoCo.v2", "BYOL+CVSA"])
def test_parts_are_those_of_the_very_step(row: str, bank: ImageBank, monkeypatch: pytest.MonkeyPatch) -> None:
    made, config = captured(monkeypatch), SMOKE.config(row)
    ticks = iter(range(10**6))
    watch = Watch(Clock(now=lambda: float(next(ticks))))
    plain = steps.row_step(config, CPU, steps.row_views(config, CPU, bank))
    timed = instrumented(config, CPU, bank, watch)
    for step in (plain, timed):
        step()
        step()
    first, second = (method.state_dict() for method in made)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert bank.gather.__self__ is bank, "the bank itself is left alone"  # type: ignore[attr-defined]
    # Every reading of the clock is a second: whole intervals between readings, none counted twice.
    milliseconds = watch.milliseconds(2)
    assert list(milliseconds) == list(PARTS) and min(milliseconds.values()) > 0
    readings = next(ticks)
    assert sum(milliseconds.values()) == pytest.approx(1000 * (readings - 2) / 2)
    gathers = 1 + 2 * (row == "BYOL+CVSA")  # the references, and for each view what it is pasted on
    assert milliseconds["gather"] == 1000 * gathers
    assert milliseconds["photometric"] == 1000 * 4  # draw and apply, of two views


@pytest.mark.parametrize(("axis", "value"), [("batch", 6), ("image", 40), ("bank", 12), ("map", 3)])
def test_a_point_of_growth_has_the_size_it_was_asked_for(
    axis: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int, int]] = []
    step_of: Callable[..., Any] = point.step_of

    def note(config: PretrainConfig, runtime: Runtime, images: int) -> Any:
        asked.append((config.batch_size, config.image_size, images))
        return step_of(config, runtime, images)

    monkeypatch.setattr(point, "step_of", note)
    monkeypatch.setattr(point, "IMAGES", 10)
    wanted = Point(axis=axis, value=value, what="", threads=1)  # type: ignore[arg-type]
    found = point.measure_point(growth.job(wanted, SMOKE, "cpu", 1e-6))
    assert found["seconds"] > 0 and found["memory_mib"] >= 0
    sizes = {"batch": (6, 32, 10), "image": (20, 40, 10), "bank": (20, 32, 12)}
    assert asked == [(2, 32, 4), *([sizes[axis]] if axis in sizes else [])]


def test_a_point_runs_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = Point(axis="map", value=2, what="alignment", threads=1)
    assert growth.run_apart(growth.job(wanted, SMOKE, "cpu", 1e-6))["seconds"] > 0
    with pytest.raises(RuntimeError, match="Error"):
        growth.run_apart({"config": {}, "axis": "map"})
