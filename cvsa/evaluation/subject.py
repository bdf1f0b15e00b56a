"""What an evaluation looks at: a trained network with its data; and what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cvsa.config import PUBLISHED, EvaluateConfig, PretrainConfig
from cvsa.data.bank import ImageBank
from cvsa.data.datasets import load_splits
from cvsa.errors import CVSAError
from cvsa.evaluation.features import Embed, Predict, extract_features, starting_backbone, whole_view
from cvsa.evaluation.finetune import Classifier
from cvsa.evaluation.linear import Linear, closed_form
from cvsa.methods.backbone import Backbone, build_backbone
from cvsa.methods.base import Method
from cvsa.records import Record
from cvsa.training.checkpoint import load_weights
from cvsa.training.pretrain import load_method
from cvsa.training.runtime import Runtime

BATCH = 200  # images that pass the network together


@dataclass
class Findings:
    """What was measured, what could not be and why, and tables with a line per image.

    Attributes:
        metrics: "group.source.name" -> finite number.
        unavailable: the same names, or their beginnings -> reason.
        frames: name of a CSV file -> its parts.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    frames: dict[str, list[pd.DataFrame]] = field(default_factory=dict)

    def add(
        self, group: str, metrics: Mapping[str, float], unavailable: Mapping[str, str] | None = None
    ) -> None:
        """Add metrics of a group; one that is not finite is kept as unavailable."""
        for name, value in metrics.items():
            if np.isfinite(value):
                self.metrics[f"{group}.{name}"] = float(value)
            else:
                self.unavailable[f"{group}.{name}"] = "undefined on these images"
        self.unavailable |= {f"{group}.{name}": why for name, why in (unavailable or {}).items()}

    def attempt(
        self, group: str, measure: Callable[[], Mapping[str, float]], name: str | None = None
    ) -> None:
        """Add what ``measure`` gives, or, as ``name``, why it cannot: few images are no reason to stop."""
        try:
            self.add(group, measure())
        except CVSAError as error:
            self.unavailable[name or group] = str(error)

    def without(self, name: str, why: str) -> Findings:
        """The same, with what is missing and why."""
        self.unavailable[name] = why
        return self

    def merge(self, other: Findings) -> None:
        """Add all of another."""
        self.metrics |= other.metrics
        self.unavailable |= other.unavailable
        for name, frames in other.frames.items():
            self.frames.setdefault(name, []).extend(frames)


class OnDemand(Mapping[str, Tensor]):
    """Tensors by name, each made when first asked for and then kept."""

    def __init__(self, make: Callable[[str], Tensor], names: Iterable[str]) -> None:
        self._make, self._names = cache(make), dict.fromkeys(names)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Subject:
    """A network under evaluation.

    Args:
        config: of the evaluation.
        parent: record of its pre-training, or None.
        runtime: device and precision.

    Attributes:
        splits: the banks.
        frozen: the backbone as pre-trained (or as drawn from the seed).
        classifier: the fine-tuned network, or None.
    """

    def __init__(self, config: EvaluateConfig, parent: Record | None, runtime: Runtime) -> None:
        self.config, self.parent, self.runtime = config, parent, runtime
        self.splits = load_splits(config)
        self.frozen = starting_backbone(config, runtime)
        self.frozen.eval()
        self.classifier = self._load_classifier(config.finetuned) if config.finetuned else None

    @property
    def measured(self) -> ImageBank:
        """The test images that maps and boxes are judged on: drawn birds with a habitat not their own."""
        return self.splits.get("test_swapped", self.splits["test"])

    @property
    def classes(self) -> int:
        return len(self.splits["train"].classes)

    @cached_property
    def features(self) -> Mapping[str, Tensor]:
        """Pooled frozen features of each split, (N, D) float32 on the CPU."""

        def extract(split: str) -> Tensor:
            return extract_features(self.frozen, self.splits[split], self.config.image_size, self.runtime)

        return OnDemand(extract, self.splits)

    @torch.no_grad()
    def maps(self, bank: ImageBank, index: Tensor) -> Tensor:
        """Last feature maps of the frozen backbone, (M, D, h, w) float32 on the CPU."""
        chunks = []
        for rows in index.split(BATCH):
            with self.runtime.autocast():
                images = bank.gather(rows.to(bank.device))[:, :3].to(self.runtime.device)
                chunks.append(self.frozen(whole_view(images, self.config.image_size)).float().cpu())
        return torch.cat(chunks)

    def labelled(self, split: str) -> tuple[Tensor, Tensor]:
        """Features (N, D) and labels (N,) of a split."""
        return self.features[split], self.splits[split].labels.cpu()

    @cached_property
    def probe(self) -> Linear:
        """The linear classifier of the class on frozen features, in closed form."""
        return closed_form(self.labelled("train"), self.labelled("val"), self.classes)

    @cached_property
    def method(self) -> Method | None:
        """The pre-trained method with its heads; None where this project did not pre-train."""
        if self.parent is None or self.config.pretrained in (None, PUBLISHED):
            return None
        config = PretrainConfig(**self.parent.config)
        method = load_method(config, Path(str(self.config.pretrained)), self.runtime)
        return method.eval()

    @cached_property
    def predictors(self) -> dict[str, Predict]:
        """The classifiers there are: "finetuned", and "probe" on the frozen features."""
        encoders, found = self.encoders, {}
        if self.classifier:
            weight, bias = (p.detach().float().cpu() for p in self.classifier.head.parameters())
            found["finetuned"] = lambda images: encoders["finetuned"](images) @ weight.T + bias
        found["probe"] = lambda images: self.probe.logits(encoders["probe"](images))
        return found

    @property
    def encoders(self) -> dict[str, Embed]:
        """What each classifier decides by: the fine-tuned encoder, and the frozen one for "probe"."""
        found = {"probe": self.frozen} | ({"finetuned": self.classifier.encoder} if self.classifier else {})
        return {name: partial(self._pooled, backbone) for name, backbone in found.items()}

    @torch.no_grad()
    def _pooled(self, backbone: Backbone, images: Tensor) -> Tensor:
        with self.runtime.autocast():
            view = whole_view(images.to(self.runtime.device), self.config.image_size)
            return backbone.pool(backbone(view)).float().cpu()

    def _load_classifier(self, folder: Path) -> Classifier:
        backbone = build_backbone(self.config.backbone, image_size=self.config.image_size)
        classifier = Classifier(backbone, self.classes)
        load_weights(folder, classifier)
        self.runtime.place(classifier)
        return classifier.eval()


def sample(bank: Sized, count: int, seed: int) -> Tensor:
    """Places of ``count`` images drawn at random (all, if there are fewer), ascending; (n,) int64."""
    order = torch.randperm(len(bank), generator=torch.Generator().manual_seed(seed))
    return order[:count].sort().values
