"""One run without a notebook: what the notebooks of that kind compute, and nothing that they show."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cvsa.config import KINDS, parameters
from cvsa.errors import CVSAError
from cvsa.notebook import refuse_unknown, run_folder
from cvsa.records import Record


def single(kind: str, given: dict[str, Any], out: Path | None) -> tuple[Path, Record]:
    """Make one run, or return it where it is there already.

    Args:
        kind: "pretrain", "finetune", "probe" or "evaluate".
        given: parameters of the notebook of that kind; text is read as papermill reads it.
        out: folder of the run; None: one of its own below ``runs/``.

    Returns:
        The folder and its record.

    Raises:
        CVSAError: an unknown parameter; see the functions of each kind.
    """
    model = next(model for model, name in KINDS.items() if name == kind)
    refuse_unknown(given, parameters(model))
    # Each brings torch and more: only what is asked for is imported.
    if kind == "evaluate":
        from cvsa.evaluation.evaluate import evaluate
        from cvsa.lineage import resolve_evaluation

        folder = out or run_folder(None, kind, resolve_evaluation(**given)[0])
        return folder, evaluate(folder, **given)
    from cvsa.lineage import resolve_run

    config = resolve_run(model, **given)[0]
    folder = out or run_folder(None, kind, config)
    if kind == "pretrain":
        from cvsa.training.pretrain import pretrain

        return folder, pretrain(config, folder)  # type: ignore[arg-type]
    if kind == "finetune":
        from cvsa.evaluation.finetune import finetune

        return folder, finetune(folder, **given)
    from cvsa.evaluation.probe import probe

    return folder, probe(folder, **given)


def told(folder: Path, record: Record) -> list[str]:
    """What came out, for people."""
    lines = [
        f"{record.kind} of {record.row}, seed {record.seed}: {record.seconds:.0f} s; written to {folder}"
    ]
    return lines + [f"  {name:<32} {value:.4g}" for name, value in record.metrics.items()]


def read_parameters(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """``-p NAME VALUE`` as given on the command line, each once.

    Raises:
        CVSAError: a name that comes twice.
    """
    given: dict[str, Any] = {}
    for name, value in pairs:
        if name in given:
            raise CVSAError(f"Parameter {name!r} is given twice: {given[name]} and {value}.")
        given[name] = value
    return given
