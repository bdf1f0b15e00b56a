"""Retrieval by frozen features: are the nearest images of the same class?"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cvsa.errors import CVSAError
from cvsa.evaluation.linear import check

RANKS = (1, 5, 10)


def retrieve(
    features: Tensor, labels: Tensor, ranks: tuple[int, ...] = RANKS, chunk: int = 1024
) -> dict[str, float]:
    """Recall@k and mAP@R (Musgrave et al., ECCV 2020), by cosine, each image against all others of the split.

    Recall@k, as metric learning has it: the share of queries with an image of their class among the k
    nearest. (Information retrieval means the share of the class that is found.)
    mAP@R of a query: R is how many other images its class has; the mean over ranks i = 1..R of the precision
    among the first i, counted where the i-th is of the class. Perfect is 1, and nothing beyond R counts.

    An image that is alone in its class has nothing to find and is no query; the others may still find it.
    Exact; images that are equally near stand in no particular order.

    Args:
        features: (N, D).
        labels: (N,) int64, on the same device.
        ranks: each k, at least 1 and below N.
        chunk: queries at a time; memory is chunk N.

    Returns:
        "recall_at_K" for each k and "map_at_r", in [0, 1].

    Raises:
        CVSAError: features that are not finite; no two images of one class; a k out of range.
    """
    check(features, labels, "retrieved")
    _, classes, sizes = labels.unique(return_inverse=True, return_counts=True)
    others = (sizes - 1)[classes]  # (N,) R of each image
    queries = others.nonzero().flatten()
    if not len(queries):
        raise CVSAError(
            f"Retrieval needs a class with two images; these {len(labels)} are each alone in their class."
        )
    if min(ranks) < 1 or max(ranks) >= len(labels):
        raise CVSAError(
            f"Recall@k was asked for k = {', '.join(map(str, ranks))} of {len(labels)} images; "
            f"k is 1 to {len(labels) - 1}, the other images."
        )
    keys = F.normalize(features, dim=1)
    depth = max(int(others.max()), *ranks)
    place = torch.arange(1, depth + 1, device=labels.device)
    recalled, precision = {k: 0 for k in ranks}, 0.0
    for index in queries.split(chunk):
        similarity = keys[index] @ keys.T  # (B, N)
        similarity[torch.arange(len(index), device=index.device), index] = -torch.inf
        hits = classes[similarity.topk(depth).indices] == classes[index, None]  # (B, depth)
        for k in ranks:
            recalled[k] += int(hits[:, :k].any(1).sum())
        counted = hits & (place <= others[index, None])
        precise = (counted.cumsum(1).double() / place * counted).sum(1) / others[index]
        precision += float(precise.sum())
    return {
        **{f"recall_at_{k}": count / len(queries) for k, count in recalled.items()},
        "map_at_r": precision / len(queries),
    }
