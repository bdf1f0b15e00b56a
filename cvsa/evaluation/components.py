"""Boxes of connected components at a whole grid of thresholds in one pass, compiled by numba.

Thresholds fall from the highest to the lowest, so pixels only ever join: a union-find keeps each component's
box and area, and a component's overlap with the true boxes is computed again only when it has grown. The cost
is that of labelling each map about once, whatever the number of thresholds. Components are 8-connected, as in
:mod:`cvsa.saliency.boxes`.
"""

# Types are those of the arrays that arrive; numba knows them, annotations would only repeat them.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from cvsa.views.compiled import entry, part


@part
def _level(value, thresholds):
    """How many thresholds, rising, equally spaced from 0 and below 1, are at most this value in [0, 1]."""
    count = len(thresholds)
    k = min(int(value * count), count - 1)
    while k + 1 < count and value >= thresholds[k + 1]:  # rounding may have led to a neighbour
        k += 1
    while k >= 0 and value < thresholds[k]:
        k -= 1
    return k + 1


@part
def _root(parent, at):
    while parent[at] != at:
        parent[at] = parent[parent[at]]
        at = parent[at]
    return at


@part
def _overlap(x1, y1, x2, y2, boxes):
    """Highest IoU of a box with the true boxes."""
    best, area = 0.0, (x2 - x1) * (y2 - y1)
    for other in boxes:
        width = min(x2, other[2]) - max(x1, other[0])
        height = min(y2, other[3]) - max(y1, other[1])
        if width > 0 and height > 0:
            common = width * height
            best = max(best, common / (area + (other[2] - other[0]) * (other[3] - other[1]) - common))
    return best


@entry
def box_overlaps(maps, thresholds, boxes, first, best, largest):
    """For each map and threshold the IoU of its components' boxes with the true boxes.

    A pixel belongs to the map cut at t when its value is at least t.

    Args:
        maps: (N, H, W) float32 in [0, 1].
        thresholds: (K,) float32, equally spaced: 0, 1 / K, ..., below 1.
        boxes: (M, 4) float64, the true boxes of all images after each other, x1 y1 x2 y2, exclusive.
        first: (N + 1,) where the boxes of each image begin, and the end.
        best: (N, K) float64, filled with the highest IoU of any component's box with any true box; 0 where
            no pixel is left.
        largest: (N, K) float64, filled with that of the largest component only; of several equally large
            ones the first in reading order.
    """
    number, height, width = maps.shape
    steps, line, pixels = len(thresholds), width + 2, height * width  # a frame of one pixel spares checks
    parent = np.empty((height + 2) * line, np.int32)
    x1, y1, x2, y2, area, head = np.empty((6, len(parent)), np.int32)
    overlap = np.empty(len(parent))
    levels, order, live = np.empty((3, pixels), np.int32)
    start = np.empty(steps + 2, np.int64)
    around = (-line - 1, -line, -line + 1, -1, 1, line - 1, line, line + 1)
    for n in range(number):
        truth = boxes[first[n] : first[n + 1]]
        # Pixels sorted by level, the highest first, each level in reading order.
        start[:] = 0
        for i in range(height):
            for j in range(width):
                level = _level(maps[n, i, j], thresholds)
                levels[i * width + j] = level
                start[steps - level + 1] += 1
        for k in range(steps + 1):
            start[k + 1] += start[k]
        for at in range(pixels):
            place = steps - levels[at]
            order[start[place]] = at
            start[place] += 1  # in the end the beginning of the next level
        parent[:] = -1
        lives, done = 0, 0
        for k in range(steps - 1, -1, -1):
            end = start[steps - 1 - k]
            for at in order[done:end]:
                i, j = at // width, at % width
                here = (i + 1) * line + j + 1
                parent[here], area[here], head[here], overlap[here] = here, 1, at, -1.0
                x1[here], y1[here], x2[here], y2[here] = j, i, j + 1, i + 1
                live[lives] = here
                lives += 1
                root = here
                for step in around:
                    if parent[here + step] < 0:
                        continue
                    other = _root(parent, here + step)
                    if other == root:
                        continue
                    if area[other] > area[root]:
                        root, other = other, root
                    parent[other] = root
                    area[root] += area[other]
                    head[root] = min(head[root], head[other])
                    x1[root], y1[root] = min(x1[root], x1[other]), min(y1[root], y1[other])
                    x2[root], y2[root] = max(x2[root], x2[other]), max(y2[root], y2[other])
                    overlap[root] = -1.0  # to be computed again
            done, kept, top, chief = end, 0, 0.0, -1
            for root in live[:lives]:
                if parent[root] != root:  # it has joined another component
                    continue
                live[kept] = root
                kept += 1
                if overlap[root] < 0:
                    overlap[root] = _overlap(x1[root], y1[root], x2[root], y2[root], truth)
                top = max(top, overlap[root])
                if (
                    chief < 0
                    or area[root] > area[chief]
                    or (area[root] == area[chief] and head[root] < head[chief])
                ):
                    chief = root
            lives = kept
            best[n, k], largest[n, k] = top, overlap[chief] if chief >= 0 else 0.0


@entry
def mask_counts(maps, thresholds, masks, common, area):
    """For each map and threshold how many pixels are left, and how many of them lie in the mask.

    Args:
        maps, thresholds: as for `box_overlaps`.
        masks: (N, H, W) bool.
        common, area: (N, K) int64, filled.
    """
    number, height, width = maps.shape
    steps = len(thresholds)
    common[:], area[:] = 0, 0
    for n in range(number):
        for i in range(height):
            for j in range(width):
                level = _level(maps[n, i, j], thresholds)
                if level > 0:
                    area[n, level - 1] += 1
                    common[n, level - 1] += masks[n, i, j]
        for k in range(steps - 1, 0, -1):
            area[n, k - 1] += area[n, k]
            common[n, k - 1] += common[n, k]
