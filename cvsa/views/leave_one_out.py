"""LooC's views: a query, and keys that differ from it in everything or in everything but one change.

Xiao et al., "What Should Not Be Contrastive in Contrastive Learning", ICLR 2021. Here, as in the paper this
companion follows, the changes left out are colour and rotation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cvsa.views.crop import random_resized_crop
from cvsa.views.types import Range, Views

# The order of the views. That the third shares the query's colours is the photometric recipe's business.
VIEWS = ("query", "key", "key with the query's colours", "key with the query's rotation")


def quarter_turns(images: Tensor, turns: Tensor) -> Tensor:
    """Rotate each sample counter-clockwise by its number of quarter turns.

    Args:
        images: (B, C, S, S).
        turns: (B,) int64 in [0, 4), best on the CPU, so that no GPU is waited for.

    Returns:
        (B, C, S, S).
    """
    out = images.clone(memory_format=torch.contiguous_format)
    for k in (1, 2, 3):
        at = (turns == k).nonzero()[:, 0].to(images.device, non_blocking=True)
        out[at] = images.index_select(0, at).rot90(k, (2, 3))
    return out


@torch.no_grad()
def leave_one_out(
    images: Tensor,
    *,
    size: int,
    scale: float | Range = (0.2, 1.0),
    ratio: Range = (3 / 4, 4 / 3),
    generator: torch.Generator,
    flip: float = 0.0,
) -> tuple[Views, ...]:
    """Four random resized crops, rotated by random quarter turns; the last shares the first one's rotation.

    Args:
        images: (B, 4, R, R) float in [0, 1]; (B, 3, R, R) makes masks of ones.
        size: side of the views, in pixels.
        scale, ratio, flip: see :func:`~cvsa.views.random_resized_crop`.
        generator: source of all randomness.

    Returns:
        The views named in ``VIEWS``, in that order.

    Raises:
        CVSAError: on a wrong shape, type, size, scale or ratio.
    """
    device = generator.device
    turns = torch.randint(4, (3, len(images)), generator=generator, device=device)
    turned = []
    for turn in (turns[0], turns[1], turns[2], turns[0]):
        views = random_resized_crop(
            images, size=size, scale=scale, ratio=ratio, generator=generator, flip=flip
        )
        masks = views.masks if images.shape[1] == 3 else quarter_turns(views.masks, turn)  # ones turn to ones
        turned.append(Views(quarter_turns(views.images, turn), masks))
    return tuple(turned)
