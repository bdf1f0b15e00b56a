"""Embedding maps: an exact projection that says what it loses, thumbnails that never overlap."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvsa.errors import CVSAError
from cvsa.report.embedding import OTHER, PALETTE, THUMBNAIL, embedding_map, principal_plane, spread


def features(count: int = 40, dim: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, dim, generator=generator) * torch.arange(1, dim + 1) + 3


def test_plane_is_that_of_the_singular_value_decomposition() -> None:
    x = features()
    plane = principal_plane(x)
    centred = (x - x.mean(0)).numpy().astype(np.float64)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    expected = u[:, :2] * s[:2]
    signs = np.sign((expected * plane.points).sum(0))
    np.testing.assert_allclose(plane.points, expected * signs, atol=1e-3)
    np.testing.assert_allclose(plane.explained, (s**2 / (s**2).sum())[:2], atol=1e-6)
    # A projection never enlarges a distance.
    points = torch.from_numpy(plane.points).double()
    assert bool((torch.cdist(points, points) <= torch.cdist(x.double(), x.double()) + 1e-3).all())


def test_plane_of_points_known_by_hand() -> None:
    x = torch.zeros(4, 3)
    x[:, 1] = torch.tensor([-3.0, 3, 0, 0])
    x[:, 2] = torch.tensor([0.0, 0, -1, 1])
    plane = principal_plane(x)
    np.testing.assert_allclose(plane.points, [[-3, 0], [3, 0], [0, -1], [0, 1]], atol=1e-6)
    assert plane.explained == pytest.approx((0.9, 0.1))


def test_degenerate_features_have_a_plane_too() -> None:
    for x in (torch.ones(5, 4), torch.arange(5.0)[:, None]):
        plane = principal_plane(x)
        assert plane.points.shape == (5, 2) and np.isfinite(plane.points).all()
        assert plane.explained in ((0.0, 0.0), pytest.approx((1.0, 0.0)))
    with pytest.raises(CVSAError, match="at least 3 images"):
        principal_plane(torch.ones(2, 4))
    with pytest.raises(CVSAError, match="finite"):
        principal_plane(torch.full((5, 4), float("nan")))


def test_thumbnails_do_not_overlap_and_leave_no_room_for_another() -> None:
    points = np.random.default_rng(0).random((300, 2))
    shown = spread(points, 0.1, seed=0)
    distance = np.abs(points[shown][:, None] - points[shown][None]).max(2) + np.eye(len(shown))
    assert distance.min() >= 0.1
    assert (np.abs(points[:, None] - points[shown][None]).max(2).min(1) < 0.1).all()
    assert np.array_equal(shown, spread(points, 0.1, seed=0))
    assert not np.array_equal(shown, spread(points, 0.1, seed=1))


@pytest.mark.parametrize("stacked", [False, True])
def test_both_panels_show_the_same_plane_in_their_own_colours(stacked: bool) -> None:
    x = features()
    images = torch.rand(40, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    classes, habitats = torch.arange(40) % 4, np.arange(40) % 3
    figure = embedding_map(
        x,
        images,
        {"by class": (classes, list("abcd")), "by habitat": (habitats, list("xyz"))},
        stacked=stacked,
    )
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == ("by class", "by habitat")
    assert "first component" in left.get_xlabel() and "% of variance" in left.get_ylabel()
    assert [t.get_text() for t in left.get_legend().get_texts()] == list("abcd")
    dots = [np.asarray(axis.collections[0].get_offsets()) for axis in (left, right)]
    np.testing.assert_allclose(dots[0], dots[1])
    # One scale for both axes, and all of it within the panel.
    plane = principal_plane(x).points
    np.testing.assert_allclose(np.ptp(dots[0], axis=0)[0] / np.ptp(plane, axis=0)[0],
                               np.ptp(dots[0], axis=0)[1] / np.ptp(plane, axis=0)[1], rtol=1e-5)  # fmt: skip
    assert len(left.images) == len(right.images) == len(left.patches) > 3
    for axis, labels in ((left, classes.numpy()), (right, habitats)):
        for image, frame in zip(axis.images, axis.patches, strict=True):
            x1, x2, y1, y2 = image.get_extent()
            middle = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
            number = int(np.abs(dots[0] - middle).max(1).argmin())
            np.testing.assert_allclose(dots[0][number], middle, atol=1e-6)
            np.testing.assert_allclose(image.get_array(), images[number].permute(1, 2, 0))
            wanted = np.array([int(PALETTE[labels[number]][i : i + 2], 16) / 255 for i in (1, 3, 5)])
            np.testing.assert_allclose(frame.get_facecolor()[:3], wanted, atol=1e-6)
            assert frame.get_width() < THUMBNAIL
            low, high = np.array(axis.get_xlim()), np.array(axis.get_ylim())
            assert low[0] <= frame.get_x() and frame.get_x() + frame.get_width() <= low[1]
            assert high[0] <= frame.get_y() and frame.get_y() + frame.get_height() <= high[1]
    same_row = left.get_position().y0 == pytest.approx(right.get_position().y0)
    assert same_row is not stacked


def test_more_groups_than_colours_and_images_of_none_are_called_other() -> None:
    x = features(60)
    groups = np.concatenate([np.repeat(np.arange(10), 5), np.arange(10, 17), [-1, -1, -1]])
    figure = embedding_map(x, torch.rand(60, 3, 4, 4), {"many": (groups, [f"g{k}" for k in range(20)])})
    axis = figure.axes[0]
    assert [t.get_text() for t in axis.get_legend().get_texts()] == [*(f"g{k}" for k in range(10)), "other"]
    colours = axis.collections[0].get_facecolors()
    assert np.allclose(colours[-5:, :3], [int(OTHER[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def test_a_group_keeps_its_colour_whichever_others_there_are() -> None:
    x, images = features(6), torch.rand(6, 3, 4, 4)
    figure = embedding_map(x, images, {"a": ([3] * 6, list("abcd")), "b": ([0, 1, 2, 3, 3, 3], list("abcd"))})
    first, second = (axis.collections[0].get_facecolors() for axis in figure.axes)
    assert np.allclose(first[-1], second[-1]) and not np.allclose(second[0], second[-1])


def test_what_does_not_fit_is_refused_in_words() -> None:
    x = features(5)
    with pytest.raises(CVSAError, match="4 images for 5 features"):
        embedding_map(x, torch.rand(4, 3, 4, 4), {})
    with pytest.raises(CVSAError, match="3 by class for 5 features"):
        embedding_map(x, torch.rand(5, 3, 4, 4), {"by class": ([0] * 3, ["a"])})
    with pytest.raises(CVSAError, match="group 2 has no name among 2"):
        embedding_map(x, torch.rand(5, 3, 4, 4), {"by class": ([0, 0, 1, 1, 2], ["a", "b"])})
