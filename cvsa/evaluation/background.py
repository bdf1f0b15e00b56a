"""How much a prediction depends on the background: the same objects on other backgrounds.

After Xiao, Engstrom, Ilyas and Madry, "Noise or Signal: The Role of Image Backgrounds in Object Recognition"
(ICLR 2021), whose names in brackets. On SynthBirds the pictures are drawn anew, so nothing but the background
changes; photographs are cut out and pasted (`cvsa.evaluation.compositing`).

    original      SynthBirds: the habitat as the training set chooses it; photographs: as they are
    same_class    [Mixed-Same] the habitat of the own class; the background of another image of it
    random_class  [Mixed-Rand] the habitat of another class; the background of an image of another class
    blank         SynthBirds: the plain backdrop; photographs: the mean colour
    foreground    [Only-FG] the object alone, on the mean colour of the split
    background    [Only-BG-T] the background of the own class without any object

    gap = same_class - random_class                                                   [BG-Gap]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cvsa.data.bank import ImageBank
from cvsa.data.render import Streams, check_index, check_number
from cvsa.errors import CVSAError
from cvsa.evaluation.features import Predict

CONDITIONS = ("original", "same_class", "random_class", "blank", "foreground", "background")
DERIVED = ("gap", "background_ceiling", "follows", "follows_chance")

Pictures = Callable[[np.ndarray], Tensor]
"""Places (B,) in `Backgrounds.index` -> uint8 (B, 3, R, R)."""
Index = Sequence[int] | np.ndarray | Tensor


class Effects(NamedTuple):
    """What a measurement gives.

    Attributes:
        metrics: name -> finite number; accuracies and shares lie in [0, 1].
        per_image: a row per image, `image` its number in the split, with every decision.
        counts: how many images were measured, and how many left out and why.
        unavailable: metric -> why it is missing.
    """

    metrics: dict[str, float]
    per_image: pd.DataFrame
    counts: dict[str, int]
    unavailable: dict[str, str]


@dataclass(frozen=True)
class Backgrounds:
    """The pictures of all conditions, made on demand: an image's pictures do not depend on the others asked
    for.

    Attributes:
        index: (n,) the images of the bank that are used, the same ones in every condition.
        labels: (n,) their classes. classes: how many there are.
        pictures: condition -> what makes its pictures; conditions that are missing are in `unavailable`.
        same: condition -> the condition that has the very same pictures, for photographs.
        kin: (classes,) the kind of background that belongs to each class; a habitat, or the class itself.
        shown: (n,) the kind of background that random_class shows; -1 where it is unavailable.
        biased: (n,) bool, on SynthBirds: whether original is the picture of same_class; else it is that of
            random_class. None for photographs.
        counts, unavailable: see `Effects`.
    """

    index: np.ndarray
    labels: np.ndarray
    classes: int
    pictures: dict[str, Pictures]
    kin: np.ndarray
    shown: np.ndarray
    same: dict[str, str] = field(default_factory=dict)
    biased: np.ndarray | None = None
    counts: dict[str, int] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)

    def kept(self, batch: int = 250) -> Backgrounds:
        """The same, with all pictures made now and kept in memory (3 R^2 bytes each): for several uses."""
        drawn = [name for name in self.pictures if name != "original" or self.biased is None]
        made = {name: torch.cat(list(self._batches(name, batch))) for name in drawn}
        if self.biased is not None:
            own = torch.as_tensor(self.biased, device=made["same_class"].device).view(-1, 1, 1, 1)
            made["original"] = torch.where(own, made["same_class"], made["random_class"])
        return replace(self, pictures={name: _keep(images) for name, images in made.items()})

    def _batches(self, condition: str, size: int) -> Iterator[Tensor]:
        return map(self.pictures[condition], batches(len(self.index), size))

    def decisions(self, predict: Predict, batch: int = 250) -> dict[str, np.ndarray]:
        """Condition -> predicted class of every image, (n,) int64."""
        found = {}
        for name in self.pictures:
            if name != "original" or self.biased is None:
                found[name] = np.concatenate(
                    [decide(predict, images) for images in self._batches(name, batch)]
                )
        if self.biased is not None:  # the same pictures, so the same decisions
            found["original"] = np.where(self.biased, found["same_class"], found["random_class"])
        found |= {name: found[twin] for name, twin in self.same.items()}
        return {name: found[name] for name in CONDITIONS if name in found}


def batches(count: int, size: int) -> Iterator[np.ndarray]:
    """The numbers from 0 to ``count`` - 1, ``size`` at a time."""
    return (np.arange(start, min(start + size, count)) for start in range(0, count, size))


def _keep(images: Tensor) -> Pictures:
    return lambda places: images[torch.as_tensor(places, device=images.device)]


@torch.no_grad()
def decide(predict: Predict, images: Tensor) -> np.ndarray:
    """Predicted classes (B,) int64 of uint8 images (B, 3, R, R)."""
    decided: np.ndarray = predict(images.float().div_(255)).argmax(dim=1).cpu().numpy()
    return decided


def backgrounds(
    bank: ImageBank,
    seed: int = 0,
    *,
    bias: float | None = None,
    index: Index | None = None,
    device: torch.device | str = "cpu",
) -> Backgrounds:
    """The pictures of all conditions that a bank allows.

    Args:
        bank: a test split. SynthBirds is drawn anew; photographs (and SynthScenes) need pixel masks.
        seed: of the choice of backgrounds.
        bias: chance in [0, 1] of the own habitat in `original`; None: that of the training set. SynthBirds.
        index: which images are asked about, (n,); None: all. Backgrounds come from the whole bank.
        device: where drawn pictures are made; photographs are made where the bank is.

    Returns:
        The pictures; where there are no masks `original` alone, and why the others are missing.

    Raises:
        CVSAError: a bias out of range; an index that does not exist; part of a drawn bank.
    """
    chosen = select(index, len(bank))
    if bank.description.get("dataset") == "synthbirds":
        return _drawn(bank, chosen, seed, bias, device)
    from cvsa.evaluation.compositing import composited

    return composited(bank, chosen, seed)


def select(index: Index | None, count: int, least: int = 1) -> np.ndarray:
    """The images asked about, int64 (n,); None: all.

    Raises:
        CVSAError: fewer than ``least``, or one that does not exist.
    """
    chosen = np.arange(count) if index is None else check_index(index, count)
    if len(chosen) < least:
        raise CVSAError(f"index: names {len(chosen)} image(s); at least {least} are needed.")
    return chosen


def _drawn(
    bank: ImageBank, index: np.ndarray, seed: int, bias: float | None, device: torch.device | str
) -> Backgrounds:
    from cvsa.data.interventions import backdrop, birds_of, cutout

    birds = birds_of(bank)
    bias = bank.description["habitat_bias"] if bias is None else bias
    check_number(bias, "bias", 0, 1)
    streams, habitats = Streams(seed, "backgrounds"), len(birds.habitat_names)
    draws = [streams.uniform(name, len(birds))[index] for name in ("habitat", "bias")]
    own = birds.own_habitat[birds.labels[index]]
    other = (own + 1 + (draws[0] * (habitats - 1)).astype(np.int64)) % habitats
    biased = draws[1] < bias
    mean = mean_colour(bank, np.arange(len(bank))).to(device)

    def drawn(habitat: np.ndarray) -> Pictures:
        return lambda places: birds.draw(index[places], habitat=habitat[places], device=device).images

    def foreground(places: np.ndarray) -> Tensor:
        colour, cover, _ = cutout(birds, index[places], device)
        return to_bytes(colour + (1 - cover) * mean)

    return Backgrounds(
        index,
        birds.labels[index],
        len(birds.classes),
        {
            "original": drawn(np.where(biased, own, other)),
            "same_class": drawn(own),
            "random_class": drawn(other),
            "blank": drawn(np.full_like(own, -1)),
            "foreground": foreground,
            "background": lambda places: backdrop(birds, index[places], own[places], device),
        },
        kin=birds.own_habitat,
        shown=other,
        biased=biased,
        counts={"images": len(index)},
    )


def to_bytes(images: Tensor) -> Tensor:
    """Images in [0, 1] as uint8, rounded as the renderer does."""
    return (images * 255.0 + 0.5).clamp_(0.0, 255.0).to(torch.uint8)


def mean_colour(bank: ImageBank, index: np.ndarray, batch: int = 250) -> Tensor:
    """Mean colour of some images of a bank, (3, 1, 1) float32 in [0, 1] where the bank is."""
    total = torch.zeros(3, dtype=torch.float64, device=bank.device)
    for part in torch.as_tensor(index, device=bank.device).split(batch):
        total += bank.gather(part)[:, :3].mean(dim=(2, 3), dtype=torch.float64).sum(dim=0)
    return (total / len(index)).float().view(3, 1, 1)


def background_metrics(predict: Predict, given: Backgrounds, batch: int = 250) -> Effects:
    """Accuracy in every condition, the gap, and how often a prediction follows the background.

    Args:
        predict: the classifier, see `cvsa.evaluation.features.Predict`.
        given: of `backgrounds`.
        batch: pictures at a time.

    Returns:
        metrics: the conditions' accuracies; `gap`; `chance` (the share of the most frequent class: the best
        that constant answers reach); `background_ceiling` (the best that knowing the class's kind of
        background reaches; below 1 where classes share a habitat); `follows`, the share of random_class
        pictures taken for a class to which the shown background belongs, and `follows_chance`, what it would
        be if as many errors were spread evenly over the wrong classes.
        per_image: image, label, shown, and the predicted class in every condition.
    """
    decided = given.decisions(predict, batch)
    metrics = {name: float((predicted == given.labels).mean()) for name, predicted in decided.items()}
    metrics["chance"] = ceiling(np.zeros_like(given.labels), given.labels)
    if "random_class" in decided:
        metrics["gap"] = metrics["same_class"] - metrics["random_class"]
        metrics["background_ceiling"] = ceiling(given.kin[given.labels], given.labels)
        metrics["follows"] = float((given.kin[decided["random_class"]] == given.shown).mean())
        wrong = decided["random_class"] != given.labels
        belong = (given.kin[None] == given.shown[:, None]).sum(axis=1)  # (n,) classes it belongs to
        metrics["follows_chance"] = float((wrong * belong).mean() / (given.classes - 1))
    frame = pd.DataFrame({"image": given.index, "label": given.labels, "shown": given.shown, **decided})
    return Effects(metrics, frame, given.counts, given.unavailable)


def ceiling(known: np.ndarray, labels: np.ndarray) -> float:
    """The best accuracy that knowing ``known`` (N,) alone, not the class, can reach for these labels (N,)."""
    groups = pd.Series(labels).groupby(known)
    return float(groups.agg(lambda group: group.value_counts().iloc[0]).sum() / len(labels))
