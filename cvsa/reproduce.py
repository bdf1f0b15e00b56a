"""Run a preset: start Snakemake on the graph of papermill commands, one thread per job."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

from cvsa.errors import CVSAError
from cvsa.grid import load_grid
from cvsa.records import read_record


def reproduce(preset: str, *, jobs: int | None, dry_run: bool, report: bool) -> int:
    """Bring every run of a preset up to date.

    Args:
        preset: a preset with an entry in ``workflow/grid.yaml``.
        jobs: runs at a time; None means all cores.
        dry_run: only list what would run.
        report: draw the book's tables and figures afterwards.

    Returns:
        Snakemake's exit status.

    Raises:
        CVSAError: not inside a checkout; unknown preset; another reproduction runs in this checkout.
    """
    grid = load_grid(Path("workflow/grid.yaml"), preset)
    jobs = jobs or os.cpu_count() or 1
    results = Path("book/results") / preset
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
        *(
            "--config",
            f"preset={preset}",
            "--rerun-incomplete",
            "--nolock",
            "--show-failed-logs",
            "--keep-going",
        ),
        *("--quiet", "rules", "host", "reason"),
        *(["--dry-run"] if dry_run else []),
        *(["--", *targets] if targets else []),
    ]
    # The operating system frees this lock when the process dies, however it dies; Snakemake's own would stay.
    with (results / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CVSAError(
                f"Another `cvsa reproduce --preset {preset}` runs in this folder. Wait for it or stop it."
            ) from None
        _announce(preset, len(grid.runs), jobs)
        try:
            return subprocess.run(command, env=environment, check=False).returncode
        except KeyboardInterrupt:
            print(
                "Interrupted. Finished runs are kept; the same command goes on from there.", file=sys.stderr
            )
            return 130


def _announce(preset: str, runs: int, jobs: int) -> None:
    folder = Path("results") / preset
    known = (
        [read_record(path.parent).seconds for path in folder.rglob("record.json")] if folder.is_dir() else []
    )
    estimate = (
        f"; about {sum(known) / len(known) * runs / jobs / 60:.0f} minutes if nothing is there yet, "
        "judged from committed runs"
        if known
        else ""
    )
    print(f"Preset {preset}: {runs} runs, {jobs} at a time{estimate}.", flush=True)
