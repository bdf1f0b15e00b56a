"""The paper's causal picture, measured: how far style S, background B and texture T move what is learnt.

Each arrow is an intervention: pairs of pictures of SynthBirds that differ in one cause only (see
`cvsa.data.interventions`). The paper wants T to matter and B not to [A]; the measures are ours [O].

    style       another light: exposure, warmth, direction
    background  another habitat
    texture     the attributes of another class: same pose, place, light and background

distance = (mean cosine distance of the pairs' features) / (the same of random pairs of different pictures):
0 where the cause does not matter, 1 where it moves the features as far apart as those of any two pictures.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from cvsa.data.birds import SynthBirds
from cvsa.data.interventions import with_attributes, with_style
from cvsa.data.render import Streams
from cvsa.evaluation.background import Effects, Index, batches, ceiling, decide, select
from cvsa.evaluation.features import Embed, Predict

ARROWS = ("style", "background", "texture")


def causal_pairs(
    birds: SynthBirds, index: np.ndarray, seed: int, device: torch.device | str = "cpu"
) -> dict[str, Tensor]:
    """Pictures and, for every arrow, the same pictures with that cause alone changed.

    All pictures show a habitat drawn uniformly, whatever the class, so that no habit of the training set is
    in the comparison; "background" shows another of the habitats, "texture" another of the classes.

    Args:
        birds: the set, of any split.
        index: (n,) image numbers; an image's pictures do not depend on the others asked for.
        seed: of habitats, light and classes.
        device: where to draw.

    Returns:
        "original" and the three arrows, uint8 (n, 3, R, R) each.
    """
    habitat, other, label = _choices(birds, seed)
    texture = with_attributes(birds, birds.class_attributes[label])

    def draw(these: SynthBirds, shown: np.ndarray) -> Tensor:
        return these.draw(index, habitat=shown[index], device=device).images

    return {
        "original": draw(birds, habitat),
        "style": draw(with_style(birds, seed), habitat),
        "background": draw(birds, other),
        "texture": draw(texture, habitat),
    }


def _choices(birds: SynthBirds, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Habitat, other habitat and other class of every image of the set, (N,) each."""
    streams, habitats, classes = Streams(seed, "causal"), len(birds.habitat_names), len(birds.classes)

    def another(first: np.ndarray, many: int, name: str) -> np.ndarray:
        step = 1 + (streams.uniform(name, len(birds)) * (many - 1)).astype(np.int64)
        return (first + step) % many

    habitat = (streams.uniform("habitat", len(birds)) * habitats).astype(np.int64)
    return habitat, another(habitat, habitats, "other"), another(birds.labels, classes, "class")


@torch.no_grad()
def sensitivities(
    embed: Embed,
    predict: Predict | None,
    birds: SynthBirds,
    index: Index | None = None,
    seed: int = 0,
    *,
    pairs: dict[str, Tensor] | None = None,
    batch: int = 250,
    device: torch.device | str = "cpu",
) -> Effects:
    """How far each cause moves the features, and how often it changes the decision.

    Args:
        embed: the encoder, see `cvsa.evaluation.features.Embed`.
        predict: a classifier, see `cvsa.evaluation.features.Predict`; None: distances only.
        birds: the set whose pictures are changed, usually the test split's (`birds_of`).
        index: which images, (n,), at least 2; None: all.
        seed: of everything that is chosen.
        pairs: of `causal_pairs` for the same images and seed, if they are there already; None: drawn here.
        batch: pictures at a time. device: where to draw.

    Returns:
        metrics: for each arrow `ARROW.distance` (see above) and `ARROW.flip`, the share of pairs with
        different decisions; `random.distance`, the mean cosine distance of random pairs, and `random.flip`
        (what flips amount to when everything changes); `accuracy` on the originals and `texture.follows`, the
        share of decisions for the new class, both with `chance`, the share of the most frequent class.
        per_image: image, label, other (the class in "texture"), habitat, other_habitat, partner (the other
        half of the random pair), and for each arrow and "random" distance and predicted class.

    Raises:
        CVSAError: fewer than 2 images, or one that does not exist.
    """
    chosen = select(index, len(birds), least=2)  # of one picture there is no random pair
    names = ("original", *ARROWS)
    features: dict[str, list[Tensor]] = {name: [] for name in names}
    decided: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for places in batches(len(chosen), batch):
        drawn = pairs and {name: images[places[0] : places[-1] + 1] for name, images in pairs.items()}
        for name, images in (drawn or causal_pairs(birds, chosen[places], seed, device)).items():
            features[name].append(embed(images.float().div_(255)).float().cpu())
            if predict:
                decided[name].append(decide(predict, images))
    habitat, other, label = (column[chosen] for column in _choices(birds, seed))
    partner = _partners(len(chosen), seed)
    original = torch.cat(features["original"])
    others = {name: torch.cat(features[name]) for name in ARROWS} | {"random": original[partner]}
    frame = pd.DataFrame(
        {
            "image": chosen,
            "label": birds.labels[chosen],
            "other": label,
            "habitat": habitat,
            "other_habitat": other,
            "partner": chosen[partner],
        }
    )
    for name, changed in others.items():
        frame[f"{name}_distance"] = (1 - F.cosine_similarity(original, changed, dim=1)).clamp(min=0).numpy()
    if predict:
        for name in names:
            frame["predicted" if name == "original" else f"{name}_predicted"] = np.concatenate(decided[name])
        frame["random_predicted"] = frame["predicted"].to_numpy()[partner]
    metrics, unavailable = _summary(frame)
    return Effects(metrics, frame, {"images": len(chosen)}, unavailable)


def _partners(count: int, seed: int) -> np.ndarray:
    """Somebody else for everybody, (count,): the next in a random order around a circle."""
    order = np.argsort(Streams(seed, "causal").uniform("partner", count))
    partner = np.empty(count, dtype=np.int64)
    partner[order] = np.roll(order, -1)
    return partner


def _summary(frame: pd.DataFrame) -> tuple[dict[str, float], dict[str, str]]:
    scale = float(frame["random_distance"].mean())
    metrics, unavailable = {"random.distance": scale}, {}
    for name in ARROWS:
        if scale > 1e-6:  # float32 cosines of equal vectors differ from 1 by less
            metrics[f"{name}.distance"] = float(frame[f"{name}_distance"].mean()) / scale
        else:
            unavailable[f"{name}.distance"] = "all pictures have the same features"
    flips = [f"{name}.flip" for name in (*ARROWS, "random")]
    if "predicted" not in frame:
        missing = [*flips, "accuracy", "texture.follows", "chance"]
        return metrics, unavailable | dict.fromkeys(missing, "needs a classifier")
    for flip in flips:
        changed = frame[f"{flip.removesuffix('.flip')}_predicted"]
        metrics[flip] = float((frame["predicted"] != changed).mean())
    labels = frame["label"].to_numpy()
    metrics["accuracy"] = float((frame["predicted"] == frame["label"]).mean())
    metrics["texture.follows"] = float((frame["texture_predicted"] == frame["other"]).mean())
    metrics["chance"] = ceiling(np.zeros_like(labels), labels)
    return metrics, unavailable
