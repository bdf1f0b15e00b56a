"""Drawing with signed distances, in batches, in plain torch.

Every shape is a signed distance (negative inside) evaluated on a grid of pixel centres; a distance divided by
the width of a pixel gives the anti-aliased coverage directly, so nothing is supersampled. Drawing uses no
random numbers: all variation comes in as per-image parameters, and textures are look-ups in one fixed table,
so an image depends on its own parameters alone and not on the batch it is drawn with.

Conventions: coordinates have x to the right, y down; a picture's side is 1; distances are (b, 1, S, S), one
number per image (a column) is (b, 1, 1, 1), colours are RGB in [0, 1], (b, 3, S, S) or broadcastable. All of
this is our own choice [O]; the distance formulas follow I. Quilez, "2D distance functions".
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from cvsa.errors import CVSAError

SIZES = (32, 256)
_TEXTURE_SIDE = 256
_TABLE = 4096
Number = Tensor | float


@dataclass(frozen=True)
class DrawnBatch:
    """Drawn images with what is known exactly about them.

    Attributes:
        images: uint8 (B, 3, S, S), RGB.
        masks: uint8 (B, 1, S, S), 255 where the pixel's centre lies on the object, else 0. Pixels at 255 show
            nothing of the background; the anti-aliased rim lies in the one pixel around the mask.
        boxes: float32 (B, 4), xyxy in pixels, tight around the mask, x2 and y2 exclusive.
        labels: int64 (B,).
        habitats: int64 (B,), the background that was drawn; -1 is the plain backdrop.
    """

    images: Tensor
    masks: Tensor
    boxes: Tensor
    labels: Tensor
    habitats: Tensor


# --- parameters


class Streams:
    """Independent streams of uniform numbers, one per (seed, split, parameter name).

    The first n rows of a stream do not depend on how many rows are asked for, so a larger data set starts
    with the images of a smaller one.
    """

    def __init__(self, seed: int, split: str) -> None:
        self._key = [seed, zlib.crc32(split.encode())]

    def uniform(self, name: str, *shape: int) -> np.ndarray:
        """Uniform numbers in [0, 1), float64, of the given shape (first axis: images)."""
        sequence = np.random.SeedSequence([*self._key, zlib.crc32(name.encode())])
        return np.random.Generator(np.random.PCG64(sequence)).random(shape)


def check_number(value: float, name: str, low: float, high: float, *, whole: bool = False) -> None:
    """Raise CVSAError unless ``low <= value <= high`` (and an integer, where ``whole``)."""
    kind = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        noun = "a whole number" if whole else "a number"
        raise CVSAError(
            f"{name}={value!r}: must be {noun} from {low:g} to {high:g}; choose one in that range"
        )


def check_choice(value: str, name: str, choices: Sequence[str]) -> None:
    """Raise CVSAError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise CVSAError(f"{name}={value!r}: unknown; choose one of {', '.join(choices)}")


