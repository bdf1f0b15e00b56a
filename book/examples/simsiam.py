"""SimSiam (Chen and He, "Exploring simple Siamese representation learning")."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from cvsa.config import PretrainConfig
from cvsa.methods.base import Method
from cvsa.methods.heads import full_precision, mlp
from cvsa.views import Views


@full_precision
def negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    """D(p, z) = -cos(p, sg z), mean over the batch: twice (B, d) -> scalar."""
    return -F.cosine_similarity(p, z.detach(), dim=1).mean()


class SimSiam(Method):
    """Predict the other view's projection, without negatives or momentum copy.

    L = ( D(p1, z2) + D(p2, z1) ) / 2,   z = g(f(v)),   p = h(z).
    """

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__(config)  # makes self.encoder
        hidden, dim = config.projector_hidden, config.projector_dim
        self.projector = mlp(self.encoder.num_features, hidden, dim, norm=True)
        self.predictor = mlp(dim, hidden, dim, norm=True)

    def forward(self, views: tuple[Views, ...]) -> dict[str, Tensor]:
        self.check_views(views)
        map1, map2 = (self.encoder(v.images) for v in views)  # (B, D, H, W)
        pooled = (self.encoder.pool(m) for m in (map1, map2))
        z1, z2 = (self.projector(each) for each in pooled)  # (B, d)
        p1, p2 = self.predictor(z1), self.predictor(z2)  # (B, d)
        loss = (negative_cosine(p1, z2) + negative_cosine(p2, z1)) / 2
        # Who is compared with whom, and where the object is: for the alignment.
        first = (map1, map2.detach(), views[0].masks)
        second = (map2, map1.detach(), views[1].masks)
        return self.losses(loss, (z1, z2), (first, second))
