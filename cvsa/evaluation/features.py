"""From a finished pre-training run to a backbone, and from a backbone to features of a whole bank."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from cvsa.config import ChildConfig
from cvsa.data.bank import ImageBank
from cvsa.methods.backbone import Backbone, build_backbone
from cvsa.training.checkpoint import load_start
from cvsa.training.runtime import Runtime, seeded

Embed = Callable[[Tensor], Tensor]
"""Images (B, 3, R, R) float32 in [0, 1], of the bank's side -> pooled features (B, D) float32 on the CPU."""
Predict = Callable[[Tensor], Tensor]
"""The same images -> logits (B, K) on the CPU."""


def starting_backbone(config: ChildConfig, runtime: Runtime) -> Backbone:
    """The backbone an evaluation starts from: the pre-trained one, or the seed's random initialisation."""
    with seeded(config.seed, runtime.device):
        backbone = build_backbone(config.backbone, image_size=config.image_size)
    load_start(config, backbone)
    return runtime.place(backbone)  # type: ignore[return-value]


@torch.no_grad()
def extract_features(
    backbone: Backbone, bank: ImageBank, image_size: int, runtime: Runtime, batch: int = 200
) -> Tensor:
    """Pooled features of every image, whole image resized, no augmentation.

    Returns:
        (N, D) float32 on the CPU, in the bank's order.
    """
    backbone.eval()
    chunks = []
    for index in torch.arange(len(bank), device=bank.device).split(batch):
        with runtime.autocast():
            images = whole_view(bank.gather(index)[:, :3].to(runtime.device), image_size)
            chunks.append(backbone.pool(backbone(images)).float())
    return torch.cat(chunks).cpu()  # once: a GPU is not waited for at every batch


def whole_view(images: Tensor, size: int) -> Tensor:
    """The one view of every evaluation: the whole image (B, 3, R, R), resized, antialiased, to ``size``."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True).clamp(0, 1)
