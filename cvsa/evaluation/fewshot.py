"""Few-shot classification by frozen features: how far do a few labelled images carry?"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cvsa.errors import CVSAError
from cvsa.evaluation.linear import check

CHUNK = 64  # episodes at a time


def episodes(
    features: Tensor,
    labels: Tensor,
    *,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    count: int = 400,
    seed: int = 0,
    centre: Tensor | None = None,
) -> dict[str, float]:
    """Nearest class mean by cosine on centred features (SimpleShot's CL2N; Wang et al., 2019) over episodes.

    An episode draws classes, and of each some labelled images (shots) and some to classify (queries); no
    image is drawn twice in it.

    Args:
        features: (N, D).
        labels: (N,) int64.
        ways: classes of an episode, at least 2.
        shots: labelled images a class.
        queries: images to classify a class.
        count: episodes, at least 2.
        seed: of the draw: the same episodes for every network.
        centre: subtracted first, (D,): the mean feature of other images, as published. None: of these, which
            uses no label but has seen the queries [O].

    Returns:
        "NwayKshot": mean accuracy in [0, 1]; "NwayKshot_interval": half the width of the 95 % interval of
        that mean over episodes. It tells how exact the average is, not how seeds of training differ.

    Raises:
        CVSAError: features that are not finite; more ways than classes; a class with too few images.
    """
    check(features, labels, "few-shot")
    numbers, sizes = labels.cpu().unique(return_counts=True)
    needed = shots + queries
    if min(ways - 1, shots, queries, count - 1) < 1 or ways > len(numbers):
        raise CVSAError(
            f"{count} {ways}-way {shots}-shot episodes with {queries} queries a class do not fit "
            f"{len(numbers)} classes; take 2 to {len(numbers)} ways, a shot, a query and 2 episodes or more."
        )
    if int(sizes.min()) < needed:
        small = int(sizes.argmin())
        raise CVSAError(
            f"Class {int(numbers[small])} has {int(sizes[small])} images; an episode of {shots} shots and "
            f"{queries} queries takes {needed} of a class. Lower shots or queries, or leave the class out."
        )
    centred = F.normalize(features - (features.mean(0) if centre is None else centre), dim=1)
    members = [(labels.cpu() == number).nonzero().flatten() for number in numbers]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.stack([_draw(members, ways, needed, generator) for _ in range(count)])
    truth = torch.arange(ways, device=features.device)[:, None]
    accuracies = []
    for index in drawn.to(features.device).split(CHUNK):
        images = centred[index]  # (E, ways, shots + queries, D)
        means = F.normalize(images[:, :, :shots].mean(2), dim=-1)  # (E, ways, D)
        cosines = torch.einsum("ewqd,evd->ewqv", images[:, :, shots:], means)
        accuracies.append((cosines.argmax(-1) == truth).double().mean(dim=(1, 2)))
    each = torch.cat(accuracies)
    name = f"{ways}way{shots}shot"
    return {name: float(each.mean()), f"{name}_interval": 1.96 * float(each.std()) / count**0.5}


def _draw(members: list[Tensor], ways: int, needed: int, generator: torch.Generator) -> Tensor:
    """Image numbers of an episode, (ways, needed) int64."""
    classes = torch.randperm(len(members), generator=generator)[:ways].tolist()
    return torch.stack(
        [
            members[number][torch.randperm(len(members[number]), generator=generator)[:needed]]
            for number in classes
        ]
    )
