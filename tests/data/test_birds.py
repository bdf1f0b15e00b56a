"""SynthBirds: reproducible, exact about what it drew, and with the shortcut it promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from cvsa.data.birds import SynthBirds, class_table
from cvsa.data.render import Streams
from cvsa.errors import CVSAError

ANY_ORDER = [7, 3, 150, 3, 42, 99, 0]


@pytest.fixture(scope="module")
def birds() -> SynthBirds:
    return SynthBirds(num_images=2000, seed=3)


@pytest.fixture(scope="module")
def drawn(birds: SynthBirds):
    return birds.draw(range(200))


def same(a, b) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in vars(a))


def test_an_image_does_not_depend_on_its_batch(birds, drawn):
    batch = birds.draw(ANY_ORDER)
    for name in vars(batch):
        assert torch.equal(getattr(batch, name), getattr(drawn, name)[ANY_ORDER]), name
    assert torch.equal(birds.draw([7]).images[0], drawn.images[7])


@pytest.mark.parametrize("size", [33, 50, 97])
def test_batches_do_not_matter_at_odd_sizes(size):
    birds = SynthBirds(num_images=40, image_size=size)
    whole = birds.draw(range(40))
    for i in (0, 17, 39):
        assert torch.equal(birds.draw([i]).images[0], whole.images[i])


def test_same_arguments_same_pictures_and_seeds_matter(birds, drawn):
    assert same(SynthBirds(num_images=2000, seed=3).draw(range(20)), birds.draw(range(20)))
    assert not torch.equal(SynthBirds(num_images=20, seed=4).draw(range(20)).images, drawn.images[:20])


def test_a_larger_set_starts_with_the_smaller(birds, drawn):
    assert same(SynthBirds(num_images=15, seed=3).draw(range(15)), birds.draw(range(15)))


def test_splits_share_classes_only():
    splits = {
        name: SynthBirds(num_images=12, split=name) for name in ("train", "val", "test", "test_swapped")
    }
    images = [split.draw(range(12), habitat=0).images for split in splits.values()]
    assert len({tuple(split.classes) for split in splits.values()}) == 1
    for i, a in enumerate(images):
        for b in images[i + 1 :]:
            assert not any(torch.equal(x, y) for x in a for y in b)


def test_drawing_leaves_torch_random_state_alone(birds):
    before = torch.get_rng_state()
    birds.draw([1])
    assert torch.equal(before, torch.get_rng_state())


def test_mask_box_and_shapes_agree(drawn):
    assert drawn.images.shape == (200, 3, 64, 64) and drawn.images.dtype == torch.uint8
    assert drawn.masks.shape == (200, 1, 64, 64) and set(drawn.masks.unique().tolist()) == {0, 255}
    for mask, box in zip(drawn.masks[:, 0], drawn.boxes, strict=True):
        y, x = torch.nonzero(mask, as_tuple=True)
        assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
    assert drawn.boxes.dtype == torch.float32


@pytest.mark.parametrize("size", [32, 64, 120])
def test_a_bird_is_one_piece_inside_the_picture(size):
    batch = SynthBirds(num_images=60, image_size=size, seed=5).draw(range(60))
    border = torch.cat(
        [batch.masks[..., 0, :], batch.masks[..., -1, :], batch.masks[..., 0], batch.masks[..., -1]]
    )
    assert not border.any()
    for mask in batch.masks[:, 0].numpy():
        assert ndimage.label(mask, structure=np.ones((3, 3)))[1] == 1
        # Where only sides connect, a corner pixel of a tail's tip may come off, no more.
        assert np.bincount(ndimage.label(mask)[0][mask > 0])[1:].max() >= (mask > 0).sum() - 2


@pytest.mark.parametrize("size", [32, 64, 128])
def test_parts_lie_on_the_bird(size):
    batch = SynthBirds(num_images=60, image_size=size, seed=5).draw(range(60))
    for mask, parts in zip(batch.masks[:, 0].numpy(), batch.parts.numpy(), strict=True):
        y, x = np.nonzero(mask)
        for part in parts:
            assert np.hypot(x + 0.5 - part[0], y + 0.5 - part[1]).min() <= 1.0


def test_parts_are_where_they_say(birds, drawn):
    # The eye is the darkest spot near itself; the crown has its class's colour.
    beak, crown, eye, wing, tail = drawn.parts.unbind(1)
    assert (eye[:, 1] > crown[:, 1]).float().mean() > 0.99
    facing = torch.sign(beak[:, 0] - tail[:, 0])
    assert {-1.0, 1.0} == set(facing.tolist())
    assert ((beak[:, 0] - eye[:, 0]) * facing > 0).all() and ((wing[:, 0] - tail[:, 0]) * facing > 0).all()
    names = birds.attribute_values[0]
    plain = birds.draw(range(200), habitat=-1)
    at = crown.floor().long()
    colour = plain.images[torch.arange(200), :, at[:, 1], at[:, 0]].float()
    red = torch.tensor([names[value] == "crimson" for value in birds.attributes[:200, 0]])
    assert (colour[red, 0] > 1.8 * colour[red, 2]).all()
    blue = torch.tensor([names[value] == "azure" for value in birds.attributes[:200, 0]])
    assert (colour[blue, 2] > 1.8 * colour[blue, 0]).all()


def test_object_size_is_the_mean_share():
    for share in (0.1, 0.2):
        masks = SynthBirds(num_images=250, object_size=share).draw(range(250)).masks
        shares = (masks > 0).float().mean(dim=(1, 2, 3))
        assert shares.mean() == pytest.approx(share, rel=0.1)
        assert shares.std() > 0.15 * share


def test_another_habitat_leaves_the_bird_alone(birds, drawn):
    index = range(60)
    own = drawn.images[:60]
    for habitat in (-1, 4):
        other = birds.draw(index, habitat=habitat)
        assert torch.equal(other.masks, drawn.masks[:60]) and (other.habitats == habitat).all()
        inside = (other.masks == 255).expand_as(own)
        assert torch.equal(other.images[inside], own[inside])
        moved = drawn.habitats[:60] != habitat
        far = ~inside & (other.images != own)
        assert (far[moved].float().mean(dim=(1, 2, 3)) > 0.3).all()
    mixed = birds.draw([0, 1], habitat=[2, -1])
    assert torch.equal(mixed.images[1], birds.draw([1], habitat=-1).images[0])


@pytest.mark.parametrize("bias", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("split", ["train", "val"])
def test_habitat_bias_is_the_share_of_own_habitats(bias, split):
    birds = SynthBirds(num_images=4000, habitat_bias=bias, split=split)
    own = birds.own_habitat[birds.labels]
    assert (birds.habitats == own).mean() == pytest.approx(bias, abs=4 * (bias * (1 - bias) / 4000) ** 0.5)
    rest = (birds.habitats - own)[birds.habitats != own] % 10
    if len(rest):
        counts = np.bincount(rest, minlength=10)[1:]
        chi_square = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
        assert chi_square < 26.1  # 8 degrees of freedom: the 99.9 % point


def test_test_splits_have_no_or_wrong_habitats():
    assert (SynthBirds(num_images=500, split="test", habitat_bias=1.0).habitats == -1).all()
    for classes in (10, 23):
        swapped = SynthBirds(classes, 3000, split="test_swapped", habitat_bias=1.0)
        assert (swapped.habitats != swapped.own_habitat[swapped.labels]).all()
        assert set(swapped.habitats) == set(range(10))


@pytest.mark.parametrize("difficulty", ["easy", "fine"])
@pytest.mark.parametrize("classes", [10, 37, 200])
def test_classes_are_pairwise_distinct(classes, difficulty):
    table = class_table(classes, difficulty, seed=1)
    apart = (table[:, None] != table[None]).sum(axis=2)[~np.eye(classes, dtype=bool)]
    assert apart.min() >= (1 if difficulty == "fine" else 4 if classes == 10 else 2)
    if difficulty == "fine":
        nearest = (table[:, None] != table[None]).sum(axis=2) + 9 * np.eye(classes, dtype=int)
        assert (nearest.min(axis=1) == 1).mean() > 0.9
    birds = SynthBirds(classes, 3, difficulty=difficulty, seed=1)
    assert len(set(birds.classes)) == classes
    assert np.array_equal(birds.class_attributes, table)


def test_labels_are_balanced():
    birds = SynthBirds(12, 120)
    assert np.array_equal(np.bincount(birds.labels), np.full(12, 10))
    assert not np.array_equal(birds.labels[:12], birds.labels[12:24])


def test_pose_and_size_do_not_tell_the_class(birds):
    table = birds._table
    everything = np.stack(
        [table[name] for name in ("flip", "scale", "x", "y", "tilt", "nod", "wag", "light")], axis=1
    )
    everything = (everything - everything.mean(axis=0)) / everything.std(axis=0)
    means = np.stack([everything[birds.labels == label].mean(axis=0) for label in range(10)])
    assert np.abs(means).max() < 4.5 / np.sqrt(200)
    assert abs((table["flip"] > 0).mean() - 0.5) < 0.05


@pytest.mark.parametrize("size", [32, 256])
def test_extreme_sizes(size):
    batch = SynthBirds(200, 3, size, difficulty="fine").draw([2, 0])
    assert batch.images.shape == (2, 3, size, size) and batch.masks.any()
    assert (batch.parts >= 0).all() and (batch.parts <= size).all()


def test_sizes_show_the_same_picture():
    small, large = (
        SynthBirds(num_images=6, image_size=size).draw(range(6)).images.float() for size in (64, 256)
    )
    reduced = torch.nn.functional.avg_pool2d(large, 4)
    assert (reduced - small).abs().mean() < 14


def test_streams_are_prefix_stable_and_named():
    streams = Streams(0, "a")
    assert np.array_equal(streams.uniform("x", 5, 3), streams.uniform("x", 9, 3)[:5])
    assert not np.array_equal(streams.uniform("x", 5), streams.uniform("y", 5))
    assert not np.array_equal(streams.uniform("x", 5), Streams(0, "b").uniform("x", 5))


@pytest.mark.parametrize(
    "bad",
    [
        {"num_classes": 9}, {"num_classes": 201}, {"num_classes": 10.5}, {"num_images": 0}, {"image_size":
        31}, {"image_size": 257}, {"split": "dev"}, {"habitat_bias": 1.1}, {"habitat_bias": "half"},
        {"difficulty": "hard"}, {"seed": -1}, {"object_size": 0.9}, {"habitat_bias": float("nan")},
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_in_one_line(bad):
    with pytest.raises(CVSAError, match=next(iter(bad))) as raised:
        SynthBirds(**bad)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("index", [[2000], [-1], [0.5], [[0]], ["a"], [True]])
def test_bad_index_is_refused(birds, index):
    with pytest.raises(CVSAError, match="index"):
        birds.draw(index)


@pytest.mark.parametrize("habitat", [10, -2, 0.5, [0, 1, 2], "forest"])
def test_bad_habitat_is_refused(birds, habitat):
    with pytest.raises(CVSAError, match="habitat"):
        birds.draw([0, 1], habitat=habitat)


def test_nothing_to_draw(birds):
    assert birds.draw([]).images.shape == (0, 3, 64, 64)


def test_drawing_stays_on_its_device(birds, monkeypatch):
    # The meta device computes nothing but, like a GPU, refuses to mix with tensors of the CPU. It is slow, so
    # the bird is drawn once and then left out.
    assert birds.draw([0], habitat=-1, device="meta").images.shape == (1, 3, 64, 64)
    monkeypatch.setattr("cvsa.data.plumage.paint_bird", lambda *_: None)
    assert birds.draw(range(10), habitat=range(10), device="meta").images.shape == (10, 3, 64, 64)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_draws_the_same(birds, drawn):
    there = birds.draw(range(200), device="cuda")
    assert (there.images.cpu().float() - drawn.images.float()).abs().mean() < 0.1
    assert torch.equal(birds.draw([7], device="cuda").images[0], there.images[7])
