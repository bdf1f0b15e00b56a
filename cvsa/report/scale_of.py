"""At which scale the evidence of a chapter stands, and what the same would take at the paper's. [O]"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from cvsa.config import PretrainConfig, resolve
from cvsa.costs import passes, share_of_labels
from cvsa.errors import CVSAError
from cvsa.records import Record, Runs, config_of
from cvsa.report.compute import costs
from cvsa.report.compute_form import FINE, GENERIC, PRESET, hours, overhead, shown, training, tuning
from cvsa.report.evaluated import several
from cvsa.report.evidence import NAMES, data_name, network_name
from cvsa.report.page import Page
from cvsa.report.sources import Sources
from cvsa.report.where import counted
from cvsa.throughput import FOLDER, Throughput, read_all

TRAINED = ("pretrain", "finetune")  # what is scaled up; probes and evaluations cost little beside it
TUNED = "fine-tuning"
UNITS = {True: "thread", False: "device"}  # by whether it ran on a CPU


def draw(page: Page, sources: Sources, notes: Mapping[str, Sequence[str]]) -> None:
    """``text/evidence_NAME``, for chapters to show on top.

    Args:
        page: where they go.
        sources: all records at hand; throughputs are read from ``results/compute``.
        notes: name -> committed sets; of those that are not there the text says so.
    """
    measured = [each for each in read_all(sources.root / FOLDER) if each.preset == PRESET]
    for name, keys in notes.items():
        there = {key: sources.committed[key] for key in keys if sources.committed.get(key)}
        lines = [line for key, runs in there.items() for line in note(key, runs, sources, measured)]
        runs = [pair for runs in there.values() for pair in runs]
        page.text(f"evidence_{name}", lines or [absent(keys)], runs)


def varies_scale(runs: Runs) -> bool:
    """Whether a set has pre-trainings at two scales of Saliency Swap's crop or more."""
    return len({record.config.get("swap_scale") for _, record in runs if record.kind == "pretrain"}) > 1


def absent(names: Sequence[str]) -> str:
    """What stands in place of a note where no set has records."""
    sets = several([f"`results/{name}`" for name in names])
    return f"No committed records in {sets}: what would be drawn from them shows dashes."


def note(key: str, runs: Runs, sources: Sources, measured: Sequence[Throughput]) -> list[str]:
    """Three sentences on a committed set: what ran, what it took and by which code, and the paper's scale.

    Args:
        key: the folder in ``results/``.
        runs: of the set, at least one.
        sources: tell which of them today's code would make.
        measured: throughputs at the paper's size.
    """
    records = [record for _, record in runs]
    return [what(key, records), spent(runs, [r for r in records if not _fresh(r, sources)]),
            at_paper(runs, measured)]  # fmt: skip


def what(key: str, records: Sequence[Record]) -> str:
    """Data, images, network, epochs, rows and seeds of a set."""
    second = [each for each in records if each.kind == "pretrain" and each.stage1 is None]
    shaped = second or records
    tuned = [each for each in records if each.kind == "finetune"]
    classes = _span(each.counts["classes"] for each in records if "classes" in each.counts)
    images = _span(each.counts["train_images"] for each in shaped if "train_images" in each.counts)
    size = _span(each.config["image_size"] for each in shaped if "image_size" in each.config)
    network = several(list(dict.fromkeys(network_name(each.config) for each in shaped)))
    lengths = [
        f"{_span(each.config['epochs'] for each in of)} epochs of {name}"
        for name, of in (("pre-training", second), (TUNED, tuned))
        if of
    ]
    seeds: dict[str, set[int]] = {}
    for each in records:
        seeds.setdefault(each.row, set()).add(each.seed)
    data = several(list(dict.fromkeys(data_name(each.config) for each in shaped)))
    parts = [
        f"Committed runs `{key}`: {data}",
        *([f"{classes} classes"] if classes else []),
        *([f"{images} training images of {size} px"] if images and size else []),
        f"network {network}",
        *lengths,
        f"{counted(len(seeds), 'row')} with {_span(map(len, seeds.values()))} seeds each",
    ]
    return f"{', '.join(parts)}.".replace("with 1 seeds", "with one seed")


