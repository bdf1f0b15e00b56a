"""The loops over pixels that numba compiles: how they are compiled, and the resampling.

Same arithmetic as :mod:`cvsa.views.resample`, in single precision, but sample by sample, so that the pixels
stay in the cache, and with those weights only that are not zero. Imported on first use (importing numba takes
a while), by :mod:`cvsa.views.kernels`.
"""

# Types are those of the arrays that arrive; numba knows them, annotations would only repeat them.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import math
from functools import partial

import numpy as np
from numba import njit

# Sums may be regrouped, so that they can run in parallel lanes; NaN and infinity keep their meaning.
part = partial(njit, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})


def entry(function):
    """Compile on the first call, with all parts it calls; keep the result on disk where that is possible."""
    try:
        return part(function, cache=True)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return part(function)


F = np.float32  # every constant: a Python float would pull the arithmetic into double precision
ZERO, HALF, ONE = F(0), F(0.5), F(1)
TINY_SUM = F(1e-6)


@part
def _interval(first, last, size, flip):
    """The whole pixels of [first, last) within an axis, after the flip."""
    first, last = max(first, ZERO), min(last, F(size))
    if not first < last:
        return 0, 0
    begin, end = int(math.ceil(first)), int(math.ceil(last))
    return (size - end, size - begin) if flip else (begin, end)


@part
def _taps(start, stop, size_in, size_out, first, last, flip, pixel, count, weights):
    """One sample's axis, sparse: output o is the sum over k < taps of weights[o, k] * input[pixel[o] + k].

    pixel and count are (size_out,), weights (size_out, size_in). Returns the touched interval of the input,
    the interval of the output that is filled, and the number of taps. No bounds, even impossible ones, lead
    outside the arrays.
    """
    start, stop, first, last = (
        max(start, ZERO),
        min(stop, F(size_in)),
        max(first, ZERO),
        min(last, F(size_out)),
    )
    if not (start < stop and first < last):
        return 0, 0, 0, 0, 0
    scale = (stop - start) / (last - first)
    support = max(scale, ONE)
    low, high = int(math.floor(start)), int(math.ceil(stop))
    begin, end = int(math.ceil(first)), int(math.ceil(last))
    taps = 1
    for position in range(begin, end):
        out = size_out - 1 - position if flip else position
        centre = start + (F(position) + HALF - first) * scale
        lowest = max(int(math.floor(centre - support - HALF)), low)
        total, k = ZERO, 0
        for candidate in range(lowest, min(int(math.ceil(centre + support + HALF)), high)):
            weight = ONE - abs((F(candidate) + HALF) / support - centre / support)
            if weight > ZERO:
                if k == 0:
                    lowest = candidate
                weights[out, k] = weight
                total += weight
                k += 1
        total = ONE / max(total, TINY_SUM)
        for tap in range(k):
            weights[out, tap] *= total
        pixel[out], count[out] = lowest, k
        taps = max(taps, k)
    if flip:
        begin, end = size_out - end, size_out - begin
    for out in range(begin, end):  # all get the same number of taps, none of them beyond the touched interval
        excess = max(int(pixel[out]) + taps - high, 0)
        pixel[out] -= excess
        for k in range(taps - 1, -1, -1):
            weights[out, k] = weights[out, k - excess] if excess <= k < excess + count[out] else ZERO
    return low, high, begin, end, taps


@entry
def resample(images, shape, stride, y, x, flip_y, flip_x, out):
    """Each image resized by its own axes into out (B, C, S_y, S_x).

    images is a run of memory that holds shape (B, C, H, W) with the given strides, the last two (W, 1).
    y and x are (4, B): start, stop, out_start, out_stop; see cvsa.views.resample.Axis. Pixels of out beyond
    the output intervals are left as they are.
    """
    batch, channels, height, width = shape
    size_y, size_x = out.shape[2:]
    pixel_y, weights_y = np.empty(size_y, np.uintp), np.empty((size_y, height), np.float32)
    pixel_x, weights_x = np.empty(size_x, np.uintp), np.empty((size_x, width), np.float32)
    count = np.empty(max(size_y, size_x), np.int64)
    # Channels side by side: the longer a loop over columns, the better it vectorises.
    rows, line = np.empty((height, channels * size_x), np.float32), np.empty(channels * size_x, np.float32)
    for sample in range(batch):
        top, bottom, i_begin, i_end, taps_y = _taps(
            y[0, sample], y[1, sample], height, size_y, y[2, sample], y[3, sample], flip_y[sample],
            pixel_y, count, weights_y,
        )  # fmt: skip
        _, _, j_begin, j_end, taps_x = _taps(
            x[0, sample], x[1, sample], width, size_x, x[2, sample], x[3, sample], flip_x[sample],
            pixel_x, count, weights_x,
        )  # fmt: skip
        span = j_end - j_begin
        begin, mix = pixel_x[j_begin:j_end], weights_x[j_begin:j_end]
        for channel in range(channels):
            for i in range(top, bottom):
                at = sample * stride[0] + channel * stride[1] + i * stride[2]
                source, row = images[at : at + width], rows[i, channel * span : (channel + 1) * span]
                if taps_x == 2:
                    for j in range(span):
                        row[j] = source[begin[j]] * mix[j, 0] + source[begin[j] + np.uintp(1)] * mix[j, 1]
                else:
                    for j in range(span):
                        total = ZERO
                        for k in range(taps_x):
                            total += source[begin[j] + np.uintp(k)] * mix[j, k]
                        row[j] = total
        for i in range(i_begin, i_end):
            at, weight = pixel_y[i], weights_y[i, 0]
            if taps_y == 2:
                first, second, other = rows[at], rows[at + np.uintp(1)], weights_y[i, 1]
                for j in range(channels * span):
                    line[j] = first[j] * weight + second[j] * other
            else:
                first = rows[at]
                for j in range(channels * span):
                    line[j] = first[j] * weight
                for k in range(1, taps_y):
                    first, weight = rows[at + np.uintp(k)], weights_y[i, k]
                    for j in range(channels * span):
                        line[j] += first[j] * weight
            for channel in range(channels):
                target, finished = out[sample, channel, i, j_begin:j_end], line[channel * span :]
                for j in range(span):
                    target[j] = finished[j]


@entry
def mirror(images, shape, stride, flip, out):
    """Copy images, given as in resample, into out, mirrored left to right where flip (B,)."""
    batch, channels, height, width = shape
    for sample in range(batch):
        for channel in range(channels):
            at = sample * stride[0] + channel * stride[1]
            source, target = images[at : at + height * width], out[sample, channel].reshape(height * width)
            if flip[sample]:
                for i in range(height):
                    line, row = source[i * width : (i + 1) * width], target[i * width : (i + 1) * width]
                    for j in range(width):
                        row[j] = line[np.uintp(width - 1 - j)]
            else:
                for k in range(height * width):
                    target[k] = source[k]


@entry
def rectangle(y, x, flip_y, flip_x, out):
    """Set the output intervals of the axes, given as in resample, to 1 in out (B, 1, S_y, S_x)."""
    size_y, size_x = out.shape[2:]
    for sample in range(len(out)):
        i_begin, i_end = _interval(y[2, sample], y[3, sample], size_y, flip_y[sample])
        j_begin, j_end = _interval(x[2, sample], x[3, sample], size_x, flip_x[sample])
        for i in range(i_begin, i_end):
            row = out[sample, 0, i]
            for j in range(j_begin, j_end):
                row[j] = ONE
