"""One of the processes that share a run: ``python -m cvsa.worker RANK FOLDER``, see `launch`."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from cvsa.config import KINDS, validate
from cvsa.errors import CVSAError, one_line
from cvsa.launch import FAILURE, MEETING, TASK
from cvsa.methods.world import join
from cvsa.records import atomic_write


def main(rank: int, scratch: Path) -> int:
    """Do this process's part; a failure is left in the folder for the parent to tell.

    Returns:
        The exit status.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _work(rank, scratch)
    except Exception as error:
        ours = isinstance(error, CVSAError)
        line = str(error) if ours else one_line(f"{type(error).__name__}: {error}")
        told = {"ours": ours, "line": line, "time": time.time(), "trace": traceback.format_exc()}
        atomic_write(scratch / FAILURE.format(rank), json.dumps(told))
        return 1
    return 0


def _work(rank: int, scratch: Path) -> None:
    task: dict[str, Any] = json.loads((scratch / TASK).read_text(encoding="utf-8"))
    sys.path += [folder for folder in task["path"] if folder not in sys.path]
    torch.set_num_threads(task["threads"])
    model = next(model for model, kind in KINDS.items() if kind == task["kind"])
    module, name = task["work"]
    work = getattr(import_module(module), name)
    join(rank, task["size"], scratch / MEETING, task["cuda"])
    work(validate(model, task["config"]), Path(task["out"]))


def _end_with_parent() -> None:
    """The parent holds the other end of standard input and writes nothing: it ends when the parent does."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    status = main(int(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: after a failure, taking a connection down may wait for processes that are gone.
    os._exit(status)
