"""The chapter on what the silent points matter: one parameter varied at a time, from records. [O]"""

from __future__ import annotations

from cvsa.records import Runs
from cvsa.report.ablations_figures import parts_figure, small_multiples
from cvsa.report.ablations_study import (
    FINETUNED,
    GAP,
    PRESET,
    PROBED,
    REFERENCE,
    Study,
    baseline,
    compare,
    of,
    studies,
    usual_of,
)
from cvsa.report.ablations_text import findings, missing_sentences, settings, values_table
from cvsa.report.page import Page
from cvsa.report.sources import Sources

AXES = {FINETUNED: "fine-tuned top-1", PROBED: "linear probe", GAP: "attention gap"}
KEYS = {FINETUNED: "finetuned", GAP: "attention"}


def draw(page: Page, sources: Sources) -> None:
    """``figures/ablations_*``, ``tables/ablations_*``, ``text/ablations_*``, and numbers ``ablations.*``.

    Runs that are not there are named in ``text/ablations_missing``; the rest is drawn without them.
    """
    runs = sources.committed.get(PRESET, [])
    found = studies(sources.root, PRESET, runs)
    dials = [each for each in found.values() if len(each.ablation.rows) == 1]
    parts = [each for each in found.values() if each.between_rows]
    plain = baseline(runs, usual_of(PRESET), REFERENCE)
    used = {i for each in (*dials, *parts) for i in each.runs["run_id"]}
    with page.source(used):
        every = {metric: compare(found.values(), metric) for metric in KEYS}
        for metric, key in KEYS.items():
            contrasts = of(every[metric], dials)
            page.figure(f"ablations_{key}.svg", small_multiples(dials, metric, AXES[metric], plain))
            page.table(f"ablations_{key}", values_table(dials, metric, contrasts))
            page.text(f"ablations_{key}", findings(dials, metric, contrasts))
        contrasts = of(every[FINETUNED], parts)
        page.figure("ablations_parts.svg", parts_figure(parts, FINETUNED, AXES[FINETUNED]))
        page.table("ablations_parts", values_table(parts, FINETUNED, contrasts))
        page.text("ablations_parts", findings(parts, FINETUNED, contrasts))
        missing = [phrase for each in (*dials, *parts) for phrase in each.missing]
        page.text("ablations_missing", missing_sentences(missing))
        _numbers(page, [pair for pair in runs if pair[1].run_id in used], [*dials, *parts])


def _numbers(page: Page, runs: Runs, found: list[Study]) -> None:
    trained = [record for _, record in runs if record.kind == "pretrain"]
    page.number("ablations.trained", str(len(trained)), runs)
    counts = [each.values(row, at, FINETUNED).size for each in found for row, at in settings(each)] or [0]
    many = " to ".join(str(count) for count in dict.fromkeys((min(counts), max(counts))))
    page.number("ablations.seeds", many, runs)
    page.number("ablations.epochs", str(trained[0].config["epochs"]) if trained else "–", runs)
    page.number("ablations.hours", f"{sum(record.seconds for _, record in runs) / 3600:.1f}", runs)
