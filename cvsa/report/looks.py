"""Pictures of where the live networks look and of what lies near in their features; interactive figures."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch.nn import functional as F

from cvsa.config import PretrainConfig
from cvsa.data.birds import SynthBirds
from cvsa.evaluation.attribution import sources
from cvsa.evaluation.causal import causal_pairs
from cvsa.evaluation.localization import choose, measure, to_pixels, truth_of
from cvsa.evaluation.snapshots import FILE, load_frames
from cvsa.evaluation.subject import Subject, sample
from cvsa.evaluation.texture import cue_pictures
from cvsa.grid import Ablation, line_name
from cvsa.lineage import resolve_evaluation
from cvsa.methods.catalogue import Line
from cvsa.records import Record
from cvsa.report import tables
from cvsa.report.embedding import embedding_map
from cvsa.report.figures import colour, image_grid, to_picture
from cvsa.report.gallery import gallery, random_images
from cvsa.report.interactive import attention_page, birds_bank, swap_page
from cvsa.report.page import Page, percent
from cvsa.training.runtime import Runtime

ATTENTION_FOLDER = "attention"  # below results/, made by `cvsa watch`
SHOWN, SEED = 5, 11  # images of a gallery; nobody looked at other seeds
IMAGES = 100  # by which the galleries' thresholds are chosen
CLASSIFIER, ATTENTION = "cam_finetuned", "attention_self"
# Title -> line of a table and source of the map.
METHODS = {
    "supervised, no pre-training": ((None, "Random"), CLASSIFIER),
    "BYOL": ((None, "BYOL"), CLASSIFIER),
    "BYOL+SS": ((None, "BYOL+SS"), CLASSIFIER),
    "BYOL+CVSA": ((None, "BYOL+CVSA"), CLASSIFIER),
    "BYOL+CVSA, attention of the alignment": ((None, "BYOL+CVSA"), ATTENTION),
}
STAGES = {
    "stage 1 only: BYOL on scenes": (("BYOL", None), CLASSIFIER),
    "stage 2 only: BYOL+CVSA on birds": ((None, "BYOL+CVSA"), CLASSIFIER),
    "dual: BYOL on scenes, BYOL+CVSA on birds": (("BYOL", "BYOL+CVSA"), CLASSIFIER),
}
CAUSES = {
    "original": "as it was", "style": "other light", "background": "other habitat", "texture": "other class",
}  # fmt: skip
CUES = {
    "intact": "as it is", "grey": "grey", "silhouette": "silhouette", "shuffled": "shuffled",
    "conflict": "shape of\nanother class",
}  # fmt: skip
EMBEDDED = {"byol": "BYOL", "cvsa": "BYOL+CVSA"}


def draw(page: Page, live: Path, config: PretrainConfig, attention: Path) -> None:
    """Galleries, embedding maps and interactive figures of the live runs.

    Args:
        page: where they go.
        live: folder of the preset's runs, with weights.
        config: of the preset; drawn birds.
        attention: folder of the committed frames of attention against epoch.
    """
    page.figure("gallery.png", _gallery(live, METHODS))
    page.figure("gallery_stages.png", _gallery(live, STAGES))
    for name, sheet in interventions(config).items():
        page.figure(f"{name}.png", sheet)
    for name, row in EMBEDDED.items():
        page.figure(f"embedding_{name}.png", _embedding(live, row))
    page.html("saliency_swap", swap_page(birds_bank(config)))
    page.html("attention", attention_page(load_frames(attention / FILE)))


@cache  # a network stands in several figures; its features are made once
def _subject(live: Path, line: Line) -> Subject:
    name = line_name(line, 0)
    start = live / "pretrain" / name
    given = {"finetuned": live / "finetune" / name, "pretrained": start if start.is_dir() else None}
    config, parent, _ = resolve_evaluation(**given)
    return Subject(config, parent, Runtime.of(config))


def _gallery(live: Path, rows: Mapping[str, tuple[Line, str]]) -> Figure:
    """Maps on random test birds, their IoU with the bird at a threshold from validation birds below them."""
    maps, marks = {}, {}
    for title, (line, source) in rows.items():
        subject = _subject(live, line)
        held, tested = subject.splits["val"], subject.measured
        make = sources(subject)[source]
        index = random_images(len(tested), SHOWN, SEED)
        choosing = sample(held, IMAGES, SEED)
        shown = to_pixels(make(tested, index), tested.resolution)
        chosen = choose(to_pixels(make(held, choosing), held.resolution), truth_of(held, choosing))
        outcome = measure(shown, truth_of(tested, index), chosen)
        maps[title] = shown
        marks[title] = [f"IoU {value:.2f}" for value in outcome.per_image["iou"]]
    scale = "least to greatest value of each map"
    return gallery(tested.images[index][:, :3], tested.boxes[index], maps, marks, scale=scale)


def _embedding(live: Path, row: str) -> Figure:
    """Frozen features of validation birds, of length 1 as for nearest neighbours; by class and habitat."""
    subject = _subject(live, (None, row))
    bank = subject.splits["val"]
    groups = {
        "class": (bank.labels, [f"class {number}" for number in range(len(bank.classes))]),
        "habitat": (torch.as_tensor(bank.extras["habitat"]), SynthBirds.habitat_names),
    }
    return embedding_map(
        F.normalize(subject.features["val"], dim=1), bank.images[:, :3], groups, stacked=True
    )


def interventions(config: PretrainConfig, count: int = 6, size: int = 96) -> dict[str, Figure]:
    """What the renderer changes, on the first test birds, larger than they are measured at."""
    birds = SynthBirds(
        num_classes=config.num_classes, num_images=config.test_images, image_size=size, split="test",
        difficulty=config.difficulty, object_size=config.object_size, seed=config.data_seed,
    )  # fmt: skip
    made = {
        "causes": (causal_pairs(birds, np.arange(count), config.data_seed), CAUSES),
        "cues": (cue_pictures(birds, np.arange(count), config.data_seed), CUES),
    }
    return {
        name: image_grid([[to_picture(p) for p in pictures[key]] for key in titles], list(titles.values()))
        for name, (pictures, titles) in made.items()
    }


def labels(page: Page, runs: list[tuple[Path, Record]], ablation: Ablation) -> None:
    """Fine-tuned accuracy against the share of the labels, ``labels.svg`` and a table."""
    table = tables.second_stages(tables.long_table(runs))
    table = table[(table["metric"] == tables.TOP1) & table["seed"].isin(ablation.seeds)]
    table = table[table["row"].isin(ablation.rows) & table["labels"].isin(ablation.values)]
    pivot = table.pivot_table(index="row", columns="labels", values="value").reindex(ablation.rows)
    shown = pd.DataFrame({"row": pivot.index})
    for share in pivot.columns:
        shown[f"{100 * share:.0f} % of the labels"] = list(map(partial(percent, digits=1), pivot[share]))
    page.table("labels", shown)
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axis = figure.subplots()
    for row, line in pivot.iterrows():
        name = "supervised (no pre-training)" if row == "Random" else str(row)
        axis.plot(100 * line.index, 100 * line, marker="o", color=colour(str(row)), label=name)
    axis.set(xlabel="share of the labels, %", ylabel="fine-tuned top-1, %", xscale="log")
    ticks = [100 * share for share in pivot.columns]
    axis.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
    axis.minorticks_off()
    axis.legend(frameon=False)
    page.figure("labels.svg", figure)
