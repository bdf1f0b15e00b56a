"""Two runs of one kind, side by side."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cvsa.config import WHERE, DataConfig
from cvsa.records import HISTORY, PREDICTIONS, RECORD, Record, read_record
from cvsa.report.compare import (
    NONE,
    Comparison,
    Drawing,
    Notice,
    Section,
    changed_code,
    changed_values,
    differ,
    explanations,
    fields_of,
    other_data,
    same_data_wanted,
    show,
    signed,
)
from cvsa.report.statistics import mcnemar, paired_image_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Run = tuple[Path, Record]
NAMES = ("A", "B")
BLOCKS = "▁▂▃▄▅▆▇█"
# Beside the losses, of interest to whoever wants to know why a run was slow.
NOT_DRAWN = ("learning_rate", "seconds")


def compare_runs(first: Run, second: Run) -> Comparison:
    """Configuration, code, libraries, machine, final metrics and curves of two runs of one kind.

    Differences are B - A. Fine-tunings on the same test images are also compared image by image.
    """
    a, b = first[1], second[1]
    configuration = changed_values(_fields(first), _fields(second))
    sections = [
        Section(
            "Configuration",
            [] if configuration else ["No difference, defaults included."],
            _values(configuration, "field"),
            most=200,
        ),
        _surroundings(a, b),
        _metrics(a, b),
        *filter(None, (_images(first, second), _curves(first, second))),
    ]
    about = [f"{name}: {_told(*run)}" for name, run in zip(NAMES, (first, second), strict=True)]
    return Comparison(f"Two {a.kind} runs", about, _notices(a, b, set(configuration)), sections)


def _fields(run: Run) -> dict[str, Any]:
    """Its configuration, and that of its pre-training where it is found in the same set of runs."""
    folder, record = run
    fields = fields_of(record)
    if record.parents and record.config.get("pretrained"):
        parent = folder.parent.parent / "pretrain" / Path(record.config["pretrained"]).name
        if (parent / RECORD).is_file() and (found := read_record(parent)).run_id == record.parents[0]:
            own = fields_of(found, WHERE | {"row", "preset", "seed", *DataConfig.model_fields})
            fields |= {f"pretrain.{name}": value for name, value in own.items()}
    return fields


def _told(folder: Path, record: Record) -> str:
    stages = " → ".join(filter(None, (record.stage1, record.stage2))) or "no pre-training"
    origin = f", imported on {record.imported.on:%Y-%m-%d}" if record.imported else ""
    return (
        f"{folder}: {record.row} ({stages}), seed {record.seed}, preset {record.preset}, "
        f"run {record.run_id}, {record.started:%Y-%m-%d %H:%M}, {record.seconds:.0f} s, "
        f"{record.peak_memory_mib:.0f} MiB{origin}"
    )


def _notices(a: Record, b: Record, differing: set[str]) -> list[Notice]:
    notices = []
    equal, alike = not differ(a, b), a.metrics.keys() == b.metrics.keys()
    equally = "results equal to the last digit" + ("" if alike else ", in the metrics that both have")
    same = not differing - {"parent", "classifier", "preset"}
    started = ", from different runs" if differing & {"parent", "classifier"} else ""
    if same and equal:
        notices.append(Notice(f"Same configuration{started}, and {equally}."))
    elif same:
        notices.append(
            Notice(f"SAME CONFIGURATION{started.upper()}, DIFFERENT RESULTS. {explanations(a, b)}", loud=True)
        )
    elif equal and a.metrics.keys() & b.metrics.keys():
        notices.append(Notice(f"Different configurations, and {equally}.", loud=True))
    splits = other_data(a, b)
    if splits and same_data_wanted(a, b):
        said = f"NOT THE SAME DATA in {', '.join(splits)}, though the configurations ask for the same."
        notices.append(Notice(said, loud=True))
    elif set(splits) - {"train"}:
        said = f"NOT THE SAME DATA in {', '.join(splits)}: differences there mix the data with the method."
        notices.append(Notice(said, loud=True))
    elif splits:
        notices.append(Notice("Not the same training data, as configured."))
    if shared := sorted(set(a.data_fingerprints) & set(b.data_fingerprints) - set(splits)):
        notices.append(Notice(f"The same data in {', '.join(shared)}."))
    return notices


def _values(values: dict[str, tuple[object, object]], name: str) -> pd.DataFrame:
    return pd.DataFrame({
        name: list(values),
        "A": [show(pair[0]) for pair in values.values()],
        "B": [show(pair[1]) for pair in values.values()],
    })  # fmt: skip


def _surroundings(a: Record, b: Record) -> Section:
    code = changed_code(a, b)
    files = [record.code.get("files") or {} for record in (a, b)]
    table = pd.concat([
        pd.DataFrame({"what": code, "A": [files[0].get(name, NONE) for name in code],
                      "B": [files[1].get(name, NONE) for name in code]}),
        _values(changed_values(a.libraries, b.libraries), "what"),
        _values(changed_values(a.hardware, b.hardware), "what"),
    ], ignore_index=True)  # fmt: skip
    commits = " and ".join(str(record.code.get("commit"))[:12] for record in (a, b))
    said = (
        "The same code"
        if not code
        else f"Code of {len(code)} files differs"
        if all(files)
        else "Code differs"
    )
    rest = "" if len(table) > len(code) else "; libraries and machine are the same"
    return Section("Code, libraries, machine", [f"{said} (commits {commits}){rest}."], table)


def _metrics(a: Record, b: Record) -> Section:
    names = [*a.metrics, *(name for name in b.metrics if name not in a.metrics)]
    both = [(name, a.metrics.get(name), b.metrics.get(name)) for name in names]
    table = pd.DataFrame({
        "metric": names,
        "A": [show(one) for _, one, _ in both],
        "B": [show(other) for *_, other in both],
        "B − A": [signed(None if one is None or other is None else other - one) for _, one, other in both],
    })  # fmt: skip
    lines = [
        f"{name} could not be measured in {where}: {why}"
        for where, record in zip(NAMES, (a, b), strict=True)
        for name, why in record.unavailable.items()
    ]
    return Section("Final metrics", ["Shares are in [0, 1].", *lines[:6]], table)


def _images(first: Run, second: Run) -> Section | None:
    """Image by image, over those that both were tested on."""
    tables = [pd.read_csv(f / PREDICTIONS) for f, _ in (first, second) if (f / PREDICTIONS).is_file()]
    if len(tables) < 2:
        return None
    lines, refused = [], []
    for split in dict.fromkeys(tables[0]["split"]):
        one, other = (table[table["split"] == split].sort_values("image") for table in tables)
        if split in other_data(first[1], second[1]) or not (
            np.array_equal(one[["image", "label"]], other[["image", "label"]])
        ):
            refused.append(f"{split}: not the same images, so not compared image by image.")
            continue
        hits = [(table["label"] == table["predicted"]).to_numpy(float) for table in (one, other)]
        low, high = paired_image_interval(hits[1], hits[0])
        only_a, only_b = int((hits[0] > hits[1]).sum()), int((hits[1] > hits[0]).sum())
        lines.append({
            "split": split, "images": len(one), "A": show(hits[0].mean()), "B": show(hits[1].mean()),
            "B − A": signed(float(hits[1].mean() - hits[0].mean())),
            "95 % interval": f"[{signed(low)}, {signed(high)}]",
            "only A right": only_a, "only B right": only_b, "McNemar p": f"{mcnemar(hits[0], hits[1]):.3g}",
        })  # fmt: skip
    about = (
        "Accuracy; paired bootstrap interval and exact McNemar test over the images. Both hold for these two "
        "trained networks: other seeds are not in them."
    )
    return Section("The same images", [about, *refused], pd.DataFrame(lines))


def _curves(first: Run, second: Run) -> Section | None:
    found = {
        n: f / HISTORY for n, (f, _) in zip(NAMES, (first, second), strict=True) if (f / HISTORY).is_file()
    }
    if len(found) < 2:
        return Section("Curves", [f"Only {next(iter(found))} has a history."]) if found else None
    one, other = map(pd.read_csv, found.values())
    columns = [column for column in dict.fromkeys([*one, *other]) if column != "epoch"]
    table = pd.DataFrame({
        "curve": columns,
        "A, last": [show(_last(one, column)) for column in columns],
        "B, last": [show(_last(other, column)) for column in columns],
        "A": [sparkline(one, column) for column in columns],
        "B": [sparkline(other, column) for column in columns],
    })  # fmt: skip
    drawn = [column for column in columns if column in one and column in other and column not in NOT_DRAWN]
    drawings = [
        Drawing(
            partial(draw_curve, one, other, column),
            f"Two curves of {column} against the epoch: A ends at {show(_last(one, column))}, "
            f"B at {show(_last(other, column))}",
            f"Measured: {column} after each epoch; A a full line, B a dashed one.",
        )
        for column in drawn
    ]
    epochs = f"{len(one)} epochs" if len(one) == len(other) else f"{len(one)} epochs in A, {len(other)} in B"
    return Section("Curves", [f"{epochs}."], table, drawings=drawings, sketched=NAMES)


def _last(history: pd.DataFrame, column: str) -> float | None:
    return float(history[column].iloc[-1]) if column in history and len(history) else None


def sparkline(history: pd.DataFrame, column: str, width: int = 20) -> str:
    """A curve in text, its epochs gathered into at most ``width`` blocks; a dash where it has no values."""
    values = history[column].to_numpy(float) if column in history else np.array([])
    values = values[np.isfinite(values)]
    if not len(values):
        return NONE
    means = np.array([part.mean() for part in np.array_split(values, min(width, len(values)))])
    span = means.max() - means.min()
    heights = np.zeros(len(means)) if span == 0 else (means - means.min()) / span * (len(BLOCKS) - 1)
    return "".join(BLOCKS[round(height)] for height in heights)


def draw_curve(one: pd.DataFrame, other: pd.DataFrame, column: str) -> Figure:
    """One quantity of both histories against the epoch."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(4.6, 2.6), layout="constrained")
    axis = figure.subplots()
    for name, history, colour, line in zip(
        NAMES, (one, other), ("#0072b2", "#d55e00"), ("-", "--"), strict=True
    ):
        marker = "o" if len(history) == 1 else None
        axis.plot(history["epoch"], history[column], line, color=colour, label=name, marker=marker)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set(title=column.replace("_", " "), xlabel="epoch")
    axis.legend(frameon=False)
    return figure
