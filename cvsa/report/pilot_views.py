"""What views share, as the chapter on what contrastive learning sees shows it. [O]"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cvsa.config import PretrainConfig, resolve
from cvsa.data.datasets import load_splits
from cvsa.evaluation.pilot import read_views, view_curves
from cvsa.report.page import Page, percent
from cvsa.report.pilot_figures import CROP, NAMED, SWAP, pair_sheet, views_against_scale, views_against_size
from cvsa.views import ViewSettings

PRESET = "pilot"
BIRDS = "drawn birds"
SCALES = (0.05, 0.08, 0.12, 0.2, 0.3, 0.5, 0.8)
SIZES = (0.05, 0.1, 0.15, 0.2, 0.3)  # of drawn birds, mean shares of the picture
FEW: dict[str, Any] = {"train_images": 400, "val_images": 2, "test_images": 2}  # enough to measure views
SHEET: dict[str, Any] = {"bank_size": 96, "object_size": 0.1, **FEW}  # birds small enough for crops to miss
SEED = 1  # of the draws that the sheets show
VIEWS_CURVES = {
    "common_poor": "% of pairs sharing little object",
    "common_mostly": "% sharing mostly background",
    "common_object": "% of the object in both",
    "view_background": "% of a view: shared background",
}
VIEWS_SIZES = {
    "common_empty": "% of pairs sharing no object",
    "view_background": "% of a view: shared background",
}
VIEWS_TABLE = {
    "views_empty": "views<br>without<br>object",
    "common_empty": "pairs<br>sharing<br>none",
    "common_poor": "pairs<br>sharing<br>little",
    "common_mostly": "pairs,<br>mostly<br>background",
    "common_object": "object<br>in both",
    "view_background": "of a view,<br>shared<br>background",
}


def draw(page: Page, folder: Path) -> None:
    """What pairs of views share: measured now on drawn birds, read from ``folder`` for photographs."""
    config = resolve(PretrainConfig, preset=PRESET, row="BYOL")
    published = resolve(PretrainConfig, preset="paper", row="BYOL").crop_scale
    chosen = {
        "published": (CROP, published), "crop": (CROP, config.crop_scale), "swap": (SWAP, config.swap_scale)
    }  # fmt: skip
    scales = sorted({*SCALES, *(scale for _, scale in chosen.values())})
    birds = view_curves(load_splits(config)["train"], BIRDS, scales)
    sizes = pd.concat([_small_birds(config, size, list(chosen.values())) for size in SIZES])
    least = sizes[sizes["object"] == sizes["object"].min()].assign(data="small birds")
    photographs = read_views(folder)
    kept = [part for _, part in photographs.groupby("data")] if len(photographs) else []
    told = [birds, least, *kept]
    page.table("pilot_views", pd.concat([views_table(part, list(chosen.values())) for part in told]))
    page.text("pilot_views", [views_finding(part, chosen["crop"], chosen["swap"]) for part in told])
    page.figure("pilot_views.svg", views_against_scale(birds, VIEWS_CURVES))
    page.figure("pilot_sizes.svg", views_against_size(sizes, photographs, list(chosen.values()), VIEWS_SIZES))
    settings = ViewSettings(SHEET["bank_size"], scale=config.swap_scale, crop_scale=config.crop_scale)
    typical = load_splits(config.model_copy(update={**SHEET, "object_size": config.object_size}))["train"]
    page.figure("pilot_pairs.png", pair_sheet(typical, settings, seed=SEED))
    small = load_splits(config.model_copy(update=SHEET))["train"]
    settings = replace(settings, crop_scale=published)
    page.figure("pilot_empty.png", pair_sheet(small, settings, seed=SEED, empty=True))
    for key, (view, scale) in chosen.items():
        page.number(f"pilot.views.{key}.scale", f"{scale:g}")
        for data, part in (("", birds), ("small.", least)):
            for measure, value in _values(part, view, scale).items():
                page.number(f"pilot.views.{data}{key}.{measure}", f"{percent(value)} %")
    page.number("pilot.views.least", f"{birds['least'].iloc[0]:g}")
    page.number("pilot.views.object", f"{percent(birds['object'].iloc[0], 0)} %")
    page.number("pilot.views.small.object", f"{percent(least['object'].iloc[0], 0)} %")
    page.number("pilot.views.pairs", f"{birds['pairs'].iloc[0]:,}")
    page.number("pilot.views.sheet", f"{SHEET['object_size']:g}")


def _small_birds(config: PretrainConfig, size: float, chosen: list[tuple[str, float]]) -> pd.DataFrame:
    bank = load_splits(config.model_copy(update={**FEW, "object_size": size}))["train"]
    parts = [view_curves(bank, f"birds {size:g}", [scale], views=[view]) for view, scale in chosen]
    return pd.concat(parts)


def _values(curves: pd.DataFrame, view: str, scale: float) -> dict[str, float]:
    """Measure -> value at one scale of one view generator; empty where it was not measured."""
    part = curves[(curves["view"] == view) & np.isclose(curves["scale"], scale)]
    return dict(zip(part["measure"], part["value"].astype(float), strict=True))


def views_table(curves: pd.DataFrame, chosen: Iterable[tuple[str, float]]) -> pd.DataFrame:
    """A line for each (view, scale) that one data set was measured at, in percent."""
    lines = []
    for view, scale in chosen:
        if values := _values(curves, view, scale):
            name = f"{curves['data'].iloc[0]},<br>{NAMED[view]},<br>from {scale:g}"
            lines.append({"views": name, **{t: percent(values[m]) for m, t in VIEWS_TABLE.items()}})
    return pd.DataFrame(lines)


def views_finding(curves: pd.DataFrame, *chosen: tuple[str, float]) -> str:
    """One data set in sentences: what its pairs share at each (view, scale) that was measured."""
    first = curves.iloc[0]
    told = [
        f"{first['data']} ({first['images']:,}): the object covers {percent(first['object'], 0)} % of them"
    ]
    for view, scale in chosen:
        if values := _values(curves, view, scale):
            told.append(
                f"{NAMED[view]} from {scale:g}: {percent(values['common_empty'])} % of pairs share no part "
                f"of it, {percent(values['common_mostly'])} % more background than object, and "
                f"{percent(values['view_background'])} % of a view is background that the other shows too"
            )
    return " ".join(f"{capital(sentence)}." for sentence in told)


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[0].upper() + text[1:]
