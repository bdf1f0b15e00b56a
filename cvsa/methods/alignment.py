r"""The saliency alignment module: what the two views share must be what is salient.

    A_i = max_j sigmoid( <p_conv(h_q)_i , h_k,j> ),      L_Align = mean_i (A_i - M_q,i)^2

h = g_conv(z) in both branches, p_conv on the query's side only [A]; the maximum runs over the key's positions
[I]; no gradient flows through h_k, which comes from the momentum branch [I]. The two views share only the
swapped-in foreground, so only its positions can find a partner in the other view.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cvsa.errors import CVSAError
from cvsa.methods.heads import MomentumCopy, conv_mlp, full_precision, raised
from cvsa.methods.world import world

BOUND, START = 4.0, 2.5  # of the sigmoid's input at a cosine of 1; their negatives at a cosine of 0


@full_precision
def attention(query: Tensor, key: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    r"""How well each query position finds a partner in the key: A_i = max_j sigmoid(<q_i, k_j> + bias).

    Args:
        query: (B, C, H, W).
        key: (B, C, H', W'), usually of the query's size.
        bias: added to every score; 0 gives the raw dot product.

    Returns:
        (B, 1, H, W) in (0, 1).

    Raises:
        CVSAError: the shapes do not fit together.
    """
    if query.ndim != 4 or key.ndim != 4 or query.shape[:2] != key.shape[:2]:
        shapes = f"{tuple(query.shape)} and {tuple(key.shape)}"
        raise CVSAError(f"alignment: query and key are (B, C, H, W) with the same B and C; got {shapes}.")
    batch, _, height, width = query.shape
    scores = torch.bmm(query.flatten(2).transpose(1, 2), key.flatten(2))  # (B, HW, H'W')
    # The sigmoid is monotone: taken after the maximum it gives the same for H'W' times less work.
    return torch.sigmoid(scores.max(dim=2).values + bias).view(batch, 1, height, width)


@full_precision
def alignment_loss(query: Tensor, key: Tensor, mask: Tensor, *, bias: Tensor | float = 0.0) -> Tensor:
    r"""L_Align = mean_i (A_i - M_i)^2 with A_i = max_j sigmoid(<q_i, k_j> + bias).

    The dot product is taken of what is given: normalise or scale before. Memory is O(B (HW)^2), one batched
    product.

    Args:
        query: (B, C, H, W), p_conv(h_q).
        key: (B, C, H, W), h_k; detach it where no gradient shall pass.
        mask: (B, 1, H', W') in [0, 1], the query's view mask; another size than H x W is reduced by area
            averaging [O].
        bias: added to every score; 0 as in the paper's equation.

    Returns:
        Scalar in [0, 1].

    Raises:
        CVSAError: the shapes do not fit together.
    """
    if mask.ndim != 4 or mask.shape[:2] != (query.shape[0], 1):
        got = tuple(mask.shape)
        raise CVSAError(f"alignment: the mask is (B, 1, H, W) with B = {query.shape[0]}; got {got}.")
    a = attention(query, key, bias)
    return _error(a, reduce_mask(mask, a))


def reduce_mask(mask: Tensor, like: Tensor) -> Tensor:
    """Share of foreground under each position: area average of (B, 1, H', W') on the grid of ``like``."""
    return F.adaptive_avg_pool2d(mask.to(like.dtype), (like.shape[2], like.shape[3]))


def _error(a: Tensor, m: Tensor) -> Tensor:
    return (a - m).square().mean()


def _gap(a: Tensor, m: Tensor) -> Tensor:
    inside, outside = m.sum().clamp_min(1e-6), (1 - m).sum().clamp_min(1e-6)
    return (a * m).sum() / inside - (a * (1 - m)).sum() / outside


class SaliencyAlignment(nn.Module):
    r"""g_conv, p_conv and the momentum copy of g_conv; attaches to any base with feature maps of both views.

    With scores "normalised" [O] the sigmoid sees (t - f) cos(p_conv(h_q)_i, h_k,j) + f with learned t and f,
    its input at a cosine of 1 and of 0. Both stay within +-4, so that the sigmoid keeps a slope: a free
    scale can run away in the first epoch, when all of the attention has to rise, and an attention of 1
    everywhere passes no gradient. They start at 2.5 and -2.5: a perfect partner gives 0.92, none 0.08. With
    "raw" it sees the dot product itself, as the paper's diagram shows.

    Args:
        in_features: D, channels of the backbone's map.
        dim: C, channels correlated; 256 by default [O].
        scores: "normalised" or "raw".
        depth: convolutions in g_conv and in p_conv each, at least 1; 2 by default [O].
    """

    def __init__(
        self,
        in_features: int,
        *,
        dim: int = 256,
        scores: Literal["normalised", "raw"] = "normalised",
        depth: int = 2,
    ) -> None:
        super().__init__()
        self.g_conv = conv_mlp(in_features, dim, dim, depth)
        self.p_conv = conv_mlp(dim, dim, dim, depth)
        self.target_g_conv = MomentumCopy(self.g_conv)
        self.normalised = scores == "normalised"
        if self.normalised:
            self.ends = nn.Parameter(BOUND * torch.atanh(torch.tensor([START, -START]) / BOUND))

    def features(self, query_map: Tensor, key_map: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        """Maps (B, D, H, W) -> query and key (B, C, H, W), the key without gradient, and the bias."""
        query = raised(self.p_conv(self.g_conv(query_map)))
        key = raised(self.target_g_conv(key_map))
        if not self.normalised:
            return query, key, 0.0
        partner, none = BOUND * torch.tanh(self.ends / BOUND)
        return F.normalize(query, dim=1) * (partner - none), F.normalize(key, dim=1), none

    def attention(self, query_map: Tensor, key_map: Tensor) -> Tensor:
        """Attention of the query view: online map and momentum map (B, D, H, W) -> (B, 1, H, W) in (0, 1)."""
        return attention(*self.features(query_map, key_map))

    def forward(self, query_map: Tensor, key_map: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of one direction, and the diagnostic that goes with it.

        Args:
            query_map: (B, D, H, W), online map of the query view.
            key_map: (B, D, H, W), momentum map of the key view.
            mask: (B, 1, H', W') in [0, 1], mask of the query view.

        Returns:
            L_Align (scalar), and the attention gap: mean attention on the foreground minus that on the
            background, detached; 1 is perfect, 0 blind.
        """
        a = self.attention(query_map, key_map)  # (B, 1, H, W)
        m = reduce_mask(mask, a)  # (B, 1, H, W)
        # The gap divides by the foreground of the whole batch, the error by a number of positions.
        return _error(a, m), _gap(world().gather(a.detach()), world().gather(m))
