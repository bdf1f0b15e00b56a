"""MoCo v2 (He et al., CVPR 2020; Chen et al., "Improved baselines with momentum contrastive learning")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from cvsa.methods.base import MomentumMethod
from cvsa.methods.heads import MomentumCopy, Queue, full_precision, mlp, raised

if TYPE_CHECKING:
    from cvsa.config import PretrainConfig
    from cvsa.views import Views


@full_precision
def info_nce(
    query: Tensor, key: Tensor, negatives: Tensor, temperature: float, own: Tensor | None = None
) -> Tensor:
    r"""Mean over the batch of  -log exp(q.k+ / T) / (exp(q.k+ / T) + sum_n exp(q.n / T)).

    Args:
        query: (B, d), L2-normalised, with gradient.
        key: (B, d), L2-normalised, the positive of each query.
        negatives: (K, d), L2-normalised, shared by all queries.
        temperature: T, positive.
        own: (B, m, d), L2-normalised, further negatives of each query alone.

    Returns:
        Scalar, at least 0.
    """
    logits = [(query * key).sum(dim=1, keepdim=True), query @ negatives.T]  # (B, 1), (B, K)
    if own is not None:
        logits.append(torch.einsum("bd,bmd->bm", query, own))  # (B, m)
    scores = torch.cat(logits, dim=1) / temperature  # (B, 1 + K + m)
    return F.cross_entropy(scores, scores.new_zeros(len(scores), dtype=torch.long))


class MoCoV2(MomentumMethod):
    """Tell the key of the same image from a queue of earlier keys.

    The query is view 1, the key view 2; the loss is not symmetrised. BatchNorm statistics are those of the
    whole batch, on however many devices, so that no keys have to be shuffled between them.
    """

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__(config)
        hidden, dim = config.projector_hidden, config.projector_dim
        self.projector = mlp(self.encoder.num_features, hidden, dim, norm=config.projector_norm)
        self.target_projector = MomentumCopy(self.projector)
        self.temperature = config.temperature
        self.queue = Queue(config.queue_size, dim)

    def pool(self, features: Tensor, view: Views) -> Tensor:
        """What of a view's map (B, D, H, W) is embedded, (B, D): here its global average."""
        return self.encoder.pool(features)

    def key(self, features: Tensor, view: Views) -> Tensor:
        """Unit key (B, d) of a view from its map (B, D, H, W) of the momentum encoder."""
        return F.normalize(raised(self.target_projector(self.pool(features, view))), dim=1)

    def contrast(self, views: tuple[Views, ...]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """The losses of a pair of views, the query's map (B, D, H, W) and the unit query (B, d)."""
        self.check_views(views)
        online = self.encoder(views[0].images)  # (B, D, H, W)
        target = self.target_encoder(views[1].images)  # (B, D, H, W)
        z = self.projector(self.pool(online, views[0]))  # (B, d)
        q, k = F.normalize(raised(z), dim=1), self.key(target, views[1])  # (B, d)
        loss = info_nce(q, k, self.queue.keys, self.temperature)
        self.queue.remember(k)
        return self.losses(loss, (z,), ((online, target, views[0].masks),)), online, q

    def forward(self, views: tuple[Views, ...]) -> dict[str, Tensor]:
        return self.contrast(views)[0]
