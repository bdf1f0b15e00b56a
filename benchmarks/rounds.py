"""Rounds: every contender is started, warmed up, timed and stopped before the next one, again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cvsa.errors import one_line
from cvsa.report.speed_records import Contender, Phase, Trial, Work

LEAST = 3  # steps that are timed at least
TRIAL_SHARE = 0.25  # of the seconds of a phase; also for the views alone, beside whole steps


class Running(Protocol):
    """What is timed.

    Attributes:
        warm_up: steps that are not counted: compilation, memory, caches, batches that wait in a queue.
    """

    warm_up: int

    def open(self, threads: int, workers: int) -> None:
        """Get what makes views: memory, workers."""
        ...

    def train(self) -> None:
        """Get a network and an optimiser too."""
        ...

    def step(self) -> None:
        """One training step."""
        ...

    def feed(self) -> None:
        """The views of one step, on the device."""
        ...

    def stop(self) -> None:
        """Let go of all of it; no process is left. Harmless where nothing was opened."""
        ...


@dataclass
class Entry:
    """Something to be timed, and where the times go.

    Attributes:
        work: of the record.
        running: what is timed.
        grid: ways to use the processor, (threads, workers); of several the quickest is searched for.
    """

    work: Work
    running: Running
    grid: list[tuple[int, int]] = field(default_factory=lambda: [(1, 0)])

    @property
    def trains(self) -> bool:
        """Whether whole steps are timed, or views alone."""
        return isinstance(self.work, Contender)

    @property
    def name(self) -> str:
        """Of the entry, for people."""
        work = self.work
        return work.key if isinstance(work, Contender) else f"views: {work.library} {work.row}"


@dataclass(frozen=True)
class Clock:
    """Where time comes from.

    Attributes:
        now: seconds by the clock.
        processor: seconds of the processor, of this process.
        wait: until the device has done all it was given.
    """

    now: Callable[[], float] = time.perf_counter
    processor: Callable[[], float] = time.process_time
    wait: Callable[[], None] = lambda: None

    def timed(self, action: Callable[[], None], seconds: float, number: int, least: int = LEAST) -> Phase:
        """Do something again and again for so many seconds, and at least so many times."""
        self.wait()
        clock, processor, steps = self.now(), self.processor(), 0
        while steps < least or self.now() - clock < seconds:
            action()
            steps += 1
        self.wait()
        passed = self.now() - clock
        return Phase(
            round=number, steps=steps, seconds=round(passed, 6),
            processor=round(self.processor() - processor, 6),
        )  # fmt: skip


@dataclass
class Rounds:
    """Times entries in turn.

    Attributes:
        clock: where time comes from.
        count: rounds.
        seconds: of a timed phase.
        left_out: name -> why; what fails is named here and not tried again.
        ended: is called after every phase with what it was: progress, writing.
    """

    clock: Clock
    count: int
    seconds: float
    left_out: dict[str, str]
    ended: Callable[[str], None]

    def search(self, entries: Sequence[Entry]) -> None:
        """Try the ways of each entry that has several, and keep the quickest; the tries are written too."""
        for entry in entries:
            entry.work.threads, entry.work.workers = entry.grid[0]
            if len(entry.grid) < 2 or not isinstance(entry.work, Contender):
                continue
            for threads, workers in entry.grid:
                tried = self._phase(entry, threads, workers, self.seconds * TRIAL_SHARE, 0, alone=False)
                if tried is None:
                    break
                rate = tried[0].steps * entry.work.batch / tried[0].seconds
                entry.work.search.append(Trial(threads=threads, workers=workers, rate=round(rate, 3)))
                self.ended(f"{entry.name}: {threads} thread(s), {workers} worker(s)")
            if entry.work.search and entry.name not in self.left_out:
                best = max(entry.work.search, key=lambda trial: trial.rate)
                entry.work.threads, entry.work.workers = best.threads, best.workers

    def run(self, entries: Sequence[Entry]) -> None:
        """All rounds: in each, every entry once, in order."""
        for number in range(self.count):
            for entry in entries:
                if entry.name in self.left_out:
                    continue
                work = entry.work
                timed = self._phase(entry, work.threads, work.workers, self.seconds, number)
                if timed is None:
                    continue
                work.rounds.append(timed[0])
                if isinstance(work, Contender) and len(timed) > 1:
                    work.feed.append(timed[1])
                self.ended(f"round {number + 1}: {entry.name}")

    def _phase(
        self, entry: Entry, threads: int, workers: int, seconds: float, number: int, alone: bool = True
    ) -> list[Phase] | None:
        """Start, warm up, time, stop; whole steps, then (``alone``) their views. None where it failed."""
        running = entry.running
        try:
            running.open(threads, workers)
            if not entry.trains:
                return [self._warm(running, running.feed, seconds, number)]
            running.train()
            timed = [self._warm(running, running.step, seconds, number)]
            if alone and entry.work.images != "fixed":
                timed.append(self._warm(running, running.feed, seconds * TRIAL_SHARE, number))
            return timed
        except Exception as error:  # a peer of another version, memory: the others can still be measured
            self.left_out[entry.name] = one_line(f"{type(error).__name__}: {error}")[:300]
            return None
        finally:
            running.stop()

    def _warm(self, running: Running, action: Callable[[], None], seconds: float, number: int) -> Phase:
        for _ in range(running.warm_up):
            action()
        return self.clock.timed(action, seconds, number)
