"""Rel-Loc (Doersch et al., "Unsupervised visual representation learning by context prediction", 2015)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.methods.base import PretextMethod
from cvsa.methods.heads import mlp

if TYPE_CHECKING:
    from cvsa.config import PretrainConfig
    from cvsa.views import Views

NEIGHBOURS = 8


class RelLoc(PretextMethod):
    r"""On which of the eight sides of the centre patch does its neighbour lie?

        L = mean over the batch of  -log softmax( h([pool(f(centre)), pool(f(neighbour))]) )_label.

    One encoder f for both patches, each a batch of its own. The head is Linear - BatchNorm - ReLU - Linear,
    as in the common re-implementation for residual networks, less its dropout [O]: nothing else in a method
    draws at random.
    """

    takes = ("centre patch", "neighbour patch")

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__(config)
        self.head = mlp(2 * self.encoder.num_features, config.projector_hidden, NEIGHBOURS, norm=True)

    def forward(self, views: tuple[Views, ...]) -> dict[str, Tensor]:
        self.check_views(views)
        labels = views[1].labels
        if labels is None:
            raise CVSAError("RelLoc needs views with labels: choose view neighbouring_patches.")
        patches = [self.encoder.pool(self.encoder(v.images)) for v in views]  # twice (B, D)
        return self.answer(self.head(torch.cat(patches, dim=1)), labels)
