"""Run a preset: start Snakemake on the graph of papermill commands, one thread per job."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from cvsa.costs import estimate
from cvsa.errors import CVSAError
from cvsa.grid import Grid, Run, load_grids
from cvsa.limits import cores
from cvsa.records import DAMAGED, RECORD, read_record

LIVE_ABLATION = "labels"
"""The ablation that a preset has if the book can be drawn from its live runs."""
INTERRUPTED = 130
"""Exit status after Ctrl-C."""


def results_of(preset: str, root: Path = Path()) -> Path:
    """Where the live runs of a preset are."""
    return root / "book" / "results" / preset


def reproduce(preset: str, *, jobs: int | None, dry_run: bool, report: bool | None) -> int:
    """Bring every run of a preset up to date, then those of its parts.

    Args:
        preset: a preset with an entry in ``workflow/grid.yaml``.
        jobs: runs at a time; None means all cores it may use.
        dry_run: only list what would run.
        report: draw the book's tables and figures afterwards; None: where the book can be drawn
            from this preset.

    Returns:
        Snakemake's exit status, the first that is not 0.

    Raises:
        CVSAError: not inside a checkout; unknown preset; another reproduction runs in this checkout.
    """
    grids = load_grids(Path("workflow/grid.yaml"), preset)
    report = LIVE_ABLATION in grids[0].ablations if report is None else report
    ended = 0
    for grid in grids:
        status = _reproduce(grid, jobs or cores(), dry_run, report and grid is grids[0])
        ended = ended or status
        if status == INTERRUPTED:
            break
    return ended


def _reproduce(grid: Grid, jobs: int, dry_run: bool, report: bool) -> int:
    preset, results = grid.preset, results_of(grid.preset)
    results.mkdir(parents=True, exist_ok=True)
    # Jobs find this environment's papermill and cvsa first, and use one thread each: two would only spin.
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    targets = [] if report else [f"{results}/{run.kind}/{run.name}/record.json" for run in grid.runs]
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile", "--cores", str(jobs)),
        *("--config", f"preset={preset}", "--rerun-incomplete", "--nolock", "--keep-going"),
        *(["--dry-run", "--quiet", "host"] if dry_run else []),
        *(["--", *targets] if targets else []),
    ]
    if dry_run:
        return subprocess.run(command, env=environment, check=False).returncode
    with locked(results, preset):
        _announce(preset, grid.runs, jobs)
        folders = [results / run.kind / run.name for run in grid.runs]
        for said in set_aside(folders, results / DAMAGED):
            print(said, file=sys.stderr, flush=True)
        with (results / "snakemake.log").open("w") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
            status = _follow(process, results / "snakemake.log")
        if status:
            _explain(folders, results / "snakemake.log")
        return status


@contextmanager
def locked(results: Path, preset: str) -> Iterator[None]:
    """Keep others from reproducing the same preset into the same folder.

    Raises:
        CVSAError: another does.
    """
    results.mkdir(parents=True, exist_ok=True)
    # The operating system frees this lock when the process dies, however it dies; Snakemake's own would stay.
    with (results / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CVSAError(
                f"Another `cvsa reproduce --preset {preset}` runs in this folder. Wait for it or stop it."
            ) from None
        yield


def set_aside(folders: list[Path], where: Path) -> list[str]:
    """Move folders whose record is damaged out of the way, so that these runs are made again.

    Returns:
        A line for each: what was wrong, and where the folder is now.
    """
    said = []
    for folder in folders:
        if (folder / RECORD).is_file():
            try:
                read_record(folder)
            except CVSAError as error:
                target = where / f"{folder.parent.name}-{folder.name}-{time.strftime('%Y%m%d-%H%M%S')}"
                where.mkdir(exist_ok=True)
                folder.rename(target)
                said.append(f"made again: {error} It was moved to {target}.")
    return said


def _follow(process: subprocess.Popen[bytes], log: Path) -> int:
    """Show how many steps of those that must run are done; an interrupt is passed on by the terminal."""
    with tqdm(total=0, desc="runs", unit="run", dynamic_ncols=True) as bar:
        try:
            while process.poll() is None:
                bar.n, bar.total = steps_done(log.read_text(errors="replace"))
                bar.refresh()
                time.sleep(2 if sys.stderr.isatty() else 15)
            bar.n, bar.total = steps_done(log.read_text(errors="replace"))
            return process.returncode
        except KeyboardInterrupt:
            process.wait()
            bar.write(
                "Interrupted. Finished runs are kept; the same command goes on from there.", file=sys.stderr
            )
            return INTERRUPTED


def steps_done(log: str) -> tuple[int, int]:
    """Steps done and steps to do, from Snakemake's log: 0 of 0 where nothing has to run."""
    planned = re.search(r"^total +(\d+)$", log, re.MULTILINE)
    done = re.findall(r"^(\d+) of (\d+) steps", log, re.MULTILINE)
    return (int(done[-1][0]), int(done[-1][1])) if done else (0, int(planned[1]) if planned else 0)


def _explain(folders: list[Path], log: Path) -> None:
    """Name every run that failed, with the line its notebook ended in."""
    for folder in folders:
        text = folder / "log.txt"
        if text.is_file() and not (folder / RECORD).is_file():
            lines = [line for line in text.read_text(errors="replace").splitlines() if line.strip()]
            said = next(
                (line for line in reversed(lines) if "Error:" in line), lines[-1] if lines else "no output"
            )
            print(f"failed: {folder}: {said}  (all of it: {text})", file=sys.stderr)
    print(f"Not everything ran; the workflow's own words: {log}", file=sys.stderr)


def _announce(preset: str, runs: list[Run], jobs: int) -> None:
    seconds = estimate(run.config for run in runs)
    if seconds is None:
        print(f"Preset {preset}: {len(runs)} runs, {jobs} at a time.", flush=True)
    else:
        minutes = max(1, round(seconds / jobs / 60))
        print(
            f"Preset {preset}: {len(runs)} runs, {jobs} at a time; about {minutes} min from nothing "
            "(from committed records).",
            flush=True,
        )
