"""Texture against shape: decisions with known answers, and pictures that show what they should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from cvsa.data.birds import SynthBirds
from cvsa.errors import CVSAError
from cvsa.evaluation.texture import (
    CELLS,
    SHAPE,
    SURFACE,
    cue_pictures,
    shape_donors,
    shuffle_cells,
    texture_metrics,
)

COUNT = 40


@pytest.fixture(scope="module", params=[(10, "easy"), (20, "fine")], ids=["easy", "fine"])
def birds(request) -> SynthBirds:
    classes, difficulty = request.param
    return SynthBirds(classes, COUNT, 48, "test", difficulty=difficulty, seed=2)


@pytest.fixture(scope="module")
def pictures(birds) -> dict[str, Tensor]:
    return cue_pictures(birds, np.arange(COUNT), 0)


def columns(birds: SynthBirds, names: tuple[str, ...]) -> np.ndarray:
    return birds.class_attributes[:, [birds.attribute_names.index(name) for name in names]]


def answers(birds: SynthBirds, pictures: dict[str, Tensor], conflict: np.ndarray):
    """A predictor that is right but in conflicts, where it gives these answers; by looking the picture up."""
    table = {image.numpy().tobytes(): int(label) for name in ("intact", "grey", "silhouette", "shuffled")
             for image, label in zip(pictures[name], birds.labels, strict=True)}  # fmt: skip
    table |= {image.numpy().tobytes(): int(a)
              for image, a in zip(pictures["conflict"], conflict, strict=True)}  # fmt: skip

    def predict(images: Tensor) -> Tensor:
        found = [table[image.numpy().tobytes()] for image in (images * 255).round().to(torch.uint8)]
        return torch.eye(len(birds.classes))[found]

    return predict


def test_conflicts_are_of_no_class(birds):
    donor = shape_donors(birds, 0)
    usable = donor >= 0
    assert usable.mean() > 0.9
    surface, shape = columns(birds, SURFACE)[birds.labels], columns(birds, SHAPE)[donor]
    for row in np.flatnonzero(usable):
        both = (columns(birds, SURFACE) == surface[row]).all(axis=1) & (
            columns(birds, SHAPE) == shape[row]
        ).all(axis=1)
        assert not both.any()
    assert len(set(donor[birds.labels == birds.labels[0]])) > 1 or COUNT < 30
    assert not np.array_equal(donor, shape_donors(birds, 1))


def test_decisions_by_surface_by_shape_and_by_neither(birds, pictures):
    donor = shape_donors(birds, 0)
    by_surface = texture_metrics(answers(birds, pictures, birds.labels), birds, batch=9)
    assert by_surface.metrics["surface"] == by_surface.metrics["surface_share"] == 1
    assert by_surface.metrics["shape"] == by_surface.metrics["neither"] == 0
    assert all(by_surface.metrics[name] == 1 for name in ("intact", "grey", "silhouette", "shuffled"))
    by_shape = texture_metrics(answers(birds, pictures, np.maximum(donor, 0)), birds, pictures=pictures)
    assert by_shape.metrics["shape"] == 1 and by_shape.metrics["surface_share"] == 0
    frame = by_shape.per_image
    assert set(frame["decided"]) <= {"shape", ""} and (frame["shape_label"] == donor).all()
    assert by_shape.counts == {"images": COUNT, "no_conflict": int((donor < 0).sum())}
    wrong = []
    for label, lends in zip(birds.labels, donor, strict=True):
        agrees = (columns(birds, SURFACE) == columns(birds, SURFACE)[label]).all(axis=1)
        agrees |= (columns(birds, SHAPE) == columns(birds, SHAPE)[lends]).all(axis=1)
        wrong.append(int(np.flatnonzero(~agrees)[0]))
    neither = texture_metrics(answers(birds, pictures, np.array(wrong)), birds)
    assert neither.metrics["neither"] == 1 and "surface_share" not in neither.metrics
    assert neither.unavailable == {"surface_share": "no decision was for surface or shape"}


def test_classes_that_share_a_cue_count_for_it(birds, pictures):
    """Answers name another class with the same shape (or surface) wherever there is one."""
    donor = shape_donors(birds, 0)
    for names, who, decision in ((SHAPE, donor, "shape"), (SURFACE, birds.labels, "surface")):
        kinds = columns(birds, names)
        twins = []
        for label in np.maximum(who, 0):
            same = np.flatnonzero((kinds == kinds[label]).all(axis=1))
            twins.append(same[same != label][0] if len(same) > 1 else label)
        assert np.any(np.array(twins) != who) or (decision, len(birds.classes)) == ("surface", 10)
        found = texture_metrics(answers(birds, pictures, np.array(twins)), birds, pictures=pictures)
        assert found.metrics[decision] == 1


def test_chance_and_ceilings_by_counting(birds, pictures):
    metrics = texture_metrics(answers(birds, pictures, birds.labels), birds, pictures=pictures).metrics
    donor, classes = shape_donors(birds, 0), len(birds.classes)
    counted = {"surface": [], "shape": []}
    for label, lends in zip(birds.labels, donor, strict=True):
        if lends >= 0:
            for name, names, of in (("surface", SURFACE, label), ("shape", SHAPE, lends)):
                kinds = columns(birds, names)
                counted[name].append((kinds == kinds[of]).all(axis=1).sum() / classes)
    for name, shares in counted.items():
        assert metrics[f"{name}_chance"] == pytest.approx(np.mean(shares))
    total = metrics["surface_chance"] + metrics["shape_chance"]
    assert metrics["surface_share_chance"] == pytest.approx(metrics["surface_chance"] / total)
    # The labels are balanced: knowing the shape, one class of each shape is right.
    for cue, names in (("silhouette", SHAPE), ("shuffled", SURFACE)):
        distinct = len(np.unique(columns(birds, names), axis=0))
        assert metrics[f"{cue}_ceiling"] == pytest.approx(distinct / classes)


def test_no_conflict_is_said():
    birds = SynthBirds(10, 20, 32, "test")
    birds.class_attributes = birds.class_attributes.copy()
    shape = [birds.attribute_names.index(name) for name in SHAPE]
    birds.class_attributes[:, shape] = 0
    birds.attributes = birds.class_attributes[birds.labels]
    found = texture_metrics(lambda x: torch.eye(10)[[0] * len(x)], birds)
    assert found.counts["no_conflict"] == 20 and "surface" not in found.metrics
    assert found.unavailable["surface_share"] == "no two classes conflict in surface and shape"
    assert found.metrics["intact"] == found.metrics["chance"] == 0.1


def test_pictures_show_their_cue(birds, pictures):
    plain = birds.draw(range(COUNT), habitat=-1)
    inside = plain.masks > 0
    assert torch.equal(pictures["intact"], plain.images)
    grey = pictures["grey"]
    assert torch.equal(grey[:, 0], grey[:, 1]) and torch.equal(grey[:, 0], grey[:, 2])
    assert (pictures["silhouette"][inside.expand_as(plain.images)] == 0).all()
    grown = torch.nn.functional.max_pool2d(inside.float(), 5, 1, 2) > 0
    outside = ~grown.expand_as(plain.images)
    assert torch.equal(pictures["silhouette"][outside], plain.images[outside])
    # In a conflict the crown is the bird's own, and the picture far from beak and tail too.
    changed = (pictures["conflict"] != plain.images).any(dim=1)
    assert (changed.flatten(1).sum(dim=1) < 0.5 * inside.flatten(1).sum(dim=1)).all()
    x, y = plain.parts[:, 1].long().unbind(dim=1)
    assert not changed[torch.arange(COUNT), y, x].any()


def test_shuffled_cells_are_the_same_cells(birds, pictures):
    intact, shuffled = pictures["intact"], pictures["shuffled"]
    masks = birds.draw(range(COUNT)).masks[:, 0] > 0
    side = 48 // CELLS
    for i in (0, 13, 39):
        cells = {"touched": [], "moved": []}
        for row in range(CELLS):
            for column in range(CELLS):
                at = (slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side))
                before, after = (pictures[:, *at].numpy().tobytes() for pictures in (intact[i], shuffled[i]))
                if masks[i][at].any():
                    cells["touched"].append(before)
                    cells["moved"].append(after)
                else:
                    assert before == after
        assert sorted(cells["touched"]) == sorted(cells["moved"])
        assert cells["touched"] != cells["moved"]


def test_what_is_left_over_of_a_grid_stays():
    images = torch.randint(0, 255, (3, 3, 50, 50), generator=torch.Generator().manual_seed(0))
    masks = torch.ones(3, 1, 50, 50, dtype=torch.bool)
    order = torch.rand(3, CELLS**2, generator=torch.Generator().manual_seed(1))
    shuffled = shuffle_cells(images, masks, order)
    assert torch.equal(shuffled[..., 48:], images[..., 48:])
    assert torch.equal(shuffled[..., 48:, :], images[..., 48:, :])
    assert torch.equal(shuffled.sort(-1).values.sum((2, 3)), images.sort(-1).values.sum((2, 3)))
    assert torch.equal(shuffle_cells(images, ~masks, order), images)


def test_a_picture_does_not_depend_on_the_others(birds, pictures):
    for name, images in cue_pictures(birds, np.array([21, 3]), 0).items():
        assert torch.equal(images, pictures[name][[21, 3]]), name
    other = cue_pictures(birds, np.array([21, 3]), 1)
    assert not torch.equal(other["shuffled"], pictures["shuffled"][[21, 3]])


@pytest.mark.parametrize("index", [[], [COUNT], [-1]])
def test_bad_index_is_refused(birds, index):
    with pytest.raises(CVSAError, match="index"):
        texture_metrics(lambda x: x, birds, index)
