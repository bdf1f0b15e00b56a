"""One record of what can be asked of a trained network: where it looks, what it leans on, what it knows.

The paper shows class-activation maps as pictures and its causal graph as a drawing [A]; no number of either
was at hand, so all measures here are ours [O], each from the literature it cites.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate, count
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from cvsa.data.bank import ImageBank
from cvsa.errors import CVSAError
from cvsa.evaluation.attribution import localization_steps, measure_localization
from cvsa.evaluation.fewshot import episodes
from cvsa.evaluation.linear import closed_form, sgd
from cvsa.evaluation.regression import regress_boxes
from cvsa.evaluation.reliance import measure_reliance, reliance_steps
from cvsa.evaluation.retrieval import retrieve
from cvsa.evaluation.subject import Findings, Subject, sample
from cvsa.evaluation.truth import truth_of
from cvsa.lineage import resolve_evaluation
from cvsa.records import Record, atomic_write, finished, make_record, write_record
from cvsa.training.runtime import Runtime, progress_bar
from cvsa.training.stopwatch import Stopwatch

FRAMES = ("localization", "background", "causal", "texture")
SHOTS = (1, 5)
WAYS = 5
BOXES = 2000  # images of a split that boxes are regressed on: time grows with the cube of their number


def evaluate(out: Path, **given: Any) -> Record:
    """Measure what ``parts`` asks for, as far as the data has what it takes.

    Writes a CSV file per group with a line per image (and source or classifier), and last the record.

    Args:
        out: folder of this run.
        **given: fields of ``EvaluateConfig``; everything but what is measured comes from ``finetuned`` or
            ``pretrained`` when given.

    Raises:
        CVSAError: see ``cvsa.lineage.resolve_evaluation``; or ``out`` holds another run.
    """
    config, parent, child = resolve_evaluation(**given)
    done = finished(config, out)
    if done:
        return done
    runtime = Runtime.of(config)
    watch = Stopwatch(runtime.device)
    subject, found = Subject(config, parent, runtime), Findings()
    parts = [PARTS[name] for name in config.parts.split(",")]
    steps = [part.steps(subject) for part in parts]
    with progress_bar(sum(steps), 0, f"evaluate {config.row}", "step") as bar:
        for part, end in zip(parts, accumulate(steps), strict=True):
            begun = count(int(bar.n))

            def step(name: str, begun: Iterator[int] = begun) -> None:
                bar.set_postfix_str(name, refresh=False)
                bar.update(next(begun) - bar.n)

            found.merge(part.measure(subject, step))
            bar.update(end - bar.n)  # what the data does not allow is done with, too
    for name in FRAMES:  # another evaluation may have been stopped in this folder
        (out / f"{name}.csv").unlink(missing_ok=True)
    for name, frames in found.frames.items():
        atomic_write(out / f"{name}.csv", pd.concat(frames).to_csv(index=False, float_format="%.5g"))
    images = sum(map(len, subject.splits.values()))
    record = make_record(
        config,
        parent=parent,
        classifier=child,
        watch=watch,
        runtime=runtime,
        banks=subject.splits,
        metrics=found.metrics,
        unavailable=found.unavailable,
        counts={f"{name}_images": len(bank) for name, bank in subject.splits.items()},
        images_per_second=round(images / watch.seconds, 1),
    )
    return write_record(record, out)


def protocols(subject: Subject, step: Callable[[str], None]) -> Findings:
    """The frozen features by the standard protocols; classes are tested where no habitat helps.

    "linear.class_closed" and "linear.habitat_closed" (closed-form probes), "retrieval.*", "fewshot.*" on the
    test images, "boxes.*" by regression from the frozen map.
    """
    found = Findings()
    tested = subject.labelled("test")
    step("linear")
    found.add("linear", {"class_closed": subject.probe.accuracy(*tested)})
    found.add("linear", {"class_chance": float(tested[1].bincount().max()) / len(tested[1])})
    if "habitat" in subject.splits["train"].extras:
        found.attempt("linear", lambda: _habitat(subject), "linear.habitat_closed")
    step("retrieval")
    found.attempt("retrieval", lambda: retrieve(*tested))
    centre = subject.features["train"].mean(0)
    for shots in SHOTS:
        step("few-shot")
        draw: dict[str, Any] = {
            "count": subject.config.episodes,
            "seed": subject.config.data_seed,
            "centre": centre,
        }
        told = partial(episodes, *tested, ways=WAYS, shots=shots, **draw)
        found.attempt("fewshot", told, f"fewshot.{WAYS}way{shots}shot")
    step("boxes")
    banks = {"train": subject.splits["train"], "val": subject.splits["val"], "test": subject.measured}
    if all(truth_of(bank).boxes is not None for bank in banks.values()):
        train, val, test = (_located(subject, bank) for bank in banks.values())
        found.attempt("boxes", lambda: regress_boxes(train, val, test))
    else:
        found.without("boxes", "not all splits come with masks or boxes")
    return found


def _located(subject: Subject, bank: ImageBank) -> tuple[Tensor, Tensor]:
    """Frozen maps (M, D, h, w) and boxes (M, 4), as shares of the side, of the images with an object."""
    index = bank.found.cpu().nonzero()[:, 0]
    index = index[sample(index, BOXES, subject.config.data_seed)]
    return subject.maps(bank, index), bank.boxes.cpu()[index] / bank.resolution


def _habitat(subject: Subject) -> dict[str, float]:
    """How well the habitat is read: half of the validation split chooses, the other is tested."""
    habitats = {
        name: torch.as_tensor(subject.splits[name].extras["habitat"]).long() for name in ("train", "val")
    }
    features, half = subject.features, len(habitats["val"]) // 2
    least = min(int(known.min()) for known in habitats.values())
    if least < 0:
        raise CVSAError("some training or validation images show no habitat")
    count = max(int(known.max()) for known in habitats.values()) + 1
    probe = closed_form(
        (features["train"], habitats["train"]), (features["val"][:half], habitats["val"][:half]), count
    )
    tested = habitats["val"][half:]
    return {
        "habitat_closed": probe.accuracy(features["val"][half:], tested),
        "habitat_chance": float(tested.bincount().max()) / len(tested),
    }


def by_sgd(subject: Subject, step: Callable[[str], None]) -> Findings:
    """The linear probe by the published recipe, "linear.class_sgd"."""
    found = Findings()
    step("sgd")
    probe = sgd(subject.labelled("train"), subject.classes, seed=subject.config.seed)
    found.add("linear", {"class_sgd": probe.accuracy(*subject.labelled("test"))})
    return found


class Part(NamedTuple):
    """Something to ask of a network.

    Attributes:
        measure: from the network and what is called with the name of each step before it is taken.
        steps: how many there are, where the data has all that they take.
    """

    measure: Callable[[Subject, Callable[[str], None]], Findings]
    steps: Callable[[Subject], int]


PARTS = {
    "localization": Part(measure_localization, localization_steps),
    "background": Part(measure_reliance, reliance_steps),
    "protocols": Part(protocols, lambda _: 3 + len(SHOTS)),
    "sgd": Part(by_sgd, lambda _: 1),
}
