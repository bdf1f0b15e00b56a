"""Look at a data set before training on it: measure (`examine`), draw (`figures`), store (`write`)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from cvsa.config import DRAWN, UNLABELLED, DataConfig, PretrainConfig, resolve
from cvsa.data.bank import ImageBank
from cvsa.data.datasets import load_splits
from cvsa.data.listing import Listing
from cvsa.data.photographs import find_maps, photographs_of
from cvsa.data.sets.checks import Report, check_images
from cvsa.errors import CVSAError
from cvsa.notebook import refuse_unknown
from cvsa.records import atomic_write
from cvsa.report.dataset import BOXES, FINDINGS, Findings, judge, verdict
from cvsa.report.figures import image_grid, to_picture, view_pairs
from cvsa.training.pretrain import build_views

PARAMETERS = (
    *("preset", "seed", *DataConfig.model_fields),
    *("image_size", "batch_size", "crop_scale", "swap_scale", "augmentation"),
)
"""Parameters of the notebook `dataset`: where images and saliency come from, and what views depend on."""


@dataclass
class Examined:
    """What `examine` returns: the findings, the training bank if there is one, short sides in pixels."""

    config: PretrainConfig
    findings: Findings
    train: ImageBank | None = None
    short_sides: np.ndarray = field(default_factory=lambda: np.zeros(0))


def configure(given: dict[str, Any]) -> PretrainConfig:
    """The configuration whose data and views are looked at: BYOL+CVSA's, or BYOL's without saliency.

    Args:
        given: parameters by name, or the notebook's ``globals()``; what is missing or None is the preset's.

    Raises:
        CVSAError: an unknown parameter; a value out of range.
    """
    refuse_unknown(given, [*PARAMETERS, "out"])
    row = "BYOL" if given.get("saliency") == "none" else "BYOL+CVSA"
    return resolve(PretrainConfig, row=row, **{name: given.get(name) for name in PARAMETERS})


def _told(kind: str, config: PretrainConfig) -> str:
    return kind if config.saliency_error == "exact" else f"{kind}, {config.saliency_error}"


def examine(config: PretrainConfig) -> Examined:
    """Measure a data set; what stops a bank from being built becomes a finding.

    Args:
        config: of `configure`.
    """
    findings = Findings(
        data=str(config.root or config.dataset),
        saliency=_told("exact" if config.saliency == "auto" else config.saliency, config),
        bank_size=config.bank_size,
        batch_size=config.batch_size,
        labelled=config.dataset not in UNLABELLED,
        drawn=config.dataset in DRAWN,
    )
    examined = Examined(config, findings)
    try:
        if not findings.drawn:
            _files(config, examined)
        banks = load_splits(config)
    except CVSAError as error:
        findings.refused = as_given(config, str(error))
        return examined
    examined.train = banks["train"]
    _banks(banks, findings)
    return examined


def _files(config: PretrainConfig, examined: Examined) -> None:
    """What the listing and the images' headers tell, by the checks of `cvsa data verify`."""
    source, findings = photographs_of(config), examined.findings
    home = source.home(config.folder)
    listing = source.listing(home, config.val_fraction, config.data_seed)
    _count(listing, findings)
    paths = [path for split in listing.paths.values() for path in split]
    report = Report(findings.data)
    sizes = check_images(report, source, home, paths, decode=False)
    findings.notes = [as_given(config, note) for note in report.notes]
    findings.unreadable = [path for path in paths if path not in sizes]
    if sizes:
        short = examined.short_sides = np.array([min(size) for size in sizes.values()])
        findings.short_side = (float(short.min()), float(np.median(short)), float(short.max()))
        findings.enlarged = round(float((short < config.bank_size).mean()), 4)
    # A detector's kind goes on with its version and the hash of its parameters.
    findings.saliency = _told(find_maps(source, home, config).kind.partition("-")[0], config)


def _banks(banks: dict[str, ImageBank], findings: Findings) -> None:
    """What the banks tell: how many images there are in the end, their objects, equal images."""
    train, told = banks["train"], banks["train"].description
    findings.images = {split: len(bank) for split, bank in banks.items()}
    findings.per_class = {
        split: torch.bincount(bank.labels.cpu(), minlength=len(bank.classes)).tolist()
        for split, bank in banks.items()
    }
    findings.no_object = train.no_object
    findings.no_map = int(told.get("without_map", 0))
    for bank in banks.values():
        findings.misfits += bank.description.get("misfits", [])
    if not findings.drawn:
        findings.unreadable = [path for bank in banks.values() for path in bank.description["unreadable"]]
    equal = told.get("equal_images", {})
    findings.duplicates = [pair for split in ("val", "test") for pair in equal.get(split, [])]
    findings.relabelled = equal.get("labels", [])
    areas = box_areas(train)
    if len(areas):
        low, middle, high = (round(float(share), 4) for share in np.quantile(areas, (0.05, 0.5, 0.95)))
        findings.boxes = (low, middle, high)
        findings.small_boxes, findings.large_boxes = (
            round(float(beyond.mean()), 4) for beyond in (areas < BOXES[0], areas > BOXES[1])
        )


def _count(listing: Listing, findings: Findings) -> None:
    findings.images = {split: len(paths) for split, paths in listing.paths.items()}
    findings.per_class = {
        split: np.bincount(labels, minlength=len(listing.classes)).tolist()
        for split, labels in listing.labels.items()
    }


