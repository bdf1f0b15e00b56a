"""Attribution: maps of where a network looks, from every source there is, and how well they localise."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from cvsa.data.bank import ImageBank
from cvsa.errors import CVSAError
from cvsa.evaluation.cam import (
    alignment_attention,
    bank_maps,
    grad_cam,
    has_token_attention,
    linear_score,
    norm_map,
    partner_features,
    similarity_score,
    token_attention,
)
from cvsa.evaluation.features import whole_view
from cvsa.evaluation.localization import Truth, choose, measure, references, to_pixels, truth_of
from cvsa.evaluation.parts import PartLocations, part_locations
from cvsa.evaluation.subject import Findings, Subject, sample
from cvsa.io.paths import cache_root
from cvsa.methods.backbone import Backbone
from cvsa.methods.base import Method
from cvsa.records import atomic_write
from cvsa.saliency.detectors import DEFAULT, find_detector, key_of

ATTENTION = ("attention_self", "attention_pair")
REFERENCES = ("ref_centre", "ref_whole", "ref_random", "ref_detector")
WITH_PARTS = ("cub200", "nabirds")
VIEWS = 4  # crops whose mean is the partner of an image in the contrastive similarity

# bank and image numbers (n,) -> maps (n, h, w)
Source = Callable[[ImageBank, Tensor], Tensor]


def sources(subject: Subject) -> dict[str, Source]:
    """Every map that can be made of a network, by name; see :func:`measure_localization`.

    Features and probe are made when a map that needs them is asked for.
    """
    size, runtime, seed = subject.config.image_size, subject.runtime, subject.config.data_seed
    frozen, classifier, method = subject.frozen, subject.classifier, subject.method

    def by_class(backbone: Backbone, weights: Callable[[], Tensor]) -> Source:
        def maps(bank: ImageBank, index: Tensor) -> Tensor:
            weight = weights()

            def make(images: Tensor, picked: Tensor) -> Tensor:
                labels = bank.labels[picked.to(bank.device)].to(images.device)
                return grad_cam(backbone, images, linear_score(backbone, weight.to(images.device), labels))

            return bank_maps(bank, index, size, runtime, make)

        return maps

    @cache
    def partners(bank: ImageBank, picked: tuple[int, ...]) -> Tensor:
        every = torch.full((len(bank), frozen.num_features), torch.nan)
        index = torch.tensor(picked)
        every[index] = partner_features(frozen, bank.subset(index), size, runtime, views=VIEWS, seed=seed)
        return every

    def similarity(centres: Callable[[], Tensor]) -> Source:
        def maps(bank: ImageBank, index: Tensor) -> Tensor:
            others, centre = partners(bank, tuple(index.tolist())), centres()

            def make(images: Tensor, picked: Tensor) -> Tensor:
                return grad_cam(frozen, images, similarity_score(frozen, others[picked], centre))

            return bank_maps(bank, index, size, runtime, make)

        return maps

    found: dict[str, Source] = {}
    if classifier:
        found["cam_finetuned"] = by_class(classifier.encoder, classifier.head.weight.detach)
    found["cam_probe"] = by_class(frozen, lambda: subject.probe.weight)
    found["similarity"] = similarity(lambda: torch.zeros(frozen.num_features))
    found["similarity_centred"] = similarity(lambda: subject.features["train"].mean(0))
    found["norm"] = lambda bank, index: bank_maps(
        bank, index, size, runtime, lambda x, _: norm_map(frozen, x)
    )
    if method is not None and method.alignment is not None:
        found |= _attention(subject, method)
    if has_token_attention(frozen):
        found["vit"] = lambda bank, index: bank_maps(
            bank, index, size, runtime, lambda x, _: token_attention(frozen, x)
        )
    return found


def _attention(subject: Subject, method: Method) -> dict[str, Source]:
    """The alignment module's attention of an image in itself, and in a training image of the same class."""
    size, runtime = subject.config.image_size, subject.runtime
    train = subject.splits["train"]

    def alone(bank: ImageBank, index: Tensor) -> Tensor:
        return bank_maps(bank, index, size, runtime, lambda x, _: alignment_attention(method, x, x))

    def paired(bank: ImageBank, index: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(subject.config.data_seed)
        partner = torch.full((len(bank),), -1)
        labels, mine = train.labels.cpu(), bank.labels.cpu()
        for label in mine[index].unique():
            same, asking = (labels == label).nonzero()[:, 0], index[mine[index] == label]
            if not len(same):
                raise CVSAError(
                    f"Class {int(label)} has no training image to be the partner of a test image."
                )
            partner[asking] = same[torch.randint(len(same), (len(asking),), generator=generator)]

        def make(images: Tensor, picked: Tensor) -> Tensor:
            other = train.gather(partner[picked.cpu()].to(train.device))[:, :3]
            return alignment_attention(method, images, whole_view(other.to(images.device), size))

        return bank_maps(bank, index, size, runtime, make)

    return dict(zip(ATTENTION, (alone, paired), strict=True))


def measure_localization(subject: Subject, step: Callable[[str], None]) -> Findings:
    """Localisation by every source of maps, and by references that look at nothing.

    Thresholds are chosen on validation images. Sources: "cam_finetuned" and "cam_probe" (Grad-CAM of the true
    class, fine-tuned and frozen), "similarity" and "similarity_centred" (Grad-CAM of the contrastive
    similarity, by the plain cosine as nearest neighbours use it, and by that of centred features), "norm" (of
    the features), "attention_self" and "attention_pair" (of the alignment module), "vit" (class token).
    References: "ref_centre", "ref_whole" and "ref_random" look at nothing; "attention_self_fixed" and
    "attention_pair_fixed" are the mean maps of the alignment over the validation images, the same for every
    image; "ref_detector" is the training-free saliency detector.

    Args:
        subject: the network.
        step: called with a source's name before it is measured.

    Returns:
        Metrics "localization.SOURCE.METRIC" of :mod:`cvsa.evaluation.localization`, and "fixed": the share of
        the maps' variance over images and places that their mean map explains, 1 for a map that does not
        depend on the image; and the frame "localization" with a line per source and image.
    """
    config, found = subject.config, Findings()
    held, measured = subject.splits["val"], subject.measured
    indices = [sample(bank, config.images, config.data_seed) for bank in (held, measured)]
    truths = [
        truth_of(bank, index, _parts(subject, bank))
        for bank, index in zip((held, measured), indices, strict=True)
    ]
    for what, truth in zip(("validation", "test"), truths, strict=True):
        if not truth.known:
            return found.without("localization", f"{what} images: {truth.reason}; give masks or boxes")

    def judge(name: str, pair: Sequence[np.ndarray]) -> None:
        outcome = measure(pair[1], truths[1], choose(pair[0], truths[0]))
        found.add(f"localization.{name}", outcome.metrics, outcome.unavailable)
        frame = outcome.per_image.assign(source=name)
        frame["image"] = indices[1].numpy()[frame["image"].to_numpy()]
        found.frames.setdefault("localization", []).append(frame)

    for name, source in sources(subject).items():
        step(name)
        maps = [
            to_pixels(source(bank, index).numpy(), bank.resolution)
            for bank, index in zip((held, measured), indices, strict=True)
        ]
        judge(name, maps)
        found.add(f"localization.{name}", {"fixed": fixed_share(maps[1])})
        if name in ATTENTION:
            still = maps[0].mean(axis=0)
            judge(f"{name}_fixed", tuple(np.broadcast_to(still, each.shape) for each in maps))
    grid = subject.maps(held, indices[0][:1]).shape[-1]
    if not any(map(len, truths[0].boxes or [])):
        found.without("localization.ref_centre", "no box in the validation images tells its size")
    for name, pair in _references(truths[0], (held, measured), indices, config.data_seed, grid):
        step(name)
        judge(name, pair)
    return found


def localization_steps(subject: Subject) -> int:
    """How often :func:`measure_localization` calls ``step`` where boxes are known."""
    return len(sources(subject)) + len(REFERENCES)


def _parts(subject: Subject, bank: ImageBank) -> PartLocations | None:
    """Where the parts of birds are, for the sets that publish it; drawn birds bring them along."""
    config = subject.config
    return part_locations(bank, config.folder, config.dataset) if config.dataset in WITH_PARTS else None


def fixed_share(maps: np.ndarray) -> float:
    """Share of the variance of maps (N, R, R) that their mean map explains, in [0, 1]; NaN if none varies."""
    total = float(((maps - maps.mean(dtype=np.float64)) ** 2).mean())
    left = float(((maps - maps.mean(axis=0, dtype=np.float64)) ** 2).mean())
    return 1 - left / total if total > 0 else float("nan")


def _references(
    truth: Truth, banks: tuple[ImageBank, ImageBank], indices: list[Tensor], seed: int, grid: int
) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    side = banks[0].resolution
    first, second = (references(truth, len(index), side, seed + i, grid) for i, index in enumerate(indices))
    for name in first:
        yield name, (first[name], second[name])
    maps = [_detected(bank, index) for bank, index in zip(banks, indices, strict=True)]
    yield "ref_detector", (maps[0], maps[1])


def _detected(bank: ImageBank, index: Tensor) -> np.ndarray:
    """Maps of the training-free detector, (n, R, R); cached, since they are the same for all rows."""
    detector = find_detector(DEFAULT)
    key = hashlib.sha256(
        json.dumps([bank.fingerprint, index.tolist(), key_of(detector)]).encode()
    ).hexdigest()
    file = cache_root() / "maps" / f"{key[:24]}.npz"
    try:
        with np.load(file) as stored:
            return np.asarray(stored["maps"], dtype=np.float32)
    except (OSError, ValueError, KeyError, EOFError):  # not there, or cut short
        pass
    images = bank.images[index][:, :3].permute(0, 2, 3, 1).contiguous().numpy()
    maps = np.stack([detector(image) for image in images]).astype(np.float32)
    stored = io.BytesIO()
    np.savez_compressed(stored, maps=maps)
    with contextlib.suppress(OSError):  # a full disk costs time, not the result
        atomic_write(file, stored.getvalue())
    return maps
