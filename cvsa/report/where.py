"""Where things come from: what is told of each run, and the commands that make runs and figures again.

Needs neither torch nor matplotlib: the book's extensions use it too.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cvsa.config import KINDS, PUBLISHED, WHERE, resolve
from cvsa.errors import CVSAError
from cvsa.freshness import Freshness
from cvsa.records import WEIGHTS, Record, Runs, config_of

FRESH, STALE, IMPORTED = "fresh", "stale", "imported"
_MODELS = {kind: model for model, kind in KINDS.items()}
_NAMED = ("row", "preset", "seed")  # in every command
# The first two follow from the folder it starts from; where it runs shapes no result.
_NOT_GIVEN = {"parent", "classifier", *WHERE, *_NAMED}
_RECIPES = ("base", "backbone")
_ALWAYS_TOLD = ("dataset", "image_size", "backbone")
_TRAINED = ("pretrain", "finetune")  # whose epochs are told too

Known = Mapping[str, tuple[Path, Record]]
"""Run id -> folder and record."""


def figure_command(name: str, preset: str) -> str:
    """What draws one figure or table again, in a shell at the top of a checkout."""
    return shlex.join(
        ["papermill", "notebooks/figure.ipynb", "out.ipynb", "-p", "name", name, "-p", "preset", preset]
    )


def run_commands(folder: Path, record: Record, known: Known, root: Path) -> list[str]:
    """What makes a run again, in a shell at the top of a checkout, one papermill command a line.

    It starts from the weights of its parent where they lie, and else the commands that make these come first.
    Results go to a folder of their own below ``runs/``.

    Args:
        folder: of the run.
        record: its record.
        known: all runs, to find those it starts from.
        root: the checkout.

    Returns:
        Commands; empty where today's code has no such preset, row or parameter any more.
    """
    try:
        config = config_of(record).model_dump(mode="json")
        told = {"row": record.row, "preset": record.preset, "seed": record.seed}
        stage = {"stage": config["stage"]} if config.get("stage") == 1 else {}
        usual = resolve(_MODELS[record.kind], **told, **stage).model_dump(mode="json")
        # These bring recipes of their own: what else differs is told beside what they bring.
        chosen = {name: config[name] for name in _RECIPES if config.get(name) != usual.get(name)}
        usual = resolve(_MODELS[record.kind], **told, **stage, **chosen).model_dump(mode="json")
    except CVSAError:
        return []
    # Empty means "the preset's" where a notebook is given it.
    differs = {
        name: value
        for name, value in config.items()
        if name not in _NOT_GIVEN and value != usual[name] and value is not None
    }
    first: list[str] = []
    start: dict[str, Any] = {}
    if record.parents:
        name = "finetuned" if config.get("classifier") else "pretrained"
        start[name] = config[name]
        if parent := known.get(record.parents[-1]):
            start[name] = _shown(parent[0], root)
            if not (parent[0] / WEIGHTS).is_file():
                first = run_commands(*parent, known, root)
                start[name] = _again(parent[0], root)
    elif config.get("pretrained") == str(PUBLISHED):
        start["pretrained"] = str(PUBLISHED)
    given = {**told, **stage, **chosen, **differs, **start, "out": _again(folder, root)}
    flags = [word for name, value in given.items() for word in ("-p", name, str(value))]
    return [*first, shlex.join(["papermill", f"notebooks/{record.kind}.ipynb", "out.ipynb", *flags])]


def _shown(folder: Path, root: Path) -> str:
    """A folder as somebody at the top of the checkout names it."""
    return (folder.relative_to(root) if folder.is_relative_to(root) else folder).as_posix()


def _again(folder: Path, root: Path) -> str:
    """Where a run made again goes: results/pilot/probe/byol-s0 -> runs/pilot/probe/byol-s0."""
    parts = Path(_shown(folder, root)).parts
    after = parts[parts.index("results") + 1 :] if "results" in parts else parts[-2:]
    return Path("runs", *after).as_posix()


def about_run(
    folder: Path, record: Record, known: Known, root: Path, freshness: Freshness | None
) -> dict[str, Any]:
    """What ``runs.json`` tells of a run; plain values."""
    stale = freshness is not None and freshness.state == STALE
    reasons = list(freshness.reasons) if freshness and stale else []
    if record.imported:
        reasons.append(f"imported from {record.imported.file} on {record.imported.on:%Y-%m-%d}")
    return {
        "kind": record.kind,
        "row": record.row,
        "preset": record.preset,
        "seed": record.seed,
        "commit": (record.code.get("commit") or "")[:8],
        "dirty": bool(record.code.get("dirty")),
        "hardware": hardware_words(record.hardware),
        "seconds": record.seconds,
        "started": f"{record.started:%Y-%m-%d %H:%M}",
        "state": STALE if stale else IMPORTED if record.imported else FRESH,
        "reasons": reasons,
        "folder": _shown(folder, root),
        "parents": record.parents,
        "parameters": unusual(record),
        "command": "\n".join(run_commands(folder, record, known, root)),
    }


def about_runs(
    wanted: Iterable[str], sets: Iterable[Runs], root: Path, fresh: Mapping[str, Freshness]
) -> dict[str, dict[str, Any]]:
    """:func:`about_run` of some runs and of all that these start from, in the order of the sets."""
    known: dict[str, tuple[Path, Record]] = {}
    for folder, record in (pair for runs in sets for pair in runs):
        known.setdefault(record.run_id, (folder, record))
    needed, waiting = set(), list(wanted)
    while waiting:
        run = waiting.pop()
        if run in known and run not in needed:
            needed.add(run)
            waiting += known[run][1].parents
    return {
        run: about_run(*pair, known, root, fresh.get(run)) for run, pair in known.items() if run in needed
    }


def with_parents(ids: Iterable[str], runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Runs of ``runs.json`` and, after them, those they start from, each once."""
    found: dict[str, None] = {}
    waiting = list(ids)
    for run in waiting:
        if run in runs and run not in found:
            found[run] = None
            waiting += runs[run]["parents"]
    return list(found)


