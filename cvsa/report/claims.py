"""The paper's claims as data: which differences each consists of, what was reported, what records show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import pandas as pd

from cvsa.report.evidence import at
from cvsa.report.tables import NONE, TOP1, reported_results, reported_scale_ablation

FULL = "BYOL+CVSA"
CUB = "CUB-200-2011"
# What CVSA is compared with in the authors' first table, its base first.
RIVALS = ("BYOL", "BYOL+DiLo", "InsLoc", "LooC", "MoCo.v2", "SimCLR", "Rot-Pred", "Rel-Loc", "Random")
CAMS = {
    "box_acc": "BoxAcc",
    "pxap": "PxAP",
    "pointing": "pointing game",
    "iou": "mask IoU",
    "energy": "energy inside",
}
LEANS = {
    "finetune.swap_loss": "lost to a wrong habitat, fine-tuned",
    "probe.swap_loss": "lost to a wrong habitat, linear probe",
    "evaluate.background.finetuned.gap": "background gap, fine-tuned",
    "evaluate.background.probe.gap": "background gap, linear probe",
}


@dataclass(frozen=True)
class Part:
    """One difference that a claim asserts.

    Attributes:
        row, against: as :func:`cvsa.report.evidence.named` calls rows: "BYOL+SS", "BYOL+SS at 0.08",
            "BYOL → BYOL+CVSA", "BYOL → none".
        direction: claimed sign of row minus against; 0 for "no difference".
        metric: "kind.name".
        measure: what the metric is called where it is not fine-tuned accuracy.
        reported: data set -> the authors' difference, as a share; empty where they show pictures only.
        margin: of "no difference", as a share.
    """

    row: str
    against: str
    direction: int
    metric: str = TOP1
    measure: str = ""
    reported: Mapping[str, float] = field(default_factory=dict, hash=False)
    margin: float | None = None

    @property
    def rows(self) -> str:
        """ "BYOL+SS − BYOL", "BYOL → BYOL − BYOL alone"."""
        first, second = (name.replace(f" → {NONE}", " alone") for name in (self.row, self.against))
        if " at " in second and first in second:  # the same row at two scales: name both
            first = f"{first} at 0.5"
        return f"{first} − {second}"

    @property
    def title(self) -> str:
        """The rows, and the measure where it is not the usual one."""
        return f"{self.rows}, {self.measure}" if self.measure else self.rows


@dataclass(frozen=True)
class Claim:
    """A claim of the ledger.

    Attributes:
        key: "C1" to "C8".
        short: a few words.
        text: what is claimed.
        parts: the differences that make it up, the most telling one first.
        mark: [A] shown by the authors in numbers, or how else.
    """

    key: str
    short: str
    text: str
    parts: tuple[Part, ...]
    mark: str = "[A]"


@cache
def reported_tables() -> pd.DataFrame:
    """``tables.reported_results``, read once; not to be changed."""
    return reported_results()


def reported_difference(
    table: str, row: Mapping[str, str], against: Mapping[str, str], datasets: Sequence[str] = ()
) -> dict[str, float]:
    """Data set -> difference of two rows of the authors' tables, as a share.

    Args:
        table: "second_stage_only" or "dual_stage_coco".
        row, against: column -> value, such as method and stage2.
        datasets: which; all that both rows have by default.
    """
    every = reported_tables()
    every = every[every["table"] == table]

    def values(which: Mapping[str, str]) -> dict[str, float]:
        part = every
        for column, value in which.items():
            part = part[part[column] == value]
        return dict(zip(part["dataset"], part["top1_percent"], strict=True))

    first, second = values(row), values(against)
    return {
        name: round(first[name] - second[name], 4) / 100
        for name in first
        if name in second and (not datasets or name in datasets)
    }


@cache
def reported_scales() -> dict[str, float]:
    """Row as :func:`cvsa.report.evidence.named` has it -> accuracy in the authors' ablation, a share."""
    lines, baselines = reported_scale_ablation()
    known = {at(row, scale): value for row, scale, value in lines[["row", "scale", "percent"]].to_numpy()}
    return {name: value / 100 for name, value in (known | baselines).items()}


