"""Methods: modules which turn their views into a dict of losses and update themselves after a step.

``cvsa.methods.catalogue`` is read by the command line and must stay free of torch, so nothing here imports it
before a name is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cvsa.methods.catalogue import find_base

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


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def _find_class(path: str) -> type[Method]:
    """The class behind "module:Class"."""
    from cvsa.errors import CVSAError, one_line
    from cvsa.methods.base import Method

    module, _, name = path.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise CVSAError(
            f"Base {path!r} cannot be imported: {one_line(str(error))}. It is module:Class."
        ) from None
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise CVSAError(f"Base {path!r} is no Method: derive it from cvsa.methods.Method.")
    return found


def build_method(config: PretrainConfig) -> Method:
    """Build a base and, where its weight is positive, attach the saliency alignment.

    Weights are drawn under ``config.seed`` without touching the global generator, the alignment's last: rows
    which differ only in the alignment start from the same encoder and heads.

    Args:
        config: uses base, backbone, image_size, seed, projector_hidden, projector_dim, ema_momentum,
            temperature, queue_size, align_weight, align_dim, align_scores, align_depth and align_symmetric.

    Raises:
        CVSAError: unknown backbone; a method of your own that cannot be imported.
    """
    import torch

    from cvsa.methods.alignment import SaliencyAlignment

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        method: Method = _find_class(find_base(config.base).method)(config)
        if config.align_weight > 0:
            width = method.encoder.num_features
            module = SaliencyAlignment(
                width, dim=config.align_dim, scores=config.align_scores, depth=config.align_depth
            )
            method.attach_alignment(module, config.align_weight, config.align_symmetric)
    return method
