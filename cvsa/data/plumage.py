"""One bird: its body plan, where its parts are, how large it is in the picture, and how it is painted.

The plan is fixed: a plump songbird seen from the side, facing right (+x), y down, the body's centre at the
origin, in units in which the chest's radius is 0.34. Classes change six attributes of it and nothing else.
[O]
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from cvsa.data.render import (
    capsule,
    circle,
    column,
    drop,
    edge,
    ellipse,
    noise,
    paint,
    paint_object,
    rgb,
    rotate,
    smooth_union,
    smoothstep,
    wedge,
)

PARTS = ["beak", "crown", "eye", "wing", "tail"]
COLOURS: dict[str, tuple[float, float, float]] = {
    "crimson": (0.84, 0.08, 0.14),
    "golden": (0.99, 0.78, 0.08),
    "azure": (0.10, 0.46, 0.90),
    "black": (0.09, 0.08, 0.11),
    "white": (0.98, 0.98, 0.96),
    "emerald": (0.05, 0.60, 0.34),
    "violet": (0.52, 0.20, 0.72),
    "copper": (0.76, 0.36, 0.10),
    "cream": (0.96, 0.91, 0.80),
    "orange": (0.95, 0.47, 0.12),
    "lemon": (0.98, 0.87, 0.24),
    "rose": (0.91, 0.38, 0.52),
    "blue": (0.34, 0.56, 0.86),
    "chestnut": (0.48, 0.22, 0.13),
}
ATTRIBUTES: dict[str, list[str]] = {
    "crown": ["crimson", "golden", "azure", "black", "white", "emerald", "violet", "copper"],
    "wing bars": ["no", "one", "two"],
    "beak": ["short", "medium", "long"],
    "breast": ["cream", "orange", "lemon", "rose", "blue", "chestnut"],
    "streaks": ["plain", "streaked"],
    "tail": ["short", "long", "forked", "fan"],
}
BEAK_LENGTHS = np.array([0.080, 0.145, 0.225])
TAIL_LENGTHS = np.array([0.17, 0.38, 0.36, 0.27])
TAIL_ENDS = np.array([0.060, 0.075, 0.150, 0.200])
TAIL_FORKS = np.array([0.0, 0.0, 1.0, 0.0])

CHEST, RUMP = (0.06, 0.0), (-0.28, 0.08)
BODY_ANGLE = math.atan2(RUMP[1] - CHEST[1], RUMP[0] - CHEST[0])
BODY_LENGTH = math.hypot(RUMP[0] - CHEST[0], RUMP[1] - CHEST[1])
HEAD, HEAD_RADIUS = (0.20, -0.345), 0.235
EYE, CROWN, BEAK = (0.085, -0.025), (-0.01, -0.165), (0.195, 0.035)  # relative to the head's centre
SHOULDER, WING_ANGLE, WING_LENGTH = (0.05, -0.01), math.pi - 0.36, 0.47
TAIL_ROOT, TAIL_ANGLE = (-0.32, 0.07), math.pi - 0.12
TAIL_CORNERS = ((0.415, 0.08), (0.415, -0.08), (0.39, 0.165), (0.39, -0.165), (0.22, 0.20), (0.22, -0.20))
LEGS, FOOT = ((-0.03, 0.30), (0.09, 0.31)), 0.53
AREA = 0.57  # of the bird in the units above, averaged over classes: ties scale to the share of the picture
MARGIN = 0.015
TILT, NOD, WAG = 0.30, 0.35, 0.28  # largest turns of the body, head and tail, radians


def _turn(point: tuple[float, float], angle: np.ndarray) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([c * point[0] - s * point[1], s * point[0] + c * point[1]], axis=1)


def place(u: dict[str, np.ndarray], share: float) -> dict[str, np.ndarray]:
    """Pose, scale and position of each bird from uniform numbers; independent of its class.

    Room is kept for the longest beak and tail of any class, so that neither scale nor place tells the class.

    Args:
        u: uniform numbers (N,) named tilt, nod, wag, flip, share, x, y.
        share: mean share of the picture that a bird covers; a bird's own varies from 0.6 to 1.4 of it, less
            where it would not fit.

    Returns:
        tilt, nod, wag (radians), flip (-1 or 1), scale (picture sides per unit), x, y (body centre), each
        (N,).
    """
    tilt, nod, wag = (2 * u["tilt"] - 1) * TILT, (2 * u["nod"] - 1) * NOD, (2 * u["wag"] - 1) * WAG
    flip = np.where(u["flip"] < 0.5, -1.0, 1.0)
    beak = np.add(BEAK, (BEAK_LENGTHS.max() * 1.08, 0.0))
    tail = [_turn(corner, TAIL_ANGLE + wag) + TAIL_ROOT for corner in TAIL_CORNERS]
    spots = [
        (_turn(CHEST, tilt), 0.345),
        (_turn(RUMP, tilt), 0.155),
        (_turn(HEAD, tilt), HEAD_RADIUS + 0.005),
        (_turn(HEAD, tilt) + _turn((float(beak[0]), float(beak[1])), tilt + nod), 0.02),
        *((_rotate_points(corner, tilt), 0.01) for corner in tail),
        (_turn(LEGS[0], tilt) * [1, 0] + [0, FOOT], 0.09),
        (_turn(LEGS[1], tilt) * [1, 0] + [0, FOOT], 0.09),
    ]
    low = np.min([point - radius for point, radius in spots], axis=0)
    high = np.max([point + radius for point, radius in spots], axis=0)
    room = (1 - 2 * MARGIN) / (high - low).max(axis=1)
    scale = np.minimum(np.sqrt(share * (0.6 + 0.8 * u["share"]) / AREA), room)
    left = np.where(flip > 0, low[:, 0], -high[:, 0])
    size = (high - low) * scale[:, None]
    x = MARGIN + (1 - 2 * MARGIN - size[:, 0]) * u["x"] - left * scale
    y = MARGIN + (1 - 2 * MARGIN - size[:, 1]) * u["y"] - low[:, 1] * scale
    return {"tilt": tilt, "nod": nod, "wag": wag, "flip": flip, "scale": scale, "x": x, "y": y}


def _rotate_points(points: np.ndarray, angle: np.ndarray) -> np.ndarray:
    c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
    return np.concatenate(
        [c * points[:, :1] - s * points[:, 1:], s * points[:, :1] + c * points[:, 1:]], axis=1
    )


def part_positions(t: dict[str, np.ndarray]) -> np.ndarray:
    """Where the five parts are, (N, 5, 2) xy in picture sides, on the bird, in the order of ``PARTS``."""
    tilt, head = t["tilt"], t["tilt"] + t["nod"]
    centre = _turn(HEAD, tilt)
    beak = np.stack([BEAK[0] + 0.45 * t["beak"], np.full_like(tilt, BEAK[1])], axis=1)
    tail = (
        _rotate_points(np.stack([0.45 * t["tail"], np.zeros_like(tilt)], axis=1), TAIL_ANGLE + t["wag"])
        + TAIL_ROOT
    )
    wing = _turn((0.17, 0.0), np.full_like(tilt, WING_ANGLE)) + SHOULDER
    points = [
        centre + _rotate_points(beak, head),
        centre + _turn(CROWN, head),
        centre + _turn(EYE, head),
        _rotate_points(wing, tilt),
        _rotate_points(tail, tilt),
    ]
    xy = np.stack(points, axis=1) * t["scale"][:, None, None]
    xy[..., 0] *= t["flip"][:, None]
    return xy + np.stack([t["x"], t["y"]], axis=1)[:, None]


def paint_bird(canvas: Tensor, mask: Tensor, x: Tensor, y: Tensor, t: dict[str, Tensor]) -> None:
    """Paint a batch of birds over ``canvas`` (b, 3, S, S) and add them to ``mask`` (b, 1, S, S), both in
    place.

    Args:
        canvas: RGB float32.
        mask: bool.
        x, y: pixel centres, (1, 1, 1, S) and (1, 1, S, 1).
        t: columns (b, 1, 1, 1) or colours (b, 3, 1, 1): placement as of ``place``; beak, tail (lengths), tail
            end, fork, bars, streaks; crown, breast, mantle, horn (colours); light (direction, radians),
            texture.
    """
    px = 1.0 / (canvas.shape[-1] * t["scale"])  # a pixel's width in the bird's units
    x, y = (x - t["x"]) / t["scale"] * t["flip"], (y - t["y"]) / t["scale"]
    u, v = rotate(x, y, t["tilt"])  # the body's frame
    grain = noise(u * 0.55 + t["texture"], v * 0.55 + t["texture"] * 3.1)
    mantle = t["mantle"]
    dark = mantle * 0.52
    lit = u * torch.cos(t["light"]) + v * torch.sin(t["light"])
    form = 1.0 + 0.30 * lit + 0.06 * grain

    # legs, upright whatever the body does
    c, s = torch.cos(t["tilt"]), torch.sin(t["tilt"])
    thick = torch.maximum(torch.full_like(px, 0.014), 0.72 * px)  # never thinner than the pixel grid can hold
    for k, (hip_x, hip_y) in enumerate(LEGS):
        lx, ly = x - (c * hip_x - s * hip_y), y - (s * hip_x + c * hip_y - 0.10)
        reach = FOOT - 0.02 - (s * hip_x + c * hip_y - 0.10)
        leg = capsule(lx, ly, torch.zeros_like(reach), reach, thick)
        leg = torch.minimum(leg, capsule(lx + 0.030, ly - reach, 0.115, 0.0, thick))
        paint_object(canvas, mask, t["horn"] * (0.72 + 0.23 * k), leg, px)

    # tail, behind the body
    a, b = rotate(u - TAIL_ROOT[0], v - TAIL_ROOT[1], TAIL_ANGLE + t["wag"])
    half = torch.lerp(torch.full_like(t["tail"], 0.055), t["tail end"], (a / t["tail"]).clamp(0.0, 1.0))
    tail = wedge(a + 0.08, b, t["tail"] + 0.08, 0.045, t["tail end"])
    tail = torch.maximum(
        tail, circle(a - 0.05, b * 0.9, t["tail"] - 0.05) * (1.0 - t["fork"]) - 9.0 * t["fork"]
    )
    notch = (a - t["tail"] * 0.50 - b.abs() * 2.3) * 0.4
    tail = torch.maximum(tail, torch.where(t["fork"] > 0.5, notch, tail))
    paint_object(canvas, mask, dark * form, tail, px)
    rays = torch.cos(b / half * 9.4)
    paint(
        canvas,
        mantle * 0.36,
        edge(tail + 0.6 * px, px) * smoothstep(rays, 0.55, 0.95) * smoothstep(a, 0.05, 0.2) * 0.6,
    )

    # beak, behind the head
    hx, hy = rotate(u - HEAD[0], v - HEAD[1], t["nod"])
    bx, by = hx - BEAK[0], hy - BEAK[1]
    beak = wedge(
        bx + 0.05,
        by - 0.02 * (bx / t["beak"]).clamp(0, 1) ** 2,
        t["beak"] + 0.05,
        0.066,
        torch.maximum(torch.full_like(px, 0.008), 0.72 * px),
    )
    paint_object(canvas, mask, t["horn"] * (1.08 - 2.2 * by), beak, px)
    paint(canvas, t["horn"] * 0.45, edge(by.abs() - 0.006, px) * edge(beak + 0.5 * px, px) * 0.8)

    # body and head in one silhouette
    along, across = rotate(u - CHEST[0], v - CHEST[1], torch.full_like(px, BODY_ANGLE))
    trunk = drop(along, across, BODY_LENGTH, 0.34, 0.15)
    body = smooth_union(trunk, circle(hx, hy, HEAD_RADIUS), 0.16)
    inside = edge(body, px)
    belly = rgb(0.97, 0.94, 0.87).to(u.device)
    under = smoothstep(v + 0.55 * u - 0.5 * (u - 0.1) ** 2, -0.03, 0.13) * smoothstep(hy, 0.12, 0.2)
    coat = torch.lerp(mantle.expand_as(canvas), belly, under * 0.95)
    breast = ellipse(u - 0.25, v + 0.015, 0.235, 0.25)
    coat = torch.lerp(coat, t["breast"], edge(breast + 0.04 * grain, 0.06 + px))
    column_ = torch.remainder(u * 9.5 + 0.25 * torch.floor(v * 9.0 + 9.0) * 2.0, 1.0) - 0.5
    row = torch.remainder(v * 9.0 + 9.0, 1.0) - 0.5
    dash = ellipse(column_ / 9.5, row / 9.0, 0.019, 0.046)
    speckled = (
        edge(dash, px) * smoothstep(v + 0.55 * u, 0.02, 0.08) * smoothstep(body, -0.03, -0.06) * (v > -0.16)
    )
    coat = torch.lerp(coat, rgb(0.20, 0.12, 0.09).to(u.device), speckled * t["streaks"] * 0.9)

    # face: pale cheek, dark line through the eye, the crown as a cap
    cheek = ellipse(hx - 0.06, hy - 0.075, 0.15, 0.105)
    coat = torch.lerp(coat, belly, edge(cheek, 0.03 + px) * 0.92)
    line = capsule(hx + 0.10, hy - EYE[1] - 0.012, 0.30, 0.0, 0.026)
    coat = torch.lerp(coat, mantle * 0.30, edge(line, px) * 0.85)
    cap = hy + 0.075 + 0.16 * hx + 0.9 * (hx - 0.02).clamp(min=0) ** 2 - 0.35 * (hx + 0.1).clamp(max=0)
    cap = torch.maximum(cap, -0.23 - hx)
    coat = torch.lerp(coat, t["crown"] * (1.0 + 0.10 * grain), edge(cap, px) * (hy < 0.1))

    # soft form: light from one side, a darker rim, a shadow under the wing
    rim = 0.70 + 0.30 * smoothstep(-body, 0.0, 0.075)
    wx, wy = rotate(u - SHOULDER[0], v - SHOULDER[1], torch.full_like(px, WING_ANGLE))
    wing = drop(wx, wy, WING_LENGTH, 0.195, 0.022)
    shadow = 1.0 - 0.26 * smoothstep(drop(wx + 0.012, wy + 0.035, WING_LENGTH, 0.195, 0.03), 0.045, -0.01)
    body_colour = coat * (form * rim * shadow)
    paint_object(canvas, mask, body_colour, body, px)

    # wing: scaled coverts, bars, long dark primaries
    feathers = torch.remainder(wx * 11.0 + 0.5 * torch.floor(wy * 13.0 + 20.0), 1.0) - 0.5
    scale_ = torch.sqrt(feathers**2 + (torch.remainder(wy * 13.0 + 20.0, 1.0) - 0.5) ** 2)
    covert = mantle * 0.80 * (1.10 - 0.42 * smoothstep(scale_, 0.32, 0.6))
    primary = mantle * (0.50 + 0.16 * torch.cos((wy + 0.12 * wx) * 105.0))
    curve = wx + 1.6 * wy * wy
    colour = torch.lerp(covert, primary, smoothstep(curve, 0.20, 0.23))
    bars = edge((curve - 0.205).abs() - 0.030, px) * (t["bars"] > 0.5)
    bars = torch.maximum(bars, edge((curve - 0.075).abs() - 0.030, px) * (t["bars"] > 1.5))
    colour = torch.lerp(colour, rgb(0.99, 0.97, 0.92).to(u.device), bars * 0.96)
    wing_rim = 0.66 + 0.34 * smoothstep(-wing, 0.0, 0.03)
    paint_object(canvas, mask, colour * (form * wing_rim), wing, px)

    # eye: pale ring, dark iris, one highlight
    ex, ey = hx - EYE[0], hy - EYE[1]
    for radius, shade in ((0.062, (0.98, 0.94, 0.84)), (0.049, (0.07, 0.05, 0.06))):
        paint(canvas, rgb(*shade), edge(circle(ex, ey, radius), px))
    glint = circle(ex * t["flip"] + 0.017, ey + 0.019, 0.019)
    paint(canvas, rgb(1.0, 1.0, 1.0), edge(glint - 0.25 * px, px) * inside)


def columns(table: dict[str, np.ndarray], rows: np.ndarray, device: torch.device | str) -> dict[str, Tensor]:
    """Rows of a table of numbers (N,) and colours (N, 3), ready for ``paint_bird``."""
    return {name: column(values[rows], device) for name, values in table.items()}


def mantles(u: np.ndarray) -> np.ndarray:
    """Back colours, (N, 3) from uniform (N, 4): browns, olives and greys, independent of the class."""
    palette = np.array([[0.56, 0.40, 0.25], [0.50, 0.48, 0.30], [0.47, 0.50, 0.54], [0.66, 0.53, 0.38]])
    place_ = u[:, 0] * (len(palette) - 1)
    low = np.minimum(place_.astype(int), len(palette) - 2)
    weight = (place_ - low)[:, None]
    return (palette[low] * (1 - weight) + palette[low + 1] * weight) * (0.88 + 0.24 * u[:, 1:2])