def _scale(row: str, against: str) -> dict[str, float]:
    known = reported_scales()
    return {CUB: round(known[row] - known[against], 6)}


def _ablated(row: str, against: str, direction: int = 1, margin: float | None = None) -> Part:
    return Part(row, against, direction, reported=_scale(row, against), margin=margin)


def _first_table(row: str, against: str, datasets: Sequence[str] = ()) -> Part:
    both = ({"method": row}, {"method": against})
    return Part(row, against, 1, reported=reported_difference("second_stage_only", *both, datasets))


def _second_table(base: str, row: str, direction: int) -> Part:
    told = {"method": row, "stage2": row}, {"method": base, "stage2": NONE}
    reported = reported_difference("dual_stage_coco", *told)
    return Part(f"{base} → {row}", f"{base} → {NONE}", direction, reported=reported)


@cache
def claims() -> tuple[Claim, ...]:
    """C1 to C8. What was reported comes from the CSV files of the package."""
    swapped = [(row, end) for row in ("BYOL+SS", FULL, "MoCo.v2+SS") for end in (0.08, 0.8)]
    gain = _scale("BYOL+SS", "BYOL")[CUB]
    return (
        Claim(
            "C1", "Saliency Swap beats random crops",
            "Views made by Saliency Swap, at the usual scale of 0.5, are better than random resized crops.",
            (_ablated("BYOL+SS", "BYOL"), _ablated("MoCo.v2+SS", "MoCo.v2")),
        ),
        Claim(
            "C2", "the alignment adds to the swap",
            "The saliency alignment adds to Saliency Swap, at the usual scale and at the smallest.",
            (_ablated(FULL, "BYOL+SS"), _ablated(at(FULL, 0.08), at("BYOL+SS", 0.08))),
        ),
        Claim(
            "C3", "a middle scale is best",
            "The scale of the crop has an optimum around 0.4 to 0.5: 0.5 is better than the ends of the "
            "range, and at 0.08 Saliency Swap gives nothing over random resized crops.",
            (
                *(_ablated(row, at(row, end)) for row, end in swapped),
                _ablated(at("BYOL+SS", 0.08), "BYOL", 0, gain / 2),
            ),
        ),
        Claim(
            "C4", "CVSA beats every compared method",
            "Second stage only: BYOL+CVSA is better than every compared method, on all four data sets.",
            tuple(_first_table(FULL, rival) for rival in RIVALS),
        ),
        Claim(
            "C5", "pretext tasks beat plain contrastive learning",
            f"Second stage only, on {CUB}: hand-crafted pretext tasks are better than plain contrastive "
            "learning.",
            tuple(
                _first_table(task, plain, (CUB,))
                for task in ("Rel-Loc", "Rot-Pred") for plain in ("BYOL", "MoCo.v2", "SimCLR")
            ),
        ),
        Claim(
            "C6", "a plain second stage hurts, CVSA's helps",
            "Dual stage: a plain second stage lowers what the first stage alone reaches; CVSA's raises it.",
            (
                _second_table("BYOL", "BYOL", -1), _second_table("MoCo.v2", "MoCo.v2", -1),
                _second_table("BYOL", FULL, 1),
            ),
        ),
        Claim(
            "C7", "CVSA looks at the object",
            "CVSA localises better: class-activation maps of the fine-tuned network lie more on the object "
            "than those of BYOL.",
            tuple(
                Part(FULL, "BYOL", 1, f"evaluate.localization.cam_finetuned.{name}", title)
                for name, title in CAMS.items()
            ),
            "[A], pictures only; the measures are ours [O]",
        ),
        Claim(
            "C8", "CVSA leans less on the background",
            "CVSA weakens the dependence of the prediction on the background: it loses less than BYOL when "
            "another habitat takes the place of a bird's own.",
            tuple(Part(FULL, "BYOL", -1, metric, title) for metric, title in LEANS.items()),
            "[A], a causal graph only; the measures are ours [O]",
        ),
    )  # fmt: skip
