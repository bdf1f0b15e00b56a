"""Is a folder of images ready to pre-train on? What the notebook `dataset` finds, and the rules for it.

`cvsa.report.examine` measures and draws.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from cvsa.data.photographs import UNREADABLE_SHARE
from cvsa.data.remarks import some
from cvsa.errors import CVSAError

ANNOTATED = ("exact", "masks", "boxes", "parts")  # saliency that people gave, or the drawing itself
BATCHES = 10  # fewer an epoch than this: little is seen between two looks at the learning rate
TEST_ERROR = 0.05  # half the 95 % interval of an accuracy of one half
CLASS_IMAGES = 5  # fewer training images of a class
IMBALANCE = 10  # largest class over smallest
NO_OBJECT = (0.05, 0.20)  # share of images without a salient object: mind above, fix above
BOXES = (0.02, 0.80)  # a saliency box of a smaller or larger share of the picture is called tiny or large
BEYOND = 1 / 3  # share of boxes that are tiny, or large
ENLARGED = (0.10, 0.50)  # share of images smaller than the bank: mind above, fix above

FINDINGS = "findings.json"
Level = Literal["ok", "mind", "fix"]


@dataclass
class Findings:
    """What was measured; saliency and objects are those of the training images.

    Attributes:
        data: folder as given, or name of the set.
        saliency: the kind that was used.
        bank_size, batch_size: pixels; images per step.
        labelled: whether its labels count.
        drawn: drawn pictures have no files to be wrong.
        refused: why no bank could be built; empty if it could.
        images: split -> how many.
        per_class: split -> how many of each class, by label.
        no_object: training images without a salient object, those without any map included.
        no_map: training images of which no map is stored.
        boxes: 5th, 50th and 95th percentile of the share of the picture that a saliency box covers; None
            where no image has one.
        small_boxes, large_boxes: share of boxes that are tiny or large, see BOXES.
        short_side: least, median and largest short side of the photographs, pixels.
        enlarged: share of photographs whose short side is below the bank's.
        unreadable: photographs that cannot be read.
        misfits: masks whose shape is not that of their images.
        duplicates: validation and test images that are training images, too.
        relabelled: training images that are there with another label.
        notes: what to know; nothing to mend.
    """

    data: str
    saliency: str = ""
    bank_size: int = 0
    batch_size: int = 0
    labelled: bool = True
    drawn: bool = False
    refused: str = ""
    images: dict[str, int] = field(default_factory=dict)
    per_class: dict[str, list[int]] = field(default_factory=dict)
    no_object: int = 0
    no_map: int = 0
    boxes: tuple[float, float, float] | None = None
    small_boxes: float = 0.0
    large_boxes: float = 0.0
    short_side: tuple[float, float, float] | None = None
    enlarged: float = 0.0
    unreadable: list[str] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    relabelled: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Check:
    """One check: what was found, the rule it is held against, and what helps where it is broken."""

    name: str
    level: Level
    found: str
    rule: str
    advice: str


def judge(findings: Findings) -> list[Check]:
    """Hold the findings against the rules; what does not apply to them is left out.

    Returns:
        Checks in the order of the pipeline. Ready is who has no check at level "fix".
    """
    checks: list[Check] = []

    def check(name: str, fix: bool, mind: bool, found: str, rule: str, advice: str) -> None:
        checks.append(Check(name, "fix" if fix else "mind" if mind else "ok", found, rule, advice))

    f = findings
    if f.refused:
        check("bank", True, False, f.refused, "the images can be read into a bank", "mend what it names")
    if not f.drawn and f.images:
        _judge_files(f, check)
    if train := f.per_class.get("train"):
        _judge_classes(f, train, check)
    if not f.refused:
        _judge_objects(f, check)
    return checks


def _judge_files(f: Findings, check: Any) -> None:
    total, bad = sum(f.images.values()) + (0 if f.refused else len(f.unreadable)), len(f.unreadable)
    check(
        "files", bad > UNREADABLE_SHARE * total, bad > 0,
        f"{bad} of {total:,} cannot be read" + (f": {some(f.unreadable)}" if bad else ""),
        f"up to {_percent(UNREADABLE_SHARE)} unreadable images are left out, more stop the bank",
        "repair or remove these files",
    )  # fmt: skip
    if f.short_side:
        check(
            "resolution", f.enlarged > ENLARGED[1], f.enlarged > ENLARGED[0],
            f"short side {f.short_side[1]:.0f} px in the median; {_percent(f.enlarged)} of the images "
            f"smaller than the bank's {f.bank_size} px",
            f"at most {_percent(ENLARGED[0])} smaller (fix above {_percent(ENLARGED[1])}): enlarging adds "
            "pixels and no detail",
            "lower bank_size and image_size",
        )  # fmt: skip
    if f.refused:
        return
    twice = [f"{len(f.duplicates)} validation or test images are training images: {some(f.duplicates)}"]
    labels = [f"{len(f.relabelled)} training images have two labels: {some(f.relabelled)}"]
    check(
        "equal images", bool(f.duplicates or f.relabelled), False,
        "; ".join(twice * bool(f.duplicates) + labels * bool(f.relabelled)) or "none between the splits",
        "no test image is a training image, which is known by heart; no image has two labels",
        "remove one of each pair",
    )  # fmt: skip
    if f.misfits:
        check(
            "masks", True, False, f"{len(f.misfits)} of another shape: {some(f.misfits)}",
            "a mask has the shape of its image: another image's mask points at nothing",
            "give each image its own mask, of the whole image",
        )  # fmt: skip


def _judge_classes(f: Findings, train: list[int], check: Any) -> None:
    count, least, most = sum(train), min(train), max(train)
    check(
        "training images", count < f.batch_size, count < BATCHES * f.batch_size,
        f"{count:,}, in batches of {f.batch_size}",
        f"a batch at least, better {BATCHES}: with few steps an epoch, many epochs are needed",
        "lower batch_size, or train for more epochs",
    )  # fmt: skip
    if not f.labelled:
        return
    check(
        "classes", len(train) < 2, False, f"{len(train):,}", "two at least: else nothing is told apart",
        "add a class",
    )  # fmt: skip
    check(
        "images a class", False, least < CLASS_IMAGES or most > IMBALANCE * least,
        f"{least:,} to {most:,} in training",
        f"{CLASS_IMAGES} at least, and the largest class at most {IMBALANCE} times the smallest: large "
        "classes decide the top-1",
        "add images to small classes, or look at the accuracy of each class",
    )  # fmt: skip
    if tested := sum(f.per_class.get("test", [])):
        error = 0.98 / tested**0.5  # half the 95 % interval of a share of one half
        check(
            "test images", False, error > TEST_ERROR,
            f"{tested:,}: an accuracy of one half is known to ± {100 * error:.1f} points",
            f"± {100 * TEST_ERROR:.0f} points at most: differences between rows are rarely larger",
            "test on more images, or rank nothing",
        )  # fmt: skip


def _judge_objects(f: Findings, check: Any) -> None:
    if f.saliency == "none":
        check(
            "saliency", False, True, "none", "Saliency Swap has to know where the object is",
            "for rows without Saliency Swap; for others give masks or boxes, or take `-p saliency classical`",
        )  # fmt: skip
        return
    known = f.saliency in ANNOTATED
    check(
        "saliency", False, not known, f.saliency if known else f"guesses ({f.saliency})",
        "annotated: whether a detector's guess hits the object, no count tells",
        "look at the boxes, whether they hold the object",
    )  # fmt: skip
    share = f.no_object / max(1, f.images["train"])
    check(
        "objects", share > NO_OBJECT[1], share > NO_OBJECT[0],
        f"{_percent(share)} of the images without ({f.no_object:,}; {f.no_map:,} without any map)"
        if f.no_object
        else "a box in every image",
        f"at most {_percent(NO_OBJECT[0])} without (fix above {_percent(NO_OBJECT[1])}): the whole image is "
        "then the object, and Saliency Swap an ordinary crop",
        "look at these images; take other saliency",
    )  # fmt: skip
    if f.boxes:
        low, middle, high = (_percent(share) for share in f.boxes)
        check(
            "box size", False, max(f.small_boxes, f.large_boxes) > BEYOND,
            f"{middle} of the picture in the median, {low} to {high} for nine in ten; "
            f"{_percent(f.small_boxes)} of the boxes below {_percent(BOXES[0])}, {_percent(f.large_boxes)} "
            f"above {_percent(BOXES[1])}",
            f"at most {_percent(BEYOND)} beyond either: a smaller object has few pixels, a larger one "
            "leaves little background to swap",
            "look for tighter maps, or expect little of Saliency Swap" if f.large_boxes > BEYOND
            else "raise bank_size, or crop the photographs",
        )  # fmt: skip


def _percent(share: float) -> str:
    digits = 1 if 0 < share < 0.1 and round(1000 * share) % 10 else 0
    return f"{100 * share:.{digits}f} %"


def sentence(check: Check) -> str:
    """A check as a line of Markdown, with its rule."""
    return f"*{check.name}*, {check.level}: {check.found}. Rule: {check.rule}."


def remark(check: Check) -> str:
    """A broken rule as a line of Markdown, with what helps."""
    return f"*{check.name}*: {check.found}. What helps: {check.advice}."


def verdict(checks: Iterable[Check]) -> str:
    """ "Ready to pre-train", or what to fix first; and what to bear in mind."""
    at = {level: [check.name for check in checks if check.level == level] for level in ("fix", "mind")}
    first = f"Not ready; to fix: {', '.join(at['fix'])}." if at["fix"] else "Ready to pre-train."
    return first + (f" To bear in mind: {', '.join(at['mind'])}." if at["mind"] else "")


def table(checks: Iterable[Check]) -> pd.DataFrame:
    """The checks as people read them; advice where a rule is broken."""
    return pd.DataFrame([
        {"check": c.name, "level": c.level, "found": c.found,
         "rule": c.rule if c.level == "ok" else f"{c.rule}. What helps: {c.advice}"}
        for c in checks
    ])  # fmt: skip


def read(folder: Path) -> Findings:
    """The findings that `write` stored in a folder.

    Raises:
        CVSAError: there are none, or of another version.
    """
    try:
        stored = json.loads((folder / FINDINGS).read_text(encoding="utf-8"))
        return Findings(**stored["findings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CVSAError(
            f"No findings of the notebook dataset in {folder} ({error}); run it again."
        ) from error
