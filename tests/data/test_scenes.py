"""SynthScenes: the generic set by the same renderer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvsa.data.scenes import CATEGORIES, SynthScenes
from cvsa.errors import CVSAError


@pytest.fixture(scope="module")
def scenes() -> SynthScenes:
    return SynthScenes(num_images=1000, seed=2)


@pytest.fixture(scope="module")
def drawn(scenes: SynthScenes):
    return scenes.draw(range(160))


def test_an_image_does_not_depend_on_its_batch(scenes, drawn):
    order = [9, 3, 100, 9]
    batch = scenes.draw(order)
    for name in vars(batch):
        assert torch.equal(getattr(batch, name), getattr(drawn, name)[order]), name


def test_a_larger_set_starts_with_the_smaller(drawn):
    assert torch.equal(SynthScenes(num_images=11, seed=2).draw(range(11)).images, drawn.images[:11])


def test_every_category_is_drawn_and_looks_different(scenes, drawn):
    assert len(CATEGORIES) >= 12 and not any("bird" in name for name in CATEGORIES)
    assert set(drawn.labels.tolist()) == set(range(len(CATEGORIES)))
    shares = (drawn.masks > 0).float().mean(dim=(1, 2, 3))
    assert shares.min() > 0.03 and shares.max() < 0.6
    assert shares.mean() == pytest.approx(0.2, rel=0.15)
    # Mean silhouettes in their boxes: no two categories alike.
    shapes = []
    for label in range(len(CATEGORIES)):
        of_label = [
            torch.nn.functional.interpolate(
                drawn.masks[i : i + 1, :, int(y0) : int(y1), int(x0) : int(x1)].float() / 255, size=(16, 16)
            )
            for i in torch.nonzero(drawn.labels == label).flatten().tolist()
            for x0, y0, x1, y1 in [drawn.boxes[i].tolist()]
        ]
        shapes.append(torch.cat(of_label).mean(dim=0).flatten())
    distance = torch.cdist(torch.stack(shapes), torch.stack(shapes)) + 9 * torch.eye(len(CATEGORIES))
    assert distance.min() > 0.5


def test_mask_and_box_agree_and_stay_inside(drawn):
    for mask, box in zip(drawn.masks[:, 0], drawn.boxes, strict=True):
        y, x = torch.nonzero(mask, as_tuple=True)
        assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
    assert drawn.boxes.min() > 0 and drawn.boxes.max() < 64


def test_another_background_leaves_the_object_alone(scenes, drawn):
    other = scenes.draw(range(160), habitat=-1)
    inside = (drawn.masks == 255).expand_as(drawn.images)
    assert torch.equal(other.masks, drawn.masks)
    assert torch.equal(other.images[inside], drawn.images[inside])


def test_background_tells_nothing(scenes):
    table = np.zeros((len(CATEGORIES), 11))
    np.add.at(table, (scenes.labels, scenes.habitats + 1), 1)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    chi_square = ((table - expected) ** 2 / expected).sum()
    assert chi_square < 205  # 150 degrees of freedom: the 99.8 % point


@pytest.mark.parametrize("size", [32, 45, 256])
def test_sizes(size):
    batch = SynthScenes(16, size).draw(range(16))
    assert batch.images.shape == (16, 3, size, size)
    assert (batch.masks > 0).flatten(1).any(dim=1).all()


@pytest.mark.parametrize(
    "bad", [{"image_size": 16}, {"split": "test_swapped"}, {"num_images": -1}, {"seed": 0.5}]
)
def test_bad_arguments_are_refused(bad):
    with pytest.raises(CVSAError, match=next(iter(bad))):
        SynthScenes(**bad)
