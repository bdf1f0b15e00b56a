"""What every experiment notebook starts with: its parameters, checked before anything runs."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cvsa.config import RunConfig, parameters
from cvsa.errors import CVSAError

_PLAIN = (int, float, str, bool, list, dict, tuple, type(None))


def refuse_unknown(namespace: dict[str, Any], known: Sequence[str]) -> None:
    """Refuse every plain variable that is no parameter; call it in the first cell after the parameters.

    papermill injects whatever it is given, so a misspelt parameter arrives as one more variable and would be
    silently ignored.

    Args:
        namespace: the notebook's ``globals()``.
        known: the notebook's parameters.

    Raises:
        CVSAError: an unknown parameter; names the nearest one.
    """
    for name, value in namespace.items():
        if not name.startswith("_") and name not in {*known, "In", "Out"} and isinstance(value, _PLAIN):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise CVSAError(f"Unknown parameter {name!r}.{hint} Parameters: {', '.join(known)}.")


def given(namespace: dict[str, Any], model: type[RunConfig]) -> dict[str, Any]:
    """The parameters a notebook was given, field name -> value, without ``out``; refuses unknown ones.

    Args:
        namespace: the notebook's ``globals()``.
        model: configuration whose fields are the parameters.

    Raises:
        CVSAError: an unknown parameter; names the nearest one.
    """
    refuse_unknown(namespace, [*parameters(model), "out"])
    return {name: namespace[name] for name in parameters(model)}


def run_folder(out: object, kind: str, config: RunConfig) -> Path:
    """The folder a run writes to: ``out`` if given, else one of its own below ``runs/``."""
    return Path(str(out)) if out not in (None, "") else Path("runs") / kind / config.name()
