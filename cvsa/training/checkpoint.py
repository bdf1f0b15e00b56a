"""Checkpoints hold everything a run needs to go on as if it had never stopped, and are written atomically."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cvsa.config import PUBLISHED, ChildConfig
from cvsa.errors import CVSAError
from cvsa.methods.backbone import Backbone, build_backbone
from cvsa.records import WEIGHTS, atomic_write

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write the state (tensors and plain values only) to ``checkpoint.pt``."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    atomic_write(folder / CHECKPOINT, buffer.getvalue())


def load_checkpoint(folder: Path, run_id: str, code: str) -> dict[str, Any] | None:
    """The state to resume from; None if there is none, or if another configuration or other code wrote it."""
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state if (state["run_id"], state["code"]) == (run_id, code) else None


def save_weights(folder: Path, module: nn.Module) -> None:
    """Write all weights and buffers to ``weights.safetensors``."""
    from safetensors.torch import save

    atomic_write(
        folder / WEIGHTS, save({k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()})
    )


def load_weights(folder: Path, module: nn.Module, prefix: str = "") -> None:
    """Load the weights of a run into a module, taking the entries below ``prefix``.

    Raises:
        CVSAError: no weights there, or weights of another architecture.
    """
    from safetensors.torch import load_file

    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise CVSAError(
            f"No weights in {folder}: {WEIGHTS} is missing. Committed records carry no weights; "
            "rerun the pre-training, or give another run's folder."
        )
    state = {k.removeprefix(prefix): v for k, v in load_file(path).items() if k.startswith(prefix)}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise CVSAError(
            f"The weights in {folder} do not fit this network: {str(error).splitlines()[-1].strip()} "
            "Use the backbone they were trained with."
        ) from None


def load_start(config: ChildConfig, backbone: Backbone) -> None:
    """Give a new backbone the weights a run starts from; without ``pretrained`` it stays as it was drawn.

    Raises:
        CVSAError: no weights there, weights of another architecture, or none to be downloaded.
    """
    if config.pretrained == PUBLISHED:
        published = build_backbone(config.backbone, image_size=config.image_size, pretrained=True)
        backbone.load_state_dict(published.state_dict())
    elif config.pretrained is not None:
        load_weights(config.pretrained, backbone, prefix="encoder.")
