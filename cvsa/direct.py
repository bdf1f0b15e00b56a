"""Run a preset without notebooks: a plain process for each run, the most valuable first, within a budget.

It needs neither papermill nor Snakemake, only what a run itself needs. Runs of a preset and of its parts are
taken by their waves and in the grid's order, main rows first and one seed after the other: wherever it stops,
what is there is whole.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm import tqdm

from cvsa import costs
from cvsa.duration import duration
from cvsa.grid import Grid, Run, load_grids
from cvsa.limits import cores
from cvsa.records import DAMAGED, Record, collect, read_record
from cvsa.reproduce import INTERRUPTED, locked, results_of, set_aside
from cvsa.status import READY, expected_configs, last_words, status

LOOK = 0.5  # seconds between two looks at the processes
GRACE = 20.0  # seconds that interrupted processes get to end
SPENT, STOPPED = "The budget is spent", "Interrupted"
Key = tuple[str, str, str]


def key_of(run: Run) -> Key:
    """Preset, kind and name."""
    return run.preset, run.kind, run.name


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Whoever ends this process ends its runs too."""
    raise KeyboardInterrupt


def to_make(grids: Sequence[Grid], root: Path) -> list[Run]:
    """Runs that are missing or stale, and committed ones that these start from, whose weights are gone.

    Args:
        grids: of a preset and its parts.
        root: a checkout.

    Returns:
        By their waves; within a wave one preset after the other.
    """
    found = []
    for grid in grids:
        states = {(one.kind, one.name): one for one in status(grid.preset, root).experiments}
        nodes = {(run.kind, run.name): run for run in grid.runs}
        wanted = {key for key, one in states.items() if one.state not in READY}
        for key in list(wanted):
            run = nodes[key]
            while run.parent:
                run = nodes[run.parent_kind, run.parent]
                if states[run.kind, run.name].place != "live":
                    wanted.add((run.kind, run.name))
        found += [run for key, run in nodes.items() if key in wanted]
    return sorted(found, key=lambda run: run.wave)


@dataclass
class Outcome:
    """What a call of :func:`run_directly` did: made, failed and left runs, and whether it was stopped."""

    made: list[Run] = field(default_factory=list)
    failed: list[Run] = field(default_factory=list)
    left: list[Run] = field(default_factory=list)
    stopped: str = ""


def run_directly(
    grids: Sequence[Grid], root: Path, *, jobs: int, budget: float | None = None, device: str = "auto"
) -> Outcome:
    """Make what is missing or stale of a preset and its parts, in order.

    A run is not begun when what its like took says that it would not end within the budget; later ones that
    are shorter may be. What still runs when the budget is spent, or at Ctrl-C, is told to stop, and goes on
    from its checkpoint another time.

    Args:
        grids: of the preset and its parts.
        root: a checkout; runs go to ``book/results/PRESET``.
        jobs: processes at a time, each with one thread where there are several.
        budget: seconds; None: all of it.
        device: auto, cpu, cuda or cuda:N.
    """
    return _Direct(grids, root, jobs, budget, device).run()


