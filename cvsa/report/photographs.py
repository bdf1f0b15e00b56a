"""Runs on photographs: what is kept of them beside their records, and what the book shows of them.

Every preset of photographs that lies in ``results/`` gives a table, findings, numbers and curves; pictures
only where the photographs' terms allow it. All are named after the preset.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cvsa.config import DRAWN, PretrainConfig
from cvsa.data.datasets import load_splits
from cvsa.data.sets.verify import verify
from cvsa.errors import CVSAError
from cvsa.methods.catalogue import ROWS
from cvsa.records import HISTORY, Record, atomic_write, find_records
from cvsa.report import tables
from cvsa.report.dataset import FINDINGS, judge, read, remark, sentence, verdict
from cvsa.report.examine import as_given, counts, examine, figures, write
from cvsa.report.figures import attention_rows, curves
from cvsa.report.page import Page, contrast_table, interval, percent, points
from cvsa.training.pretrain import attention_maps, build_views, initialise, load_method
from cvsa.training.runtime import Runtime

SHOWN = ("pets3",)
"""Presets whose photographs may be shown, a handful; of others only numbers are kept (see the chapter)."""
SHEET, DPI = 12, 100  # photographs on the sheet; small files
VERIFIED = "verify.txt"
ATTENTION = "attention.png"
METRICS = {
    "finetune": {"test_accuracy": "fine-tuned"},
    "probe": {"linear_test": "linear probe", "knn_test": "kNN"},
}
CURVES = (
    ("contrastive", "contrastive loss"),
    ("alignment", "alignment loss"),
    ("embedding_std", "spread of embeddings\n(0 = collapsed)"),
)


def photograph_presets(results: Path) -> list[Path]:
    """Folders with committed runs on photographs, one per preset, by name."""
    folders = [folder for folder in sorted(results.iterdir()) if folder.is_dir()]
    first = {folder: next(find_records(folder), None) for folder in folders}
    return [folder for folder, run in first.items() if run and run[1].config["dataset"] not in DRAWN]


def photographs(page: Page, folder: Path) -> None:
    """What the book shows of one preset: ``tables/PRESET.md``, ``text/PRESET.md``, ``figures/PRESET_*``.

    Args:
        page: collects them, and the numbers ``PRESET.*``.
        folder: with the committed records, and what `keep_photographs` put beside them.

    Raises:
        CVSAError: there are no records.
    """
    preset, runs = folder.name, list(find_records(folder))
    if not runs:
        raise CVSAError(f"No committed records in {folder}. Restore them from version control.")
    page.table(preset, _rows(record for _, record in runs))
    measured = tables.main_runs(tables.long_table(runs))
    contrasts = tables.differences(measured, tables.TOP1).assign(metric="fine-tuned")
    if len(contrasts):
        page.table(f"contrasts_{preset}", contrast_table(contrasts))
    page.text(preset, _findings([record for _, record in runs], contrasts))
    _numbers(page, preset, [record for _, record in runs])
    histories = {
        f"{record.row} #{record.seed}": pd.read_csv(path / HISTORY)
        for path, record in runs
        if record.kind == "pretrain"
    }
    page.figure(f"{preset}_curves.svg", curves(histories, CURVES))
    _kept(page, folder)


def _rows(records: Iterable[Record]) -> pd.DataFrame:
    """One line per row and seed, in percent."""
    lines: dict[tuple[str, int], dict[str, Any]] = {}
    for record in records:
        line = lines.setdefault((record.row, record.seed), {"row": record.row, "seed": record.seed})
        names = METRICS.get(record.kind, {})
        line |= {title: percent(record.metrics[metric]) for metric, title in names.items()}
    order = list(ROWS)
    ordered = sorted(lines.values(), key=lambda line: (order.index(line["row"]), line["seed"]))
    found = pd.DataFrame(ordered).fillna("–")
    return found.drop(columns="seed") if found["seed"].nunique() == 1 else found


def _findings(records: list[Record], contrasts: pd.DataFrame) -> list[str]:
    tuned = [record for record in records if record.kind == "finetune"]
    numbers = tuned[0].counts
    ends = [choose(record.metrics["test_accuracy"] for record in tuned) for choose in (min, max)]
    sure = 1.96 * (ends[1] * (1 - ends[1]) / numbers["test_images"]) ** 0.5
    seeds = len({record.seed for record in tuned})
    trained = next(record for record in records if record.kind == "pretrain")
    lines = [
        f"{numbers['train_images']:,} training and {numbers['test_images']:,} test photographs of "
        f"{numbers['classes']} classes; guessing gives {_chance(numbers['classes'])}.",
        f"After fine-tuning the rows lie between {percent(ends[0])} and {percent(ends[1])} %, "
        f"{'one run' if seeds == 1 else f'{seeds} runs'} each. With so many test photographs the best "
        f"is known to ± {100 * sure:.1f} points (95 %), whatever another seed would give.",
    ]
    said = {
        "yes": "it separates over seeds",
        "images only": "the interval excludes zero for these trained networks; the seeds do not settle it",
        "no": "not separated",
    }
    for _, line in contrasts.iterrows():
        span = interval(line["image_low"], line["image_high"], points)
        lines.append(
            f"{line['row']} against {line['against']}, fine-tuned: {points(line['difference'])} points, "
            f"{span} over test images; {said[line['separated']]}."
        )
    minutes = sum(record.seconds for record in records) / 60
    return [
        *lines,
        f"Pre-training ran for {trained.config['epochs']} epochs at {trained.config['image_size']} px; all "
        f"runs together took {minutes:.0f} minutes of computing.",
    ]


def _chance(classes: int) -> str:
    return f"{percent(1 / classes, 0 if classes <= 10 else 1)} %"


def _numbers(page: Page, preset: str, records: list[Record]) -> None:
    ids = [record.run_id for record in records]
    tuned = {record.row: record for record in records if record.kind == "finetune"}
    some = next(iter(tuned.values()))
    trained = next(record for record in records if record.kind == "pretrain")
    page.number(f"{preset}.classes", str(some.counts["classes"]), ids)
    page.number(f"{preset}.chance", _chance(some.counts["classes"]), ids)
    page.number(f"{preset}.train_images", f"{some.counts['train_images']:,}", ids)
    page.number(f"{preset}.test_images", f"{some.counts['test_images']:,}", ids)
    page.number(f"{preset}.epochs", str(trained.config["epochs"]), ids)
    page.number(f"{preset}.image_size", f"{trained.config['image_size']} px", ids)
    page.number(f"{preset}.machine", str(trained.hardware.get("gpu", trained.hardware["cpu"])), ids)
    for record in records:
        page.number(
            f"{preset}.minutes.{record.kind}.{record.row}", f"{record.seconds / 60:.1f}", [record.run_id]
        )
    for row, record in tuned.items():
        accuracy = percent(record.metrics["test_accuracy"])
        page.number(f"{preset}.finetuned.{row}", f"{accuracy} %", [record.run_id])


def _kept(page: Page, folder: Path) -> None:
    """What `keep_photographs` put beside the records, as far as it is there."""
    preset, seen = folder.name, folder / "dataset"
    if (seen / FINDINGS).is_file():
        findings = read(seen)
        checks = judge(findings)
        remarks = [remark(check) for check in checks if check.level != "ok"]
        page.text(f"{preset}_verdict", [f"**{verdict(checks)}**", *remarks])
        page.text(f"{preset}_checks", [sentence(check) for check in checks])
        page.number(f"{preset}.batch_size", str(findings.batch_size))
        if findings.boxes:
            page.number(f"{preset}.box_median", f"{percent(findings.boxes[1], 0)} %")
            page.number(f"{preset}.large_boxes", f"{percent(findings.large_boxes, 0)} %")
    if (seen / VERIFIED).is_file():
        page.file(f"text/{preset}_{VERIFIED}", (seen / VERIFIED).read_text("utf-8"))
    for picture in (*sorted(seen.glob("*.png")), *sorted(folder.glob("*.png"))):
        page.file(f"figures/{preset}_{picture.name}", picture.read_bytes())


def keep_photographs(folder: Path, run: Path, config: PretrainConfig) -> None:
    """Put beside the records of a preset what `cvsa data verify` and the notebook `dataset` say.

    Args:
        folder: ``results/PRESET``; its name decides whether photographs may be shown.
        run: folder of a finished pre-training run with the alignment module, with weights.
        config: its configuration.
    """
    examined, seen = examine(config), folder / "dataset"
    may_show = folder.name in SHOWN
    write(examined, figures(examined, SHEET) if may_show else {"counts": counts(examined)}, seen, dpi=DPI)
    if not config.split_file:  # `cvsa data verify` would tell of the folder's own split
        report = verify(config.dataset, config.folder)
        atomic_write(seen / VERIFIED, as_given(config, "\n".join(report.lines())) + "\n")
    if may_show:
        _draw_attention(folder, run, config)


def _draw_attention(folder: Path, run: Path, config: PretrainConfig) -> None:
    """Attention of the alignment module on test photographs, before and after training."""
    runtime = Runtime.of(config)
    test = load_splits(config)["test"].to(runtime.device)
    # Spread over the classes, the same for every run.
    few = torch.linspace(0, len(test) - 1, 6, device=runtime.device).long()
    maker, maps = build_views(config, test), {}
    for name, method in (
        ("before", initialise(config, runtime)),
        ("after", load_method(config, run, runtime)),
    ):
        views, maps[f"attention\n{name} training"] = attention_maps(method, maker, few, seed=3)
    attention_rows(views, maps).savefig(folder / ATTENTION, dpi=DPI, metadata={"Software": None})
