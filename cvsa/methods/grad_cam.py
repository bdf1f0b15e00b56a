"""Grad-CAM (Selvaraju et al., ICCV 2017) of any score, differentiable again."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cvsa.methods.heads import raised


def grad_cam(features: Tensor, score: Tensor) -> Tensor:
    r"""Where a score comes from: G_i = ReLU( sum_c w_c A_c,i ),  w_c = mean_j d score / d A_c,j.

    The gradient is part of the graph: what follows from G can be differentiated again.

    Args:
        features: A, (B, D, H, W), with gradient.
        score: (B,), computed from ``features``.

    Returns:
        (B, 1, H, W), at least 0.
    """
    (gradient,) = torch.autograd.grad(score.sum(), features, create_graph=True)  # (B, D, H, W)
    weights = raised(gradient).mean(dim=(2, 3), keepdim=True)  # (B, D, 1, 1)
    return F.relu((weights * raised(features)).sum(dim=1, keepdim=True))
