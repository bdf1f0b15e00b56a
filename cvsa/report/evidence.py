"""What sets of runs show about claims: paired differences, their uncertainty, and verdicts by the rules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cvsa.config import PRESETS, PretrainConfig, resolve
from cvsa.costs import share_of_labels
from cvsa.data.sets import find_set
from cvsa.errors import CVSAError
from cvsa.grid import load_grid
from cvsa.records import Record, Runs
from cvsa.report import tables
from cvsa.report.statistics import Interval, adjusted, mean_interval, t_test
from cvsa.report.verdicts import NOT, UNTESTED, Verdict, rank, verdict_of_claim, verdict_of_part

if TYPE_CHECKING:
    from cvsa.report.claims import Claim, Part
    from cvsa.report.sources import Sources

USUAL = float(PretrainConfig.model_fields["swap_scale"].default)
# Data sets by the names of the authors' tables, where they are theirs.
AUTHORS = {
    "cub200": "CUB-200-2011",
    "nabirds": "NABirds",
    "aircraft": "FGVC-Aircraft",
    "cars": "Stanford-Cars",
}
NAMES = {"synthbirds": "SynthBirds", "pets": "Oxford-IIIT Pet", "inat2018": "iNaturalist 2018", **AUTHORS}
NETWORK = "resnet50"
# Labels a class of the data set that the authors' ablation is on, and most of their claims. [I]
THEIRS = find_set("cub200").card.splits["train"] / find_set("cub200").card.classes
LOST = {  # metric -> what it is the difference of
    "finetune.swap_loss": ("finetune.val_accuracy", "finetune.test_swapped_accuracy"),
    "probe.swap_loss": ("probe.linear_val", "probe.linear_test_swapped"),
}


def data_name(config: Mapping[str, Any]) -> str:
    """The data set of a run's configuration for people; of a folder of photographs its name."""
    data = str(config.get("dataset", ""))
    folder = str(config.get("root") or "").rstrip("/").rsplit("/", 1)[-1]
    return folder if data == "folder" else NAMES.get(data, data)


def network_name(config: Mapping[str, Any]) -> str:
    """The backbone for people: resnet_slim -> "resnet-slim"."""
    return str(config.get("backbone", "")).replace("_", "-")


def at(row: str, scale: float) -> str:
    """A row at a scale of the crop; without addition at the usual one."""
    return row if np.isnan(scale) or scale == USUAL else f"{row} at {scale:g}"


@dataclass(frozen=True, eq=False)
class RunSet:
    """Runs that were made alike, live or committed.

    Attributes:
        name: the preset's, or of the folder in ``results/``.
        live: whether this build made them.
        table: of :func:`named`.
        data, network, images, epochs: what they were made with (images for pre-training).
        a_class: labels a class that they were fine-tuned with; 0 if not known.
        tested: held-out images that top-1 is measured on; 0 if not known.
        few: whether these are fewer than there are.
        whole: whether these are as many as the preset gives.
        planned: whether everything about the runs was fixed before the first of them.
        dataset: by the authors' name, where it is one of theirs.
        comparable: the authors' data and their network.
        stale: run ids made by other code than today's, or from such runs.
    """

    name: str
    live: bool
    table: pd.DataFrame
    data: str = ""
    network: str = ""
    images: int = 0
    epochs: float = 0.0
    a_class: float = 0.0
    tested: int = 0
    few: bool = False
    whole: bool = True
    planned: bool = False
    dataset: str = ""
    comparable: bool = False
    stale: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        """Short, for tables."""
        told = f"this build (`{self.name}`)" if self.live else f"committed `{self.name}`"
        return f"{told}, fine-tuned with {self.a_class:.0f} labels a class" if self.few else told

    @property
    def narrow(self) -> str:
        """The label in short lines, for columns."""
        told = self.label.replace("committed ", "committed<br>").replace(", ", ",<br>")
        return told.replace("fine-tuned with", "fine-tuned<br>with").replace(" a class", "<br>a class")

    @property
    def scale(self) -> str:
        """At which scale: data, network, images, epochs."""
        return f"{self.data}, {self.network}, {self.images:,} images, {self.epochs:g} epochs"


