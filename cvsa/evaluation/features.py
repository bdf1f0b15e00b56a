"""From a finished pre-training run to a backbone, and from a backbone to features of a whole bank."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from cvsa.config import DataConfig, FinetuneConfig, ProbeConfig, resolve
from cvsa.data.bank import ImageBank
from cvsa.errors import CVSAError
from cvsa.methods.backbone import Backbone, build_backbone
from cvsa.records import Record, read_record
from cvsa.training.checkpoint import load_weights
from cvsa.training.runtime import Runtime, seeded

Evaluation = TypeVar("Evaluation", FinetuneConfig, ProbeConfig)


def resolve_evaluation(model: type[Evaluation], **given: Any) -> tuple[Evaluation, Record | None]:
    """Resolve an evaluation's configuration: row, data, backbone, sizes and seed are the pre-trained run's.

    Args:
        model: FinetuneConfig or ProbeConfig.
        **given: fields of the model; ``pretrained`` names the folder of a pre-training run. Without it the
            row must be "Random".

    Returns:
        The configuration and the parent's record (None for "Random").

    Raises:
        CVSAError: invalid fields; no finished run there; a field that contradicts the pre-trained run; a row
            other than "Random" without a pre-trained run.
    """
    given = {k: v for k, v in given.items() if v is not None and v != ""}
    if "pretrained" not in given:
        if given.get("row", "Random") != "Random":
            raise CVSAError(
                f"Row {given['row']!r} needs pretrained: the folder of its pre-training run "
                "(only 'Random' starts from nothing). Run the pretrain notebook first."
            )
        return resolve(model, **{**given, "row": "Random"}), None
    parent = read_record(Path(given["pretrained"]))
    if parent.kind != "pretrain":
        raise CVSAError(
            f"{given['pretrained']} holds a {parent.kind} run; "
            "pretrained must be a pre-training run's folder."
        )
    fixed = {
        "parent": parent.run_id,
        "row": parent.row,
        "backbone": parent.config["backbone"],
        "image_size": parent.config["image_size"],
    }
    fixed |= {name: parent.config[name] for name in DataConfig.model_fields}
    for name, value in fixed.items():
        if name in given and str(given[name]) != str(value):
            raise CVSAError(
                f"Parameter {name} = {given[name]!r} contradicts the pre-trained run in "
                f"{given['pretrained']} ({value!r}). Leave it out."
            )
    return resolve(model, **{"preset": parent.preset, "seed": parent.seed, **given, **fixed}), parent


def starting_backbone(config: FinetuneConfig | ProbeConfig, runtime: Runtime) -> Backbone:
    """The backbone an evaluation starts from: the pre-trained one, or the seed's random initialisation."""
    with seeded(config.seed, runtime.device):
        backbone = build_backbone(config.backbone, image_size=config.image_size)
    if config.pretrained:
        load_weights(config.pretrained, backbone, prefix="encoder.")
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
            chunks.append(backbone.pool(backbone(images)).float().cpu())
    return torch.cat(chunks)


def whole_view(images: Tensor, size: int) -> Tensor:
    """The one view of every evaluation: the whole image (B, 3, R, R), resized, antialiased, to ``size``."""
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True).clamp(0, 1)
