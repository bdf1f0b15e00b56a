"""Interventions on SynthBirds change what they name, and not a pixel else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cvsa.config import DataConfig
from cvsa.data.bank import ImageBank
from cvsa.data.birds import SynthBirds
from cvsa.data.datasets import load_splits
from cvsa.data.interventions import backdrop, birds_of, cutout, with_attributes, with_style
from cvsa.data.plumage import ATTRIBUTES
from cvsa.errors import CVSAError

INDEX = np.array([5, 2, 31, 17, 2, 0])
CONFIG = DataConfig(
    bank_size=32, train_images=40, val_images=20, test_images=30, saliency_error="dilated:0.2"
)


@pytest.fixture(scope="module")
def birds() -> SynthBirds:
    return SynthBirds(num_images=40, seed=3, image_size=48)


@pytest.fixture(scope="module")
def banks(_own_cache: None) -> dict[str, ImageBank]:
    return load_splits(CONFIG)


def near(masks: torch.Tensor, pixels: int = 2) -> torch.Tensor:
    """Masks (B, 1, R, R) and so many pixels around them, bool (B, 3, R, R)."""
    grown = F.max_pool2d(masks.float(), 2 * pixels + 1, stride=1, padding=pixels) > 0
    return grown.expand(-1, 3, -1, -1)


@pytest.mark.parametrize("split", ["train", "val", "test", "test_swapped"])
def test_the_set_behind_a_bank_draws_its_images(banks, split):
    bank = banks[split]
    drawn = birds_of(bank).draw(range(len(bank)))
    assert torch.equal(drawn.images, bank.images[:, :3])
    assert torch.equal(drawn.labels, bank.labels)
    if split != "train":  # whose masks are degraded on purpose
        assert torch.equal(drawn.masks, bank.images[:, 3:])


def test_other_banks_are_refused(banks):
    test = banks["test"]
    for part in (torch.arange(10), torch.arange(30).flip(0)):
        with pytest.raises(CVSAError, match="whole bank"):
            birds_of(test.subset(part))
    for about in ({}, {"dataset": "pets"}, {"dataset": "synthbirds"}):
        other = ImageBank(test.images, test.boxes, test.labels, test.classes, description=about)
        with pytest.raises(CVSAError, match="synthbirds"):
            birds_of(other)


@pytest.mark.parametrize("habitat", [None, -1, 4, [0, 1, 2, 3, -1, 5]])
def test_backdrop_is_the_picture_without_the_bird(birds, habitat):
    drawn, empty = birds.draw(INDEX, habitat=habitat), backdrop(birds, INDEX, habitat)
    assert empty.dtype == torch.uint8 and empty.shape == drawn.images.shape
    around = near(drawn.masks)
    assert torch.equal(empty[~around], drawn.images[~around])
    covered = (cutout(birds, INDEX)[1] > 0).expand_as(empty)
    assert torch.equal(empty[~covered], drawn.images[~covered])
    assert (covered & ~near(drawn.masks, 1)).flatten(1).sum(dim=1).max() < 30  # 10 pixels, 3 colours
    inside = drawn.masks.expand_as(empty) > 0
    assert (empty != drawn.images)[inside].float().mean() > 0.8


def test_backdrop_does_not_depend_on_the_batch(birds):
    assert torch.equal(backdrop(birds, INDEX)[2], backdrop(birds, INDEX[2:3])[0])
    assert backdrop(birds, []).shape == (0, 3, 48, 48)
    with pytest.raises(CVSAError, match="habitat"):
        backdrop(birds, INDEX, 10)


def test_cutout_over_a_backdrop_is_the_picture(birds):
    drawn = birds.draw(INDEX, habitat=6)
    colour, cover, masks = cutout(birds, INDEX)
    assert torch.equal(masks, drawn.masks)
    assert (cover[masks > 0] == 1).all() and (cover >= 0).all() and (cover <= 1).all()
    outside = ~near(masks)
    assert (cover.expand_as(colour)[outside] == 0).all() and (colour[outside] == 0).all()
    behind = backdrop(birds, INDEX, 6)
    laid = 255 * colour + (1 - cover) * behind
    apart = (laid.clamp(max=255) - drawn.images).abs()
    assert apart[behind < 255].max() <= 1.01  # the backdrop was rounded before, and clipped at 255
    assert (behind < 255).float().mean() > 0.8
    inside = (masks > 0).expand_as(colour)
    assert torch.equal((255 * colour + 0.5).clamp(0, 255).to(torch.uint8)[inside], drawn.images[inside])


def test_style_changes_the_light_alone(birds):
    other = with_style(birds, 7)
    before, after = birds.draw(INDEX), other.draw(INDEX)
    for name in ("masks", "boxes", "labels", "habitats", "parts", "attributes"):
        assert torch.equal(getattr(before, name), getattr(after, name)), name
    changed = (before.images.float() - after.images.float()).abs().mean(dim=(1, 2, 3))
    assert (changed > 0.5).all()
    moved = {name for name in birds._table if not np.array_equal(birds._table[name], other._table[name])}
    assert moved == {"illumination", "light"}
    # Outside the bird the picture is multiplied by one colour, no more.
    ratio = torch.as_tensor(other._table["illumination"] / birds._table["illumination"])[INDEX]
    plain = [backdrop(these, INDEX, -1).double() for these in (birds, other)]
    unclipped = (plain[0] < 255) & (plain[1] < 255)
    assert ((plain[0] * ratio[:, :, None, None] - plain[1]).abs() <= 1.3)[unclipped].all()


def test_style_has_the_distribution_of_the_set(birds):
    many = SynthBirds(num_images=3000, image_size=32)
    other = with_style(many, 0)
    for name in ("illumination", "light"):
        first, second = many._table[name], other._table[name]
        assert np.allclose(first.mean(axis=0), second.mean(axis=0), atol=0.05)
        assert np.allclose(first.std(axis=0), second.std(axis=0), rtol=0.05)
        assert abs(np.corrcoef(np.reshape(first, (3000, -1))[:, 0],
                               np.reshape(second, (3000, -1))[:, 0])[0, 1]) < 0.08  # fmt: skip


def test_styles_are_reproducible_and_leave_the_set_alone(birds):
    before = birds.draw(INDEX).images
    first, again, other = (with_style(birds, seed).draw(INDEX).images for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before, birds.draw(INDEX).images)


def test_the_same_attributes_are_the_same_pictures(birds):
    same = with_attributes(birds, birds.attributes)
    before, after = birds.draw(INDEX), same.draw(INDEX)
    assert all(torch.equal(getattr(before, name), getattr(after, name)) for name in vars(before))
    changed = with_attributes(birds, birds.class_attributes[(birds.labels + 1) % 10])
    back = with_attributes(changed, birds.attributes)
    for name, column in birds._table.items():
        assert np.allclose(back._table[name], column), name


def test_attributes_change_the_bird_and_nothing_around_it(birds):
    label = (birds.labels + 3) % 10
    other = with_attributes(birds, birds.class_attributes[label])
    before, after = birds.draw(INDEX), other.draw(INDEX)
    assert torch.equal(after.labels, torch.as_tensor(label[INDEX]))
    assert torch.equal(after.attributes, torch.as_tensor(birds.class_attributes[label][INDEX]))
    assert torch.equal(before.habitats, after.habitats)
    around = near(torch.maximum(before.masks, after.masks))
    assert torch.equal(before.images[~around], after.images[~around])
    pose = ("tilt", "nod", "wag", "flip", "scale", "x", "y", "light", "illumination", "texture", "mantle")
    assert all(np.array_equal(birds._table[name], other._table[name]) for name in pose)
    # Crown, eye and wing are where they were; every part lies on the bird.
    assert torch.equal(before.parts[:, 1:4], after.parts[:, 1:4])
    for mask, parts in zip(after.masks[:, 0].numpy(), after.parts.numpy(), strict=True):
        y, x = np.nonzero(mask)
        assert all(np.hypot(x + 0.5 - part[0], y + 0.5 - part[1]).min() <= 1 for part in parts)


def test_exchanged_birds_are_typical_of_their_class(birds):
    # What a set draws for a class and what an exchange makes of another class's birds: one distribution.
    many = SynthBirds(num_images=2000, image_size=32)
    other = with_attributes(many, many.class_attributes[(many.labels + 1) % 10])
    for label in range(10):
        drawn, made = many.labels == label, other.labels == label
        for name in ("beak", "tail", "tail end", "crown", "breast"):
            first, second = many._table[name][drawn], other._table[name][made]
            assert np.allclose(first.mean(axis=0), second.mean(axis=0), atol=0.01), name
            assert np.allclose(first.min(axis=0), second.min(axis=0), atol=0.02), name
        for name in ("fork", "bars", "streaks"):
            assert np.unique(many._table[name][drawn]) == np.unique(other._table[name][made]), name


@pytest.mark.parametrize("name", list(ATTRIBUTES))
def test_one_attribute_changes_one_place(birds, name):
    column = list(ATTRIBUTES).index(name)
    attributes = birds.attributes.copy()
    attributes[:, column] = (attributes[:, column] + 1) % len(ATTRIBUTES[name])
    other = with_attributes(birds, attributes)
    before, after = birds.draw(range(40), habitat=-1), other.draw(range(40), habitat=-1)
    differs = (before.images != after.images).any(dim=1)
    seen = differs.flatten(1).any(dim=1)
    assert seen.float().mean() > 0.9  # two tails may cover the same pixels
    assert (differs.flatten(1).sum(dim=1) < 0.6 * (before.masks > 0).flatten(1).sum(dim=1)).all()
    assert torch.equal(before.masks, after.masks) == (name not in ("beak", "tail"))


def test_attributes_of_no_class_have_no_label(birds):
    attributes = birds.attributes.copy()
    attributes[0] = [7, 2, 2, 5, 1, 3]
    expected = birds.labels.copy()
    match = (birds.class_attributes == attributes[0]).all(axis=1)
    expected[0] = match.argmax() if match.any() else -1
    assert np.array_equal(with_attributes(birds, attributes).labels, expected)


def test_bad_attributes_are_refused(birds):
    for bad in (birds.attributes[:5], birds.attributes + 0.5, birds.attributes - 9, birds.attributes + 7):
        with pytest.raises(CVSAError, match="attributes"):
            with_attributes(birds, bad)


def test_interventions_stay_on_their_device(birds, monkeypatch):
    # The meta device computes nothing but, like a GPU, refuses to mix with tensors of the CPU. Painting a
    # bird on it takes seconds, and `test_birds.py` does so: here it is left out.
    monkeypatch.setattr("cvsa.data.plumage.paint_bird", lambda *_: None)
    colour, cover, masks = cutout(birds, [0, 1], device="meta")
    assert {t.device.type for t in (colour, cover, masks)} == {"meta"}
    assert backdrop(birds, [0], -1, device="meta").shape == (1, 3, 48, 48)
