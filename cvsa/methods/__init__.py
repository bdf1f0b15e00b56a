"""Methods: modules which turn their views into a dict of losses and update themselves after a step.

``cvsa.methods.catalogue`` is read by the command line and must stay free of torch, so nothing here imports it
before a name is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cvsa.config import PretrainConfig
    from cvsa.methods.alignment import SaliencyAlignment, alignment_loss, attention
    from cvsa.methods.backbone import Backbone, build_backbone
    from cvsa.methods.base import Method
    from cvsa.methods.byol import BYOL
    from cvsa.methods.moco import MoCoV2

__all__ = [
    "BYOL",
    "Backbone",
    "Method",
    "MoCoV2",
    "SaliencyAlignment",
    "alignment_loss",
    "attention",
    "build_backbone",
    "build_method",
]

_HOME = {
    "BYOL": "byol",
    "Backbone": "backbone",
    "Method": "base",
    "MoCoV2": "moco",
    "SaliencyAlignment": "alignment",
    "alignment_loss": "alignment",
    "attention": "alignment",
    "build_backbone": "backbone",
}

# A base is one more line here and one more file.
BASES = {"byol": "BYOL", "moco_v2": "MoCoV2"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def build_method(config: PretrainConfig) -> Method:
    """Build a base and, where its weight is positive, attach the saliency alignment.

    Weights are drawn under ``config.seed`` without touching the global generator, the alignment's last: rows
    which differ only in the alignment start from the same encoder and heads.

    Args:
        config: uses base, backbone, image_size, seed, projector_hidden, projector_dim, ema_momentum,
            temperature, queue_size, align_weight, align_dim and align_scores.

    Raises:
        CVSAError: unknown base or backbone.
    """
    import torch

    from cvsa.errors import CVSAError
    from cvsa.methods.alignment import SaliencyAlignment

    if config.base not in BASES:
        raise CVSAError(f"Unknown base {config.base!r}. Bases with a loss to train: {', '.join(BASES)}.")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        method: Method = __getattr__(BASES[config.base])(config)
        if config.align_weight > 0:
            width = method.encoder.num_features
            module = SaliencyAlignment(width, dim=config.align_dim, scores=config.align_scores)
            method.attach_alignment(module, config.align_weight)
    return method