@dataclass(frozen=True)
class Evidence:
    """What a set of runs shows about a part of a claim; differences as shares, one per seed."""

    seeds: tuple[int, ...] = ()
    differences: tuple[float, ...] = ()
    interval: Interval | None = None
    p: float = float("nan")
    p_adjusted: float = float("nan")
    detectable: float = float("nan")
    mcnemar: tuple[float, ...] = ()
    runs: tuple[str, ...] = ()
    verdict: Verdict = UNTESTED

    @property
    def mean(self) -> float:
        """Over seeds; NaN where there is none."""
        return float(np.mean(self.differences)) if self.differences else float("nan")

    def against(self, direction: int) -> bool:
        """Whether there are two seeds or more and every one disagrees with the claim."""
        return len(self.seeds) > 1 and all(direction * value < 0 for value in self.differences)


@dataclass(frozen=True)
class Tested:
    """A set of runs on a claim: evidence for each of its parts, in order, and the verdict."""

    claim: Claim
    runs: RunSet
    evidence: tuple[Evidence, ...]
    verdict: Verdict = UNTESTED
    repeats: str = ""

    @property
    def stale(self) -> bool:
        """Whether any of the runs is."""
        return any(self.runs.stale.intersection(each.runs) for each in self.evidence)

    @property
    def tested(self) -> list[tuple[Part, Evidence]]:
        """The parts for which there is a run of both rows."""
        return [pair for pair in zip(self.claim.parts, self.evidence, strict=True) if pair[1].seeds]

    @property
    def scale(self) -> str:
        """That of the runs; of a claim about fine-tuned accuracy also how many images are tested."""
        top1 = all(part.metric == tables.TOP1 for part in self.claim.parts)
        told = f", tested on {self.runs.tested:,}" if top1 and self.runs.tested else ""
        return self.runs.scale + told

    @property
    def run_ids(self) -> list[str]:
        """Every run behind it."""
        return sorted({run for each in self.evidence for run in each.runs})

    @property
    def rank(self) -> tuple[float, ...]:
        """See :func:`cvsa.report.verdicts.rank`."""
        counts = [len(each.seeds) for _, each in self.tested]
        return rank(
            fresh=not self.stale, comparable=self.runs.comparable, parts=len(counts), seeds=sum(counts),
            repeated=sum(count > 1 for count in counts), seen=self.runs.images * self.runs.epochs,
            planned=self.runs.planned, whole=self.runs.whole,
        )  # fmt: skip


def named(runs: Runs, dials: Sequence[str] = (), share: float = 1.0) -> pd.DataFrame:
    """``tables.long_table`` of the runs that a ledger may compare, with rows named by stages and scale.

    Left out: pre-trainings, fine-tunings with another share of the labels, and runs that differ from their
    preset in a parameter that their set varies, other than the scale. Where two runs of a row and seed are
    left, which no experiment of the companion gives, neither is used.

    Args:
        runs: with the pre-trainings among them.
        dials: parameters that the set varies.
        share: of the labels (``share_of_labels``); probes, which use all there are, belong to share 1.
    """
    usual = {record.run_id for _, record in usual_runs(runs, dials)}
    table = tables.long_table(runs)
    if table.empty:
        return table
    table = table[table["run_id"].isin(usual) & (table["kind"] != "pretrain") & (table["labels"] == share)]
    rows = [
        at(row, scale) if stage1 == tables.NONE else f"{stage1} → {stage2}"
        for row, scale, stage1, stage2 in table[["row", "scale", "stage1", "stage2"]].to_numpy()
    ]
    table = table.assign(row=rows).drop_duplicates(["row", "seed", "metric"], keep=False)
    return pd.concat([table, *(_lost(table, name, *pair) for name, pair in LOST.items())], ignore_index=True)


def usual_runs(runs: Runs, dials: Sequence[str]) -> Runs:
    """Those that are as their preset has them in all parameters that their set varies, but for the scale."""
    trained = {record.run_id: record for _, record in runs if record.kind == "pretrain"}
    return [pair for pair in runs if _is_usual(pair[1], trained, dials)]


def dials_of(sources: Sources, name: str) -> list[str]:
    """Parameters that a committed set varies; none of one that is not among the companion's own."""
    try:
        grid = load_grid(sources.root / "workflow" / "grid.yaml", name)
    except CVSAError:
        return []
    return [ablation.vary for ablation in grid.ablations.values()]


def main_runs(sources: Sources) -> Runs:
    """The runs that the chapters of results draw from: of the main set, without what it varies."""
    return usual_runs(sources.main, dials_of(sources, sources.main_set)) if sources.main_set else []


