"""SynthBirds: drawn birds for fine-grained recognition, with a background shortcut one can tune.

All classes share one body plan (``plumage.py``) and differ in combinations of six local attributes; pose,
scale, place, light and side vary independently of the class. Each class has a habitat of its own, class
modulo the number of habitats, so with more than ten classes several share one; ``habitat_bias`` says how
often a training image shows it.
Not part of the paper: our own data set, made so that every localisation question has an exact answer. [O]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cvsa.data import plumage
from cvsa.data.habitats import HABITATS, PARAMETERS, PLAIN, paint_habitat
from cvsa.data.render import (
    SIZES,
    DrawnBatch,
    Streams,
    check_choice,
    check_habitats,
    check_index,
    check_number,
    grid,
    render,
)

SPLITS = ("train", "val", "test", "test_swapped")
DIFFICULTIES = ("easy", "fine")
CLASSES = (10, 200)
_SUBTLE = ("wing bars", "beak", "streaks", "tail")


@dataclass(frozen=True)
class BirdBatch(DrawnBatch):
    """Drawn birds: a ``DrawnBatch`` with parts and attributes.

    Attributes:
        parts: float32 (B, 5, 2), xy in pixels of beak, crown, eye, wing, tail; each lies on the bird.
        attributes: int64 (B, 6), the value of each attribute as its place in ``SynthBirds.attribute_values``.
    """

    parts: Tensor
    attributes: Tensor


def class_table(num_classes: int, difficulty: str, seed: int) -> np.ndarray:
    """Attribute values of every class, int64 (num_classes, 6), pairwise distinct, fixed by the arguments.

    "easy": any two classes differ in as many attributes as that many classes allow (4 of 6 for 10 classes).
    "fine": classes come in families of five around a common ancestor and differ from it in one subtle
    attribute (wing bars, beak, streaks or tail), so the nearest classes are told apart by one detail.
    """
    levels = [len(values) for values in plumage.ATTRIBUTES.values()]
    streams = Streams(seed, f"classes-{difficulty}")
    every = np.stack(np.unravel_index(np.arange(np.prod(levels)), levels), axis=1)
    every = every[np.argsort(streams.uniform("order", len(every)))]
    if difficulty == "easy":
        for apart in range(len(levels), 0, -1):
            chosen = _far_apart(every, apart, num_classes)
            if len(chosen) == num_classes:
                return chosen
    ancestors = _far_apart(every, 3, -(-num_classes // 5))
    names, rows, seen = list(plumage.ATTRIBUTES), [], set()
    picks = streams.uniform("siblings", len(every), 2)
    for ancestor in ancestors:
        family = [ancestor]
        rows.append(ancestor)
        seen.add(tuple(ancestor))
        while len(family) < 5 and len(rows) < num_classes:
            first, second = picks[0]
            picks = picks[1:]
            axis = names.index(_SUBTLE[int(first * len(_SUBTLE))])
            sibling = ancestor.copy()
            sibling[axis] = (sibling[axis] + 1 + int(second * (levels[axis] - 1))) % levels[axis]
            if tuple(sibling) not in seen:
                family.append(sibling)
                rows.append(sibling)
                seen.add(tuple(sibling))
    return np.stack(rows[:num_classes]).astype(np.int64)


def _far_apart(candidates: np.ndarray, apart: int, count: int) -> np.ndarray:
    """Up to ``count`` candidates, taken in order, that differ pairwise in at least ``apart`` attributes."""
    chosen = candidates[:0]
    for candidate in candidates:
        if len(chosen) == count:
            break
        if not len(chosen) or (chosen != candidate).sum(axis=1).min() >= apart:
            chosen = np.concatenate([chosen, candidate[None]])
    return chosen.astype(np.int64)


def describe(values: Sequence[int]) -> str:
    """A class in words: "crimson crown, two wing bars, long beak, plain rose breast, forked tail"."""
    crown, bars, beak, breast, streaks, tail = (
        names[value] for names, value in zip(plumage.ATTRIBUTES.values(), values, strict=True)
    )
    bars = f"{bars} wing bar{'' if bars == 'one' else 's'}"
    return f"{crown} crown, {bars}, {beak} beak, {streaks} {breast} breast, {tail} tail"


class SynthBirds:
    """A drawn data set; nothing is stored but the parameters, images are drawn on demand.

    Args:
        num_classes: 10 to 200.
        num_images: images in the split; a larger set starts with the images of a smaller one.
        image_size: side in pixels, 32 to 256; the same pictures at any size.
        split: "train", "val", "test" (plain backdrop, no habitat) or "test_swapped" (always a wrong habitat).
            Splits share the classes and are otherwise independent.
        habitat_bias: chance in [0, 1] that an image of "train" or "val" shows its class's habitat; else one
            of the others, uniformly. 0.1 is no shortcut at all, 1 a perfect one.
        difficulty: "easy" or "fine", see ``class_table``.
        seed: whole number; everything follows from it.
        object_size: mean share of the picture covered by the bird, 0.05 to 0.3; single birds from 0.6 to 1.4
            of it, as far as they fit into the picture.

    Attributes:
        labels: int64 (N,); every run of ``num_classes`` images holds each class once.
        classes: what each class looks like, in words.
        class_attributes: int64 (num_classes, 6). attributes: int64 (N, 6).
        attribute_names: the six; attribute_values: the names of their values.
        part_names: beak, crown, eye, wing, tail; parts: float32 (N, 5, 2), xy in pixels.
        habitats: int64 (N,), -1 is the plain backdrop; habitat_names; own_habitat: int64 (num_classes,).

    Raises:
        CVSAError: an argument out of range.
    """

    attribute_names = list(plumage.ATTRIBUTES)
    attribute_values = list(plumage.ATTRIBUTES.values())
    part_names = list(plumage.PARTS)
    habitat_names = list(HABITATS)

    def __init__(
        self,
        num_classes: int = 10,
        num_images: int = 1000,
        image_size: int = 64,
        split: str = "train",
        habitat_bias: float = 0.5,
        difficulty: str = "easy",
        seed: int = 0,
        *,
        object_size: float = 0.2,
    ) -> None:
        check_number(num_classes, "num_classes", *CLASSES, whole=True)
        check_number(num_images, "num_images", 1, 10_000_000, whole=True)
        check_number(image_size, "image_size", *SIZES, whole=True)
        check_choice(split, "split", SPLITS)
        check_number(habitat_bias, "habitat_bias", 0, 1)
        check_choice(difficulty, "difficulty", DIFFICULTIES)
        check_number(seed, "seed", 0, 2**63 - 1, whole=True)
        check_number(object_size, "object_size", 0.05, 0.3)
        self.image_size, self.split = int(image_size), split
        streams = Streams(int(seed), f"birds-{split}")
        blocks = -(-num_images // num_classes)
        self.labels = np.argsort(streams.uniform("label", blocks, num_classes), axis=1).ravel()[:num_images]
        self.class_attributes = class_table(num_classes, difficulty, int(seed))
        self.classes = [describe(values) for values in self.class_attributes]
        self.attributes = self.class_attributes[self.labels]
        self.own_habitat = np.arange(num_classes) % len(HABITATS)
        self.habitats = self._choose_habitats(streams, habitat_bias)
        self._scenery = streams.uniform("scenery", num_images, PARAMETERS)
        self._table = _parameters(streams, self.attributes, object_size)
        self.parts = (plumage.part_positions(self._table) * self.image_size).astype(np.float32)

    def __len__(self) -> int:
        return len(self.labels)

    def _choose_habitats(self, streams: Streams, bias: float) -> np.ndarray:
        own = self.own_habitat[self.labels]
        if self.split == "test":
            return np.full_like(own, PLAIN)
        others = len(HABITATS) - 1
        wrong = (own + 1 + (streams.uniform("habitat", len(own)) * others).astype(np.int64)) % len(HABITATS)
        if self.split == "test_swapped":
            return wrong
        return np.where(streams.uniform("bias", len(own)) < bias, own, wrong)

    def draw(
        self,
        index: Sequence[int] | np.ndarray | Tensor,
        *,
        habitat: int | Sequence[int] | np.ndarray | Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> BirdBatch:
        """Draw some images of the set.

        Args:
            index: which, (B,) whole numbers in any order; an image does not depend on the others.
            habitat: None for the set's own choice, or one habitat for all, or one per image; -1 is the plain
                backdrop. The bird stays the same to the pixel, so this is an exact intervention on the
                background.
            device: where to draw; the batch stays there.

        Returns:
            BirdBatch on ``device``.

        Raises:
            CVSAError: an index or habitat that does not exist.
        """
        chosen = check_index(index, len(self))
        habitats = check_habitats(habitat, self.habitats[chosen], len(HABITATS))
        x, y = grid(self.image_size, str(device))
        scenery = torch.as_tensor(self._scenery[chosen], dtype=torch.float32, device=device)

        def background(which: int, rows: np.ndarray) -> Tensor:
            return paint_habitat(which, x, y, self.image_size, scenery[torch.as_tensor(rows, device=device)])

        def bird(rows: np.ndarray, canvas: Tensor, mask: Tensor) -> None:
            table = plumage.columns(self._table, chosen[rows], device)
            plumage.paint_bird(canvas, mask, x, y, table)
            canvas.mul_(table["illumination"])

        images, masks, boxes = render(habitats, self.image_size, device, background, bird)

        def tensor(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values, device=device)

        return BirdBatch(
            images,
            masks,
            boxes,
            tensor(self.labels[chosen]),
            tensor(habitats),
            tensor(self.parts[chosen]),
            tensor(self.attributes[chosen]),
        )


def _parameters(streams: Streams, attributes: np.ndarray, share: float) -> dict[str, np.ndarray]:
    """All numbers and colours that ``paint_bird`` needs, one row per image."""
    count = len(attributes)
    names = ("tilt", "nod", "wag", "flip", "share", "x", "y")
    table = plumage.place({name: streams.uniform(name, count) for name in names}, share)
    crown, bars, beak, breast, streaks, tail = attributes.T

    def jitter(name: str, width: float) -> np.ndarray:
        return 1.0 + width * (2.0 * streams.uniform(name, count) - 1.0)

    def colour(kind: str, value: np.ndarray) -> np.ndarray:
        palette = np.array([plumage.COLOURS[name] for name in plumage.ATTRIBUTES[kind]])
        return palette[value] + 0.06 * (streams.uniform(f"{kind} colour", count, 3) - 0.5)

    # Within-class variation is small against the steps between values; illumination below is not.
    table["beak"] = plumage.BEAK_LENGTHS[beak] * jitter("beak", 0.08)
    table["tail"] = plumage.TAIL_LENGTHS[tail] * jitter("tail", 0.08)
    table["tail end"] = plumage.TAIL_ENDS[tail] * jitter("tail end", 0.08)
    table["fork"], table["bars"], table["streaks"] = plumage.TAIL_FORKS[tail], bars, streaks
    light = 0.80 + 0.32 * streams.uniform("exposure", count)
    warmth = 0.09 * (2.0 * streams.uniform("warmth", count) - 1.0)
    illumination = light[:, None] * (1.0 + warmth[:, None] * np.array([1.0, 0.0, -1.0]))
    table["crown"], table["breast"] = colour("crown", crown), colour("breast", breast)
    table["mantle"] = plumage.mantles(streams.uniform("mantle", count, 4))
    table["horn"] = np.array([0.86, 0.55, 0.20]) * jitter("horn", 0.12)[:, None]
    table["illumination"] = illumination
    table["light"] = -np.pi / 2 + (streams.uniform("light", count) - 0.5) * 2.2
    table["texture"] = streams.uniform("texture", count)
    return table
