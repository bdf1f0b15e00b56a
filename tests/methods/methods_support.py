"""Toy scenes for the learning tests: an object of one of four textures before a background lit from above."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cvsa.methods.base import Method
from cvsa.views import Views

CLASSES = 4
TEXTURES = torch.rand(CLASSES, 3, 4, 4, generator=torch.Generator().manual_seed(7))


def scenes(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, 3, 32, 32), masks (N, 1, 32, 32) of a 16 px object at a random place, and its class (N,)."""
    labels = torch.randint(CLASSES, (count,), generator=generator)
    images = F.interpolate(torch.rand(count, 3, 4, 4, generator=generator), size=32, mode="bilinear") * 0.6
    images = images + torch.linspace(0.4, 0, 32)[:, None]
    masks = torch.zeros(count, 1, 32, 32)
    objects = F.interpolate(TEXTURES[labels], size=16)
    for n, (x, y) in enumerate(torch.randint(17, (count, 2), generator=generator).tolist()):
        images[n, :, y : y + 16, x : x + 16] = objects[n]
        masks[n, :, y : y + 16, x : x + 16] = 1
    return images, masks, labels


def crop(images: Tensor, masks: Tensor, generator: torch.Generator) -> Views:
    """A random square crop of each image, of 25 to 100 % of its area, in other light."""
    count = len(images)
    scale = torch.empty(count, 1, 1).uniform_(0.5, 1, generator=generator)
    shift = (torch.rand(count, 2, 1, generator=generator) * 2 - 1) * (1 - scale)
    grid = F.affine_grid(torch.cat([torch.eye(2) * scale, shift], dim=2), list(images.shape), False)
    light = torch.empty(count, 1, 1, 1).uniform_(0.7, 1, generator=generator)
    crops, inside = (F.grid_sample(x, grid, align_corners=False) for x in (images, masks))
    return Views(crops * light, inside)


def train(
    method: Method, make_views: Callable[[], tuple[Views, ...]], steps: int, lr: float = 0.05
) -> dict[str, list[float]]:
    """Train as the loop does; the losses and diagnostics of every step."""
    optimiser = torch.optim.SGD(method.parameters(), lr=lr, momentum=0.9)
    history: dict[str, list[float]] = {}
    for step in range(steps):
        losses = method(make_views())
        optimiser.zero_grad()
        torch.stack([method.weights[name] * value for name, value in losses.items()]).sum().backward()
        optimiser.step()
        method.after_step((step + 1) / steps)
        for name, value in {**losses, **method.diagnostics}.items():
            history.setdefault(name, []).append(float(value.detach()))
    return history


def early_and_late(values: list[float], count: int = 5) -> tuple[float, float]:
    """Mean of the first and of the last values."""
    return sum(values[:count]) / count, sum(values[-count:]) / count


@torch.no_grad()
def nearest_neighbour_accuracy(method: Method, count: int = 200) -> float:
    """Share of fresh scenes whose nearest other scene, by the encoder's features, has the same object."""
    images, _, labels = scenes(count, torch.Generator().manual_seed(99))
    method.eval()
    z = F.normalize(method.encoder.pool(method.encoder(images)), dim=1)
    nearest = (z @ z.T).fill_diagonal_(-1).argmax(dim=1)
    return float((labels[nearest] == labels).float().mean())


@torch.no_grad()
def retrieval_accuracy(query: Tensor, key: Tensor) -> float:
    """Share of queries (B, d) whose nearest key (B, d), by cosine, is their own; chance is 1 / B."""
    nearest = (F.normalize(query, dim=1) @ F.normalize(key, dim=1).T).argmax(dim=1)
    return float((nearest == torch.arange(len(query))).float().mean())
