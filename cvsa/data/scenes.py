"""SynthScenes: a generic first-stage set by the same renderer: sixteen kinds of things, no birds, on any
habitat.

It plays the part that COCO and ImageNet-1K play in the paper's dual-stage protocol, where a network first
learns from many ordinary things. Backgrounds are drawn at random and tell nothing about the category. [O]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from cvsa.data.habitats import HABITATS, PARAMETERS, PLAIN, paint_habitat
from cvsa.data.plumage import columns
from cvsa.data.render import (
    SIZES,
    DrawnBatch,
    Streams,
    box,
    capsule,
    check_choice,
    check_habitats,
    check_index,
    check_number,
    circle,
    drop,
    edge,
    ellipse,
    grid,
    noise,
    paint,
    paint_object,
    render,
    rotate,
    smooth_union,
    smoothstep,
    star,
    wedge,
)

SPLITS = ("train", "val", "test")

# A shape yields its parts from back to front: (distance, role). Roles: 0 main colour, 1 second colour, 2
# dark, 3 pale; parts whose role is 10 more are details that stay inside what is already drawn. Shapes fill
# about a unit disc.
Parts = Iterator[tuple[Tensor, int]]


def blob(x: Tensor, y: Tensor, k: Tensor) -> Parts:
    r = (
        0.74
        + 0.16 * torch.sin(torch.atan2(y, x) * 3.0 + k * 6.28)
        + 0.07 * torch.sin(torch.atan2(y, x) * 5.0 + k * 20.0)
    )
    yield (torch.sqrt(x * x + y * y) - r) * 0.8, 0
    yield circle(x + 0.25, y + 0.25, 0.16 + 0.0 * k), 13


def star_shape(x: Tensor, y: Tensor, k: Tensor) -> Parts:
    yield star(y, x, 5.0, 1.0, 0.55), 0
    yield star(y, x, 5.0, 0.55, 0.55), 11


def hexagon(x: Tensor, y: Tensor, k: Tensor) -> Parts:
    outer = torch.maximum(y.abs(), 0.866 * x.abs() + 0.5 * y.abs()) - 0.82
    yield outer, 0
    yield outer + 0.30, 11


def ring(x: Tensor, y: Tensor, k: Tensor) -> Parts:
    width = 0.18 + 0.12 * k
    yield circle(x, y, 0.72).abs() - width, 0
    yield circle(x, y, 0.72).abs() - 0.06, 11


def flower(x: Tensor, y: Tensor, k: Tensor) -> Parts:
    yield capsule(x, y - 0.2, 0.05 * torch.ones_like(k), 0.8, 0.06), 2
    yield star(x, y + 0.25, torch.floor(5.0 + 4.0 * k), 0.72, 0.40), 0
    yield circle(x, y + 0.25, 0.22), 11


def tree(x: Tensor, y: Tensor, k: Tensor) -> Parts:
    yield box(x, y - 0.65, 0.12, 0.35), 2
    crown = smooth_union(circle(x, y + 0.42, 0.46 + 0.1 * k), circle(x + 0.36, y - 0.02, 0.38), 0.15)
    crown = smooth_union(crown, circle(x - 0.36, y - 0.02, 0.38), 0.15)
    yield crown, 0
    for dx, dy in ((-0.3, 0.0), (0.25, -0.1), (0.0, -0.5), (0.38, 0.15)):
        yield circle(x - dx, y - dy, 0.08), 11


def house(x: Tensor, y: Tensor, k: Tensor) -> Parts:
    yield box(x - 0.4, y + 0.6, 0.09, 0.25), 2
    yield box(x, y - 0.4, 0.68, 0.50), 0
    yield box(x + 0.28 * (k > 0.5) - 0.1, y - 0.58, 0.15, 0.32), 12
    for dx in (-0.42, 0.45):
        yield box(x - dx, y - 0.32, 0.13, 0.14), 13
    yield wedge(y + 0.85, x, 0.80, 0.02, 0.92), 1


def leaf(x: Tensor, y: Tensor, k: Tensor) -> Parts:
    yield capsule(x + 0.7, y, -0.3 * torch.ones_like(k), 0.1, 0.05), 2
    blade = torch.maximum((y.abs() - (0.42 + 0.12 * k) * (1.0 - x * x / 0.81)) * 0.75, x.abs() - 0.9)
    yield blade, 0
    yield y.abs() - 0.03, 12
    yield ((torch.remainder(x * 4.0 + y.abs() * 4.0, 1.0) - 0.5).abs() - 0.08) * 0.2, 12


def cup(x: Tensor, y: Tensor, k: Tensor) -> Parts:
    yield circle(x - 0.55, y + 0.02, 0.32).abs() - 0.09, 0
    yield wedge(y + 0.65, x, 1.3, 0.62, 0.42 + 0.1 * k), 0
    yield ellipse(x, y + 0.62, 0.62, 0.16), 2
    yield (y - 0.05).abs() - 0.12, 11


def heart(x: Tensor, y: Tensor, k: Tensor) -> Parts:
    u, v = x.abs() / 1.6, (0.9 - y) / (1.6 + 0.2 * k)
    lobe = circle(u - 0.25, v - 0.75, 0.3536)
    half = (u + v).clamp(min=0.0) * 0.5
    tip = torch.sqrt(torch.minimum(u * u + (v - 1.0) ** 2, (u - half) ** 2 + (v - half) ** 2)) * torch.sign(
        u - v
    )
    yield torch.where(u + v > 1.0, lobe, tip) * 1.6, 0
    yield ellipse(x + 0.42, y + 0.48, 0.17, 0.10), 13


def crescent(x: Tensor, y: Tensor, k: Tensor) -> Parts:
    yield torch.maximum(circle(x, y, 0.92), -circle(x - 0.36 - 0.1 * k, y + 0.12, 0.68)), 0
    for dx, dy in ((-0.62, 0.1), (-0.4, 0.55), (-0.5, -0.4)):
        yield circle(x - dx, y - dy, 0.09), 11


def mushroom(x: Tensor, y: Tensor, k: Tensor) -> Parts:
    yield wedge(y + 0.2, x, 1.1, 0.20, 0.32), 3
    yield torch.maximum(ellipse(x, y - 0.02, 0.90, 0.80 + 0.1 * k), y - 0.08), 0
    for dx, dy, r in ((-0.45, -0.22, 0.13), (0.1, -0.48, 0.17), (0.52, -0.15, 0.11), (-0.05, -0.10, 0.09)):
        yield circle(x - dx, y - dy, r), 13


def boat(x: Tensor, y: Tensor, k: Tensor) -> Parts:
    yield box(x, y + 0.2, 0.05, 0.75), 2
    yield torch.maximum(wedge(y + 0.9, x - 0.08, 1.1, 0.01, 0.75), 0.08 - x), 3
    yield torch.maximum(wedge(y + 0.65, x + 0.08, 0.85, 0.01, 0.50), x + 0.08), 1
    yield wedge(y - 0.32, x, 0.45, 0.95, 0.60), 0
    yield (y - 0.47).abs() - 0.05, 13


def balloon(x: Tensor, y: Tensor, k: Tensor) -> Parts:
    yield box(x, y - 0.78, 0.17, 0.13), 2
    for dx in (-0.14, 0.14):
        yield capsule(x - dx, y - 0.35, -0.0 * k, 0.4, 0.025), 2
    bag = drop(y + 0.32, x, 0.62, 0.64, 0.18)
    yield bag, 0
    yield (torch.cos(x / (0.70 - 0.45 * y.clamp(min=-0.3)) * 9.0)) * 0.05, 11


def fish(x: Tensor, y: Tensor, k: Tensor) -> Parts:
    yield wedge(-x - 0.35, y, 0.6, 0.06, 0.46), 1
    yield wedge(y + 0.68, x + 0.05, 0.4, 0.10, 0.38), 1
    yield ellipse(x - 0.12, y, 0.72, 0.44 + 0.1 * k), 0
    yield ((torch.remainder(x * 2.6, 1.0) - 0.5).abs() - 0.16) * 0.38, 11
    yield circle(x - 0.50, y + 0.10, 0.13), 13
    yield circle(x - 0.52, y + 0.10, 0.07), 12


def gear(x: Tensor, y: Tensor, k: Tensor) -> Parts:
    teeth = torch.cos(torch.atan2(y, x) * torch.floor(8.0 + 4.0 * k))
    yield (torch.sqrt(x * x + y * y) - 0.78 - 0.14 * (teeth * 2.5).clamp(-1.0, 1.0)) * 0.7, 0
    yield circle(x, y, 0.52).abs() - 0.05, 12
    yield circle(x, y, 0.24), 12


Shape = Callable[[Tensor, Tensor, Tensor], Parts]
SHAPES: dict[str, Shape] = {
    "blob": blob, "star": star_shape, "hexagon": hexagon, "ring": ring, "flower": flower, "tree": tree,
    "house": house, "leaf": leaf, "cup": cup, "heart": heart, "crescent": crescent, "mushroom": mushroom,
    "boat": boat, "balloon": balloon, "fish": fish, "gear": gear,
}  # fmt: skip
CATEGORIES: list[str] = list(SHAPES)
_REACH = 1.08  # half the side of a shape's own frame
_AREA = 1.75  # of a shape in its frame, averaged over the categories
_DARK, _PALE = (0.26, 0.18, 0.14), (0.98, 0.95, 0.88)


class SynthScenes:
    """A drawn data set of simple things in any colour, each on a random habitat or the plain backdrop.

    Args:
        num_images: images in the split; a larger set starts with the images of a smaller one.
        image_size: side in pixels, 32 to 256.
        split: "train", "val" or "test", independent of each other.
        seed: whole number; everything follows from it.
        object_size: mean share of the picture covered, 0.05 to 0.3.

    Attributes:
        labels: int64 (N,), the category; classes: the categories' names; habitats: int64 (N,), -1 is plain.

    Raises:
        CVSAError: an argument out of range.
    """

    classes = list(CATEGORIES)
    habitat_names = list(HABITATS)

    def __init__(
        self,
        num_images: int = 1000,
        image_size: int = 64,
        split: str = "train",
        seed: int = 0,
        *,
        object_size: float = 0.2,
    ) -> None:
        check_number(num_images, "num_images", 1, 10_000_000, whole=True)
        check_number(image_size, "image_size", *SIZES, whole=True)
        check_choice(split, "split", SPLITS)
        check_number(seed, "seed", 0, 2**63 - 1, whole=True)
        check_number(object_size, "object_size", 0.05, 0.3)
        self.image_size, self.split = int(image_size), split
        streams = Streams(int(seed), f"scenes-{split}")
        blocks = -(-num_images // len(CATEGORIES))
        self.labels = np.argsort(streams.uniform("label", blocks, len(CATEGORIES)), axis=1).ravel()[
            :num_images
        ]
        self.habitats = (streams.uniform("habitat", num_images) * (len(HABITATS) + 1)).astype(
            np.int64
        ) + PLAIN
        self._scenery = streams.uniform("scenery", num_images, PARAMETERS)
        self._table = _parameters(streams, num_images, object_size)

    def __len__(self) -> int:
        return len(self.labels)

    def draw(
        self,
        index: Sequence[int] | np.ndarray | Tensor,
        *,
        habitat: int | Sequence[int] | np.ndarray | Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> DrawnBatch:
        """Draw some images of the set; see ``SynthBirds.draw``."""
        chosen = check_index(index, len(self))
        habitats = check_habitats(habitat, self.habitats[chosen], len(HABITATS))
        labels = self.labels[chosen]
        x, y = grid(self.image_size, str(device))
        scenery = torch.as_tensor(self._scenery[chosen], dtype=torch.float32, device=device)

        def background(which: int, rows: np.ndarray) -> Tensor:
            return paint_habitat(which, x, y, self.image_size, scenery[torch.as_tensor(rows, device=device)])

        def thing(rows: np.ndarray, canvas: Tensor, mask: Tensor) -> None:
            shape = SHAPES[CATEGORIES[labels[rows[0]]]]
            _paint_shape(shape, canvas, mask, x, y, columns(self._table, chosen[rows], device))

        images, masks, boxes = render(habitats, self.image_size, device, background, thing, groups=labels)
        return DrawnBatch(
            images,
            masks,
            boxes,
            torch.as_tensor(labels, device=device),
            torch.as_tensor(habitats, device=device),
        )


def _paint_shape(
    shape: Shape, canvas: Tensor, mask: Tensor, x: Tensor, y: Tensor, t: dict[str, Tensor]
) -> None:
    px = 1.0 / (canvas.shape[-1] * t["scale"])
    u, v = rotate((x - t["x"]) / t["scale"] * t["flip"], (y - t["y"]) / t["scale"], t["tilt"])
    grain = 1.0 + 0.10 * noise(u * 0.3 + t["texture"], v * 0.3 + t["texture"] * 2.3)
    form = grain * (1.0 + 0.22 * (u * torch.cos(t["light"]) + v * torch.sin(t["light"])))
    outline: Tensor | None = None
    for distance, role in shape(u, v, t["kind"]):
        colour = (t["main"], t["second"], t["dark"], t["pale"])[role % 10]
        if role >= 10 and outline is not None:
            paint(canvas, colour * form, edge(distance, px) * edge(outline + px, px))
            continue
        rim = 0.70 + 0.30 * smoothstep(-distance, 0.0, 0.12)
        paint_object(canvas, mask, colour * (form * rim), distance, px)
        outline = distance
    canvas.mul_(t["illumination"])


def _parameters(streams: Streams, count: int, share: float) -> dict[str, np.ndarray]:
    u = {
        name: streams.uniform(name, count)
        for name in ("tilt", "flip", "share", "x", "y", "kind", "light", "texture")
    }
    tilt = (2 * u["tilt"] - 1) * 0.45
    reach = _REACH * (np.cos(tilt) + 0.45 * np.abs(np.sin(tilt)))
    scale = np.minimum(np.sqrt(share * (0.5 + u["share"]) / _AREA), 0.485 / reach)
    room = 0.015 + reach * scale
    hue = streams.uniform("hue", count)
    light = 0.80 + 0.32 * streams.uniform("exposure", count)
    warmth = 0.09 * (2.0 * streams.uniform("warmth", count) - 1.0)
    return {
        "tilt": tilt,
        "flip": np.where(u["flip"] < 0.5, -1.0, 1.0),
        "scale": scale,
        "x": room + (1 - 2 * room) * u["x"],
        "y": room + (1 - 2 * room) * u["y"],
        "kind": u["kind"],
        "texture": u["texture"],
        "light": -np.pi / 2 + (u["light"] - 0.5) * 2.2,
        "main": _rainbow(hue, streams.uniform("value", count)),
        "second": _rainbow(
            hue + 0.25 + 0.5 * streams.uniform("second hue", count), streams.uniform("tone", count)
        ),
        "dark": np.tile(_DARK, (count, 1)),
        "pale": np.tile(_PALE, (count, 1)),
        "illumination": light[:, None] * (1.0 + warmth[:, None] * np.array([1.0, 0.0, -1.0])),
    }


def _rainbow(hue: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Clear, slightly muted colours around the wheel, (N, 3)."""
    phase = 2 * np.pi * (hue[:, None] - np.array([0.0, 1 / 3, 2 / 3]))
    return np.clip((0.56 + 0.40 * np.cos(phase)) * (0.70 + 0.42 * value[:, None]), 0.0, 1.0)
