"""Figures that show images: birds, habitats, view pairs, attention; and the numbers describing the data."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.figure import Figure

from cvsa.config import PretrainConfig, resolve
from cvsa.data.bank import ImageBank
from cvsa.data.birds import SynthBirds
from cvsa.data.datasets import load_splits
from cvsa.grid import line_name
from cvsa.methods.rot_pred import TURNS
from cvsa.report.figures import attention_rows, image_grid, to_picture, view_pairs
from cvsa.training.pretrain import attention_maps, build_views, initialise, load_method
from cvsa.training.runtime import Runtime
from cvsa.views import ViewMaker, Views
from cvsa.views.cutout import dilo
from cvsa.views.patches import neighbouring_patches, sample_patches

if TYPE_CHECKING:
    from cvsa.report.pages import Page

METHOD_ROW = "BYOL+CVSA"
SHEET_PX = 128  # birds are drawn larger for print than for training
DRAW = 4  # seed of the competitors' views: six different neighbours among the patches


def draw(page: Page, live: Path, config: PretrainConfig) -> None:
    """The pictures of the embedded data, of views, and of the attention of the live run; their numbers."""
    _sheets(page, config)
    splits = load_splits(config)
    train = splits["train"]
    page.number("data.classes", str(config.num_classes))
    page.number("data.train_images", f"{len(train):,}")
    page.number("data.image_size", f"{config.image_size} px")
    page.number("data.habitat_bias", f"{100 * config.habitat_bias:.0f} %")
    shares = (train.images[:, 3].float() / 255).mean(dim=(1, 2))
    page.number("data.object_share", f"{100 * float(shares.mean()):.0f} %")
    page.number("data.chance", f"{100 / config.num_classes:.0f} %")

    index = torch.arange(6)
    pairs = {}
    for name, row in (("random resized crop", "BYOL"), ("Saliency Swap", "BYOL+SS")):
        maker = _geometry(resolve(PretrainConfig, row=row, preset=config.preset), train)
        pairs[name] = maker(index, torch.Generator().manual_seed(3))
    page.figure("view_pairs.png", view_pairs(train.gather(index), train.boxes[index], pairs))
    competitors(page, config.preset, train)

    trained = resolve(PretrainConfig, row=METHOD_ROW, preset=config.preset)
    runtime = Runtime.of(trained)
    fresh = initialise(trained, runtime)
    parameters = sum(p.numel() for p in fresh.encoder.parameters())
    page.number("model.parameters", f"{parameters / 1e6:.2f} million")
    with torch.no_grad():
        height, width = fresh.encoder(
            torch.zeros(2, 3, config.image_size, config.image_size, device=runtime.device)
        ).shape[-2:]
    page.number("model.grid", f"{height} × {width}")
    # Fresh validation birds: attention on images the run was not trained on.
    val = splits["val"].to(runtime.device)
    maker = build_views(trained, val)
    maps = {}
    for name, method in (
        ("before", fresh),
        ("after", load_method(trained, live / "pretrain" / line_name((None, METHOD_ROW), 0), runtime)),
    ):
        views, maps[f"attention\n{name} training"] = attention_maps(
            method, maker, index.to(runtime.device), seed=3
        )
    page.figure("attention.png", attention_rows(views, maps))


def competitors(page: Page, preset: str, bank: ImageBank, count: int = 6) -> None:
    """The views of each compared method, ``views_*.png``: geometry, and as trained where colours tell."""
    index = torch.arange(count)
    references = bank.gather(index)

    def views(row: str, images: torch.Tensor = index, trained: bool = False) -> tuple[Views, ...]:
        config = resolve(PretrainConfig, row=row, preset=preset)
        maker = build_views(config, bank) if trained else _geometry(config, bank)
        return maker(images, torch.Generator().manual_seed(DRAW))

    def show(
        name: str, rows: dict[str, torch.Tensor], boxes: dict[str, torch.Tensor | None] | None = None
    ) -> None:
        pictures = [[to_picture(image[:3]) for image in images] for images in rows.values()]
        known = [(boxes or {}).get(title) for title in rows]
        outlines = [[None] * count if found is None else list(found.numpy()) for found in known]
        page.figure(f"views_{name}.png", image_grid(pictures, list(rows), outlines))

    page.figure("views_rel_loc.png", _patch_rows(references, views("Rel-Loc")))
    (crop,) = views("Rot-Pred")
    turns = {f"{90 * r}°\nis class {r}": torch.rot90(crop.images, r, (2, 3)) for r in range(TURNS)}
    show("rot_pred", {"reference": references, **turns})

    rows = {"reference": references}
    for trained, told in ((False, "geometry"), (True, "as trained")):
        for number, view in enumerate(views("SimCLR", trained=trained), start=1):
            rows[f"view {number},\n{told}"] = view.images
    show("simclr", rows)
    query, key = views("MoCo.v2", trained=True)
    earlier = views("MoCo.v2", index + count, trained=True)[1]
    show("moco_v2", {"query": query.images, "its key": key.images, "in the queue": earlier.images})
    titles = ("query", "key", "key, same\ncolours", "key, same\nrotation")
    taken = zip(titles, views("LooC", trained=True), strict=True)
    show("looc", {"reference": references, **{title: view.images for title, view in taken}})

    pasted = {f"view {n}": view for n, view in enumerate(views("InsLoc"), start=1)}
    composites = {title: view.images for title, view in pasted.items()}
    boxes = {title: view.boxes for title, view in pasted.items()}
    show("insloc", {"reference": references, **composites}, boxes)
    whole = {
        f"on {told}": dilo(
            references, bank.gather(index + count), size=references.shape[-1], crop_scale=1.0, ratio=(1, 1),
            generator=torch.Generator().manual_seed(DRAW), fraction=1.0, backgrounds=(kind,),
        ).images
        for kind, told in (("image", "another\nimage"), ("texture", "a texture"), ("plain", "plain grey"))
    }  # fmt: skip
    cropped = {f"view {n}": view.images for n, view in enumerate(views("BYOL+DiLo"), start=1)}
    mask = references[:, 3:].expand(-1, 3, -1, -1)
    show("dilo", {"reference": references, "saliency": mask, **whole, **cropped})
    pairs = {"random\nresized crop": views("BYOL"), "contrastive\ncrop": views("BYOL+CCrop")}
    page.figure("views_contrastive_crop.png", view_pairs(references, bank.boxes[index], pairs))


def _patch_rows(references: torch.Tensor, patches: tuple[Views, ...]) -> Figure:
    """References with both patches outlined, and the patches, the neighbour with its class."""
    defaults = inspect.signature(neighbouring_patches).parameters
    count, _, height, width = references.shape
    gap, jitter = (float(defaults[name].default) for name in ("gap", "jitter"))
    generator = torch.Generator().manual_seed(DRAW)
    centre, neighbour, labels = sample_patches(count, height, width, gap, jitter, generator)
    assert patches[1].labels is not None and torch.equal(labels, patches[1].labels)  # the same draw
    whole = [to_picture(image[:3]) for image in references]
    rows = [whole, whole, *([to_picture(image) for image in patch.images] for patch in patches)]
    outlines = [list(centre.numpy()), list(neighbour.numpy()), [None] * count, [None] * count]
    figure = image_grid(rows, ["centre patch", "neighbour", "first view", "second view"], outlines)
    for column, label in enumerate(labels.tolist()):
        figure.axes[0].text(
            column + 0.04, 3.04, str(label), va="top", bbox={"boxstyle": "round,pad=0.2", "fc": "white"}
        )
    return figure


def _geometry(config: PretrainConfig, bank: ImageBank) -> ViewMaker:
    """The configuration's view generator without photometric augmentation, for figures of its geometry."""
    return build_views(config.model_copy(update={"augmentation": "none"}), bank)


