"""Texture against shape on SynthBirds, after Geirhos et al., "ImageNet-trained CNNs are biased towards
texture" (ICLR 2019).

A class has surface attributes (crown, wing bars, breast, streaks: colour and pattern) and shape attributes
(beak, tail). Nobody else's images are stylised here: a picture in conflict has the surface of one class and
the shape of another, in one drawing. All pictures have the plain backdrop, so that no habitat interferes. [O]

    intact      the bird as it is
    grey        the picture without colour (luma)
    silhouette  the bird filled with black: shape alone
    shuffled    the cells of a 12 x 12 grid that hold a part of the bird change places: surface alone, nearly
    conflict    surface of the own class, shape of another
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cvsa.data.birds import SynthBirds
from cvsa.data.habitats import PLAIN
from cvsa.data.interventions import backdrop, cutout, with_attributes
from cvsa.data.render import Streams
from cvsa.evaluation.background import Effects, Index, batches, ceiling, decide, select, to_bytes
from cvsa.evaluation.features import Predict

SURFACE, SHAPE = ("crown", "wing bars", "breast", "streaks"), ("beak", "tail")
CUES = ("intact", "grey", "silhouette", "shuffled", "conflict")
CELLS = 12  # cells along a side: finer than beak and tail, coarser than bars and streaks
_LUMA = (0.299, 0.587, 0.114)


def _kinds(birds: SynthBirds, names: tuple[str, ...]) -> np.ndarray:
    """Which classes share these attributes: a number (classes,) for each, equal where all of them are."""
    columns = [birds.attribute_names.index(name) for name in names]
    kinds: np.ndarray = np.unique(birds.class_attributes[:, columns], axis=0, return_inverse=True)[1].ravel()
    return kinds


def shape_donors(birds: SynthBirds, seed: int) -> np.ndarray:
    """The class that lends each image its shape, (N,); -1 where there is none.

    A surface and a shape conflict only if no class has both: then no decision is right in both ways. Among
    the classes that qualify the choice is uniform.
    """
    surface, shape = _kinds(birds, SURFACE), _kinds(birds, SHAPE)
    both = set(zip(surface.tolist(), shape.tolist(), strict=True))
    draws, found = Streams(seed, "texture").uniform("shape", len(birds)), np.full(len(birds), -1)
    for label in range(len(birds.classes)):
        conflicts = [c for c in range(len(birds.classes)) if (surface[label], shape[c]) not in both]
        own = np.flatnonzero(birds.labels == label)
        if conflicts:
            found[own] = np.array(conflicts)[(draws[own] * len(conflicts)).astype(np.int64)]
    return found


def cue_pictures(
    birds: SynthBirds, index: np.ndarray, seed: int, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """The pictures of every cue, uint8 (n, 3, R, R); an image's do not depend on the others asked for.

    Args:
        birds: the set, of any split.
        index: (n,) image numbers.
        seed: of the conflicts and of the shuffling.
        device: where to draw.
    """
    donor = shape_donors(birds, seed)
    attributes = birds.attributes.copy()
    columns = [birds.attribute_names.index(name) for name in SHAPE]
    lent = np.where(donor < 0, birds.labels, donor)  # without a donor the bird keeps its own shape
    attributes[:, columns] = birds.class_attributes[lent][:, columns]
    _, cover, masks = cutout(birds, index, device)
    plain = backdrop(birds, index, PLAIN, device)
    intact = birds.draw(index, habitat=PLAIN, device=device).images
    luma = (intact.float() * torch.tensor(_LUMA, device=intact.device).view(3, 1, 1)).sum(1, keepdim=True)
    order = Streams(seed, "texture").uniform("cells", len(birds), CELLS**2)[index]
    return {
        "intact": intact,
        "grey": (luma + 0.5).to(torch.uint8).expand_as(intact),
        "silhouette": to_bytes(plain.float() / 255 * (1 - cover)),
        "shuffled": shuffle_cells(intact, masks > 0, torch.as_tensor(order, device=intact.device)),
        "conflict": with_attributes(birds, attributes).draw(index, habitat=PLAIN, device=device).images,
    }


def shuffle_cells(images: Tensor, masks: Tensor, order: Tensor) -> Tensor:
    """Let the cells that hold a part of the object change places with each other; all others stay.

    Args:
        images: (B, C, R, R); what R leaves over after CELLS whole cells a side stays where it is.
        masks: (B, 1, R, R) bool.
        order: (B, CELLS^2) numbers whose order is the permutation.
    """
    b, c, size, _ = images.shape
    side = size // CELLS
    span = side * CELLS

    def cells(values: Tensor) -> Tensor:  # (B, C, span, span) -> (B, CELLS^2, C * side^2)
        grid = values.reshape(b, -1, CELLS, side, CELLS, side)
        return grid.permute(0, 2, 4, 1, 3, 5).reshape(b, CELLS**2, -1)

    touched = cells(masks[..., :span, :span]).any(dim=2)  # (B, CELLS^2)
    # The k-th touched cell in reading order receives the touched cell with the k-th smallest number.
    places = torch.argsort(~touched, dim=1, stable=True)
    sources = torch.argsort(torch.where(touched, order, torch.full_like(order, 2.0)), dim=1, stable=True)
    stays = torch.arange(CELLS**2, device=images.device).expand(b, -1)
    taken = stays.scatter(1, places, torch.where(touched.gather(1, places), sources, places))
    content = cells(images[..., :span, :span])
    moved = content.gather(1, taken[..., None].expand_as(content))
    shuffled = images.clone()
    grid = moved.reshape(b, CELLS, CELLS, c, side, side).permute(0, 3, 1, 4, 2, 5)
    shuffled[..., :span, :span] = grid.reshape(b, c, span, span)
    return shuffled


@torch.no_grad()
def texture_metrics(
    predict: Predict,
    birds: SynthBirds,
    index: Index | None = None,
    seed: int = 0,
    *,
    pictures: dict[str, Tensor] | None = None,
    batch: int = 250,
    device: torch.device | str = "cpu",
) -> Effects:
    """What decides, surface or shape, and what is recognised when one of them is missing.

    A decision in a conflict is one for the surface if the predicted class has exactly the surface attributes
    shown, and one for the shape if it has exactly the shape attributes shown; several classes may share
    either. It cannot be both, see `shape_donors`.

    Args:
        predict: the classifier, see `cvsa.evaluation.features.Predict`.
        birds: the set whose pictures are changed, usually the test split's (`birds_of`).
        index: which images, (n,); None: all.
        seed: of the conflicts and of the shuffling.
        pictures: of `cue_pictures` for the same images and seed, if they are there already; None: drawn here.
        batch: pictures at a time. device: where to draw.

    Returns:
        metrics: accuracies `intact`, `grey`, `silhouette`, `shuffled`, with `chance` (the share of the most
        frequent class), `silhouette_ceiling` and `shuffled_ceiling` (the best that shape and surface alone
        allow: below 1 where classes share them); in conflicts the shares `surface`, `shape` and `neither` of
        all decisions, with `surface_chance` and `shape_chance` for uniform guessing; `surface_share`, the
        part of surface in decisions for either, with `surface_share_chance`.
        per_image: image, label (the surface's class), shape_label (-1: no conflict possible), predicted class
        for every cue, decided ("surface", "shape", "neither", "").
        counts: images; no_conflict, images left out of the conflicts.

    Raises:
        CVSAError: no image, or one that does not exist.
    """
    chosen = select(index, len(birds))
    parts: dict[str, list[np.ndarray]] = {name: [] for name in CUES}
    for places in batches(len(chosen), batch):
        drawn = pictures and {name: images[places[0] : places[-1] + 1] for name, images in pictures.items()}
        for name, images in (drawn or cue_pictures(birds, chosen[places], seed, device)).items():
            parts[name].append(decide(predict, images))
    predicted = {name: np.concatenate(found) for name, found in parts.items()}
    labels, donor = birds.labels[chosen], shape_donors(birds, seed)[chosen]
    surface, shape = _kinds(birds, SURFACE), _kinds(birds, SHAPE)
    metrics = {name: float((predicted[name] == labels).mean()) for name in CUES if name != "conflict"}
    metrics |= {
        "chance": ceiling(np.zeros_like(labels), labels),
        "silhouette_ceiling": ceiling(shape[labels], labels),
        "shuffled_ceiling": ceiling(surface[labels], labels),
    }
    conflict = donor >= 0
    kinds = {
        "surface": surface[None] == surface[labels][:, None],
        "shape": shape[None] == shape[donor][:, None],
    }  # fmt: skip  (n, classes)
    hit = {name: kind[np.arange(len(chosen)), predicted["conflict"]] for name, kind in kinds.items()}
    decided = np.where(hit["surface"], "surface", np.where(hit["shape"], "shape", "neither"))
    decided = np.where(conflict, decided, "")
    shares, unavailable = _conflicts(decided[conflict], {name: kinds[name][conflict] for name in kinds})
    frame = pd.DataFrame(
        {"image": chosen, "label": labels, "shape_label": donor, **predicted, "decided": decided}
    )
    counts = {"images": len(chosen), "no_conflict": int((~conflict).sum())}
    return Effects(metrics | shares, frame, counts, unavailable)


def _conflicts(decided: np.ndarray, kinds: dict[str, np.ndarray]) -> tuple[dict[str, float], dict[str, str]]:
    """Shares of decisions, and what uniform guessing gives, among conflicts (M,) with classes (M, K)."""
    if not len(decided):
        names = ("surface", "shape", "neither", "surface_chance", "shape_chance", "surface_share",
                 "surface_share_chance")  # fmt: skip
        return {}, dict.fromkeys(names, "no two classes conflict in surface and shape")
    metrics = {name: float((decided == name).mean()) for name in ("surface", "shape", "neither")}
    chance = {name: float(kind.mean()) for name, kind in kinds.items()}
    metrics |= {f"{name}_chance": value for name, value in chance.items()}
    metrics["surface_share_chance"] = chance["surface"] / (chance["surface"] + chance["shape"])
    either = metrics["surface"] + metrics["shape"]
    if not either:
        return metrics, {"surface_share": "no decision was for surface or shape"}
    return metrics | {"surface_share": metrics["surface"] / either}, {}
