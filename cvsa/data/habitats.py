"""The ten habitats and the plain backdrop: scenes with texture that a contrastive learner likes to remember.

Each painter gets pixel coordinates x (b, 1, 1, S), y (b, 1, S, 1) in [0, 1], the width of a pixel, and ``p``,
sixteen numbers in [0, 1) per image as (b, 1, 1, 1) columns that vary layout and colour within the habitat. It
returns the canvas (b, 3, S, S). [O]
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cvsa.data.render import (
    blend,
    box,
    capsule,
    circle,
    column,
    edge,
    ellipse,
    hashed,
    noise,
    paint,
    rgb,
    scatter,
    smoothstep,
    star,
)

PARAMETERS = 16
PLAIN = -1


def _full(colour: Tensor, p: list[Tensor], x: Tensor) -> Tensor:
    """A canvas of its own (b, 3, S, S) from any broadcastable colour, to paint on in place."""
    return colour.expand(len(p[0]), 3, x.shape[-1], x.shape[-1]).contiguous()


def _ridge(x: Tensor, seed: Tensor, waves: float) -> Tensor:
    """A skyline: smooth-to-rough heights around 0 along x."""
    return noise(x * waves + seed * 17.3, seed * 5.1 + 0.0 * x)


def _leaf(u: Tensor, v: Tensor, length: Tensor | float, width: Tensor | float) -> Tensor:
    """A pointed leaf along u: two parabolas."""
    t = u / length
    return (v.abs() - width * (1.0 - t * t)) * 0.8


def forest(x: Tensor, y: Tensor, px: Tensor, p: list[Tensor]) -> Tensor:
    """Misty wood: trunks in four depths, leafy canopy, shafts of light, ferny floor."""
    mist = blend(rgb(0.66, 0.80, 0.52), rgb(0.86, 0.88, 0.58), p[0])
    deep = blend(rgb(0.07, 0.22, 0.13), rgb(0.16, 0.27, 0.09), p[1])
    glow = torch.exp(-((x - 0.2 - 0.6 * p[2]) ** 2 + (y - 0.45) ** 2) * 5.0)
    canvas = torch.lerp(blend(deep, mist, torch.full_like(p[0], 0.45)), mist, glow)
    for layer, (count, width) in enumerate(((11.0, 0.10), (8.0, 0.13), (5.5, 0.15), (3.6, 0.16))):
        u = (x + p[3] * (layer + 1) * 3.7 + 0.02 * (y - 0.5) * (layer - 1)) * count + 32.0
        cell = torch.floor(u)
        random = hashed(cell, layer * 5.0, p[4])
        offset = (u - cell - 0.5 - 0.4 * (random - 0.5)).abs()
        trunk = (offset - width * (0.6 + 0.8 * torch.frac(random * 51.0)) * (0.92 + 0.3 * y**4)) / count
        bark = noise(u * 0.45 + random, y * 0.16 + random)
        dark = blend(rgb(0.42, 0.50, 0.34), rgb(0.20, 0.15, 0.11), torch.full_like(p[0], layer / 3.0))
        shade = 1.0 + 0.30 * bark + 0.35 * (u - cell - 0.5)
        paint(canvas, dark * shade, edge(trunk, px) * (random < 0.86))
    floor_ = noise(x * 1.3 + p[5], y * 2.6 + p[6])
    ground = y - 0.82 - 0.05 * _ridge(x, p[7], 0.5)
    paint(
        canvas,
        blend(deep * 0.9, rgb(0.42, 0.55, 0.18), (0.45 + 0.55 * floor_).clamp(0, 1)),
        smoothstep(ground, 0, 0.06),
    )
    crown = noise(x * 0.9 + p[8], y * 0.9 + p[9])
    leaves = smoothstep(crown + (0.22 + 0.14 * p[10] - y) * 3.0, 0.0, 0.25)
    paint(
        canvas,
        blend(deep, rgb(0.45, 0.66, 0.20), (0.4 + 0.7 * noise(x * 2 + p[9], y * 2 + p[8])).clamp(0, 1)),
        leaves,
    )
    shaft = smoothstep(noise(x * 0.35 - y * 0.2 + p[11], 0.0 * y + p[10]), 0.3, 0.8) * (1.0 - y) * 0.35
    paint(canvas, rgb(1.0, 0.97, 0.75), shaft)
    return canvas


def reeds(x: Tensor, y: Tensor, px: Tensor, p: list[Tensor]) -> Tensor:
    """Pond: rippled water, lily pads, curved reeds and bulrushes."""
    line = 0.28 + 0.2 * p[0]
    sky = blend(rgb(0.70, 0.87, 0.88), rgb(0.93, 0.93, 0.76), (y / line).clamp(0, 1) * (0.4 + 0.6 * p[1]))
    depth = ((y - line) / (1.0 - line)).clamp(0, 1)
    water = blend(rgb(0.44, 0.74, 0.76), rgb(0.06, 0.36, 0.44), depth)
    ripple = noise(x * 0.35 + p[2], y * 2.2 / (0.4 + depth) + p[3])
    water = water * (1.0 + 0.16 * ripple) + 0.15 * smoothstep(ripple, 0.6, 0.9)
    canvas = torch.lerp(sky, water, edge(line - y, px))
    bank = line - 0.07 - 0.07 * _ridge(x, p[4], 0.7)
    paint(
        canvas,
        rgb(0.33, 0.50, 0.28) * (1.0 + 0.3 * noise(x * 2.0, y * 2.0 + p[5])),
        edge(bank - y, px) * edge(y - line, px),
    )
    u, v, a, b, _ = scatter(x, y * 2.2, 4.5, 0.0 * p[0], p[6])
    pad = ellipse(u + 0.2 * (a - 0.5), v, 0.20 + 0.12 * b, 0.16 + 0.10 * b) / 4.5
    show = (a < 0.45) * smoothstep(depth, 0.10, 0.14)
    paint(canvas, blend(rgb(0.24, 0.52, 0.24), rgb(0.55, 0.72, 0.30), b), edge(pad, px) * show)
    paint(canvas, rgb(0.98, 0.80, 0.88), edge(star(u, v + 0.05, 6.0, 0.13, 0.4) / 4.5, px) * show * (b > 0.6))
    for layer, count in enumerate((16.0, 11.0, 7.0)):
        bend = (hashed(torch.floor(x * 2.0 + 9.0), layer * 3.0, p[7]) - 0.5) * 0.05 + (p[8] - 0.5) * 0.22
        u = (x + bend * (1.0 - y) ** 2 + p[9] * (layer + 1.3)) * count + 20.0
        cell = torch.floor(u)
        random = hashed(cell, layer * 7.0 + 2.0, p[10])
        top = 0.08 + 0.62 * torch.frac(random * 37.0)
        half = 0.0075 * (0.8 + 0.3 * layer) * smoothstep(y, 0.0, 0.4).clamp(min=0.2)
        offset = ((u - cell - 0.5 - 0.5 * (random - 0.5)) / count).abs()
        green = blend(
            rgb(0.52, 0.62, 0.26), rgb(0.14, 0.36, 0.17), torch.frac(random * 11.0) * 0.7 + 0.15 * layer
        )
        there = random < 0.75
        paint(
            canvas, green * (0.8 + 0.4 * (1.0 - y)), edge(offset - half, px) * edge(top - y, px * 3.0) * there
        )
        head = box(offset, y - top - 0.02, 0.016, 0.065) - 0.004
        paint(canvas, rgb(0.40, 0.22, 0.11), edge(head, px) * (there & (torch.frac(random * 91.0) > 0.5)))
    return canvas


def meadow(x: Tensor, y: Tensor, px: Tensor, p: list[Tensor]) -> Tensor:
    """Hills under a light sky, blades of grass, poppies, daisies and buttercups."""
    canvas = _full(blend(rgb(0.55, 0.80, 0.94), rgb(0.95, 0.96, 0.88), (y * 3.2).clamp(0, 1)), p, x)
    for layer in range(3):
        line = 0.14 + 0.10 * layer + 0.10 * p[0] + 0.09 * _ridge(x * 0.35, p[layer + 1], 0.6)
        green = blend(rgb(0.55, 0.74, 0.45), rgb(0.36, 0.62, 0.20), p[1] * 0.3 + 0.35 * layer)
        paint(canvas, green * (1.0 + 0.15 * noise(x + p[2], y * 2.0 + p[layer])), edge(line - y, px))
    blades = noise(x * 3.2 + 0.3 * y + p[3], y * 0.55 + p[4])
    near = smoothstep(y, 0.38, 0.62)
    paint(
        canvas,
        blend(rgb(0.16, 0.45, 0.12), rgb(0.66, 0.80, 0.30), (0.45 + 0.6 * blades).clamp(0, 1)),
        near * 0.9,
    )
    petals = (rgb(0.90, 0.15, 0.12), rgb(0.99, 0.98, 0.94), rgb(1.0, 0.80, 0.12), rgb(0.52, 0.38, 0.80))
    for layer, (frequency, radius) in enumerate(((13.0, 0.26), (8.5, 0.30), (5.5, 0.31))):
        u, v, a, b, c = scatter(x, y * (1.3 - 0.15 * layer), frequency, p[6] * 0.6 - 0.3, p[5 + layer])
        u, v = u + 0.3 * (b - 0.5), v + 0.3 * (c - 0.5)
        first = petals[layer] if layer else petals[2]
        colour = torch.where(c < 0.3 + 0.5 * p[8], first.to(c.device), petals[(layer + 1) % 4].to(c.device))
        show = (a < 0.30 + 0.25 * p[9]) * smoothstep(y, 0.30 + 0.08 * layer, 0.36 + 0.1 * layer)
        paint(canvas, colour * (0.85 + 0.3 * b), edge(star(u, v, 5.0, radius, 0.35) / frequency, px) * show)
        heart = rgb(0.20, 0.12, 0.10) if layer == 0 else rgb(0.98, 0.72, 0.10)
        paint(canvas, heart, edge(circle(u, v, radius * 0.33) / frequency, px) * show)
    return canvas


def sky(x: Tensor, y: Tensor, px: Tensor, p: list[Tensor]) -> Tensor:
    """High sky: towering clouds lit from one side, thin veils, a sun."""
    deep = blend(rgb(0.16, 0.44, 0.82), rgb(0.30, 0.60, 0.90), p[0])
    canvas = blend(deep, rgb(0.78, 0.90, 0.97), y * (0.6 + 0.4 * p[1]))
    sun = circle(x - p[2], y - 0.22 * p[3] - 0.06, 0.07)
    canvas = torch.lerp(canvas, rgb(1.0, 0.97, 0.80).to(x.device), torch.exp(-sun.clamp(min=0) * 7.0) * 0.85)
    veil = noise(x * 0.30 + p[4], y * 1.1 + 0.3 * x + p[5])
    paint(canvas, rgb(1, 1, 1), smoothstep(veil, 0.1, 1.2) * 0.5)
    for layer in range(2):
        scale = 0.42 - 0.14 * layer
        u, v = x * scale + p[6 + layer] * 3.0, y * scale * 1.35 + p[8 + layer] * 3.0
        puff, lit = noise(u, v), noise(u - 0.012, v - 0.022)
        weight = smoothstep(puff, 0.12 - 0.25 * p[10], 0.36 - 0.25 * p[10])
        light = (0.62 + 0.75 * (puff - lit) + 0.30 * puff).clamp(0, 1)
        paint(canvas, blend(rgb(0.62, 0.70, 0.82), rgb(1.0, 0.99, 0.97), light), weight * 0.97)
    return canvas


def snow(x: Tensor, y: Tensor, px: Tensor, p: list[Tensor]) -> Tensor:
    """Mountains with snow caps, a fir wood, drifts, falling flakes."""
    canvas = blend(rgb(0.52, 0.68, 0.88), rgb(0.78, 0.74, 0.88), p[0])
    canvas = _full(blend(canvas, rgb(0.97, 0.95, 0.95), (y * 1.7).clamp(0, 1)), p, x)
    for layer in range(2):
        u = x * (0.9 - 0.2 * layer) + p[1 + layer] * 5.0
        peak = (torch.remainder(u * 1.7, 1.0) - 0.5).abs() * (0.55 - 0.12 * layer)
        line = 0.12 + 0.16 * layer + peak + 0.06 * _ridge(x, p[3 + layer], 0.8)
        height = y - line
        facet = noise(x * 0.9 + height * 0.8 + p[5], height * 0.9 + p[6])
        rock = blend(rgb(0.30, 0.37, 0.50), rgb(0.50, 0.58, 0.72), (0.5 + 0.7 * facet).clamp(0, 1))
        cap = smoothstep(height + 0.16 * facet, 0.17, 0.13)
        side = (torch.remainder(u * 1.7, 1.0) < 0.5 + 0.10 * facet) * 0.16
        surface = torch.lerp(rock, rgb(0.98, 0.99, 1.0).to(x.device) - side, cap)
        paint(canvas, surface * (0.92 + 0.08 * layer), edge(-height, px))
    ground = 0.66 + 0.06 * p[7] + 0.05 * _ridge(x * 0.5, p[8], 0.6)
    for layer, count in enumerate((12.0, 7.0)):
        u = (x + p[9] * (layer + 2.0)) * count + 11.0
        cell = torch.floor(u)
        random = hashed(cell, layer * 4.0, p[10])
        base = ground + 0.03 + 0.05 * layer
        tall = (0.16 + 0.14 * random) * (1.0 + 0.35 * layer)
        rise = ((base - y) / tall).clamp(0.0, 1.0)
        step = (1.0 - rise) * 0.30 + 0.13 * (1.0 - torch.frac(rise * 4.0)) * (1.0 - rise)
        fir = ((u - cell - 0.5 - 0.3 * (random - 0.5)).abs() - step) / count
        inside = (y < base) & (y > base - tall) & (random < 0.8)
        green = blend(rgb(0.22, 0.38, 0.40), rgb(0.08, 0.24, 0.22), torch.full_like(p[0], float(layer)))
        frost = torch.frac(rise * 4.0) < 0.25
        paint(canvas, torch.where(frost, rgb(0.92, 0.96, 0.98).to(x.device), green), edge(fir, px) * inside)
    drift = noise(x * 0.5 + p[8], y * 1.6 + p[7])
    paint(
        canvas,
        blend(rgb(0.78, 0.85, 0.95), rgb(1, 1, 1), (0.6 + 0.6 * drift).clamp(0, 1)),
        edge(ground + 0.04 - y, px),
    )
    u, v, a, b, c = scatter(x, y, 12.0, p[11], p[10])
    flake = circle(u + 0.5 * (b - 0.5), v + 0.5 * (c - 0.5), 0.07 + 0.13 * b) / 12.0
    paint(canvas, rgb(1, 1, 1), edge(flake, px) * (a < 0.55) * 0.92)
    return canvas


def dunes(x: Tensor, y: Tensor, px: Tensor, p: list[Tensor]) -> Tensor:
    """Desert: a hot sky, dunes with a sunny and a shady side, wind ripples, cacti."""
    canvas = blend(rgb(0.98, 0.62, 0.36), rgb(0.45, 0.72, 0.86), p[0])
    canvas = _full(blend(canvas, rgb(1.0, 0.90, 0.66), (y * 2.2).clamp(0, 1)), p, x)
    sun = circle(x - 0.1 - 0.8 * p[1], y - 0.08 - 0.1 * p[2], 0.06)
    paint(canvas, rgb(1.0, 0.97, 0.80), edge(sun, px))
    paint(canvas, rgb(1.0, 0.93, 0.70), torch.exp(-sun.clamp(min=0) * 9.0) * 0.6)
    for layer in range(4):
        phase, slope = p[3 + layer] * 6.28, 2.4 - 0.35 * layer
        wave = torch.sin(x * slope * 2.2 + phase + 0.7 * torch.sin(x * slope + phase * 2.0))
        line = 0.30 + 0.17 * layer - 0.05 * p[2] + 0.055 * (1.0 + 0.3 * layer) * wave
        depth = y - line
        crest = torch.sin(x * slope * 2.2 + phase + 1.2 + depth * 9.0)
        lit = smoothstep(crest, -0.15, 0.25)
        sand = blend(rgb(0.70, 0.36, 0.17), rgb(0.97, 0.74, 0.38), lit)
        sand = blend(sand, rgb(0.98, 0.80, 0.58), torch.full_like(p[0], 0.45 - 0.15 * layer))
        bend = noise(x * 1.1 + p[7], y * 1.1 + p[8])
        ripple = torch.sin(depth * (66.0 - 11.0 * layer) + x * 12.0 + 1.5 * torch.sin(x * 9.0 + phase))
        paint(canvas, sand * (1.0 + 0.085 * ripple * (0.4 + 0.3 * layer) + 0.05 * bend), edge(-depth, px))
        if layer in (1, 2):
            scale = 0.6 + 0.4 * layer
            where = 0.08 + 0.84 * p[8 + layer]
            u, v = (x - where) / scale, (y - 0.44 - 0.13 * layer) / scale
            plant = torch.minimum(
                capsule(u, v, 0.0, -0.20, 0.022), capsule(u - 0.01, v + 0.09, 0.055, 0.0, 0.015)
            )
            plant = torch.minimum(plant, capsule(u - 0.065, v + 0.09, 0.0, -0.06, 0.015))
            plant = torch.minimum(plant, capsule(u + 0.055, v + 0.06, 0.055, 0.0, 0.015))
            plant = torch.minimum(plant, capsule(u + 0.055, v + 0.06, 0.0, -0.07, 0.015)) * scale
            paint(
                canvas,
                blend(rgb(0.16, 0.38, 0.22), rgb(0.40, 0.60, 0.32), (0.5 + u * 14.0).clamp(0, 1)),
                edge(plant, px),
            )
    return canvas


def shore(x: Tensor, y: Tensor, px: Tensor, p: list[Tensor]) -> Tensor:
    """Beach: turquoise sea with lines of foam, wet and dry sand, pebbles and shells."""
    slant = (p[0] - 0.5) * 0.5 * (x - 0.5)
    u = y + slant
    canvas = blend(rgb(0.74, 0.90, 0.96), rgb(0.96, 0.94, 0.86), (y * 5.0).clamp(0, 1) * p[1])
    depth = ((u - 0.12) / 0.5).clamp(0, 1)
    swell = noise(x * 0.5 + p[2], u * 2.4 + p[3])
    sea = blend(rgb(0.05, 0.38, 0.62), rgb(0.30, 0.78, 0.76), depth) * (1.0 + 0.15 * swell)
    sea = sea + 0.35 * smoothstep(swell, 0.6, 0.85)
    canvas = _full(torch.lerp(canvas, sea, edge(0.12 + 0.08 * p[1] - y, px)), p, x)
    wobble = noise(x * 0.22 + p[4], p[5] + 0.0 * x)
    for line in range(3):
        front = (
            u
            - 0.30
            - 0.12 * line
            - 0.05 * p[6]
            - 0.05 * noise(x * 0.3 + p[7], p[6] * 3.0 + line * 0.31 + 0.0 * x)
        )
        lace = noise(x * 1.3 + p[8], y * 1.3 + p[9])
        foam = smoothstep(front + 0.03 * lace, -0.05, 0.0) * smoothstep(front + 0.02 * lace, 0.022, 0.012)
        paint(canvas, rgb(0.98, 1.0, 1.0), foam * (0.55 + 0.4 * smoothstep(lace, -0.4, 0.2)))
    beach = u - 0.60 - 0.08 * wobble
    grain = noise(x * 3.7 + p[10], y * 3.7 + p[11])
    sand = blend(rgb(0.72, 0.58, 0.42), rgb(0.95, 0.85, 0.64), smoothstep(beach, 0.06, 0.16)) * (
        1.0 + 0.10 * grain
    )
    paint(canvas, sand, edge(-beach, px))
    paint(canvas, rgb(1, 1, 1), smoothstep(beach.abs() + 0.02 * grain, 0.028, 0.012))
    u, v, a, b, c = scatter(x, y * 1.3, 11.0, p[8], p[9])
    stone = ellipse(u + 0.3 * (b - 0.5), v + 0.3 * (c - 0.5), 0.14 + 0.14 * b, 0.11 + 0.09 * c) / 11.0
    tint = blend(rgb(0.45, 0.46, 0.50), rgb(0.98, 0.86, 0.80), torch.frac(b * 7.0))
    paint(
        canvas,
        tint * (1.0 - 0.9 * (v + 0.1)).clamp(0.6, 1.2),
        edge(stone, px) * (a < 0.5) * smoothstep(beach, 0.05, 0.08),
    )
    return canvas


def autumn(x: Tensor, y: Tensor, px: Tensor, p: list[Tensor]) -> Tensor:
    """Fallen leaves: four layers of reds, oranges and golds over dark earth."""
    glow = noise(x * 0.3 + p[0], y * 0.3 + p[1])
    canvas = blend(rgb(0.24, 0.12, 0.07), rgb(0.55, 0.30, 0.12), (0.5 + 0.6 * glow).clamp(0, 1))
    for layer, frequency in enumerate((8.0, 6.5, 5.2, 4.2)):
        u, v, a, b, c = scatter(x, y, frequency, p[2 + layer] * 6.28, p[6 + layer])
        c1, s1 = torch.cos(b * 6.28), torch.sin(b * 6.28)
        u, v = c1 * u + s1 * v, c1 * v - s1 * u
        length = 0.36 + 0.12 * c
        leaf = torch.maximum(_leaf(u, v, length, 0.20 + 0.06 * a), u.abs() - length) / frequency
        warm = blend(
            rgb(0.72, 0.10, 0.08),
            rgb(0.96, 0.66, 0.12),
            (torch.frac(b * 13.0) + 0.5 * (p[10] - 0.5)).clamp(0, 1),
        )
        ribs = ((torch.frac((u.abs() * 0.9 + v.abs() * -0.9) * 11.0 + 0.1) < 0.16) | (v.abs() < 0.012)) * 0.20
        shade = 0.62 + 0.12 * layer + 0.5 * v - ribs
        there = a < 0.86
        paint(canvas, rgb(0.10, 0.04, 0.02), edge(leaf - 0.004, px * 3.0) * 0.45 * there)
        paint(canvas, warm * shade, edge(leaf, px) * there)
    return canvas


def night(x: Tensor, y: Tensor, px: Tensor, p: list[Tensor]) -> Tensor:
    """Night: stars, a moon with its halo, dark pines on a ridge, fireflies."""
    canvas = blend(rgb(0.03, 0.04, 0.16), blend(rgb(0.16, 0.20, 0.46), rgb(0.34, 0.18, 0.44), p[0]), y**1.3)
    band = noise(x * 0.4 + y * 0.4 + p[1], x * 0.15 - y * 0.15 + p[2])
    canvas = canvas + 0.10 * smoothstep(band, 0.0, 1.0)
    for frequency, radius, k in ((20.0, 0.10, 3), (10.0, 0.085, 4)):
        u, v, a, b, c = scatter(x, y, frequency, p[k], p[k + 1])
        star_ = circle(u + 0.7 * (b - 0.5), v + 0.7 * (c - 0.5), radius) / frequency
        paint(
            canvas,
            blend(rgb(0.80, 0.86, 1.0), rgb(1.0, 0.95, 0.75), b),
            edge(star_, px) * (a < 0.5) * (0.4 + 0.6 * c),
        )
    mx, my = x - 0.15 - 0.7 * p[6], y - 0.14 - 0.14 * p[7]
    moon = circle(mx, my, 0.085)
    paint(canvas, rgb(0.75, 0.80, 0.98), torch.exp(-moon.clamp(min=0) * 8.0) * 0.45)
    paint(
        canvas,
        rgb(0.98, 0.96, 0.84) * (1.0 - 0.14 * smoothstep(noise(x * 1.2, y * 1.2), 0.1, 0.4)),
        edge(moon, px),
    )
    for layer, count in enumerate((9.0, 6.0)):
        hill = 0.70 + 0.13 * layer + 0.10 * _ridge(x * 0.4, p[8 + layer], 0.7)
        u = (x + p[10] * (layer + 1.7)) * count + 7.0
        cell = torch.floor(u)
        random = hashed(cell, layer * 6.0 + 1.0, p[11])
        tall = 0.14 + 0.22 * random
        rise = ((hill + 0.05 - y) / tall).clamp(0.0, 1.0)
        pine = (
            (u - cell - 0.5).abs() - (1.0 - rise) * (0.22 + 0.14 * (1.0 - torch.frac(rise * 5.0)))
        ) / count
        dark = blend(rgb(0.08, 0.14, 0.26), rgb(0.03, 0.06, 0.11), torch.full_like(p[0], float(layer)))
        paint(
            canvas,
            dark,
            torch.maximum(edge(pine, px) * (y > hill + 0.05 - tall) * (random < 0.8), edge(hill - y, px)),
        )
    u, v, a, b, c = scatter(x, y, 7.0, p[9], p[8])
    fly = circle(u + 0.5 * (b - 0.5), v + 0.5 * (c - 0.5), 0.0)
    paint(canvas, rgb(1.0, 0.92, 0.40), torch.exp(-(fly**2) * 140.0) * (a < 0.4) * smoothstep(y, 0.45, 0.7))
    return canvas


def blossom(x: Tensor, y: Tensor, px: Tensor, p: list[Tensor]) -> Tensor:
    """Orchard in bloom: dark crooked twigs and five-petalled flowers before a pale sky."""
    soft = noise(x * 0.25 + p[0], y * 0.25 + p[1])
    canvas = blend(
        rgb(0.66, 0.84, 0.95), rgb(1.0, 0.86, 0.90), (0.5 + 0.5 * soft + 0.4 * (p[2] - 0.5)).clamp(0, 1)
    )
    for layer in range(3):
        tilt = 0.35 + 0.7 * p[3 + layer]
        u, v = x * torch.cos(tilt) + y * torch.sin(tilt), y * torch.cos(tilt) - x * torch.sin(tilt)
        crooked = 0.05 * torch.sin(u * 9.0 + p[4] * 6.28) + 0.035 * torch.sin(u * 23.0 + p[5] * 6.28 + layer)
        twig = (torch.remainder(v + crooked + p[6], 0.62) - 0.31).abs() - 0.020 + 0.004 * layer
        paint(
            canvas,
            rgb(0.34, 0.22, 0.20) * (1.0 + 0.3 * noise(u * 2.0, v * 2.0)),
            edge(twig, px) * (1.0 - 0.2 * (2 - layer)),
        )
    for layer, frequency in enumerate((9.0, 6.5, 4.8)):
        u, v, a, b, c = scatter(x, y, frequency, p[7 + layer] * 6.28, p[8 + layer])
        u, v = u + 0.16 * (b - 0.5), v + 0.16 * (c - 0.5)
        radius = 0.32 + 0.09 * c
        angle = b * 6.28
        flower = star(
            torch.cos(angle) * u + torch.sin(angle) * v,
            torch.cos(angle) * v - torch.sin(angle) * u,
            5.0,
            radius,
            0.42,
        )
        r = circle(u, v, 0.0)
        petal = blend(
            rgb(0.93, 0.45, 0.62),
            rgb(1.0, 0.90, 0.93),
            (r / radius * 0.9 + 0.25 * (layer - 1) + 0.2 * b).clamp(0, 1),
        )
        show = a < 0.50 + 0.2 * p[11]
        paint(canvas, rgb(0.62, 0.30, 0.42), edge(flower / frequency - 0.004, px * 3.0) * 0.3 * show)
        paint(canvas, petal * (0.86 + 0.07 * layer), edge(flower / frequency, px) * show)
        paint(canvas, rgb(0.98, 0.80, 0.30), edge((r - 0.06) / frequency, px) * show)
    return canvas


def plain(x: Tensor, y: Tensor, px: Tensor, p: list[Tensor]) -> Tensor:
    """The neutral backdrop of the habitat-free test: a soft two-tone gradient with faint grain."""
    level = 0.35 + 0.45 * p[0]
    tint = torch.cat([level + 0.08 * (p[k] - 0.5) for k in (1, 2, 3)], dim=1)
    across = (
        (x - 0.5) * (p[4] - 0.5) + (y - 0.5) * (p[5] - 0.5) + 0.08 * noise(x * 0.12 + p[6], y * 0.12 + p[7])
    )
    grain = 0.012 * noise(x * 2.7 + p[8], y * 2.7 + p[9])
    return tint * (1.0 + 0.55 * across) + grain


Painter = Callable[[Tensor, Tensor, Tensor, list[Tensor]], Tensor]
PAINTERS: dict[str, Painter] = {
    painter.__name__: painter
    for painter in (forest, reeds, meadow, sky, snow, dunes, shore, autumn, night, blossom)
}
HABITATS: list[str] = list(PAINTERS)


def paint_habitat(habitat: int, x: Tensor, y: Tensor, size: int, parameters: Tensor) -> Tensor:
    """Paint one habitat (or the backdrop, -1) for a batch.

    Args:
        habitat: position in ``HABITATS``, or ``PLAIN``.
        x, y: pixel centres, (1, 1, 1, S) and (1, 1, S, 1).
        size: S.
        parameters: (b, PARAMETERS) in [0, 1).

    Returns:
        Canvas float32 (b, 3, S, S), RGB near [0, 1].
    """
    painter = plain if habitat == PLAIN else PAINTERS[HABITATS[habitat]]
    p = [column(parameters[:, k], parameters.device) for k in range(PARAMETERS)]
    # Framing: the window's size, place and side vary, so a habitat is a kind of scene and not one picture.
    zoom = 0.72 + 0.28 * p[12]
    side = torch.where(p[15] < 0.5, -1.0, 1.0)
    x = 0.5 + side * (x - 0.5) * zoom + (p[13] - 0.5) * (1.0 - zoom)
    y = 0.5 + (y - 0.5) * zoom + (p[14] - 0.5) * (1.0 - zoom)
    canvas = painter(x, y, zoom / size, p)
    if habitat != PLAIN:
        # One light, one season, one film: small casts and strengths of its own for every picture.
        cast = 0.92 + 0.16 * torch.stack([p[0], p[5], p[11]], dim=1).view(-1, 3, 1, 1)
        canvas = canvas * cast
    return canvas.expand(len(parameters), 3, size, size).clamp(0.0, 1.0)
