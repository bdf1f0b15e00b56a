"""InsLoc (Yang et al., "Instance localization for self-supervised detection pretraining", CVPR 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.methods.heads import raised
from cvsa.methods.moco import MoCoV2

if TYPE_CHECKING:
    from cvsa.views import Views

SIDE = 7  # of the pooled box, in bins, as published


class InsLoc(MoCoV2):
    r"""MoCo v2 between boxes: the same crop, pasted on two backgrounds, is recognised where it lies.

        q = g_mlp( mean RoIAlign(f(v_q), box_q) ),   k = g'_mlp( mean RoIAlign(f'(v_k), box_k) ),   InfoNCE.

    The backbone sees the whole composite, so what it learns must set the pasted object off against its
    surroundings. Boxes come with the views; the published augmentation of the query's box (another with an
    intersection over union above 0.5) is a matter of whoever draws them.

    Published are a detector's head on every level of a feature pyramid, or one on the last stage but one;
    pooling the last map, in 7 x 7 bins and then their mean, is ours [O]: the compared methods use no more.
    """

    def pool(self, features: Tensor, view: Views) -> Tensor:
        """Average over the pasted box: map (B, D, H, W) of a square view -> (B, D).

        Raises:
            CVSAError: the views have no boxes.
        """
        from torchvision.ops import roi_align

        if view.boxes is None:
            raise CVSAError("InsLoc needs views with boxes of the pasted object: choose view random_paste.")
        features = raised(features)
        scale = features.shape[3] / view.images.shape[3]
        rois = F.pad(view.boxes.to(features.dtype), (1, 0))  # (B, 5): number of the image, its box
        rois[:, 0] = torch.arange(len(rois), device=rois.device)
        return roi_align(features, rois, SIDE, spatial_scale=scale, aligned=True).mean(dim=(2, 3))
