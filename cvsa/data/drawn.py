"""Banks of drawn pictures: SynthBirds and SynthScenes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from cvsa.config import DataConfig
from cvsa.data.bank import BankWriter, ImageBank, bank_directory, open_or_build
from cvsa.saliency.degrade import find_degradation
from cvsa.saliency.detectors import find_detector, key_of

# What draws: its change is a change of the data.
DRAWING = ("birds", "habitats", "plumage", "render", "scenes")


def load_drawn(config: DataConfig) -> dict[str, ImageBank]:
    """The banks of a drawn set; see `cvsa.data.datasets.load_splits`.

    A detector or an error of saliency concerns the training images; the others keep their exact masks.
    """
    counts = {"train": config.train_images, "val": config.val_images, "test": config.test_images}
    if config.dataset == "synthbirds":
        counts["test_swapped"] = config.test_images
    return {split: _load(config, split, count) for split, count in counts.items()}


def load_scenes(config: DataConfig) -> ImageBank:
    """Drawn scenes for another data set's pictures: as many as ``train_images``, at its bank's size.

    They are the training split of SynthScenes with the same object size and data seed, with exact masks.
    """
    same = ("bank_size", "train_images", "object_size", "data_seed")
    scenes = DataConfig(dataset="synthscenes", **{name: getattr(config, name) for name in same})
    return _load(scenes, "train", scenes.train_images)


# images (n, 3, R, R) uint8, their exact masks (n, R, R) uint8, number of the first -> maps (n, R, R) uint8
Change = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


class Drawn(Protocol):
    """What SynthBirds and SynthScenes have in common."""

    labels: Any
    classes: list[str]

    def draw(self, index: Any) -> Any: ...


def _load(config: DataConfig, split: str, count: int) -> ImageBank:
    fields: dict[str, Any] = {
        "object_size": config.object_size,
        "num_images": count,
        "image_size": config.bank_size,
        "split": split,
        "seed": config.data_seed,
    }
    dataset: Drawn
    if config.dataset == "synthbirds":
        from cvsa.data.birds import SynthBirds

        fields |= {name: getattr(config, name) for name in ("num_classes", "habitat_bias", "difficulty")}
        dataset = SynthBirds(**fields)
    else:
        from cvsa.data.scenes import SynthScenes

        dataset = SynthScenes(**fields)
    code = hashlib.sha256(b"".join((Path(__file__).parent / f"{n}.py").read_bytes() for n in DRAWING))
    description = {"dataset": config.dataset, **fields}
    change = _change(config) if split == "train" else None
    if change:
        description |= {"saliency": config.saliency, "saliency_error": config.saliency_error}
        if config.saliency != "auto":
            description["detector"] = key_of(find_detector(config.saliency))
    return open_or_build(
        bank_directory(f"{config.dataset}-{split}", {**description, "code": code.hexdigest()}),
        lambda writer: _draw_into(writer, dataset, count, change),
        resolution=config.bank_size,
        classes=list(dataset.classes),
        description=description,
    )


def _change(config: DataConfig) -> Change | None:
    if config.saliency == "auto" and config.saliency_error == "exact":
        return None
    detector = None if config.saliency == "auto" else find_detector(config.saliency)
    degrade = find_degradation(config.saliency_error, config.data_seed)

    def change(images: np.ndarray, maps: np.ndarray, first: int) -> np.ndarray:
        if detector:
            found = [detector(np.ascontiguousarray(image.transpose(1, 2, 0))) for image in images]
            maps = np.round(255 * np.stack(found)).astype(np.uint8)
        return np.stack([degrade(map, first + i) for i, map in enumerate(maps)])

    return change


def _draw_into(
    writer: BankWriter, dataset: Drawn, count: int, change: Change | None, batch: int = 256
) -> None:
    labels = np.asarray(dataset.labels)
    sources = {"habitat": "habitats", "attributes": "attributes"}
    extras = {
        name: np.asarray(getattr(dataset, source))
        for name, source in sources.items()
        if hasattr(dataset, source)
    }
    for start in range(0, count, batch):
        rows = slice(start, min(start + batch, count))
        drawn = dataset.draw(torch.arange(rows.start, rows.stop))
        columns = {name: value[rows] for name, value in extras.items()}
        if hasattr(drawn, "parts"):
            columns["parts"] = np.asarray(drawn.parts)
        images, maps = np.asarray(drawn.images), np.asarray(drawn.masks)[:, 0]
        if change:
            maps = change(images, maps, rows.start)
        writer.add(images, maps, labels[rows], **columns)
