"""Supervised fine-tuning of the whole network: the paper's metric, top-1 on the test split [A]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvsa.config import FinetuneConfig
from cvsa.data.bank import ImageBank
from cvsa.data.datasets import load_splits
from cvsa.evaluation.features import extract_features, starting_backbone
from cvsa.launch import check_devices, launch
from cvsa.lineage import parent_of, resolve_run
from cvsa.methods.backbone import Backbone
from cvsa.methods.world import part, world
from cvsa.records import PREDICTIONS, Record, atomic_write, finished, make_record, write_record
from cvsa.training.checkpoint import save_weights
from cvsa.training.loop import fit, forget_checkpoint
from cvsa.training.runtime import Runtime, seeded
from cvsa.training.stopwatch import Stopwatch
from cvsa.views import random_resized_crop
from cvsa.views.types import sent


class Classifier(nn.Module):
    """Backbone, global average, linear layer; a module the training loop can train."""

    def __init__(self, backbone: Backbone, classes: int) -> None:
        super().__init__()
        self.encoder = backbone
        self.head = nn.Linear(backbone.num_features, classes)
        self.weights = {"cross_entropy": 1.0}
        self.diagnostics: dict[str, Tensor] = {}

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of images (B, 3, S, S) in [0, 1] with labels (B,); records the training accuracy."""
        images, labels = batch
        logits = self.head(self.encoder.pool(self.encoder(images)))
        self.diagnostics = {"train_accuracy": (logits.argmax(1) == labels).float().mean()}
        return {"cross_entropy": F.cross_entropy(logits, labels)}

    def after_step(self, progress: float) -> None:
        """Nothing to update."""


def predict(model: Classifier, bank: ImageBank, image_size: int, runtime: Runtime) -> Tensor:
    """Predicted class of every image, (N,) int64 on the CPU."""
    features = extract_features(model.encoder, bank, image_size, runtime)
    with torch.no_grad():
        return model.head(features.to(runtime.device)).argmax(1).cpu()


def labelled_subset(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """The images that keep their labels: the same share of every class, at least one image of each.

    A smaller share is contained in a larger one of the same seed.

    Args:
        labels: (N,) int64.
        fraction: share kept, in (0, 1]; a class of n images keeps fraction n, rounded.
        seed: of the draw; the data's seed, so that all rows see the same labels.

    Returns:
        Image numbers (M,) int64 on the CPU, ascending.
    """
    labels = labels.cpu()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    # One random order of the images, class after class: every share takes the beginnings of the classes.
    order = order[labels[order].argsort(stable=True)]
    counts = labels.bincount()
    rank = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[order]]
    kept = (counts * fraction).round().clamp_min(1)
    return order[rank < kept[labels[order]]].sort().values


def finetune(out: Path, **given: Any) -> Record:
    """Fine-tune on the training split with labels and test once, after the last epoch.

    No split is used to choose anything. Writes predictions per test image beside the record, so that rows can
    be compared image by image.

    With ``label_fraction`` below 1 the other training images are left out (`labelled_subset`). The number of
    epochs stays, so the number of steps shrinks with the images. A batch larger than what is left becomes all
    of it, min(batch_size, counts["train_images"]). data_fingerprints["train"] is that of the whole split [O].

    With ``gpus`` above 1 it starts so many processes that share every batch, and waits for them.

    Args:
        out: folder of this run.
        **given: fields of ``FinetuneConfig``; data, backbone and seed come from ``pretrained`` when given.

    Raises:
        CVSAError: see ``resolve_run``, ``cvsa.training.loop.fit`` and ``cvsa.launch``; or ``out``
            holds another run.
    """
    config = resolve_run(FinetuneConfig, **given)[0]
    done = finished(config, out)
    if done:
        return done
    if config.gpus == 1:
        return finetune_here(config, out)  # type: ignore[return-value]  # the only process is the first
    check_devices(config)
    load_splits(config)  # all banks are there before several processes want them
    return launch(finetune_here, config, out)


def finetune_here(config: FinetuneConfig, out: Path) -> Record | None:
    """Fine-tune in this process, or take this process's part in it.

    Returns:
        The record; None in all but the first of several processes, which write nothing.
    """
    runtime = Runtime.of(config)
    watch, parent = Stopwatch(*runtime.devices), parent_of(config)
    splits = load_splits(config)
    bank, training = splits["train"], config
    if config.label_fraction < 1:
        bank = bank.subset(labelled_subset(bank.labels, config.label_fraction, config.data_seed))
        training = config.model_copy(update={"batch_size": min(config.batch_size, len(bank))})
    bank = bank.to(runtime.device)
    backbone = starting_backbone(config, runtime)
    with seeded(config.seed, runtime.device):
        model: Classifier = runtime.place(Classifier(backbone, len(bank.classes)))  # type: ignore[assignment]

    def make_batch(index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        views = random_resized_crop(
            bank.gather(index),
            size=config.image_size,
            scale=config.crop_scale,
            ratio=(3 / 4, 4 / 3),
            generator=generator,
            flip=0.5,
        )
        return views.images.to(runtime.device), bank.labels[sent(index, bank.labels.device)]

    with seeded(config.seed, runtime.device):
        history, rate = fit(model, make_batch, bank, training, runtime, out, f"fine-tune {config.row}")
    part()
    if not world().first:
        return None
    metrics, rows = {"train_accuracy": float(history["train_accuracy"].iloc[-1])}, []
    for name in [split for split in splits if split != "train"]:
        labels, predicted = (
            splits[name].labels.cpu(),
            predict(model, splits[name], config.image_size, runtime),
        )
        metrics[f"{name}_accuracy"] = float((predicted == labels).double().mean())
        rows.append(
            pd.DataFrame(
                {
                    "split": name,
                    "image": range(len(labels)),
                    "label": labels.numpy(),
                    "predicted": predicted.numpy(),
                }
            )
        )
    atomic_write(out / PREDICTIONS, pd.concat(rows).to_csv(index=False))
    save_weights(out, model)
    record = make_record(
        config,
        parent=parent,
        watch=watch,
        runtime=runtime,
        banks=splits,
        trained_seconds=float(history["seconds"].sum()),
        metrics=metrics,
        counts={
            "train_images": len(bank),
            "classes": len(bank.classes),
            **{f"{name}_images": len(split) for name, split in splits.items() if name != "train"},
        },
        images_per_second=round(rate, 1),
    )
    record = write_record(record, out)
    forget_checkpoint(out)
    return record
