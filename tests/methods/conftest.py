"""Shared by the methods' tests: a small configuration and a pair of views."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cvsa.views import Views


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def configure() -> Callable[..., Any]:
    defaults = {
        "base": "byol", "backbone": "resnet_slim", "image_size": 32, "seed": 0, "projector_hidden": 32,
        "projector_dim": 16, "ema_momentum": 0.9, "temperature": 0.2, "queue_size": 24, "align_weight": 0.0,
        "align_dim": 16, "align_scores": "normalised", "projector_norm": False,
        "align_symmetric": True, "align_depth": 2,
    }  # fmt: skip

    def make(**fields: Any) -> SimpleNamespace:
        return SimpleNamespace(**{**defaults, **fields})

    return make


@pytest.fixture
def views() -> tuple[Views, Views]:
    generator = torch.Generator().manual_seed(0)

    def one() -> Views:
        images = torch.rand(8, 3, 32, 32, generator=generator)
        return Views(images, (torch.rand(8, 1, 32, 32, generator=generator) > 0.5).float())

    return one(), one()
