"""Background dependence: predictors with known answers, and composites against naive ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cvsa.config import DataConfig
from cvsa.data.bank import ImageBank
from cvsa.data.datasets import load_splits
from cvsa.data.interventions import backdrop, birds_of
from cvsa.errors import CVSAError
from cvsa.evaluation.background import CONDITIONS, DERIVED, background_metrics, backgrounds, ceiling
from cvsa.evaluation.compositing import donors, empty, object_boxes

SMALL = {"bank_size": 32, "train_images": 20, "val_images": 20, "habitat_bias": 0.7}


@pytest.fixture(scope="module")
def bank(_own_cache: None) -> ImageBank:
    return load_splits(DataConfig(**SMALL, test_images=30))["test"]


def bytes_of(images: Tensor) -> Tensor:
    return (images * 255).round().to(torch.uint8)


def reads_background(bank: ImageBank):
    """A predictor that compares a picture with all backdrops of all images, and names the habitat's class."""
    birds = birds_of(bank)
    masks = bank.images[:, 3]
    shown = torch.stack([backdrop(birds, range(len(bank)), habitat) for habitat in range(10)], dim=1)

    def predict(images: Tensor) -> Tensor:
        agrees = [
            ((shown == image) & (masks[:, None, None] == 0)).flatten(2).sum(dim=2).amax(dim=0)
            for image in bytes_of(images)
        ]
        return torch.stack(agrees).float()  # (B, habitats), and class i owns habitat i

    return predict


def reads_bird(bank: ImageBank):
    """A predictor that compares a picture with all birds, looking only at the pixels on each."""
    masks = (bank.images[:, 3:] > 0).expand(-1, 3, -1, -1)

    def predict(images: Tensor) -> Tensor:
        logits = torch.zeros(len(images), 10)
        for row, image in zip(logits, bytes_of(images), strict=True):
            equal = ((bank.images[:, :3] == image) & masks).flatten(1).sum(dim=1) / masks.flatten(1).sum(
                dim=1
            )
            row[bank.labels[equal.argmax()]] = float(equal.max())
        return logits

    return predict


def test_what_reads_the_background_alone(bank):
    found = background_metrics(reads_background(bank), backgrounds(bank), batch=7)
    metrics = found.metrics
    assert metrics["same_class"] == metrics["background"] == metrics["gap"] == metrics["follows"] == 1
    assert metrics["random_class"] == 0 and metrics["chance"] == pytest.approx(0.1)
    assert metrics["background_ceiling"] == 1
    assert metrics["follows_chance"] == pytest.approx(1 / 9)
    assert found.counts == {"images": 30} and not found.unavailable
    frame = found.per_image
    assert list(frame.columns) == ["image", "label", "shown", *CONDITIONS]
    assert (frame["random_class"] == frame["shown"]).all() and (frame["shown"] != frame["label"]).all()
    assert metrics["original"] == (frame["original"] == frame["label"]).mean()
    assert 0.4 < metrics["original"] < 0.95


def test_what_reads_the_bird_alone(bank):
    metrics = background_metrics(reads_bird(bank), backgrounds(bank, seed=5)).metrics
    for name in ("original", "same_class", "random_class", "blank", "foreground"):
        assert metrics[name] == 1, name
    assert metrics["gap"] == metrics["follows"] == metrics["follows_chance"] == 0
    assert metrics["background"] < 0.5


def test_what_reads_nothing(bank):
    def predict(images: Tensor) -> Tensor:
        return torch.eye(10)[[4] * len(images)]

    metrics = background_metrics(predict, backgrounds(bank)).metrics
    assert {metrics[name] for name in CONDITIONS} == {metrics["chance"]} == {0.1}
    assert metrics["gap"] == 0


