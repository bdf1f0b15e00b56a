"""CAST (Selvaraju et al., "CASTing your model: learning to localize improves self-supervised
representations", CVPR 2021), for comparison with the alignment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from cvsa.methods.alignment import reduce_mask
from cvsa.methods.grad_cam import grad_cam as grad_cam  # part of this module's interface too
from cvsa.methods.heads import full_precision
from cvsa.methods.moco import MoCoV2
from cvsa.methods.world import world

if TYPE_CHECKING:
    from cvsa.config import PretrainConfig
    from cvsa.views import Views


@full_precision
def cast_loss(cam: Tensor, mask: Tensor) -> Tensor:
    r"""Mean of 1 - cos(G, M), each image a vector of its positions, over the images with a mask.

    Args:
        cam: G, (B, 1, H, W), at least 0.
        mask: M, (B, 1, H', W') in [0, 1]; reduced to H x W by area averaging.

    Returns:
        Scalar in [0, 1]; 0 where no image has a mask.
    """
    m = reduce_mask(mask, cam).flatten(1)  # (B, HW)
    distance = 1 - F.cosine_similarity(cam.flatten(1), m, dim=1)  # (B,)
    has = (m.sum(dim=1) > 0).to(distance.dtype)  # (B,)
    return (distance * has).sum() / has.sum().clamp_min(1)


class MoCoCAST(MoCoV2):
    r"""MoCo v2 whose score must rest on the salient object.

        L = L_MoCo + w L_CAST,   L_CAST = 1 - cos( GradCAM(q.k_m / T, f(v_q)), M_q ),

    k_m the key of the second view with all but its object painted over, in the mean colour. That key costs a
    further pass of the momentum encoder; it does not enter the queue. Where the authors' code takes one
    cosine over a whole batch, here each image has its own, as in their equation.
    """

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__(config)
        self.weights["cast"] = config.cast_weight

    def forward(self, views: tuple[Views, ...]) -> dict[str, Tensor]:
        losses, online, q = self.contrast(views)
        other = views[1]
        painted = torch.lerp(self.encoder.mean, other.images, other.masks)  # (B, 3, S, S)
        k = self.key(self.target_encoder(painted), other)  # (B, d)
        cam = grad_cam(online, (q * k).sum(dim=1) / self.temperature)  # (B, 1, H, W)
        m = reduce_mask(views[0].masks, cam)  # (B, 1, H, W)
        # A mean over the images with a mask, and only all processes together know how many these are.
        return {**losses, "cast": cast_loss(world().gather(cam), world().gather(m))}
