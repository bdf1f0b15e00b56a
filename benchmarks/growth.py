"""What a step's cost grows with: each size in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.rounds import Rounds
from benchmarks.settings import GROWS, Setting
from cvsa.errors import one_line
from cvsa.report.speed_records import AXES, Point

ROOT = Path(__file__).parents[1]
REPEATS = 3  # processes of a size at most: starting one takes longer than its steps


def points(setting: Setting, threads: int) -> list[Point]:
    """All sizes of a setting, none measured yet."""
    return [
        Point(
            axis=axis,  # type: ignore[arg-type]
            value=value, what="alignment" if axis == "map" else GROWS, threads=threads,
        )
        for axis in AXES
        for value in setting.growth.get(axis, ())
    ]  # fmt: skip


def job(point: Point, setting: Setting, device: str, seconds: float) -> dict[str, Any]:
    """What :mod:`benchmarks.point` is asked for."""
    config = setting.config(GROWS, device).model_dump(mode="json")
    return {
        "config": config, "axis": point.axis, "value": point.value, "threads": point.threads,
        "seconds": seconds,
    }  # fmt: skip


def run_apart(asked: dict[str, Any]) -> dict[str, float]:
    """Measure one point in a process of its own.

    Raises:
        RuntimeError: it failed; with the last line it said.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.point"], input=json.dumps(asked), capture_output=True, text=True,
        check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    if result.returncode:
        raise RuntimeError((result.stderr.strip().splitlines() or [f"status {result.returncode}"])[-1])
    found: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return found


def time_growth(wanted: list[Point], setting: Setting, device: str, rounds: Rounds) -> None:
    """Measure every point, in as many rounds as there are, at most :data:`REPEATS`.

    Args:
        wanted: where the times go.
        setting: whose network it is.
        device: name of the device.
        rounds: how many, how long.
    """
    for number in range(min(rounds.count, REPEATS)):
        for point in wanted:
            name = f"growth: {AXES[point.axis]} {point.value}"
            if name in rounds.left_out:
                continue
            try:
                found = run_apart(job(point, setting, device, rounds.seconds / 2))
                point.seconds.append(found["seconds"])
                point.memory_mib.append(found["memory_mib"])
            except RuntimeError as error:
                rounds.left_out[name] = one_line(str(error))[:300]
            rounds.ended(f"round {number + 1}: {name}")