def as_given(config: DataConfig, text: str) -> str:
    """A message with the folder as it was given: findings are passed on, and where it lies helps nobody."""
    return text.replace(str(config.folder), str(config.root)) if config.root else text


def box_areas(bank: ImageBank) -> np.ndarray:
    """Share of the picture that the saliency box covers, of every image that has one."""
    x1, y1, x2, y2 = bank.boxes[bank.found].cpu().numpy().T
    return np.asarray((x2 - x1) * (y2 - y1) / bank.resolution**2)


def figures(examined: Examined, count: int = 16) -> dict[str, Figure]:
    """Everything there is to see, by name: images, counts, views and views_as_trained.

    Args:
        examined: of `examine`.
        count: images on the sheet; it has two rows of them. Nothing to draw without a bank.
    """
    bank, config = examined.train, examined.config
    if bank is None:
        return {}
    drawn = torch.randperm(len(bank), generator=torch.Generator().manual_seed(config.seed))
    shown = {"images": sheet(bank, drawn[:count]), "counts": counts(examined)}
    for name, augmentation in (("views", "none"), ("views_as_trained", config.augmentation)):
        shown[name] = _views(config, bank, drawn[:6], augmentation)
    return shown


def sheet(bank: ImageBank, index: torch.Tensor) -> Figure:
    """Images with their saliency boxes, and below each the same image, dark where its map is."""
    half = (len(index) + 1) // 2
    rows, titles, outlines = [], [], []
    for part in (index[:half], index[half:]):
        if not len(part):
            continue
        images = bank.gather(part)
        boxes = zip(bank.boxes[part].cpu().numpy(), bank.found[part].tolist(), strict=True)
        rows += [
            [to_picture(image[:3]) for image in images],
            [to_picture(image[:3] * (0.15 + 0.85 * image[3:])) for image in images],
        ]
        titles += ["image, its box", "its map"]
        outlines += [[box if found else None for box, found in boxes], [None] * len(part)]
    return image_grid(rows, titles, outlines)


def counts(examined: Examined) -> Figure:
    """Histograms: how much of the picture the boxes cover, images per class, short sides of photographs."""
    findings, bank = examined.findings, examined.train
    assert bank is not None
    areas, short = box_areas(bank), examined.short_sides
    panels = 1 + findings.labelled + (len(short) > 0)
    figure = Figure(figsize=(3.6 * panels, 2.9), layout="constrained")
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    axis = axes.pop(0)
    axis.hist(100 * areas, bins=np.linspace(0, 100, 26), color="#0072b2")
    for limit in BOXES:
        axis.axvline(100 * limit, color="black", linestyle=":", linewidth=1)
    if len(areas):
        axis.axvline(100 * float(np.median(areas)), color="#d55e00", linewidth=1.5, label="median")
        axis.legend(frameon=False, fontsize="small")
        axis.margins(y=0.25)
    axis.set(
        title="saliency boxes", xlabel="share of the picture, %", ylabel="training images", xlim=(0, 100)
    )
    if findings.labelled:
        axis = axes.pop(0)
        for split, colour in (("train", "#0072b2"), ("test", "#e69f00")):
            if values := sorted(findings.per_class.get(split, []), reverse=True):
                edges = np.arange(len(values) + 1) + 0.5
                fill = split == "train"
                axis.stairs(values, edges, color=colour, linewidth=2, label=split, fill=fill, alpha=0.9)
        highest = max(max(values) for values in findings.per_class.values())
        axis.set(title="classes", xlabel="class, from the largest", ylabel="images", ylim=(0, 1.35 * highest))
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(frameon=False, fontsize="small", ncols=2, loc="upper right")
    if axes:
        axis = axes.pop(0)
        # A few very large photographs would squeeze all others into one bar.
        top = max(float(np.quantile(short, 0.99)), 1.1 * findings.bank_size)
        axis.hist(np.minimum(short, top), bins=np.linspace(0, 1.05 * top, 30), color="#0072b2")
        axis.axvline(findings.bank_size, color="#d55e00", linewidth=1.5, label="bank_size")
        axis.legend(frameon=False, fontsize="small")
        axis.margins(y=0.25)
        axis.set(title="resolution", xlabel="short side, pixels", ylabel="images")
    return figure


def _views(config: PretrainConfig, bank: ImageBank, index: torch.Tensor, augmentation: str) -> Figure:
    pairs = {}
    for name, view in (("random\nresized crop,", "random_resized_crop"), ("Saliency Swap,", "saliency_swap")):
        if view == "random_resized_crop" or bank.no_object < len(bank):
            maker = build_views(config.model_copy(update={"view": view, "augmentation": augmentation}), bank)
            pairs[name] = maker(index, torch.Generator().manual_seed(config.seed))
    return view_pairs(bank.gather(index), bank.boxes[index.to(bank.boxes.device)], pairs, len(index))


def write(examined: Examined, drawn: dict[str, Figure], out: Path, dpi: float | None = None) -> None:
    """Store figures as NAME.png (dpi None: the usual) and ``findings.json``: findings, checks, verdict."""
    out.mkdir(parents=True, exist_ok=True)
    for name, figure in drawn.items():
        figure.savefig(out / f"{name}.png", dpi=dpi, metadata={"Software": None})
    checks = judge(examined.findings)
    stored = {"findings": asdict(examined.findings), "checks": [asdict(check) for check in checks],
              "verdict": verdict(checks)}  # fmt: skip
    atomic_write(out / FINDINGS, json.dumps(stored, indent=1) + "\n")
