"""Start the processes that share a run, show what the first says, and end them all together.

torchrun would do, but its own report of a failure hides the line that tells what went wrong, and its
processes outlive a parent that is killed.
"""

from __future__ import annotations

import codecs
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cvsa.config import KINDS, TrainingConfig
from cvsa.errors import CVSAError
from cvsa.records import Record, read_record

TASK, MEETING, FAILURE, SAID = "task.json", "meeting", "failure-{}.json", "said-{}.txt"
LOOK = 0.1  # seconds between two looks at the processes
GRACE = 1.0  # seconds for the others to say what they died of, or to end when asked


def check_devices(config: TrainingConfig) -> None:
    """Refuse what this machine cannot share among ``config.gpus`` processes.

    Raises:
        CVSAError: fewer GPUs than processes; a device that is one GPU, or of a kind that cannot be shared.
    """
    asked = f"Parameter gpus = {config.gpus}"
    if not torch.distributed.is_available():
        raise CVSAError(f"{asked}: this build of torch has no torch.distributed. Set gpus 1.")
    if config.device not in ("auto", "cpu", "cuda"):
        what = "each process takes a GPU of its own, so device is auto, cuda or cpu"
        raise CVSAError(f"{asked}: {what}, not {config.device!r}.")
    if config.device == "cpu":
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.gpus > count:
        has = "no GPU" if count == 0 else f"{count} GPU{'s' * (count > 1)}"
        most = "set gpus 1 or device cpu" if count < 2 else f"give at most {count}, or device cpu"
        raise CVSAError(f"{asked}: this machine has {has}; {most}.")


def launch(work: Callable[[Any, Path], Record | None], config: TrainingConfig, out: Path) -> Record:
    """Run ``work(config, out)`` in ``config.gpus`` processes that have joined one world, and wait for them.

    What the first writes to its standard output and error appears on this process's standard error as it
    comes. An interrupt here ends all of them, and so does the death of this process or of one of them.

    Args:
        work: a function of a module that can be imported.
        config: of the run, resolved; see :func:`check_devices`.
        out: folder of the run, where the first process writes the record.

    Returns:
        The record in ``out``.

    Raises:
        CVSAError: what a process raised; or that one failed otherwise or was killed, in one line.
    """
    with tempfile.TemporaryDirectory(prefix="cvsa-") as name:
        scratch = Path(name)
        task = {
            "work": [work.__module__, work.__qualname__],
            "kind": KINDS[type(config)],
            "config": config.model_dump(mode="json"),
            "out": str(out),
            "size": config.gpus,
            "cuda": config.device != "cpu" and torch.cuda.is_available(),
            "threads": max(1, torch.get_num_threads() // config.gpus),
            "path": sys.path,  # where a method of one's own is found
        }
        (scratch / TASK).write_text(json.dumps(task), encoding="utf-8")
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(config.gpus):
                processes.append(_start(rank, scratch))
            _follow(processes)
            codes = [process.poll() for process in processes]
        finally:
            _end(processes)
        if any(codes):
            explain(codes, scratch)
    return read_record(out)


def _start(rank: int, scratch: Path) -> subprocess.Popen[bytes]:
    # A terminal is handed on, so that the progress bar knows its width.
    said: Any = subprocess.PIPE
    if rank > 0:
        said = (scratch / SAID.format(rank)).open("wb")
    elif sys.stderr.isatty():
        said = sys.stderr
    # torch would warn of every network that has no unused weights, see `cvsa.training.shared.connect`.
    environment = {"TORCH_CPP_LOG_LEVEL": "ERROR", **os.environ}
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "cvsa.worker", str(rank), str(scratch)],
            stdin=subprocess.PIPE,  # its end tells the process that this one is gone
            stdout=said,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is for this process, which ends the others
        )
    finally:
        if rank > 0:
            said.close()


def _follow(processes: list[subprocess.Popen[bytes]]) -> None:
    """Show what the first process says until all have ended, or one has failed."""
    said = processes[0].stdout
    if said is not None:
        os.set_blocking(said.fileno(), False)
    decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
    until = float("inf")
    while True:
        codes = [process.poll() for process in processes]
        if said is not None and (text := decode(said.read() or b"")):
            sys.stderr.write(text)
            sys.stderr.flush()
        if None not in codes or time.monotonic() > until:
            return
        if any(codes) and until == float("inf"):
            until = time.monotonic() + GRACE
        time.sleep(LOOK)


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    until = time.monotonic() + GRACE
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def explain(codes: list[int | None], scratch: Path) -> None:
    """Say what went wrong first: when one process is gone, the others fail too.

    Args:
        codes: exit status of each process; negative: the signal that ended it; None: it ran.
        scratch: the folder where they have left what they failed of.

    Raises:
        CVSAError: always.
    """
    told = [
        {"rank": rank, **json.loads(file.read_text(encoding="utf-8"))}
        for rank in range(len(codes))
        if (file := scratch / FAILURE.format(rank)).is_file()
    ]
    first = min(told, key=lambda each: (not each["ours"], each["time"]), default=None)
    if first and first["ours"]:
        raise CVSAError(first["line"])
    again = "Run it again: it goes on from its last checkpoint."
    for rank, code in enumerate(codes):
        if code is not None and code < 0:
            name, why = signal.Signals(-code).name, "; often memory ran out" * (-code == signal.SIGKILL)
            raise CVSAError(f"Process {rank} of {len(codes)} was ended by {name}{why}. {again}")
    if first:
        print(first["trace"], file=sys.stderr)
        raise CVSAError(f"Process {first['rank']} of {len(codes)} failed: {first['line']}")
    rank = next(rank for rank, code in enumerate(codes) if code)
    raise CVSAError(f"Process {rank} of {len(codes)} ended with status {codes[rank]}. {again}")
