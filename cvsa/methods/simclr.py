"""SimCLR (Chen et al., "A simple framework for contrastive learning of visual representations", 2020)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvsa.methods.base import Method
from cvsa.methods.heads import full_precision, mlp, raised
from cvsa.methods.world import world

if TYPE_CHECKING:
    from cvsa.config import PretrainConfig
    from cvsa.views import Views


@full_precision
def nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    r"""Mean over all 2B embeddings of  -log exp(cos(z_i, z_j) / T) / sum_{k != i} exp(cos(z_i, z_k) / T).

    j is the other view of i's image; the other 2B - 2 embeddings of the batch are the negatives.

    Args:
        z1: (B, d), of the first views, with gradient; normalised here.
        z2: (B, d), of the second views, with gradient.
        temperature: T, positive.

    Returns:
        Scalar, at least 0.
    """
    z = F.normalize(torch.cat([z1, z2]), dim=1)  # (2B, d)
    logits = z @ z.T / temperature  # (2B, 2B)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    partner = torch.arange(len(z), device=z.device).roll(len(z1))  # (2B,)
    return F.cross_entropy(logits.masked_fill(itself, -torch.inf), partner)


class SimCLR(Method):
    """Tell the other view of the same image from the other images of the batch.

    Both views pass the encoder as one batch of 2B, so that BatchNorm sees them together, and the projector is
    Linear - BatchNorm - ReLU - Linear - BatchNorm, both as in the published code.

    There is no momentum branch. Where the alignment is attached its key map is the online map of the other
    view, detached, and only g_conv has a momentum copy, which follows with ``ema_momentum`` [O]. Each view is
    query once; the two directions of L_Align are summed as for BYOL [O].
    """

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__(config)
        hidden, dim = config.projector_hidden, config.projector_dim
        projector = mlp(self.encoder.num_features, hidden, dim, norm=True)
        self.projector = nn.Sequential(*projector, nn.BatchNorm1d(dim))
        self.temperature = config.temperature

    def forward(self, views: tuple[Views, ...]) -> dict[str, Tensor]:
        self.check_views(views)
        both = self.encoder(torch.cat([v.images for v in views]))  # (2B, D, H, W)
        z1, z2 = self.projector(self.encoder.pool(both)).chunk(2)  # (B, d)
        map1, map2 = both.chunk(2)  # (B, D, H, W)
        pairs = ((map1, map2.detach(), views[0].masks), (map2, map1.detach(), views[1].masks))
        whole1, whole2 = (world().gather(raised(z)) for z in (z1, z2))  # negatives are those of all processes
        return self.losses(nt_xent(whole1, whole2, self.temperature), (z1, z2), pairs)