def test_drawn_conditions_are_what_they_say(bank):
    given = backgrounds(bank, seed=2)
    places = np.arange(12)
    made = {name: make(places) for name, make in given.pictures.items()}
    inside = (bank.images[:12, 3:] > 0).expand(-1, 3, -1, -1)
    for name in CONDITIONS[:5]:
        assert torch.equal(made[name][inside], bank.images[:12, :3][inside]), name
    assert torch.equal(made["blank"], bank.images[:12, :3])  # the test split has the plain backdrop
    for i, own in enumerate(given.biased[:12]):
        assert torch.equal(made["original"][i], made["same_class" if own else "random_class"][i])
    corner = made["foreground"][:, :, 0, 0].float()
    mean = bank.images[:, :3].double().mean(dim=(0, 2, 3))
    assert ((corner - mean).abs() <= 0.51).all()
    assert (made["background"] != made["same_class"])[inside].float().mean() > 0.8


def test_bias_is_how_often_the_own_habitat_is_original(bank):
    def share(**given) -> float:
        return float(backgrounds(bank, **given).biased.mean())

    assert share(bias=0.0) == 0 and share(bias=1.0) == 1 and 0.4 < share() < 1
    with pytest.raises(CVSAError, match="bias"):
        backgrounds(bank, bias=1.2)


def test_seeds_subsets_and_memory_make_no_difference(bank):
    given, part, kept = backgrounds(bank), backgrounds(bank, index=[9, 3]), backgrounds(bank).kept(batch=8)
    other = backgrounds(bank, seed=1)
    assert not np.array_equal(given.shown, other.shown)
    for name in CONDITIONS:
        whole = given.pictures[name](np.arange(30))
        assert torch.equal(part.pictures[name](np.arange(2)), whole[[9, 3]]), name
        assert torch.equal(kept.pictures[name](np.array([9, 3])), whole[[9, 3]]), name
        assert torch.equal(backgrounds(bank).pictures[name](np.array([9])), whole[9:10]), name
    predict = reads_bird(bank)
    assert background_metrics(predict, kept).per_image.equals(background_metrics(predict, given).per_image)


def test_shared_habitats_lower_the_ceiling(_own_cache):
    many = load_splits(DataConfig(**SMALL, test_images=24, num_classes=12))["test"]
    given = backgrounds(many)
    # Classes 10 and 11 share the habitats of 0 and 1.
    metrics = background_metrics(lambda x: torch.eye(12)[[11] * len(x)], given).metrics
    assert metrics["background_ceiling"] == pytest.approx(10 / 12)
    assert metrics["follows"] == pytest.approx(np.mean(given.shown == 1))


def test_ceiling_by_hand():
    labels = np.array([0, 0, 1, 2, 2, 2])
    assert ceiling(np.array([0, 0, 0, 1, 1, 1]), labels) == pytest.approx(5 / 6)
    assert ceiling(labels, labels) == 1 and ceiling(np.zeros(6), labels) == 0.5


@pytest.mark.parametrize("index", [[], [30], [-1], [0.5]])
def test_bad_index_is_refused(bank, index):
    with pytest.raises(CVSAError, match="index"):
        backgrounds(bank, index=index)


# --- photographs

SIDE = 32
OBJECTS = torch.tensor([[200, 30, 30], [30, 30, 200], [30, 200, 30]])
SCENES = torch.tensor([[90, 80, 70], [160, 170, 180], [240, 230, 120]])


