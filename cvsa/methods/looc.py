"""LooC (Xiao et al., "What should not be contrastive in contrastive learning", ICLR 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvsa.methods.base import MomentumMethod
from cvsa.methods.heads import MomentumCopy, Queue, mlp, raised
from cvsa.methods.moco import info_nce

if TYPE_CHECKING:
    from cvsa.config import PretrainConfig
    from cvsa.views import Views


class LooC(MomentumMethod):
    r"""One embedding space per augmentation left out, besides the one invariant to all.

    Of n augmentations left out (here colour and rotation) key k_0 shares nothing with the query, key k_i the
    parameters of augmentation i. In space i, with its own head and queue Q_i, and E(a, b) = exp(a.b / T),

        L_0 = -log E(q, k_0) / (E(q, k_0) + sum_{n in Q_0} E(q, n)),
        L_i = -log E(q, k_i) / (sum_{j = 0..n} E(q, k_j) + sum_{n in Q_i} E(q, n)),   L = mean of L_0 .. L_n.

    All keys show the query's image, so in space i only augmentation i can tell k_i from the others: the space
    must keep what that augmentation changes, and the backbone, which all share and which alone is kept, too.

    Queue i holds the keys k_i of earlier batches, drawn like the positive [O]. The alignment, where attached,
    looks for the query's object in k_0, as in MoCo v2 [O].
    """

    takes = ("query", "key", "key of the same colour", "key of the same rotation")

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__(config)
        spaces = len(self.takes) - 1  # n + 1
        width, hidden, dim = self.encoder.num_features, config.projector_hidden, config.projector_dim
        heads = [mlp(width, hidden, dim, norm=config.projector_norm) for _ in range(spaces)]
        self.projectors = nn.ModuleList(heads)
        self.target_projectors = nn.ModuleList(map(MomentumCopy, heads))
        self.queues = nn.ModuleList(Queue(config.queue_size, dim) for _ in range(spaces))
        self.temperature = config.temperature

    def forward(self, views: tuple[Views, ...]) -> dict[str, Tensor]:
        self.check_views(views)
        online = self.encoder(views[0].images)  # (B, D, H, W)
        targets = [self.target_encoder(v.images) for v in views[1:]]  # n + 1 maps (B, D, H, W)
        query, keys = self.encoder.pool(online), [self.encoder.pool(m) for m in targets]  # (B, D)
        embeddings = [project(query) for project in self.projectors]  # n + 1 times (B, d)
        terms = []
        for i, z in enumerate(embeddings):
            seen = keys if i > 0 else keys[:1]  # the all-invariant space knows its own key only
            k = [F.normalize(raised(self.target_projectors[i](key)), dim=1) for key in seen]  # (B, d)
            others = [k_j for j, k_j in enumerate(k) if j != i]
            own = torch.stack(others, dim=1) if others else None  # (B, n, d)
            queue: Queue = self.queues[i]  # type: ignore[assignment]
            terms.append(info_nce(F.normalize(raised(z), dim=1), k[i], queue.keys, self.temperature, own))
            queue.remember(k[i])
        loss = torch.stack(terms).mean()
        return self.losses(loss, embeddings, ((online, targets[0], views[0].masks),))