def check_index(index: Sequence[int] | np.ndarray | Tensor, length: int) -> np.ndarray:
    """The index as int64 (B,); CVSAError where it is empty of meaning (not integers, out of range)."""
    array = index.cpu().numpy() if isinstance(index, Tensor) else np.asarray(index)
    if array.size == 0:
        return np.zeros(0, dtype=np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= length:
        raise CVSAError(
            f"index: must be a list of whole numbers from 0 to {length - 1} (the set has {length} images)"
        )
    return array.astype(np.int64)


def check_habitats(
    habitat: int | Sequence[int] | np.ndarray | Tensor | None, default: np.ndarray, count: int
) -> np.ndarray:
    """The habitat of each drawn image, int64 (B,): ``default`` where ``habitat`` is None; -1 is plain."""
    if habitat is None:
        return default
    array = habitat.cpu().numpy() if isinstance(habitat, Tensor) else np.asarray(habitat)
    fits = array.ndim == 0 or array.shape == default.shape
    if (
        array.dtype.kind not in "iu"
        or not fits
        or (array.size and (array.min() < -1 or array.max() >= count))
    ):
        raise CVSAError(
            "habitat: must be None, one whole number or one per image, "
            f"each from 0 to {count - 1} or -1 (plain backdrop)"
        )
    return np.broadcast_to(array, default.shape).astype(np.int64)


def column(values: np.ndarray | Tensor, device: torch.device | str = "cpu") -> Tensor:
    """One number (b,) or colour (b, 3) per image as float32 (b, 1, 1, 1) or (b, 3, 1, 1)."""
    tensor = torch.as_tensor(values, dtype=torch.float32, device=device)
    return tensor.reshape(len(tensor), -1, 1, 1)


# --- shapes


@lru_cache(maxsize=8)
def grid(size: int, device: str) -> tuple[Tensor, Tensor]:
    """Pixel centres of an S x S picture, x (1, 1, 1, S) and y (1, 1, S, 1), side 1."""
    centres = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
    return centres.view(1, 1, 1, size), centres.view(1, 1, size, 1)


def rotate(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates of the points in axes turned by ``angle`` (radians)."""
    c, s = torch.cos(angle), torch.sin(angle)
    return c * x + s * y, c * y - s * x


def circle(x: Tensor, y: Tensor, r: Number) -> Tensor:
    """Distance to a circle of radius r around the origin."""
    return torch.sqrt(x * x + y * y) - r


def ellipse(x: Tensor, y: Tensor, a: Number, b: Number) -> Tensor:
    """Distance (first order, good near the edge) to an ellipse with half axes a, b."""
    u, v = x / a, y / b
    k = torch.sqrt(u * u + v * v)
    u, v = u / a, v / b
    return k * (k - 1.0) / torch.sqrt(u * u + v * v + 1e-9)


def capsule(x: Tensor, y: Tensor, dx: Number, dy: Number, r: Number) -> Tensor:
    """Distance to the segment from the origin to (dx, dy), thickened by r."""
    t = ((x * dx + y * dy) / (dx * dx + dy * dy + 1e-9)).clamp(0.0, 1.0)
    return circle(x - t * dx, y - t * dy, r)


def drop(x: Tensor, y: Tensor, length: float, r0: float, r1: float) -> Tensor:
    """Distance to the hull of a circle r0 at the origin and a circle r1 at (length, 0): egg, body, wing."""
    y = y.abs()
    b = (r0 - r1) / length
    a = math.sqrt(1.0 - b * b)
    k = a * x - b * y
    side = b * x + a * y - r0
    start = circle(x, y, r0)
    return torch.where(k < 0, start, torch.where(k > a * length, circle(x - length, y, r1), side))


def box(x: Tensor, y: Tensor, a: Number, b: Number) -> Tensor:
    """Distance to a rectangle with half sides a, b (outer corners keep the larger of both distances)."""
    return torch.maximum(x.abs() - a, y.abs() - b)


def wedge(x: Tensor, y: Tensor, length: Number, h0: Number, h1: Number) -> Tensor:
    """Distance to a trapezium along x from 0 (half width h0) to ``length`` (half width h1): beak, tail."""
    slope = (h1 - h0) / length
    side = (y.abs() - h0 - slope * x) / (1.0 + slope * slope) ** 0.5
    return torch.maximum(torch.maximum(-x, x - length), side)


def star(x: Tensor, y: Tensor, points: Number, r: Number, depth: Number) -> Tensor:
    """Radial shape with ``points`` lobes: radius r, dents of relative ``depth`` (radial distance)."""
    radius = torch.sqrt(x * x + y * y)
    lobe = torch.cos(torch.atan2(y, x) * points)
    return (radius - r * (1.0 - depth * (0.5 - 0.5 * lobe))) * 0.8


def smooth_union(a: Tensor, b: Tensor, k: float) -> Tensor:
    """Union with a fillet of width k (polynomial smooth minimum)."""
    h = (k - (a - b).abs()).clamp(min=0.0)
    return torch.minimum(a, b) - h * h * (0.25 / k)


def smoothstep(x: Tensor, low: Number, high: Number) -> Tensor:
    """Cubic step from 0 at ``low`` to 1 at ``high`` (``high`` may be the smaller)."""
    t = ((x - low) / (high - low)).clamp(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


# --- textures


@lru_cache(maxsize=4)
def _texture(device: str) -> Tensor:
    """Tileable fractal noise (1, 1, T + 1, T + 1), mean 0, deviation 0.5: filtered white noise, made once."""
    side = _TEXTURE_SIDE
    white = np.random.Generator(np.random.PCG64(20)).standard_normal((side, side))
    fy, fx = np.meshgrid(np.fft.fftfreq(side) * side, np.fft.fftfreq(side) * side, indexing="ij")
    frequency = np.hypot(fx, fy)
    # Amplitude 1/f from 4 cycles on is fractal noise; below 4 it would be one big blotch per tile.
    spectrum = np.fft.fft2(white) / np.maximum(frequency, 4.0) ** 1.35
    spectrum[0, 0] = 0.0
    noise = np.fft.ifft2(spectrum).real
    noise = np.pad(0.5 * noise / noise.std(), (0, 1), mode="wrap")
    return torch.tensor(noise, dtype=torch.float32, device=device)[None, None]


@lru_cache(maxsize=4)
def _random_table(device: str) -> Tensor:
    values = np.random.Generator(np.random.PCG64(21)).random(_TABLE)
    return torch.tensor(values, dtype=torch.float32, device=device)


def noise(x: Tensor, y: Tensor) -> Tensor:
    """Fractal noise at (x, y), deviation 0.5, period 1 with 4 and more waves to the period; (b, 1, S, S)."""
    x, y = torch.broadcast_tensors(x, y)
    where = torch.stack((x - torch.floor(x), y - torch.floor(y)), dim=-1)[:, 0] * 2.0 - 1.0
    texture = _texture(str(x.device)).expand(len(x), -1, -1, -1)
    return torch.nn.functional.grid_sample(texture, where, "bilinear", "border", align_corners=True)


def hashed(i: Tensor, j: Number, seed: Tensor) -> Tensor:
    """A fixed number in [0, 1) for each pair of whole numbers (i, j) and each image's seed in [0, 1)."""
    key = i * 71.0 + j * 337.0 + torch.floor(seed * 4096.0)
    return _random_table(str(key.device))[torch.remainder(key, _TABLE).long()]


def scatter(x: Tensor, y: Tensor, frequency: Number, angle: Tensor, seed: Tensor) -> tuple[Tensor, ...]:
    """Cut the plane into square cells, for one small object each.

    Returns:
        x and y in the cell, in [-0.5, 0.5], and three numbers in [0, 1) that are constant within a cell.
    """
    x, y = rotate(x - 0.5, y - 0.5, angle)
    x, y = x * frequency + 64.0 + seed * 7.0, y * frequency + 64.0
    i, j = torch.floor(x), torch.floor(y)
    first = hashed(i, j, seed)
    second, third = torch.frac(first * 61.7), torch.frac(first * 173.3)
    return x - i - 0.5, y - j - 0.5, first, second, third


# --- painting


def rgb(red: float, green: float, blue: float) -> Tensor:
    """A constant colour (1, 3, 1, 1)."""
    return torch.tensor([red, green, blue], dtype=torch.float32).view(1, 3, 1, 1)


def blend(low: Tensor, high: Tensor, weight: Tensor) -> Tensor:
    """Colours from ``low`` (weight 0) to ``high`` (weight 1), on the weight's device."""
    return torch.lerp(low.to(weight.device), high.to(weight.device), weight)


def edge(distance: Tensor, pixel: Number) -> Tensor:
    """Coverage of the inner side of an edge: 1/2 at distance 0, one pixel wide."""
    return (0.5 - distance / pixel).clamp(0.0, 1.0)


def paint(canvas: Tensor, colour: Tensor, weight: Tensor) -> None:
    """Lay ``colour`` over ``canvas`` (b, 3, S, S) in place; weight 1 covers exactly."""
    canvas.lerp_(colour.to(canvas.device), weight)


def paint_object(canvas: Tensor, mask: Tensor, colour: Tensor, distance: Tensor, pixel: Number) -> None:
    """Lay a part of the object over the canvas and add it to the mask, both in place.

    A pixel whose centre is inside is covered fully (that is the mask); the next pixel out is covered in part.
    So the mask is exact and free of background, and the outline is still smooth.
    """
    canvas.lerp_(colour.to(canvas.device), (1.0 - distance / pixel).clamp(0.0, 1.0))
    mask.logical_or_(distance <= 0)


def tight_boxes(masks: Tensor) -> Tensor:
    """Boxes of masks (B, 1, S, S) bool, float32 (B, 4) xyxy, exclusive; whole image where a mask is empty."""
    size = masks.shape[-1]
    columns, rows = masks[:, 0].any(dim=1), masks[:, 0].any(dim=2)
    first = [hit.int().argmax(dim=1) for hit in (columns, rows)]
    last = [size - hit.flip(1).int().argmax(dim=1) for hit in (columns, rows)]
    return torch.stack([*first, *last], dim=1).float()


def render(
    habitats: np.ndarray,
    size: int,
    device: torch.device | str,
    paint_background: Callable[[int, np.ndarray], Tensor],
    paint_foreground: Callable[[np.ndarray, Tensor, Tensor], None],
    groups: np.ndarray | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a batch in chunks of one habitat each, small enough for the processor's cache.

    Args:
        habitats: (B,) which background each image has.
        size: side S in pixels.
        device: where to draw.
        paint_background: (habitat, rows) -> canvas float32 (b, 3, S, S).
        paint_foreground: (rows, canvas, mask bool (b, 1, S, S)) paints both in place.
        groups: optional (B,), images of different groups are never painted together.

    Returns:
        images uint8 (B, 3, S, S), masks uint8 (B, 1, S, S), boxes float32 (B, 4).
    """
    count = len(habitats)
    images = torch.empty(count, 3, size, size, dtype=torch.uint8, device=device)
    masks = torch.zeros(count, 1, size, size, dtype=torch.bool, device=device)
    most = max(1, (1 << 16 if torch.device(device).type == "cpu" else 1 << 22) // size**2)
    kind = habitats if groups is None else habitats * (int(groups.max(initial=0)) + 1) + groups
    # Colours made while painting must land on the device; on the CPU the context would only cost time.
    with nullcontext() if torch.device(device).type == "cpu" else torch.device(device):
        for rows in _chunks(kind, most):
            canvas = paint_background(int(habitats[rows[0]]), rows)
            mask = torch.zeros(len(rows), 1, size, size, dtype=torch.bool, device=device)
            paint_foreground(rows, canvas, mask)
            where = torch.as_tensor(rows, device=device)
            images[where] = (canvas * 255.0 + 0.5).clamp_(0.0, 255.0).to(torch.uint8)
            masks[where] = mask
    return images, masks.to(torch.uint8) * 255, tight_boxes(masks)


def _chunks(kind: np.ndarray, most: int) -> Iterator[np.ndarray]:
    for value in np.unique(kind):
        rows = np.flatnonzero(kind == value)
        for start in range(0, len(rows), most):
            yield rows[start : start + most]
