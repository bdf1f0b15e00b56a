"""MoCo v2 (He et al., CVPR 2020; Chen et al., "Improved baselines with momentum contrastive learning")."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from cvsa.methods.base import MomentumMethod
from cvsa.methods.heads import MomentumCopy, full_precision, mlp, raised

if TYPE_CHECKING:
    from cvsa.config import PretrainConfig
    from cvsa.views import Views


@full_precision
def info_nce(query: Tensor, key: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    r"""Mean over the batch of  -log exp(q.k+ / T) / (exp(q.k+ / T) + sum_n exp(q.n / T)).

    Args:
        query: (B, d), L2-normalised, with gradient.
        key: (B, d), L2-normalised, the positive of each query.
        negatives: (K, d), L2-normalised, shared by all queries.
        temperature: T, positive.

    Returns:
        Scalar, at least 0.
    """
    positive = (query * key).sum(dim=1, keepdim=True)  # (B, 1)
    negative = query @ negatives.T  # (B, K)
    logits = torch.cat([positive, negative], dim=1) / temperature  # (B, 1 + K)
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))


class MoCoV2(MomentumMethod):
    """Tell the key of the same image from a queue of earlier keys.

    The query is view 1, the key view 2; the loss is not symmetrised. BatchNorm statistics are those of the
    whole batch on one device: there are no other devices to shuffle keys with.
    """

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__(config)
        hidden, dim = config.projector_hidden, config.projector_dim
        self.projector = mlp(self.encoder.num_features, hidden, dim, norm=config.projector_norm)
        self.target_projector = MomentumCopy(self.projector)
        self.temperature = config.temperature
        self.queue: Tensor
        self.pointer: Tensor
        keys = torch.randn(config.queue_size, dim)
        self.register_buffer("queue", F.normalize(keys, dim=1))  # (K, d)
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))  # the oldest key's place
        self._keys: Tensor | None = None  # of the last forward, waiting for after_step

    def forward(self, views: tuple[Views, Views]) -> dict[str, Tensor]:
        online = self.encoder(views[0].images)  # (B, D, H, W)
        target = self.target_encoder(views[1].images)  # (B, D, H, W)
        z = self.projector(self.encoder.pool(online))  # (B, d)
        q = F.normalize(raised(z), dim=1)  # (B, d)
        k = F.normalize(raised(self.target_projector(self.encoder.pool(target))), dim=1)  # (B, d)
        loss = info_nce(q, k, self.queue, self.temperature)
        self._keys = k if self.training else None
        return self.losses(loss, (z,), ((online, target, views[0].masks),))

    def after_step(self, progress: float) -> None:
        super().after_step(progress)
        if self._keys is not None:
            self.enqueue(self._keys)
            self._keys = None

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Replace the oldest keys by these (B, d), first in first out; any B, the ring closes on itself."""
        size = len(self.queue)
        keys = keys[-size:]  # of more keys than places the last stay
        places = (self.pointer + torch.arange(len(keys), device=keys.device)) % size  # (B,)
        self.queue[places] = keys.to(self.queue.dtype)
        self.pointer.copy_((self.pointer + len(keys)) % size)  # on the device: no wait for its value