def _lost(table: pd.DataFrame, name: str, first: str, second: str) -> pd.DataFrame:
    parts = [table[table["metric"] == metric].set_index("run_id", drop=False) for metric in (first, second)]
    both = parts[0].index.intersection(parts[1].index)
    return parts[0].loc[both].assign(metric=name, value=lambda t: t["value"] - parts[1].loc[both, "value"])


def _is_usual(record: Record, trained: dict[str, Record], dials: Sequence[str]) -> bool:
    """Whether what its set varies, but the scale, is as its preset has it, in all stages of pre-training."""
    start: Record | None = record
    while start is not None:
        before = next((trained[parent] for parent in start.parents if parent in trained), None)
        config = start.config if start.kind == "pretrain" or before is None else {}
        if any(config.get(name, value) != value for name, value in _usual(start, tuple(dials)).items()):
            return False
        start = before
    return True


def _usual(record: Record, dials: tuple[str, ...]) -> dict[str, Any]:
    return _preset_values(record.preset, record.row, dials) if record.preset in PRESETS else {}


@cache
def _preset_values(preset: str, row: str, dials: tuple[str, ...]) -> dict[str, Any]:
    """What a preset gives a row for each dial; nothing for a row that is not the companion's."""
    names = [name for name in dials if name in PretrainConfig.model_fields and name != "swap_scale"]
    if not names:
        return {}
    try:
        config = resolve(PretrainConfig, preset=preset, **({} if row == "Random" else {"row": row}))
    except CVSAError:
        return {}
    # Without pre-training there are no epochs of it, and fine-tuning has its own.
    shared = set(names) - ({"epochs", "lr"} if row == "Random" else set())
    return {name: value for name, value in config.model_dump(mode="json").items() if name in shared}


@lru_cache(maxsize=1)  # several chapters ask for the same sets
def run_sets(sources: Sources) -> list[RunSet]:
    """Every set of runs, the live one first, with what it was made with and which of its runs are stale."""
    found = [
        _run_set(sources, sources.preset, sources.live, [a.vary for a in sources.grid.ablations.values()])
    ]
    for name, runs in sources.committed.items():
        dials = dials_of(sources, name)
        found.append(_run_set(sources, name, runs, dials))
        if share := _as_theirs(runs):
            found.append(_run_set(sources, name, runs, dials, share))
    found[0] = replace(found[0], live=True)
    return [each for each in found if len(each.table)]


def _as_theirs(runs: Runs) -> float | None:
    """Of the shares of the labels below all that a set has, the one nearest to THEIRS; None without any."""
    tuned = [record for _, record in runs if record.kind == "finetune"]
    shares = {share_of_labels(record): _labels(record) for record in tuned}
    few = [share for share, a_class in shares.items() if share < 1 and a_class]
    return min(few, key=lambda share: abs(math.log(shares[share] / THEIRS)), default=None)


def _labels(tuned: Record) -> float:
    """Labels a class that a fine-tuning was given; 0 if not known."""
    images, classes = (tuned.counts.get(name, 0) for name in ("train_images", "classes"))
    return images / classes if classes else 0.0


def _tested(tuned: Record) -> int:
    """Images of the split that ``tables.TOP1`` is measured on; 0 if not known."""
    splits = [name.removesuffix("_images") for name in tuned.counts]
    return int(tuned.counts.get(f"{tables.like_training(splits)}_images", 0))


def _run_set(sources: Sources, name: str, runs: Runs, dials: Sequence[str], share: float = 1.0) -> RunSet:
    table = named(runs, dials, share)
    planned = "confirms" in PRESETS.get(name, {})
    records = {record.run_id: record for _, record in runs}
    stale = {key for key in records if key not in sources.fresh or sources.fresh[key].state != "fresh"}
    for _ in range(3):  # evaluation, fine-tuning, second stage, first stage
        stale |= {key for key, record in records.items() if stale.intersection(record.parents)}
    used = [records[key] for key in dict.fromkeys(table["run_id"])] if len(table) else []
    trained = [records[parent] for each in used for parent in each.parents if parent in records]
    trained = [each for each in trained if each.kind == "pretrain" and each.stage1 is None] or used
    if not used:
        return RunSet(name, False, table)
    config = trained[0].config
    data, network = str(config.get("dataset", "")), str(config.get("backbone", ""))
    return RunSet(
        name, False, table,
        data=data_name(config),
        network=network_name(config),
        images=trained[0].counts.get("train_images", 0),
        epochs=float(np.median([each.config.get("epochs", 0) for each in trained])),
        a_class=max((_labels(each) for each in used if each.kind == "finetune"), default=0.0),
        tested=max((_tested(each) for each in used if each.kind == "finetune"), default=0),
        few=any(each.config.get("label_fraction", 1.0) < 1 for each in used),
        whole=share == 1,
        planned=planned,
        dataset=AUTHORS.get(data, ""),
        comparable=data in AUTHORS and network == NETWORK,
        stale=frozenset(stale),
    )  # fmt: skip