def photographs(about: dict[str, str] | None = None, count: int = 12, alone: bool = False) -> ImageBank:
    """Squares of a class's colour on a scene of its own; image 1 has no mask, image 2 fills its picture."""
    labels = torch.arange(count) % 3
    if alone:
        labels[:] = torch.tensor([0, 1] * (count // 2))
        labels[4] = 2
    images = torch.empty(count, 4, SIDE, SIDE, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    found = torch.ones(count, dtype=torch.bool)
    for i, label in enumerate(labels.tolist()):
        noise = torch.randint(0, 9, (3, SIDE, SIDE), generator=generator)
        images[i, :3] = (SCENES[label][:, None, None] + noise).to(torch.uint8)
        y, x = torch.randint(3, 14, (2,), generator=generator).tolist()
        y, x, high, wide = (1, 1, 29, 30) if i == 2 else (y, x, 12, 15)
        images[i, 3] = 0
        images[i, 3, y : y + high, x : x + wide] = 255
        images[i, :3, y : y + high, x : x + wide] = OBJECTS[label][:, None, None].to(torch.uint8)
    images[1, 3], found[1] = 255, False
    about = {"dataset": "squares", "saliency": "masks"} if about is None else about
    boxes = torch.zeros(count, 4)
    return ImageBank(images, boxes, labels, ["red", "blue", "green"], found=found, description=about)


def nearest(colours: Tensor, at: str):
    """A predictor that reads the colour of a corner, or of the brightest saturated pixel."""

    def predict(images: Tensor) -> Tensor:
        if at == "corner":
            seen = images[:, :, 0, 0] * 255
        else:
            saturation = images.amax(dim=1) - images.amin(dim=1)
            best = saturation.flatten(1).argmax(dim=1)
            seen = images.flatten(2)[torch.arange(len(images)), :, best] * 255
        return -(seen[:, None] - colours[None].float()).abs().sum(dim=2)

    return predict


def test_photographs_whose_background_is_read():
    found = background_metrics(nearest(SCENES, "corner"), backgrounds(photographs()))
    metrics = found.metrics
    assert found.counts == {"images": 10, "no_mask": 1, "too_large": 1, "alone": 0}
    assert metrics["original"] == metrics["same_class"] == metrics["background"] == 1
    assert metrics["random_class"] == 0 and metrics["gap"] == metrics["follows"] == 1
    assert set(found.per_image["image"]) == set(range(12)) - {1, 2}
    assert (found.per_image["foreground"] == found.per_image["blank"]).all()


def test_photographs_whose_object_is_read():
    metrics = background_metrics(nearest(OBJECTS, "object"), backgrounds(photographs(), seed=3)).metrics
    for name in ("original", "same_class", "random_class", "blank", "foreground"):
        assert metrics[name] == 1, name
    assert metrics["gap"] == metrics["follows"] == metrics["follows_chance"] == 0


def test_composites_equal_naive_ones():
    bank = photographs()
    given = backgrounds(bank, seed=1)
    n = len(given.index)
    masks, usable = bank.images[:, 3].numpy() > 0, np.isin(np.arange(12), given.index)
    boxes = object_boxes(bank)
    partners = dict(zip(("same_class", "random_class"), donors(bank.labels.numpy(), usable, 1), strict=True))
    for name, partner in partners.items():
        made = given.pictures[name](np.arange(n)).numpy()
        for row, i in enumerate(given.index):
            bare = naive_empty(bank.images[partner[i], :3].numpy(), boxes[partner[i]])
            expected = np.where(masks[i], bank.images[i, :3].numpy(), bare)
            assert np.array_equal(made[row], expected)
    bare = np.stack([naive_empty(bank.images[i, :3].numpy(), boxes[i]) for i in given.index])
    assert np.array_equal(given.pictures["background"](np.arange(n)).numpy(), bare)
    assert torch.equal(given.pictures["original"](np.arange(n)), bank.images[given.index, :3])


def naive_empty(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """One image (C, R, R), by NumPy's symmetric padding of the largest strip."""
    x1, y1, x2, y2 = (int(v) for v in box)
    size = image.shape[-1]
    many = [(0, 0)] * 2
    sides = [
        (x1, lambda: np.pad(image[:, :, :x1], [*many, (0, size - x1)], "symmetric")),
        (size - x2, lambda: np.pad(image[:, :, x2:], [*many, (x2, 0)], "symmetric")),
        (y1, lambda: np.pad(image[:, :y1], [many[0], (0, size - y1), many[1]], "symmetric")),
        (size - y2, lambda: np.pad(image[:, y2:], [many[0], (y2, 0), many[1]], "symmetric")),
    ]
    filled = max(sides, key=lambda side: side[0])[1]()
    result = image.copy()
    result[:, y1:y2, x1:x2] = filled[:, y1:y2, x1:x2]
    return result


def test_boxes_are_emptied_from_the_largest_strip():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (40, 3, 20, 20), dtype=torch.uint8, generator=generator)
    corners = torch.randint(0, 20, (40, 2, 2), generator=generator).sort(dim=1).values
    boxes = torch.cat([corners[:, 0], corners[:, 1] + 1], dim=1)
    boxes[0], boxes[1], boxes[2] = (torch.tensor(b) for b in ([0, 0, 20, 19], [1, 0, 20, 20], [0, 3, 20, 20]))
    whole = (boxes == torch.tensor([0, 0, 20, 20])).all(dim=1)
    boxes[whole] = torch.tensor([2, 2, 9, 9])
    made = empty(images, boxes)
    for image, box, result in zip(images, boxes, made, strict=True):
        assert np.array_equal(result.numpy(), naive_empty(image.numpy(), box.numpy()))


def test_object_boxes_hold_all_components_and_the_rim():
    bank = photographs()
    bank.images[0, 3] = 0
    bank.images[0, 3, 5, 7] = 255
    bank.images[0, 3, 20:23, 25:28] = 40  # a faint rim
    bank.images[0, 3, 31, 31] = 5  # next to nothing
    bank.images[3, 3] = 0
    boxes = object_boxes(bank, batch=5)
    assert boxes[0].tolist() == [6, 4, 29, 24]
    assert boxes[1].tolist() == [0, 0, 32, 32] and boxes[3].tolist() == [0, 0, 0, 0]


def test_donors_are_other_images_of_the_right_class():
    labels, usable = np.random.default_rng(0).integers(0, 4, 200), np.ones(200, dtype=bool)
    usable[::7] = False
    same, other = donors(labels, usable, 0)
    assert (labels[same[usable]] == labels[usable]).all() and (same != np.arange(200))[usable].all()
    assert (labels[other[usable]] != labels[usable]).all()
    assert usable[same[usable]].all() and usable[other[usable]].all()
    assert (same[~usable] == -1).all() and (other[~usable] == -1).all()
    assert not np.array_equal(same, donors(labels, usable, 1)[0])
    lonely = donors(np.array([0, 0, 1]), np.ones(3, dtype=bool), 0)
    assert lonely[0].tolist() == [1, 0, -1]


def test_an_image_alone_in_its_class_is_left_out():
    found = background_metrics(nearest(SCENES, "corner"), backgrounds(photographs(alone=True)))
    assert found.counts == {"images": 9, "no_mask": 1, "too_large": 1, "alone": 1}
    assert 4 not in set(found.per_image["image"])


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"saliency": "boxes"}, "'boxes'"), ({"saliency": "classical"}, "'classical'"), ({}, "unknown"),
        ({"saliency": "masks", "saliency_error": "dilated:0.2"}, "dilated"),
    ],
)  # fmt: skip
def test_without_masks_the_rest_is_measured(about, reason):
    found = background_metrics(nearest(SCENES, "corner"), backgrounds(photographs(about)))
    assert found.metrics == {"original": 1.0, "chance": pytest.approx(4 / 12)}
    assert set(found.unavailable) == {*CONDITIONS[1:], *DERIVED}
    assert all(reason in why for why in found.unavailable.values())
    assert len(found.per_image) == found.counts["images"] == 12


def test_nothing_left_to_paste():
    given = backgrounds(photographs(), index=[1, 2])
    assert set(given.pictures) == {"original"} and given.counts["images"] == 2
    assert "no_mask 1, too_large 1" in given.unavailable["gap"]


def test_drawn_scenes_are_composited(_own_cache):
    scenes = load_splits(
        DataConfig(dataset="synthscenes", bank_size=32, train_images=10, val_images=10, test_images=20)
    )["test"]
    given = backgrounds(scenes)
    assert set(given.pictures) == set(CONDITIONS) - {"foreground"} and given.counts["images"] > 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_makes_the_same_pictures(bank):
    here = backgrounds(bank)
    there = backgrounds(bank.to("cuda"), device="cuda")
    pasted = backgrounds(photographs().to("cuda"))
    for name, make in there.pictures.items():
        apart = make(np.arange(8)).cpu().float() - here.pictures[name](np.arange(8)).float()
        assert apart.abs().mean() < 0.1, name
    for name, make in backgrounds(photographs()).pictures.items():
        assert torch.equal(pasted.pictures[name](np.arange(8)).cpu(), make(np.arange(8))), name