class _Direct:
    def __init__(
        self, grids: Sequence[Grid], root: Path, jobs: int, budget: float | None, device: str
    ) -> None:
        self.root, self.jobs, self.device = root, jobs, device
        self.configs = {
            (grid.preset, *key): config for grid in grids for key, config in expected_configs(grid).items()
        }
        self.waiting = to_make(grids, root)
        self.outcome = Outcome()
        self.running: dict[Key, tuple[Run, subprocess.Popen[bytes]]] = {}
        self.unready = {key_of(run) for run in self.waiting}
        # Of other machines; what this one has made tells more.
        self.before = [record for _, record in collect(root / "results").runs]
        self.here = [record for grid in grids for _, record in collect(results_of(grid.preset, root)).runs]
        self.estimates: dict[tuple[bool, str], float | None] = {}  # (from here, identity) -> seconds
        self.began, self.budget = time.monotonic(), budget

    def folder(self, run: Run) -> Path:
        """Where a run is written."""
        return results_of(run.preset, self.root) / run.kind / run.name

    @property
    def left(self) -> float:
        return float("inf") if self.budget is None else self.budget - (time.monotonic() - self.began)

    def run(self) -> Outcome:
        bar: tqdm[Any]
        with tqdm(total=len(self.waiting), desc="runs", unit="run", dynamic_ncols=True) as bar:
            before = signal.signal(signal.SIGTERM, _interrupt)
            try:
                while self.running or self._start():
                    self._reap(bar)
                    if self.left <= 0 and self.running:
                        self.outcome.stopped = SPENT
                        break
                    self._start()
                    self._show(bar)
                    time.sleep(LOOK)
            except KeyboardInterrupt:
                self.outcome.stopped = STOPPED
            finally:
                self._end()
                signal.signal(signal.SIGTERM, before)
        done = {key_of(run) for run in [*self.outcome.made, *self.outcome.failed]}
        self.outcome.left = [run for run in self.waiting if key_of(run) not in done]
        return self.outcome

    def _start(self) -> bool:
        """Begin what may be begun; False where nothing was and nothing is running."""
        failed = {key_of(run) for run in self.outcome.failed}
        for run in self.waiting:
            key = key_of(run)
            if len(self.running) >= self.jobs:
                break
            if key in self.running or key not in self.unready or key in failed:
                continue
            if run.parent and (run.preset, run.parent_kind, run.parent) in self.unready:
                continue
            seconds = self._seconds(run)
            if self.left <= 0 or (seconds is not None and seconds > self.left):
                continue
            self.running[key] = run, self._process(run)
        return bool(self.running)

    def _process(self, run: Run) -> subprocess.Popen[bytes]:
        folder = self.folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "record.json").unlink(missing_ok=True)  # stale, or it would not be made
        given = {**run.parameters, "device": self.device}
        if run.parent:
            start = "finetuned" if run.parent_kind == "finetune" else "pretrained"
            given[start] = results_of(run.preset) / run.parent_kind / run.parent
        pairs = [word for name, value in given.items() for word in ("-p", name, str(value))]
        threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"} if self.jobs > 1 else {}
        with (folder / "log.txt").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "cvsa", "run", run.kind, *pairs, "--out", str(folder)],
                cwd=self.root, env={**os.environ, **threads}, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for this process, which ends the others
            )  # fmt: skip

    def _reap(self, bar: tqdm[Any]) -> None:
        for key, (run, process) in list(self.running.items()):
            if process.poll() is None:
                continue
            del self.running[key]
            folder = self.folder(run)
            if process.returncode == 0:
                self.outcome.made.append(run)
                self.unready.discard(key)
                self.here.append(read_record(folder))
                self.estimates = {key: told for key, told in self.estimates.items() if not key[0]}
            else:
                self.outcome.failed.append(run)
                bar.write(f"failed: {folder}: {last_words(folder / 'log.txt')}", file=sys.stderr)
            bar.update()

    def _show(self, bar: tqdm[Any]) -> None:
        rest = [run for run in self.waiting if key_of(run) in self.unready]
        each = [self._seconds(run) for run in rest]
        known = sum(seconds for seconds in each if seconds is not None) / self.jobs
        unknown = sum(seconds is None for seconds in each)
        told = f"about {duration(known)} left" + (f" and {unknown} of unknown length" if unknown else "")
        if self.budget is not None:
            told += f", budget {duration(max(0.0, self.left))}"
        bar.set_postfix_str(told, refresh=False)

    def _seconds(self, run: Run) -> float | None:
        config = self.configs[key_of(run)]
        identity = config.model_copy(update={"seed": 0}).identity()  # seeds cost the same
        for from_here, records in ((True, self.here), (False, self.before)):
            if (from_here, identity) not in self.estimates:
                alike: list[Record] = [record for record in records if record.kind == run.kind]
                self.estimates[from_here, identity] = costs.seconds(config, alike)
            if (seconds := self.estimates[from_here, identity]) is not None:
                return seconds + costs.START_SECONDS
        return None

    def _end(self) -> None:
        for _, process in self.running.values():
            process.terminate()
        until = time.monotonic() + GRACE
        for _, process in self.running.values():
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def reproduce_directly(
    preset: str, root: Path, *, jobs: int | None, budget: float | None, device: str, dry_run: bool
) -> int:
    """What ``cvsa reproduce`` does without notebooks, with a preset and its parts.

    Args:
        preset: with an entry in ``workflow/grid.yaml``.
        root: a checkout.
        jobs: processes at a time; None: one on a GPU, else all cores.
        budget: seconds; None: no limit.
        device: auto, cpu, cuda or cuda:N.
        dry_run: only list what would run.

    Returns:
        Exit status: 1 where a run failed, 130 where it was interrupted.

    Raises:
        CVSAError: unknown preset; not inside a checkout; another reproduction runs here.
    """
    grids = load_grids(root / "workflow" / "grid.yaml", preset)
    if dry_run:
        for run in to_make(grids, root):
            print(f"{run.preset:<15} {run.kind:<9} {run.name}" if grids[1:] else f"{run.kind:<9} {run.name}")
        return 0
    with ExitStack() as locks:
        for grid in grids:
            results = results_of(grid.preset, root)
            locks.enter_context(locked(results, grid.preset))
            for said in set_aside([results / run.kind / run.name for run in grid.runs], results / DAMAGED):
                print(said, file=sys.stderr)
        outcome = run_directly(grids, root, jobs=jobs or _at_once(device), budget=budget, device=device)
    for line in summary(outcome):
        print(line)
    return INTERRUPTED if outcome.stopped == STOPPED else int(bool(outcome.failed))


def _at_once(device: str) -> int:
    import torch

    gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    return 1 if gpu else cores()


def summary(outcome: Outcome) -> list[str]:
    """What was done and how to go on, for people."""
    lines = [f"{len(outcome.made)} run(s) made, {len(outcome.failed)} failed, {len(outcome.left)} left."]
    if outcome.stopped:
        lines.append(f"{outcome.stopped}: what ran goes on from its checkpoint. The same command continues.")
    elif outcome.left and not outcome.failed:
        lines.append("What is left would not have ended within the budget. The same command continues.")
    return lines
