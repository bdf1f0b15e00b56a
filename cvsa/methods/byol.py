"""BYOL (Grill et al., "Bootstrap your own latent", NeurIPS 2020), the base of the paper's method [A]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch.nn.functional as F
from torch import Tensor

from cvsa.methods.base import MomentumMethod
from cvsa.methods.heads import MomentumCopy, full_precision, mlp

if TYPE_CHECKING:
    from cvsa.config import PretrainConfig
    from cvsa.views import Views


@full_precision
def byol_loss(prediction: Tensor, target: Tensor) -> Tensor:
    r"""Mean over the batch of || p/|p| - t/|t| ||^2 = 2 - 2 cos(p, t).

    Args:
        prediction: (B, d), with gradient.
        target: (B, d), without.

    Returns:
        Scalar in [0, 4].
    """
    return (2 - 2 * F.cosine_similarity(prediction, target.detach(), dim=1)).mean()


class BYOL(MomentumMethod):
    r"""Predict the momentum branch's projection of the other view.

        L = l(p1, t2) + l(p2, t1),   p = p_mlp(g_mlp(f(v))) online,   t = g'_mlp(f'(v)) momentum branch.

    Each view passes each branch by itself, so that BatchNorm sees one view at a time, as published.
    """

    momentum_schedule: Literal["cosine", "constant"] = "cosine"

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__(config)
        hidden, dim = config.projector_hidden, config.projector_dim
        self.projector = mlp(self.encoder.num_features, hidden, dim, norm=True)
        self.predictor = mlp(dim, hidden, dim, norm=True)
        self.target_projector = MomentumCopy(self.projector)

    def forward(self, views: tuple[Views, ...]) -> dict[str, Tensor]:
        self.check_views(views)
        online1, online2 = (self.encoder(v.images) for v in views)  # (B, D, H, W)
        target1, target2 = (self.target_encoder(v.images) for v in views)  # (B, D, H, W)
        z1, z2 = (self.projector(self.encoder.pool(m)) for m in (online1, online2))  # (B, d)
        t1, t2 = (self.target_projector(self.encoder.pool(m)) for m in (target1, target2))  # (B, d)
        loss = byol_loss(self.predictor(z1), t2) + byol_loss(self.predictor(z2), t1)
        pairs = ((online1, target2, views[0].masks), (online2, target1, views[1].masks))
        return self.losses(loss, (z1, z2), pairs)
