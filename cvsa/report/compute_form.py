"""What the paper's experiments would cost: passes through the backbone, and hours at a throughput. [O]

Passes follow from the paper preset by arithmetic (:mod:`cvsa.costs`), images from the data sets' cards; the
throughput is measured (:mod:`cvsa.throughput`) or told by the reader, in a form that works without a network.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from cvsa.config import FinetuneConfig, PretrainConfig, resolve
from cvsa.costs import passes
from cvsa.data.sets import find_set
from cvsa.errors import CVSAError
from cvsa.methods.catalogue import TABLES, find_row
from cvsa.report.tables import reported_scale_ablation
from cvsa.report.where import hardware_words
from cvsa.throughput import WITH_BACKWARD, Throughput

PRESET = "paper"
FINE = ("cub200", "nabirds", "aircraft", "cars")
GENERIC = ("coco", "imagenet")
SEEDS = 3


@dataclass(frozen=True)
class Plan:
    """Forward passes through the backbone that one seed of everything takes, a backward counted as two.

    Attributes:
        preset: whose epochs are counted.
        images: data set -> training images, those held out for validation left out.
        rows: row of the first table or of the scale ablation -> pre-training on each of FINE.
        finetune: fine-tuning on each of FINE.
        first: row -> a first stage on each of GENERIC.
        scales: values of the scale ablation, on the first of FINE.
    """

    preset: str
    images: dict[str, int]
    rows: dict[str, list[float]]
    finetune: list[float]
    first: dict[str, list[float]]
    scales: int


def plan(preset: str = PRESET) -> Plan:
    """What the paper's two tables and its scale ablation need at a preset."""
    images = {name: training_images(name, preset) for name in (*FINE, *GENERIC)}

    def trained(row: str, names: Sequence[str], stage: int) -> list[float]:
        return [training(row, name, stage, preset) for name in names]

    second = [row for table in ("second_stage_only", "scale_ablation") for _, row in TABLES[table] if row]
    first = [row for row, _ in TABLES["dual_stage"] if row]
    return Plan(
        preset=preset,
        images=images,
        rows={row: trained(row, FINE, 2) for row in dict.fromkeys(second)},
        finetune=[tuning(name, preset) for name in FINE],
        first={row: trained(row, GENERIC, 1) for row in dict.fromkeys(first)},
        scales=reported_scale_ablation()[0]["scale"].nunique(),
    )


def training_images(dataset: str, preset: str = PRESET) -> int:
    """Of a published data set, without those that the preset holds out for validation."""
    held_out = resolve(FinetuneConfig, row="Random", preset=preset).val_fraction
    return round(find_set(dataset).card.splits["train"] * (1 - held_out))


def training(row: str, dataset: str, stage: int = 2, preset: str = PRESET) -> float:
    """Forward passes of a row's pre-training on a published data set, a backward pass counted as two."""
    if find_row(row)[1].base == "none":
        return 0.0
    config = resolve(PretrainConfig, row=row, preset=preset, stage=stage, dataset=dataset)
    return passes(config, training_images(dataset, preset))


def tuning(dataset: str, preset: str = PRESET) -> float:
    """The same of a fine-tuning, of whatever row."""
    config = resolve(FinetuneConfig, row="Random", preset=preset, dataset=dataset)
    return passes(config, training_images(dataset, preset))


def hours(count: float, rate: float, overhead: float = 1.0) -> float:
    """Hours of one device for some passes.

    Args:
        count: forward passes.
        rate: images per second, forward and backward of the backbone alone.
        overhead: of a whole step over its passes.
    """
    return count * overhead / (WITH_BACKWARD * rate * 3600)


def totals(needed: Plan, measured: Throughput) -> dict[str, float]:
    """Hours of one seed of each table, as the form shows them at first."""
    rate = measured.rate()

    def train(row: str, where: int) -> float:
        return hours(needed.rows[row][where], rate, overhead(measured, row))

    def tune(where: int) -> float:
        return hours(needed.finetune[where], rate)

    every = range(len(FINE))
    table1 = [row for _, row in TABLES["second_stage_only"] if row]
    result = {"table 1": sum(train(row, where) + tune(where) for row in table1 for where in every)}
    for number, name in enumerate(GENERIC):
        second = sum(
            (train(row, where) if row else 0.0) + tune(where)
            for _, row in TABLES["dual_stage"]
            for where in every
        )
        stages = (hours(needed.first[r][number], rate, overhead(measured, r)) for r in needed.first)
        result[f"table 2, {name}"] = second + sum(stages)
    swept = [row for _, row in TABLES["scale_ablation"] if row]
    result["scale ablation"] = needed.scales * sum(train(row, 0) + tune(0) for row in swept)
    return result


