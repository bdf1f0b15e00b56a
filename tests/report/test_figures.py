"""Figures: one style, one colour per row, every image shown."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from cvsa.methods.catalogue import ROWS
from cvsa.report.figures import (
    COLOURS,
    attention_rows,
    colour,
    curves,
    image_grid,
    scale_lines,
    seeds_and_intervals,
    to_picture,
)
from cvsa.views import Views


def test_every_row_has_a_colour_of_its_own() -> None:
    assert set(COLOURS) == set(ROWS) and len(set(COLOURS.values())) == len(COLOURS)
    assert colour("a row of one's own") == "#000000"


def test_pictures_keep_their_values() -> None:
    image = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(to_picture(image), image.permute(1, 2, 0).numpy())
    assert to_picture((image * 255).byte()).dtype == np.uint8


def test_grid_shows_every_picture_in_its_place_and_outlines_boxes() -> None:
    pictures = [[np.zeros((4, 4, 3))] * 3, [np.zeros((4, 4))]]
    axis = image_grid(pictures, ["a", "b"], [[None, (0, 0, 2, 4), None], [None]]).axes[0]
    places = [tuple(np.floor(image.get_extent()[::3]).astype(int)) for image in axis.images]
    assert places == [(0, 0), (1, 0), (2, 0), (0, 1)]
    assert [text.get_text() for text in axis.texts] == ["a", "b"]
    left, right, bottom, top = axis.images[1].get_extent()
    for outline in axis.patches:
        assert (outline.get_x(), outline.get_y()) == (left, top)
        assert outline.get_width() == pytest.approx((right - left) / 2)
        assert outline.get_height() == pytest.approx(bottom - top)


def test_attention_is_on_a_shared_scale() -> None:
    views = Views(torch.zeros(2, 3, 8, 8), torch.ones(2, 1, 8, 8))
    figure = attention_rows(
        views, {"before": torch.zeros(2, 1, 2, 2), "after": torch.full((2, 1, 2, 2), 0.3)}
    )
    heats = [image for image in figure.axes[0].images if image.get_array().ndim == 2]
    assert len(heats) == 6 and all(heat.get_clim() == (0, 1) for heat in heats)


def test_curves_draw_what_a_history_has() -> None:
    history = pd.DataFrame({"epoch": [1, 2], "contrastive": [2.0, 1.0]})
    figure = curves(
        {"BYOL #0": history, "BYOL #1": history}, [("contrastive", "loss"), ("alignment", "alignment")]
    )
    assert [len(axis.lines) for axis in figure.axes] == [2, 0]
    assert {line.get_color() for line in figure.axes[0].lines} == {COLOURS["BYOL"]}


@pytest.mark.parametrize("shared", [False, True])
def test_dot_plots_put_the_first_row_on_top(shared: bool) -> None:
    summary = pd.DataFrame(
        {"mean": [0.5, 0.6], "low": [0.4, np.nan], "high": [0.6, np.nan]}, index=["BYOL", "BYOL+SS"]
    )
    values = pd.DataFrame({"row": ["BYOL", "BYOL", "BYOL+SS"], "value": [0.45, 0.55, 0.6]})
    figure, axes = plt.subplots(1, 2, sharey=shared)
    for axis in axes:
        seeds_and_intervals(axis, summary, values)
    for axis in axes:
        assert axis.transData.transform((0, 0))[1] > axis.transData.transform((0, 1))[1]
    plt.close(figure)


def test_scale_lines_draw_rows_and_baselines() -> None:
    table = pd.DataFrame({"row": ["BYOL+SS"] * 2, "scale": [0.2, 0.5], "percent": [50.0, 60.0]})
    figure, axis = plt.subplots()
    scale_lines(axis, table, {"BYOL": 55.0})
    assert [line.get_label() for line in axis.lines] == ["BYOL+SS", "BYOL (no swap)"]
    plt.close(figure)
