"""Reliance: what a network's decisions lean on, by changing what the data lets one change."""

from __future__ import annotations

from collections.abc import Callable

from cvsa.evaluation.background import Effects, background_metrics, backgrounds
from cvsa.evaluation.causal import causal_pairs, sensitivities
from cvsa.evaluation.subject import Findings, Subject, sample
from cvsa.evaluation.texture import cue_pictures, texture_metrics

REDRAWN = "synthbirds"  # the one set whose pictures can be drawn anew with one cause changed


def measure_reliance(subject: Subject, step: Callable[[str], None]) -> Findings:
    """Accuracies and sensitivities under changed backgrounds, light and birds.

    Args:
        subject: the network; its fine-tuned classifier and the probe of its frozen features are asked.
        step: called with what is measured next.

    Returns:
        "background.CLASSIFIER.*" of :mod:`cvsa.evaluation.background`, "causal.CLASSIFIER.*" of
        :mod:`cvsa.evaluation.causal` and "texture.CLASSIFIER.*" of :mod:`cvsa.evaluation.texture`, CLASSIFIER
        being "finetuned" or "probe"; and frames of the same names with a line per image.
    """
    found, config = Findings(), subject.config
    bank, seed, device = subject.splits["test"], config.data_seed, subject.runtime.device
    index = sample(bank, config.images, seed).numpy()

    def add(group: str, classifier: str, effects: Effects) -> None:
        # How many images each number rests on, and how many were left out and why, belongs to it.
        counts = {f"count_{name}": float(count) for name, count in effects.counts.items()}
        found.add(f"{group}.{classifier}", effects.metrics | counts, effects.unavailable)
        found.frames.setdefault(group, []).append(effects.per_image.assign(classifier=classifier))

    step("backgrounds")
    bias = config.habitat_bias if config.dataset == REDRAWN else None
    scenes = backgrounds(bank, seed, bias=bias, index=index, device=device).kept()
    for name, predict in subject.predictors.items():
        add("background", name, background_metrics(predict, scenes))
    if config.dataset != REDRAWN:
        why = "only drawn birds can be drawn anew"
        return found.without("causal", why).without("texture", why)

    from cvsa.data.interventions import birds_of

    birds = birds_of(bank)
    step("causes")
    pairs = causal_pairs(birds, index, seed, device)
    for name, predict in subject.predictors.items():
        embed = subject.encoders[name]
        add("causal", name, sensitivities(embed, predict, birds, index, seed, pairs=pairs))
    step("cues")
    cues = cue_pictures(birds, index, seed, device)
    for name, predict in subject.predictors.items():
        add("texture", name, texture_metrics(predict, birds, index, seed, pictures=cues))
    return found


def reliance_steps(subject: Subject) -> int:
    """How often :func:`measure_reliance` calls ``step``."""
    return 3 if subject.config.dataset == REDRAWN else 1