def overhead(measured: Throughput, row: str) -> float:
    """Of a row's whole step over its passes where it was measured; else 1: the passes alone."""
    return measured.overhead(row) if row in measured.rows else 1.0


def shown(value: float) -> str:
    """Hours as people read them: two figures below ten, whole ones with thousands above."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}" if value >= 0.1 else f"{value:.1g}"


def form(measured: Sequence[Throughput], needed: Plan | None = None) -> str:
    """The compute form as one piece of HTML; without JavaScript it shows the first measured throughput.

    Args:
        measured: of the plan's preset, at least one.
        needed: what is to be computed; None: :func:`plan`.

    Raises:
        CVSAError: nothing was measured at this preset.
    """
    needed = needed or plan()
    measured = [each for each in measured if each.preset == needed.preset]
    if not measured:
        raise CVSAError(
            f"No throughput of the preset {needed.preset!r} in results/compute. "
            f"Run `cvsa throughput --preset {needed.preset}`, or restore the file from version control."
        )
    first = measured[0]
    rates = [{"rate": m.rate(), "overhead": {row: m.overhead(row) for row in m.rows}} for m in measured]
    data = {
        "withBackward": WITH_BACKWARD, "rows": needed.rows, "finetune": needed.finetune,
        "first": needed.first, "scales": needed.scales, "generic": GENERIC, "tables": TABLES,
        "records": rates,
    }  # fmt: skip
    options = "".join(
        f'<option value="{number}">{escape(_label(each))}</option>' for number, each in enumerate(measured)
    )
    return _fill(
        "compute_form.html",
        css=_template("figure.css"), hours=_template("compute_hours.js"), script=_template("compute_form.js"),
        options=options, rate=f"{first.rate():.3g}", seeds=str(SEEDS), label=escape(_label(first)),
        rows=_rows(needed, first), first=_first(needed, first), totals=_totals(needed, first),
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
    )  # fmt: skip


def _label(each: Throughput) -> str:
    return f"{hardware_words(each.hardware)}, batch {each.batch_size}: {each.rate():.3g} images/s"


def _rows(needed: Plan, first: Throughput) -> str:
    lines = [_line("fine-tuning, any row", [hours(n, first.rate()) for n in needed.finetune], "finetune")]
    return _head(FINE, needed) + _body(lines + _trained(needed.rows, first))


def _first(needed: Plan, first: Throughput) -> str:
    return _head(GENERIC, needed) + _body(_trained(needed.first, first))


def _trained(rows: dict[str, list[float]], first: Throughput) -> list[str]:
    return [
        _line(row, [hours(n, first.rate(), overhead(first, row)) for n in counts], row, row in first.rows)
        for row, counts in rows.items()
        if any(counts)
    ]


def _head(names: Sequence[str], needed: Plan) -> str:
    cells = (
        f"{escape(find_set(name).card.title)}<br><small>{needed.images[name]:,} images</small>"
        for name in names
    )
    titles = "".join(f'<th scope="col">{cell}</th>' for cell in cells)
    return f'<thead><tr><th scope="col">row</th>{titles}</tr></thead>'


def _body(lines: Sequence[str]) -> str:
    return f"<tbody>{''.join(lines)}</tbody>"


def _totals(needed: Plan, first: Throughput) -> str:
    names = {
        "table 1": "the first table, four data sets",
        **{f"table 2, {n}": f"the second table, first stage on {find_set(n).card.title}" for n in GENERIC},
        "scale ablation": f"the scale ablation, {needed.scales} scales",
    }
    lines = [_line(names[key], [value, SEEDS * value], key) for key, value in totals(needed, first).items()]
    head = (
        '<th scope="col">what</th><th scope="col">one seed</th>'
        f'<th scope="col"><span data-seeds>{SEEDS}</span> seeds</th>'
    )
    return f"<thead><tr>{head}</tr></thead>{_body(lines)}"


def _line(title: str, values: Sequence[float], key: str, measured: bool | None = None) -> str:
    """A line of a table; rows get a mark that shows where their whole step was measured."""
    hidden = "" if measured else " hidden"
    mark = (
        "" if measured is None else f'<span data-measured{hidden} title="whole step measured">&nbsp;*</span>'
    )
    cells = "".join(f"<td>{shown(value)}</td>" for value in values)
    return f'<tr data-key="{escape(key)}"><th scope="row">{escape(title)}{mark}</th>{cells}</tr>'


def _template(name: str) -> str:
    return (files("cvsa.report") / "templates" / name).read_text("utf-8")


def _fill(name: str, **parts: str) -> str:
    page = _template(name)
    for key, value in parts.items():
        page = page.replace("{{" + key + "}}", value)
    return page
