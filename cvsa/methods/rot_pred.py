"""Rot-Pred (Gidaris et al., "Unsupervised representation learning by predicting image rotations", 2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cvsa.methods.base import PretextMethod

if TYPE_CHECKING:
    from cvsa.config import PretrainConfig
    from cvsa.views import Views

TURNS = 4


class RotPred(PretextMethod):
    r"""By how many quarter turns has the image been rotated?

        L = mean over images x and turns r = 0..3 of  -log softmax( W pool(f(rot90(x, r))) )_r.

    All four rotations of an image are in the same batch, as published. Of more views than one the first is
    taken.
    """

    takes = ("image",)

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__(config)
        self.classifier = nn.Linear(self.encoder.num_features, TURNS)

    def forward(self, views: tuple[Views, ...]) -> dict[str, Tensor]:
        self.check_views(views[:1])
        images = views[0].images
        turned = torch.cat([torch.rot90(images, r, (2, 3)) for r in range(TURNS)])  # (4B, 3, S, S)
        labels = torch.arange(TURNS, device=images.device).repeat_interleave(len(images))  # (4B,)
        return self.answer(self.classifier(self.encoder.pool(self.encoder(turned))), labels)