def judge(runs: RunSet, given: Sequence[Claim]) -> list[Tested]:
    """What one set shows about each claim; p-values are corrected over all parts that it tests.

    A difference that several claims name (BYOL+CVSA against BYOL in C4, say) counts once.
    """
    measured: dict[tuple[str, str, str], Evidence] = {}
    by_metric = dict(tuple(runs.table.groupby("metric"))) if len(runs.table) else {}
    rows = {metric: set(table["row"]) for metric, table in by_metric.items()}
    for part in (part for claim in given for part in claim.parts):
        key = part.row, part.against, part.metric
        if key not in measured:
            there = {part.row, part.against} <= rows.get(part.metric, set())
            measured[key] = measure(by_metric[part.metric], part) if there else Evidence()
    corrected = adjusted([each.p for each in measured.values()])
    for key, p in zip(measured, corrected, strict=True):
        measured[key] = replace(measured[key], p_adjusted=float(p))
    found = []
    for claim in given:
        evidence = []
        for part in claim.parts:
            each = measured[part.row, part.against, part.metric]
            verdict = verdict_of_part(
                each.differences, each.interval, each.p_adjusted, part.direction, margin=part.margin,
                reported=part.reported.get(runs.dataset), comparable=runs.comparable,
            )  # fmt: skip
            evidence.append(replace(each, verdict=verdict))
        verdict = verdict_of_claim([each.verdict for each in evidence])
        found.append(Tested(claim, runs, tuple(evidence), verdict))
    return found


def measure(table: pd.DataFrame, part: Part) -> Evidence:
    """The difference of a part in a set's table, seed by seed, not yet judged or corrected."""
    both = tables.paired(table, part.metric, part.row, part.against)
    if both.empty:
        return Evidence()
    values = both["difference"].tolist()
    return Evidence(
        seeds=tuple(int(seed) for seed in both.index),
        differences=tuple(values),
        interval=mean_interval(values),
        p=t_test(values),
        detectable=tables.detectable_of(values),
        mcnemar=tuple(tables.mcnemar_of(both, part.metric)),
        runs=tuple(sorted({*both["run_id"], *both["run_id_against"]})),
    )


def ledger(sources: Sources, given: Sequence[Claim]) -> dict[str, list[Tested]]:
    """Claim -> the sets that test a part of it, the one that speaks for it first (see ``verdicts.rank``)."""
    every = _judged(sources, tuple(given))
    return {claim.key: every.get(claim.key, []) for claim in given}


@lru_cache(maxsize=1)  # three chapters ask for it
def _judged(sources: Sources, given: tuple[Claim, ...]) -> dict[str, list[Tested]]:
    return ledger_of([tested for runs in run_sets(sources) for tested in judge(runs, given)])


def ledger_of(every: Sequence[Tested]) -> dict[str, list[Tested]]:
    """The same of what was judged before; claims that nothing tests are left out."""
    found: dict[str, list[Tested]] = {}
    for each in every:
        if each.tested:
            before = found.setdefault(each.claim.key, [])
            before.append(replace(each, repeats=_same(each, before)))
    return {key: sorted(of, key=lambda each: each.rank, reverse=True) for key, of in found.items()}


def _same(one: Tested, others: Sequence[Tested]) -> str:
    """An earlier set with the very same numbers: the same runs made again are no second witness."""
    for other in others:
        pairs = [
            (a.differences, b.differences)
            for a, b in zip(one.evidence, other.evidence, strict=True)
            if a.seeds and b.seeds
        ]
        if pairs and all(a == b for a, b in pairs):
            return other.runs.label
    return ""


def verdict_of(found: Sequence[Tested]) -> Verdict:
    """A claim's verdict: that of the set that speaks for it."""
    return found[0].verdict if found else UNTESTED


def contradicted(tested: Tested) -> list[Part]:
    """Parts that are not reproduced, or where every one of several seeds points the other way."""
    return [part for part, each in tested.tested if each.verdict == NOT or each.against(part.direction)]
