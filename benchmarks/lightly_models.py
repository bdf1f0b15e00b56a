"""BYOL and MoCo v2 as one puts them together from lightly's parts, on our backbone and with our sizes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cvsa.config import PretrainConfig
from cvsa.methods import build_backbone
from cvsa.training.optim import build_optimizer
from cvsa.training.runtime import Runtime


class Pooled(nn.Module):
    """Our network without its normalisation, which lightly's transform does: (B, 3, S, S) -> (B, D).

    Args:
        config: names the backbone.
    """

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__()
        backbone = build_backbone(config.backbone, image_size=config.image_size)
        self.trunk, self.width = backbone.trunk, backbone.num_features

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = getattr(self.trunk, "forward_features", self.trunk)(images)
        return maps.mean((2, 3))


class LightlyBYOL(nn.Module):
    """Each view's prediction against the other's projection by the momentum branch."""

    def __init__(self, config: PretrainConfig) -> None:
        from lightly.loss import NegativeCosineSimilarity
        from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead

        super().__init__()
        hidden, dim = config.projector_hidden, config.projector_dim
        backbone = Pooled(config)
        self.online = nn.Sequential(backbone, BYOLProjectionHead(backbone.width, hidden, dim))
        self.predictor = BYOLPredictionHead(dim, hidden, dim)
        self.momentum = _frozen(self.online)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, views: list[Tensor]) -> Tensor:
        first, second = (self.predictor(self.online(view)) for view in views)
        with torch.no_grad():
            first_key, second_key = (self.momentum(view) for view in views)
        return 0.5 * (self.criterion(first, second_key) + self.criterion(second, first_key))


class LightlyMoCo(nn.Module):
    """The first view's projection against the second's by the momentum branch, among a memory bank's keys."""

    def __init__(self, config: PretrainConfig) -> None:
        from lightly.loss import NTXentLoss
        from lightly.models.modules.heads import ProjectionHead

        super().__init__()
        hidden, dim = config.projector_hidden, config.projector_dim
        backbone = Pooled(config)
        # Not MoCoProjectionHead: with BatchNorm, that is MoCo v3's, which ends in one more than ours.
        norm = nn.BatchNorm1d(hidden) if config.projector_norm else None
        layers = [(backbone.width, hidden, norm, nn.ReLU()), (hidden, dim, None, None)]
        head = ProjectionHead(layers)
        self.online = nn.Sequential(backbone, head)
        self.momentum = _frozen(self.online)
        self.criterion = NTXentLoss(config.temperature, memory_bank_size=(config.queue_size, dim))

    def forward(self, views: list[Tensor]) -> Tensor:
        query = self.online(views[0])
        with torch.no_grad():
            key = self.momentum(views[1])
        return self.criterion(query, key)


def _frozen(module: nn.Module) -> nn.Module:
    from lightly.models.utils import deactivate_requires_grad

    copied = copy.deepcopy(module)
    deactivate_requires_grad(copied)
    return copied


MODELS: dict[str, type[LightlyBYOL] | type[LightlyMoCo]] = {"byol": LightlyBYOL, "moco_v2": LightlyMoCo}
"""Base -> lightly's counterpart."""


def build_lightly(config: PretrainConfig, runtime: Runtime) -> LightlyBYOL | LightlyMoCo:
    """The counterpart of a configuration's base, placed as our own methods are.

    Raises:
        KeyError: a base that is not in :data:`MODELS`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        return runtime.place(MODELS[config.base](config)).train()  # type: ignore[return-value]


def lightly_step(
    config: PretrainConfig, runtime: Runtime, make_batch: Callable[[], Any]
) -> Callable[[], None]:
    """One training step, with our optimiser and precision.

    Args:
        config: of the row.
        runtime: device and precision.
        make_batch: two views of each image of a batch, (B, 3, S, S) each, normalised.
    """
    from lightly.models.utils import update_momentum

    model = build_lightly(config, runtime)
    optimizer = build_optimizer(model, config)
    momentum = config.ema_momentum

    def step() -> None:
        views = make_batch()
        with runtime.autocast():
            loss = model(views)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        update_momentum(model.online, model.momentum, m=momentum)

    return step
