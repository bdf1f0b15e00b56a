"""Exact interventions on SynthBirds: one cause of a picture is changed, all the others stay as they are.

In the paper's causal picture an image comes from style S, background B and object texture T [A]. Here each of
them can be set alone: `with_style` (S), `SynthBirds.draw(habitat=...)` (B), `with_attributes` (T). Pose, size
and place of a bird belong to none of the three and never change. [O]
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cvsa.data import plumage
from cvsa.data.bank import ImageBank
from cvsa.data.birds import SynthBirds, _parameters
from cvsa.data.habitats import HABITATS, paint_habitat
from cvsa.data.render import Streams, check_habitats, check_index, grid, render
from cvsa.errors import CVSAError

Index = Sequence[int] | np.ndarray | Tensor
Habitat = int | Sequence[int] | np.ndarray | Tensor | None

_FIELDS = ("num_classes", "num_images", "image_size", "split", "habitat_bias", "difficulty", "seed",
           "object_size")  # fmt: skip


def birds_of(bank: ImageBank) -> SynthBirds:
    """The set behind a drawn bank: image i of the one is image i of the other, to the pixel.

    Args:
        bank: any split of SynthBirds, whole (a subset has forgotten which images it holds).

    Raises:
        CVSAError: the bank is not one of SynthBirds, or not a whole one.
    """
    about = bank.description
    if about.get("dataset") != "synthbirds" or not set(_FIELDS) <= set(about):
        name = about.get("dataset", "unknown images")
        raise CVSAError(f"This bank holds {name}; only the drawn birds of 'synthbirds' can be drawn anew.")
    birds = SynthBirds(**{name: about[name] for name in _FIELDS})
    if not np.array_equal(birds.labels, bank.labels.cpu().numpy()):
        raise CVSAError(
            f"This bank holds {len(bank)} of the {len(birds)} images it was drawn from, or another order of "
            "them; give the whole bank and choose images by an index."
        )
    return birds


def backdrop(
    birds: SynthBirds, index: Index, habitat: Habitat = None, device: torch.device | str = "cpu"
) -> Tensor:
    """The same pictures without the birds: same scenery, framing and light.

    Args:
        birds: the set.
        index: which images, (B,).
        habitat: as of `SynthBirds.draw`.
        device: where to draw.

    Returns:
        uint8 (B, 3, R, R). Equal to what `draw` gives wherever `cutout` says that the bird covers nothing:
        outside the mask and its smooth outline, a pixel wide, two at a few sharp corners.

    Raises:
        CVSAError: an index or habitat that does not exist.
    """
    chosen = check_index(index, len(birds))
    habitats = check_habitats(habitat, birds.habitats[chosen], len(HABITATS))
    x, y = grid(birds.image_size, str(device))
    scenery = torch.as_tensor(birds._scenery[chosen], dtype=torch.float32, device=device)

    def background(which: int, rows: np.ndarray) -> Tensor:
        return paint_habitat(which, x, y, birds.image_size, scenery[torch.as_tensor(rows, device=device)])

    def light(rows: np.ndarray, canvas: Tensor, mask: Tensor) -> None:
        canvas.mul_(plumage.columns(birds._table, chosen[rows], device)["illumination"])

    return render(habitats, birds.image_size, device, background, light)[0]


def cutout(
    birds: SynthBirds, index: Index, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor, Tensor]:
    """The birds alone, to be laid over anything: picture = colour + (1 - cover) * background.

    Painting is linear in the canvas, so what a black and a white canvas become tells both parts exactly.

    Args:
        birds: the set.
        index: which images, (B,).
        device: where to draw.

    Returns:
        colour float32 (B, 3, R, R), the lit bird times its cover; cover float32 (B, 1, R, R), 1 on the mask,
        between 0 and 1 on the smooth outline, 0 elsewhere; masks uint8 (B, 1, R, R).

    Raises:
        CVSAError: an index that does not exist.
    """
    chosen, size = check_index(index, len(birds)), birds.image_size
    x, y = grid(size, str(device))
    colour = torch.empty(len(chosen), 3, size, size, device=device)
    cover = torch.empty(len(chosen), 1, size, size, device=device)

    def black(_: int, rows: np.ndarray) -> Tensor:
        return torch.zeros(len(rows), 3, size, size, device=device)

    def bird(rows: np.ndarray, canvas: Tensor, mask: Tensor) -> None:
        table, white = plumage.columns(birds._table, chosen[rows], device), torch.ones_like(canvas)
        plumage.paint_bird(canvas, mask, x, y, table)
        plumage.paint_bird(white, mask, x, y, table)
        where = torch.as_tensor(rows, device=device)
        colour[where] = canvas * table["illumination"]
        cover[where] = 1.0 - (white - canvas)[:, :1]

    masks = render(np.zeros(len(chosen), dtype=np.int64), size, device, black, bird)[1]
    return colour, cover, masks


def with_style(birds: SynthBirds, seed: int) -> SynthBirds:
    """The same pictures in another light: exposure, warmth and direction of the light are drawn anew (S).

    Birds, poses, places, masks and scenery stay. The light falls on the whole picture, so all pixels change.

    Args:
        birds: the set.
        seed: of the new light, a whole number from 0; the distribution is that of the set.
    """
    # Size and share do not enter what is taken from this table.
    table = _parameters(Streams(seed, f"style-{birds.split}"), birds.attributes, 0.2)
    changed = copy.copy(birds)
    changed._table = {**birds._table, **{name: table[name] for name in ("illumination", "light")}}
    return changed


def with_attributes(birds: SynthBirds, attributes: np.ndarray) -> SynthBirds:
    """The same pictures with other birds in them: same pose, place, size, light and scenery (T).

    What is individual in a bird stays too: its back's colour, its grain, and how far its colours and lengths
    are off those of its kind. Labels become those of the classes with exactly these attributes, -1 where
    there is none; `parts` move with beak and tail. Habitats stay, whatever the new class's own.

    Args:
        birds: the set.
        attributes: (N, 6) whole numbers, as places in `SynthBirds.attribute_values`.

    Raises:
        CVSAError: another shape, or a value that does not exist.
    """
    new, old = np.asarray(attributes), birds.attributes
    levels = [len(values) for values in birds.attribute_values]
    if new.shape != old.shape or new.dtype.kind not in "iu" or (new < 0).any() or (new >= levels).any():
        raise CVSAError(
            f"attributes: must be whole numbers of the shape {old.shape}, each from 0 and below {levels} "
            "(the number of values of each attribute)"
        )
    changed = copy.copy(birds)
    changed.attributes = new.astype(np.int64)
    changed._table = _exchanged(birds._table, old.T, new.T)
    same = (changed.attributes[:, None] == birds.class_attributes[None]).all(axis=2)  # (N, classes)
    changed.labels = np.where(same.any(axis=1), same.argmax(axis=1), -1)
    changed.parts = (plumage.part_positions(changed._table) * birds.image_size).astype(np.float32)
    return changed


def _exchanged(table: dict[str, np.ndarray], old: np.ndarray, new: np.ndarray) -> dict[str, np.ndarray]:
    """The table of `paint_bird` after an exchange of attributes (6, N): what does not change stays exact."""
    place = {name: row for row, name in enumerate(plumage.ATTRIBUTES)}
    table = dict(table)
    for kind in ("crown", "breast"):
        palette = np.array([plumage.COLOURS[name] for name in plumage.ATTRIBUTES[kind]])
        table[kind] = table[kind] + (palette[new[place[kind]]] - palette[old[place[kind]]])
    tail, tail_before = new[place["tail"]], old[place["tail"]]
    lengths = plumage.BEAK_LENGTHS[new[place["beak"]]] / plumage.BEAK_LENGTHS[old[place["beak"]]]
    table["beak"] = table["beak"] * lengths
    table["tail"] = table["tail"] * (plumage.TAIL_LENGTHS[tail] / plumage.TAIL_LENGTHS[tail_before])
    table["tail end"] = table["tail end"] * (plumage.TAIL_ENDS[tail] / plumage.TAIL_ENDS[tail_before])
    table["fork"], table["bars"] = plumage.TAIL_FORKS[tail], new[place["wing bars"]]
    table["streaks"] = new[place["streaks"]]
    return table
