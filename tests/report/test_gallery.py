"""Galleries: every image and map in its place, on one scale, with its mark; nothing picked."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from cvsa.errors import CVSAError
from cvsa.report.figures import HEAT
from cvsa.report.gallery import POINTS_PER_INCH, gallery, overlay, random_images

COUNT, SIDE = 5, 12


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(COUNT, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def boxes() -> torch.Tensor:
    return torch.tensor([[2.0, 3, 8, 9]]).repeat(COUNT, 1)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_random_images_follow_the_seed_and_nothing_else() -> None:
    drawn = random_images(100, 8, seed=1)
    assert len(set(drawn.tolist())) == 8 and torch.equal(drawn, random_images(100, 8, seed=1))
    assert not torch.equal(drawn, random_images(100, 8, seed=2))
    assert torch.equal(drawn, random_images(100, 50, seed=1)[:8])  # more images, the same ones first
    assert sorted(random_images(3, 8, seed=0).tolist()) == [0, 1, 2]


def test_overlay_mixes_the_colour_of_the_map_with_the_grey_image() -> None:
    image = np.zeros((1, 3, 3))
    image[0, 1], image[0, 2] = (1, 1, 1), (1, 0, 0)
    mixed = overlay(image, np.array([[0.0, 1.0, 0.5]]))
    low, high, half = (np.array(mpl.colormaps[HEAT](value)[:3]) for value in (0.0, 1.0, 0.5))
    expected = [[0.6 * low, 0.6 * high + 0.4, 0.6 * half + 0.4 * 0.299]]
    np.testing.assert_allclose(mixed, expected, atol=1e-12)


def test_every_picture_stands_in_its_place_with_its_box_and_its_mark(images: torch.Tensor) -> None:
    rows = {"BYOL": torch.zeros(COUNT, 3, 3), "BYOL+CVSA": np.ones((COUNT, SIDE, SIDE), dtype=np.float32)}
    marks = {"BYOL": [0.123, 0.5, 1, 0.0, 0.999], "BYOL+CVSA": [True, False, np.True_, False, "IoU 0.3"]}
    figure = gallery(images, boxes(), rows, marks)
    axis = figure.axes[0]
    shown = [np.asarray(image.get_array()) for image in axis.images]
    assert len(shown) == 3 * COUNT
    for number in range(COUNT):
        picture = images[number].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(shown[number], picture, atol=1e-6)
        np.testing.assert_allclose(shown[COUNT + number], overlay(picture, np.zeros((SIDE, SIDE))), atol=1e-6)
        np.testing.assert_allclose(
            shown[2 * COUNT + number], overlay(picture, np.ones((SIDE, SIDE))), atol=1e-6
        )
    told = texts(figure)
    assert [told[0], *told[1:7], *told[7:]] == [
        "images", "BYOL", "0.12", "0.50", "1.00", "0.00", "1.00",
        "BYOL+CVSA", "hit", "miss", "hit", "miss", "IoU 0.3",
    ]  # fmt: skip
    assert len(axis.patches) == 2 * 3 * COUNT  # dark and light outline of each
    left, right, bottom, top = axis.images[1].get_extent()
    unit = (right - left) / SIDE
    box = axis.patches[2]
    assert box.get_x() == pytest.approx(left + 2 * unit) and box.get_y() == pytest.approx(top + 3 * unit)
    assert box.get_width() == pytest.approx(6 * unit) and bottom > top
    # What follows in reading order lies below or to the right, and nothing overlaps.
    tops = [image.get_extent()[3] for image in axis.images]
    assert tops == sorted(tops) and len(set(tops)) == 3
    assert tops[COUNT] - tops[0] > 1 and axis.get_ylim()[0] > tops[-1] + 1


def test_maps_are_enlarged_as_they_are_measured_and_not_stretched(images: torch.Tensor) -> None:
    maps = torch.rand(COUNT, 4, 3, generator=torch.Generator().manual_seed(1)) * 0.5
    figure = gallery(images, None, {"a": maps})
    large = torch.nn.functional.interpolate(maps[:, None], (SIDE, SIDE), mode="bilinear")[:, 0].numpy()
    for number, image in enumerate(figure.axes[0].images[COUNT:]):
        expected = overlay(images[number].permute(1, 2, 0).numpy(), large[number])
        np.testing.assert_allclose(np.asarray(image.get_array()), expected, atol=1e-6)
    assert not figure.axes[0].patches


def test_stages_stand_below_each_other_as_on_the_poster(images: torch.Tensor) -> None:
    maps = torch.zeros(COUNT, 2, 2)
    figure = gallery(images, boxes(), {"stage 1 only": maps, "stage 2 only": maps, "dual": maps})
    assert texts(figure) == ["images", "stage 1 only", "stage 2 only", "dual"]


def test_text_grows_with_the_width_so_that_it_is_read_on_a_telephone(images: torch.Tensor) -> None:
    for columns in (2, 5):
        figure = gallery(images, boxes(), {"a": torch.zeros(COUNT, 2, 2)}, columns=columns)
        width = figure.get_figwidth()
        size = figure.axes[0].texts[0].get_fontsize()
        assert size == pytest.approx(max(POINTS_PER_INCH * width, 8))
        assert size / 72 * 350 / width > 10  # pixels, on a page 350 wide


def test_few_columns_continue_below_and_leave_nothing_out(images: torch.Tensor) -> None:
    marks = {"a": [f"number {n}" for n in range(COUNT)]}
    figure = gallery(images, boxes(), {"a": torch.zeros(COUNT, 2, 2)}, marks, columns=2)
    assert len(figure.axes[0].images) == 2 * COUNT
    assert [text for text in texts(figure) if text.startswith("number")] == marks["a"]
    assert texts(figure).count("images") == texts(figure).count("a") == 3


def test_images_may_be_bytes_and_have_several_boxes_or_none(images: torch.Tensor) -> None:
    several = [torch.tensor([[0, 0, 2, 2], [4, 4, 8, 8]]), np.zeros((0, 4)), *boxes()[2:]]
    figure = gallery((images * 255).byte(), several, {"a": torch.zeros(COUNT, 2, 2)})
    assert len(figure.axes[0].patches) == 2 * 2 * (2 + 0 + COUNT - 2)
    bytes_ = (images[0] * 255).byte().permute(1, 2, 0).numpy()
    np.testing.assert_allclose(np.asarray(figure.axes[0].images[0].get_array()), bytes_ / 255)


def test_the_scale_is_stated(images: torch.Tensor) -> None:
    figure = gallery(images, None, {"a": torch.zeros(COUNT, 2, 2)}, scale="least to greatest value of a map")
    bar = figure.axes[1]
    assert bar.get_xlabel() == "least to greatest value of a map"
    assert [label.get_text() for label in bar.get_xticklabels()] == ["0", "1"]


def test_what_does_not_fit_is_refused(images: torch.Tensor) -> None:
    with pytest.raises(CVSAError, match=r"Maps 'a' have the shape \(4, 2, 2\)"):
        gallery(images, None, {"a": torch.zeros(4, 2, 2)})
    for value in (1.5, -0.1, float("nan")):
        with pytest.raises(CVSAError, match="beyond"):
            gallery(images, None, {"a": torch.full((COUNT, 2, 2), value)})
    for marks in ({"b": [0.0] * COUNT}, {"a": [0.0]}):
        with pytest.raises(CVSAError, match="Marks"):
            gallery(images, None, {"a": torch.zeros(COUNT, 2, 2)}, marks)
