"""The benchmarks' runner: who is timed when, on a clock of its own; what is written, whole or in part."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks_support import contender, example_speed
from click.testing import CliRunner
from tests_support import SMALL

from benchmarks import growth, measure
from benchmarks.__main__ import main
from benchmarks.entries import Stage
from benchmarks.measure import Options
from benchmarks.rounds import LEAST, Clock, Entry, Rounds
from benchmarks.settings import SETTINGS, Setting, find_setting
from cvsa.errors import CVSAError
from cvsa.report.speed_numbers import exponent, ratios, spread
from cvsa.report.speed_records import SECTIONS, Contender, Speed, Work, read_speed, read_speeds, write_speed

SMOKE = Setting("smoke", "as small as it gets", False, "tiny", SMALL, growth={"batch": (4, 8), "map": (2, 3)})


@dataclass
class Time:
    """A clock that others turn."""

    seconds: float = 0.0
    waits: int = 0

    def clock(self) -> Clock:
        def wait() -> None:
            self.waits += 1

        return Clock(lambda: self.seconds, lambda: self.seconds / 2, wait)


@dataclass
class Fake:
    """Takes so many seconds for a step, divided by the threads, and tells what happens to it."""

    name: str
    time: Time
    log: list[str]
    step_seconds: float = 1.0
    fails_at: int | None = None
    warm_up: int = 2
    steps: int = 0
    used: tuple[int, int] = (1, 0)
    fed: int = field(default=0)

    def open(self, threads: int, workers: int) -> None:
        self.used = threads, workers
        self.log.append(f"open {self.name}")

    def train(self) -> None:
        self.log.append(f"train {self.name}")

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.fails_at:
            raise RuntimeError("out of\nmemory")
        self.time.seconds += self.step_seconds / self.used[0]

    def feed(self) -> None:
        self.fed += 1
        self.time.seconds += 0.25

    def stop(self) -> None:
        self.log.append(f"stop {self.name}")


@pytest.fixture
def time() -> Time:
    return Time()


def entry(fake: Fake, role: Any = "ours", grid: list[tuple[int, int]] | None = None) -> Entry:
    work = Contender(role=role, library=fake.name, row="BYOL", images="bank", batch=10)
    return Entry(work, fake, grid or [(1, 0)])


def rounds(time: Time, count: int = 3, seconds: float = 8.0) -> tuple[Rounds, list[str]]:
    told: list[str] = []
    return Rounds(time.clock(), count, seconds, {}, told.append), told


def test_contenders_take_turns_and_never_run_at_once(time: Time) -> None:
    log: list[str] = []
    entries = [entry(Fake(name, time, log)) for name in ("a", "b")]
    made, told = rounds(time)
    made.run(entries)
    turn = [f"{what} {name}" for name in ("a", "b") for what in ("open", "train", "stop")]
    assert log == turn * 3
    assert told == [f"round {n}: ours: {name} BYOL, bank" for n in (1, 2, 3) for name in ("a", "b")]


def test_warm_up_is_not_counted_and_steps_fill_the_time(time: Time) -> None:
    fake = Fake("a", time, [], step_seconds=2.0)
    made, _ = rounds(time, count=1)
    timed = entry(fake)
    made.run([timed])
    (phase,) = timed.work.rounds
    assert (phase.steps, phase.seconds, phase.processor) == (4, 8.0, 4.0)
    assert fake.steps == 2 + 4
    assert timed.work.rates() == {0: 4 * 10 / 8.0}
    (feed,) = timed.work.feed  # type: ignore[attr-defined]
    assert (feed.steps, feed.seconds) == (8, 2.0)  # a quarter of the seconds
    assert time.waits == 2 * 2


def test_slow_steps_are_timed_a_few_times_all_the_same(time: Time) -> None:
    timed = entry(Fake("a", time, [], step_seconds=100.0))
    rounds(time, count=1)[0].run([timed])
    assert timed.work.rounds[0].steps == LEAST


def test_views_alone_and_fixed_ones_need_no_network_or_feed(time: Time) -> None:
    log: list[str] = []
    views = Entry(Work(library="a", row="BYOL", images="bank", batch=10), Fake("a", time, log))
    fixed = entry(Fake("b", time, log), "ceiling")
    fixed.work.images = "fixed"
    rounds(time, count=1)[0].run([views, fixed])
    assert log == ["open a", "stop a", "open b", "train b", "stop b"]
    assert views.work.rates() == {0: 40.0}
    assert not fixed.work.feed  # type: ignore[attr-defined]


def test_the_quickest_way_is_searched_for_and_the_search_recorded(time: Time) -> None:
    timed = entry(Fake("a", time, []), grid=[(1, 0), (4, 2), (2, 1)])
    made, told = rounds(time)
    made.search([timed])
    work = timed.work
    assert isinstance(work, Contender)
    assert (work.threads, work.workers) == (4, 2)
    assert [(t.threads, t.workers, t.rate) for t in work.search] == [(1, 0, 10), (4, 2, 40), (2, 1, 20)]
    assert not work.rounds and len(told) == 3
    made.run([timed])
    assert timed.running.used == (4, 2)  # type: ignore[attr-defined]


def test_what_fails_is_named_stopped_and_left_out(time: Time) -> None:
    log: list[str] = []
    bad, good = entry(Fake("a", time, log, fails_at=20)), entry(Fake("b", time, log))
    made, _ = rounds(time)
    made.run([bad, good])
    assert made.left_out == {"ours: a BYOL, bank": "RuntimeError: out of memory"}
    assert len(bad.work.rounds) == 1 and len(good.work.rounds) == 3
    assert log.count("open a") == log.count("stop a") == 2


def test_ratios_are_taken_within_a_round() -> None:
    ours = contender("ours", "cvsa", "BYOL", "bank", 100, 50, 80)
    peer = contender("peer", "lightly", "BYOL", "files", 50, 20)
    found = ratios(ours.rates(), peer.rates())
    assert found == pytest.approx([2.0, 2.5])  # not of medians: 80 / 35; the third round has no partner
    assert spread([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
    assert spread([3.0]).words() == "3" and spread([1, 2, 4]).words(".1f") == "2.0 (1.0 to 4.0)"


def test_exponent_of_a_power_law() -> None:
    sizes = [2, 3, 5, 9]
    assert exponent(sizes, [7 * size**2.5 for size in sizes]) == pytest.approx(2.5)
    assert exponent([2, 2], [1, 3]) is None
    assert exponent([2, 3], [0, 3]) is None


def test_ceilings_are_found_by_model_and_share_by_quiet_phases() -> None:
    speed = example_speed()
    ceiling, other = speed.ceiling("BYOL+SS"), speed.ceiling("BYOL+CVSA")
    assert ceiling and other and (ceiling.row, other.row) == ("BYOL", "BYOL+CVSA")
    assert speed.share == pytest.approx(0.5)
    assert example_speed(hardware={"device": "cuda:0", "gpu": "a GPU"}).share is None
    assert any("others used this machine" in line for line in speed.lines())


def test_a_measurement_comes_back_as_it_was(tmp_path: Path) -> None:
    speed, path = example_speed(), tmp_path / "a.json"
    write_speed(speed, path)
    found = read_speed(path)
    assert found.digest and found.model_copy(update={"digest": None}) == speed
    assert read_speeds(tmp_path) == [found]
    assert read_speeds(tmp_path / "none") == []


@pytest.mark.parametrize("damage", ["truncated", "edited", "of another schema", "missing"])
def test_damage_is_noticed_in_one_line(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if damage != "missing":
        write_speed(example_speed(), path)
        text = path.read_text()
        content = json.loads(text)
        if damage == "truncated":
            path.write_text(text[:-40])
        elif damage == "edited":
            content["contenders"][0]["rounds"][0]["seconds"] /= 2
            path.write_text(json.dumps(content))
        else:
            path.write_text(json.dumps(content | {"schema_version": 9}))
    with pytest.raises(CVSAError, match="a.json") as caught:
        read_speed(path)
    assert "\n" not in str(caught.value)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Options:
    """Everything once, as short as possible; points of growth are not put into processes."""
    monkeypatch.setattr(growth, "run_apart", lambda job: {"seconds": job["value"], "memory_mib": 9.0})
    for module in ("contenders", "parts"):  # collecting garbage takes longer than all the rest
        monkeypatch.setattr(f"benchmarks.{module}.release", lambda: None)
    monkeypatch.setattr(Stage, "here", lambda self: [(1, 0)])
    monkeypatch.setattr(Stage, "loading", lambda self: [(1, 0)])
    return Options(rounds=1, seconds=1e-6, name="here")


def test_everything_is_measured_and_nothing_overwritten(quick: Options, tmp_path: Path) -> None:
    told: list[str] = []
    path, speed = measure.measure(SMOKE, quick, tmp_path, told.append)
    assert path == tmp_path / "smoke-here.json" and read_speed(path) == speed
    assert speed.complete and speed.asked == list(SECTIONS)
    assert not [name for name in speed.left_out if "kornia" not in name], speed.left_out
    assert [c.row for c in speed.measured("ceiling")] == ["BYOL", "MoCo.v2", "BYOL+CVSA"]
    assert [c.row for c in speed.measured("ours")] == [
        "BYOL",
        "MoCo.v2",
        "MoCo.v2+SS",
        "BYOL+SS",
        "BYOL+CVSA",
    ]
    assert {c.library for c in speed.measured("peer")} >= {"lightly", "torchvision"}
    assert all(c.feed for c in [*speed.measured("ours"), *speed.measured("peer")])
    assert all(work.rounds for work in speed.views)
    assert [part.row for part in speed.parts if part.rounds] == ["BYOL", "MoCo.v2", "BYOL+CVSA"]
    assert [(p.axis, p.value, p.seconds) for p in speed.growth] == [
        ("batch", 4, [4]), ("batch", 8, [8]), ("map", 2, [2]), ("map", 3, [3])
    ]  # fmt: skip
    assert {"torch", "torchvision", "lightly"} <= set(speed.libraries)
    assert "phases, about" in told[-1]
    with pytest.raises(CVSAError, match="is there already"):
        measure.measure(SMOKE, quick, tmp_path)


def test_an_interrupted_measurement_is_kept_says_so_and_may_be_made_anew(
    quick: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(rounds=2, seconds=1e-6, asked=("ceiling", "ours"), name="here")
    count = 0

    def interrupt(self: measure.Session, what: str) -> None:
        nonlocal count
        count += 1
        if count == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(measure.Session, "_ended", interrupt)
        path, speed = measure.measure(SMOKE, options, tmp_path, lambda line: None)
    assert not speed.complete and read_speed(path) == speed
    assert [len(c.rounds) for c in speed.contenders] == [1] * 5 + [0] * 3
    assert "  partial: interrupted before its end" in speed.lines()
    _, speed = measure.measure(SMOKE, options, tmp_path, lambda line: None)
    assert speed.complete


def test_a_missing_peer_is_named_and_the_rest_measured(
    quick: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("benchmarks.entries", "benchmarks.measure"):
        monkeypatch.setattr(f"{module}.missing", lambda: {"kornia": "not installed"})
    told: list[str] = []
    options = Options(rounds=1, seconds=1e-6, asked=("peers",), name="here")
    _, speed = measure.measure(SMOKE, options, tmp_path, told.append)
    assert told[0] == "smoke: without kornia: not installed"
    assert speed.left_out == {"kornia": "not installed"} and "kornia" not in speed.libraries
    assert {c.library for c in speed.contenders} == {"lightly", "torchvision"}


@pytest.mark.parametrize(
    ("given", "said", "status"),
    [
        (["--setting", "gpu-resnet18-128", "--device", "cpu"], "skipped, it needs a GPU", 0),
        (["--setting", "huge"], "Unknown setting 'huge'. Settings: cpu-tiny", 2),
        (["--only", "ours,speed"], "'speed'; there are ceiling, ours", 2),
        (["--setting", "cpu-tiny", "--name", "../Mine"], "small letters, digits and hyphens", 2),
        (["--rounds", "0"], "0 is not in the range", 2),
    ],
)
def test_the_command_refuses_in_one_line(given: list[str], said: str, status: int) -> None:
    result = CliRunner().invoke(main, given)
    assert (result.exit_code, said in result.output) == (status, True), result.output


def test_settings_are_what_their_names_say() -> None:
    tiny = find_setting("cpu-tiny").config("BYOL")
    assert (tiny.preset, tiny.device, tiny.image_size, tiny.batch_size) == ("tiny", "cpu", 48, 50)
    for name, backbone, size in (
        ("gpu-resnet18-128", "resnet18", 128),
        ("gpu-resnet50-224", "resnet50", 224),
    ):
        setting = SETTINGS[name]
        assert setting.cuda and not measure.runs_here(setting, "cpu")
        for row in ("BYOL", "MoCo.v2+SS", "BYOL+CVSA"):
            config = setting.config(row)
            assert (config.backbone, config.image_size, config.batch_size) == (backbone, size, 256)
        assert setting.data().bank_size == config.bank_size


def test_threads_are_given_back(quick: Options, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    options = Options(rounds=1, seconds=1e-6, asked=("ceiling",), name="here")
    assert isinstance(measure.measure(SMOKE, options, tmp_path, lambda line: None)[1], Speed)
    assert torch.get_num_threads() == before
