"""The photometric changes as numba compiles them.

Same arithmetic as :mod:`cvsa.views.photometric`, in single precision, but each sample goes through all its
changes while its pixels are in the cache. Imported on first use, by :mod:`cvsa.views.kernels`.
"""

# Types are those of the arrays that arrive; numba knows them, annotations would only repeat them.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import math

import numpy as np

from cvsa.views.compiled import HALF, ONE, ZERO, F, entry, part

TWO, FOUR, SIX = F(2), F(4), F(6)
SIXTH, THIRD, TWO_THIRDS = F(1 / 6), F(1 / 3), F(2 / 3)
RED, GREEN, BLUE = F(0.2989), F(0.587), F(0.114)
TINY_CHROMA = F(1e-12)


@part
def _within(value):
    return min(max(value, ZERO), ONE)


@part
def _brightness(red, green, blue, factor):
    for plane in (red, green, blue):
        for k in range(len(plane)):
            plane[k] = _within(plane[k] * factor)


@part
def _contrast(red, green, blue, factor):
    total = 0.0
    for plane, share in ((red, RED), (green, GREEN), (blue, BLUE)):
        part = ZERO
        for k in range(len(plane)):
            part += plane[k]
        total += part * share
    mean = F(total / len(red)) * (ONE - factor)
    for plane in (red, green, blue):
        for k in range(len(plane)):
            plane[k] = _within(plane[k] * factor + mean)


@part
def _saturation(red, green, blue, factor):
    rest = ONE - factor
    for k in range(len(red)):
        grey = (red[k] * RED + green[k] * GREEN + blue[k] * BLUE) * rest
        red[k] = _within(red[k] * factor + grey)
        green[k] = _within(green[k] * factor + grey)
        blue[k] = _within(blue[k] * factor + grey)


@part
def _away(hue, peak):
    """(2 - t) / 6, see cvsa.views.photometric.hue_."""
    return min(max(abs(abs(hue - peak) - HALF), SIXTH), THIRD)


@part
def _hue(red, green, blue, shift):
    shift += ONE
    for k in range(len(red)):
        r, g, b = red[k], green[k], blue[k]
        value = max(max(r, g), b)
        chroma = value - min(min(r, g), b)
        side = b - r + TWO * chroma if value == g else r - g + FOUR * chroma
        side = g - b if value == r else side
        low, chroma = value - TWO * chroma, SIX * chroma
        hue = side / max(chroma, TINY_CHROMA) + shift
        hue -= F(np.int32(hue))
        red[k] = _within(_away(hue, ZERO) * chroma + low)
        green[k] = _within(_away(hue, THIRD) * chroma + low)
        blue[k] = _within(_away(hue, TWO_THIRDS) * chroma + low)


@part
def _greyscale(red, green, blue):
    for k in range(len(red)):
        grey = red[k] * RED + green[k] * GREEN + blue[k] * BLUE
        red[k] = grey
        green[k] = grey
        blue[k] = grey


@part
def _blur(image, taps, rows, line):
    """Blur a channel (H, W) in place.

    taps is (radius + 1,), centre first; rows (H, W) and line (W + 2 radius,) are scratch.
    """
    height, width = image.shape
    radius = len(taps) - 1
    for i in range(height):
        centre, row, tap = image[i], rows[i], taps[0]
        for j in range(width):
            row[j] = centre[j] * tap
        for k in range(1, radius + 1):
            before, tap = image[abs(i - k)], taps[k]
            after = image[i + k if i + k < height else 2 * (height - 1) - i - k]
            for j in range(width):
                row[j] += (before[j] + after[j]) * tap
    for i in range(height):
        row, target, tap = rows[i], image[i], taps[0]
        for j in range(width):
            line[radius + j] = row[j]
            target[j] = row[j] * tap
        for k in range(1, radius + 1):
            line[radius - k] = row[k]
            line[radius + width - 1 + k] = row[width - 1 - k]
        for k in range(1, radius + 1):
            before, after, tap = line[radius - k :], line[radius + k :], taps[k]
            for j in range(width):
                target[j] += (before[j] + after[j]) * tap


@entry
def photometric(
    images, shape, stride, jittered, factors, order, grey, blurred, sigma, solarised, radius, out
):  # fmt: skip
    """Write the changed images, given as in resample, into out (B, 3, H, W).

    See cvsa.views.photometric.Changes; sigma is in pixels.
    """
    batch, channels, height, width = shape
    taps = np.empty(radius + 1, np.float32)
    rows, line = np.empty((height, width), np.float32), np.empty(width + 2 * radius, np.float32)
    for sample in range(batch):
        planes = out[sample].reshape(channels, height * width)
        for channel in range(channels):
            at = sample * stride[0] + channel * stride[1]
            source, plane = images[at : at + height * width], planes[channel]
            for k in range(height * width):
                plane[k] = source[k]
        red, green, blue = planes[0], planes[1], planes[2]
        if jittered[sample]:
            for turn in range(4):
                operation = order[sample, turn]
                factor = factors[operation, sample]
                if operation == 0:
                    _brightness(red, green, blue, factor)
                elif operation == 1:
                    _contrast(red, green, blue, factor)
                elif operation == 2:
                    _saturation(red, green, blue, factor)
                else:
                    _hue(red, green, blue, factor)
        if grey[sample]:
            _greyscale(red, green, blue)
        if blurred[sample]:
            total = -ONE
            for k in range(radius + 1):
                away = F(k) / sigma[sample]
                taps[k] = math.exp(-HALF * away * away)
                total += TWO * taps[k]
            for k in range(radius + 1):
                taps[k] /= total
            for channel in range(channels):
                _blur(out[sample, channel], taps, rows, line)
        if solarised[sample]:
            for plane in (red, green, blue):
                for k in range(len(plane)):
                    plane[k] = min(plane[k], ONE - plane[k])
