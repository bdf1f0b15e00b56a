"""The rules that turn numbers into verdicts. Nothing here knows which claim, row or run it judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from cvsa.report.statistics import ALPHA, Interval

Verdict = Literal["reproduced", "same direction", "not reproduced", "inconclusive", "not tested"]
REPRODUCED: Verdict = "reproduced"
SAME: Verdict = "same direction"
NOT: Verdict = "not reproduced"
OPEN: Verdict = "inconclusive"
UNTESTED: Verdict = "not tested"
VERDICTS: tuple[Verdict, ...] = (REPRODUCED, SAME, NOT, OPEN, UNTESTED)
# Where scales can be compared, an effect below this share of the reported one is another finding.
SHORT = 0.5


def verdict_of_part(
    differences: Sequence[float],
    interval: Interval | None,
    p_adjusted: float,
    direction: int,
    *,
    reported: float | None = None,
    comparable: bool = False,
    margin: float | None = None,
) -> Verdict:
    """Judge one difference between two rows.

    Separated means: the 95 % interval of the mean over seeds excludes zero, *and*
    p, corrected for the number of differences that the same set of runs tests, is
    below 0.05. The first of these that holds:

    1. *not tested*: no seed has both rows.
    2. *inconclusive*: there is one seed. Which of two networks wins once is near to
       a coin's toss.
    3. Where the claim is "no difference": *reproduced* if the interval lies within
       the margin, *not reproduced* if separated, else *inconclusive*. That nothing
       was found does not show that nothing is.
    4. *not reproduced*: separated, in the other direction; or, on the authors' data
       with their network only, the interval ends short of half the reported
       difference.
    5. *reproduced*: separated, in the claimed direction.
    6. *same direction*: every seed agrees with the claim.
    7. *inconclusive*: all else, even if every seed disagrees (the sentences say so).

    Args:
        differences: row minus the other, one per seed.
        interval: of their mean; None for one seed.
        p_adjusted: corrected p; NaN where there is no test.
        direction: claimed, +1 or -1; 0 for "no difference".
        reported: the authors' difference, in the same unit.
        comparable: whether these runs use the authors' data and network.
        margin: of "no difference", in the same unit.
    """
    if not len(differences):
        return UNTESTED
    if interval is None:
        return OPEN
    low, high = interval.low, interval.high
    separated = (low > 0 or high < 0) and p_adjusted < ALPHA
    if direction == 0:
        within = margin is not None and -margin < low <= high < margin
        return REPRODUCED if within else NOT if separated else OPEN
    towards = [direction * difference for difference in differences]
    reach = max(direction * low, direction * high)
    if comparable and reported is not None and reach < SHORT * direction * reported:
        return NOT
    if separated:
        return REPRODUCED if np.mean(towards) > 0 else NOT
    return SAME if min(towards) > 0 else OPEN


def verdict_of_claim(parts: Sequence[Verdict]) -> Verdict:
    """Judge a claim by its parts, all of which it asserts.

    1. *not tested*: no part is.
    2. *not reproduced*: a part is not.
    3. *reproduced*: all parts are, and none is untested.
    4. *same direction*: at least half of the parts are tested, and each of these is
       reproduced or in the same direction.
    5. *inconclusive*: all else.
    """
    counts = Counter(parts)
    tested = len(parts) - counts[UNTESTED]
    if not tested:
        return UNTESTED
    if counts[NOT]:
        return NOT
    if counts[REPRODUCED] == len(parts):
        return REPRODUCED
    agreeing = counts[REPRODUCED] + counts[SAME]
    return SAME if agreeing == tested and 2 * tested >= len(parts) else OPEN


def rank(
    *,
    fresh: bool,
    comparable: bool,
    parts: int,
    repeated: int,
    planned: bool,
    seen: float,
    whole: bool,
    seeds: int,
) -> tuple[float, ...]:
    """Which set of runs speaks for a claim: that of the highest rank.

    No verdict enters it. Fresh before stale (made by other code than today's); then
    the authors' data and network before others; then more parts tested with two seeds
    or more, more parts tested; then runs whose plan was fixed before any of them,
    measure and labels included, before those that were at hand while these were
    chosen; then more images seen in pre-training, fine-tuning with all labels before
    some, more seeds in total. Of equals the first, which is the live one.

    Args:
        fresh: whether all runs are fresh.
        comparable: see :func:`verdict_of_part`.
        parts: number of parts tested.
        repeated: those with two seeds or more.
        planned: whether everything was fixed before the first run.
        seen: images times epochs of a pre-training.
        whole: fine-tuned with all the labels that the preset gives.
        seeds: summed over the parts.
    """
    order = fresh, comparable, repeated, parts, planned, seen, whole, seeds
    return tuple(map(float, order))