def unusual(record: Record) -> dict[str, Any]:
    """Parameters of a run that differ from their defaults, and those that every reader asks for."""
    fields = _MODELS[record.kind].model_fields
    told = {*_ALWAYS_TOLD, *(("epochs",) if record.kind in _TRAINED else ())}
    return {
        name: value
        for name, value in record.config.items()
        if name not in _NOT_GIVEN and (name in told or (name in fields and value != fields[name].default))
    }


def shared_parameters(runs: Iterable[Mapping[str, Any]]) -> str:
    """What entries of ``runs.json`` share: "dataset synthbirds, image_size 48; pretrain: epochs 20"."""
    found = list(runs)

    def common(some: list[Mapping[str, Any]]) -> dict[str, Any]:
        first = some[0]["parameters"] if some else {}
        return {
            name: value
            for name, value in first.items()
            if all(run["parameters"].get(name) == value for run in some)
        }

    def words(values: Mapping[str, Any]) -> str:
        return ", ".join(f"{name} {value}" for name, value in values.items())

    of_all = common(found)
    parts = [words(of_all)]
    for kind in dict.fromkeys(run["kind"] for run in found):
        own = common([run for run in found if run["kind"] == kind])
        own = {name: value for name, value in own.items() if name not in of_all}
        parts += [f"{kind}: {words(own)}"] if own else []
    return "; ".join(part for part in parts if part)


def hardware_words(hardware: Mapping[str, Any]) -> str:
    """A machine in words: "AMD EPYC, 1 thread, fp32"."""
    device = hardware.get("gpu") or hardware.get("cpu") or hardware.get("device") or "unknown machine"
    threads = hardware.get("threads")
    parts = [str(device)]
    if threads and not hardware.get("gpu"):
        parts.append(f"{threads} thread{'' if threads == 1 else 's'}")
    return ", ".join([*parts, *([hardware["precision"]] if hardware.get("precision") else [])])


def counted(number: int, noun: str) -> str:
    """ "1 run", "3 runs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def several(values: Iterable[Any], shown: int = 6) -> str:
    """Different values with how often each occurs where there are several: "a (3), b (1)"."""
    counts = Counter(values).most_common()
    if len(counts) == 1:
        return str(counts[0][0])
    more = f" and {len(counts) - shown} more" if len(counts) > shown else ""
    return ", ".join(f"{value} ({count})" for value, count in counts[:shown]) + more


def stale_sentences(sets: Mapping[str, Runs], fresh: Mapping[str, Freshness]) -> list[str]:
    """What older code made, a sentence for each set of runs and reason; empty where there is none."""
    sentences = []
    for name, runs in sets.items():
        reasons = Counter(
            tuple(fresh[record.run_id].reasons)
            for _, record in runs
            if record.run_id in fresh and fresh[record.run_id].state == STALE
        )
        for why, count in reasons.most_common():
            told = "; ".join(why[:3]) + (f"; and {len(why) - 3} more reasons" if len(why) > 3 else "")
            sentences.append(f"`{name}`: {count:,} of {counted(len(runs), 'run')}: {told}.")
    return sentences