def spent(runs: Runs, older: Sequence[Record]) -> str:
    """How many runs, for how long, where, and how many of them today's code would not make."""
    how_many = "all" if len(older) == len(runs) else f"{len(older)}"
    state = f"{how_many} of them by older code than today's" if older else "all of them by today's code"
    return f"{counted(len(runs), 'run')} in {_took(runs, 'minutes')}, {state}."


def at_paper(runs: Runs, measured: Sequence[Throughput]) -> str:
    """What pre-training and fine-tuning of the same rows and seeds would take at the paper's size."""
    trained = [pair for pair in runs if pair[1].kind in TRAINED]
    needed = Counter[str]()
    for _, record in trained:
        needed.update(paper_passes(record))
    here = passes_here(trained)
    times = f"{_about(sum(needed.values()) / here)} times as many passes" if here else "more passes"
    paper = resolve(PretrainConfig, preset=PRESET).model_dump()
    told = (
        f"To train the same rows and seeds at the paper's size (preset `{PRESET}`: {network_name(paper)}, "
        f"{paper['image_size']} px, {NAMES[FINE[0]]} alone) takes {times} of an image, each through a larger "
        "network"
    )
    if not measured:
        return f"{told}. How long such a pass takes was not measured."
    rates = []
    for each in measured:
        hardware = each.hardware
        on_cpu = hardware["device"] == "cpu"
        took = sum(hours(count, each.rate(), overhead(each, row)) for row, count in needed.items())
        spent_there = took * (hardware["threads"] if on_cpu else 1)
        rates.append(f"{_about(spent_there)} {UNITS[on_cpu]}-hours on {hardware.get('gpu', hardware['cpu'])}")
    return f"{told}: at the rates measured, about {several(rates)}. Here it took {_took(trained, 'hours')}."


def _took(runs: Runs, unit: str) -> str:
    """ "12 thread-minutes on AMD EPYC", or hours; GPUs are counted apart."""
    if not runs:
        return "no time"
    table = costs({"": runs})
    parts = []
    for on_cpu, part in table.groupby(table["device"] == "cpu"):
        value = part["minutes"].sum() / (60 if unit == "hours" else 1)
        machines = several(list(dict.fromkeys(part["machine"])))
        parts.append(f"{_about(value)} {UNITS[bool(on_cpu)]}-{unit} on {machines}")
    return several(parts)


def _about(value: float) -> str:
    """Two figures: more would promise what batches and other users of a machine do not keep."""
    return shown(float(f"{value:.2g}"))


def paper_passes(record: Record) -> dict[str, float]:
    """Row, or TUNED -> passes of a run's like at the paper's size; empty for what is not scaled up."""
    if record.kind == "pretrain":
        stage = 1 if record.config.get("stage") == 1 else 2
        return {record.row: _training(record.row, stage)}
    if record.kind == "finetune":
        return {TUNED: _tuning() * share_of_labels(record)}
    return {}


def passes_here(runs: Runs) -> float:
    """Passes of pre-trainings and fine-tunings as they ran; 0 where today's code does not know one."""
    try:
        return sum(passes(config_of(record), record.counts.get("train_images")) for _, record in runs)
    except CVSAError:
        return 0.0


@cache
def _training(row: str, stage: int) -> float:
    return training(row, GENERIC[0] if stage == 1 else FINE[0], stage)


@cache
def _tuning() -> float:
    return tuning(FINE[0])


def _fresh(record: Record, sources: Sources) -> bool:
    return record.run_id in sources.fresh and sources.fresh[record.run_id].state == "fresh"


def _span(values: Iterable[Any]) -> str:
    """ "4,000", or "5 to 60"; empty without any."""
    found = sorted(set(values))
    ends = list(dict.fromkeys(f"{value:,g}" for value in (found[0], found[-1]))) if found else []
    return " to ".join(ends)