def _sheets(page: Page, config: PretrainConfig) -> None:
    """One row per class (same class, other pose, light and habitat), and one bird in every habitat."""
    birds = SynthBirds(
        num_classes=config.num_classes, num_images=config.train_images, image_size=SHEET_PX, split="train",
        habitat_bias=config.habitat_bias, difficulty=config.difficulty,
        object_size=config.object_size, seed=config.data_seed,
    )  # fmt: skip
    labels = np.asarray(birds.labels)
    picked = [np.flatnonzero(labels == label)[:5] for label in range(config.num_classes)]
    half = (len(picked) + 1) // 2
    order = [
        np.concatenate([picked[k], picked[k + half] if k + half < len(picked) else []]).astype(int)
        for k in range(half)
    ]
    rows = [[to_picture(image) for image in birds.draw(index).images] for index in order]
    page.figure(
        "birds_sheet.png", image_grid(rows, [f"classes {k + 1}\nand {k + half + 1}" for k in range(half)])
    )
    habitats = sorted(set(np.asarray(birds.habitats).tolist()))
    same = np.zeros(len(habitats), dtype=int)
    drawn = birds.draw(same, habitat=habitats)
    five = (len(habitats) + 1) // 2
    pictures = [to_picture(image) for image in drawn.images]
    page.figure("habitats.png", image_grid([pictures[:five], pictures[five:]], ["one bird,", "all habitats"]))
