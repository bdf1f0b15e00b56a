"""Self-supervised pre-training: bank -> views -> method -> record and weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from cvsa.config import PretrainConfig
from cvsa.data.bank import ImageBank
from cvsa.data.datasets import load_splits
from cvsa.errors import CVSAError
from cvsa.launch import check_devices, launch
from cvsa.lineage import parent_of
from cvsa.methods import build_method
from cvsa.methods.base import Method
from cvsa.methods.catalogue import find_base
from cvsa.methods.world import part, world
from cvsa.records import Record, finished, make_record, write_record
from cvsa.training.checkpoint import load_start, load_weights, save_weights
from cvsa.training.loop import fit, forget_checkpoint
from cvsa.training.runtime import Runtime, seeded
from cvsa.training.stopwatch import Stopwatch
from cvsa.views import ViewMaker, Views, ViewSettings
from cvsa.views.cutout import BACKGROUNDS


def build_views(config: PretrainConfig, bank: ImageBank) -> ViewMaker:
    """The view generator a configuration asks for, over a bank."""
    scenes = None
    if config.swap_backgrounds == "scenes":
        from cvsa.data.drawn import load_scenes  # photographs do without what draws

        scenes = load_scenes(config).to(bank.device)
    settings = ViewSettings(
        config.image_size,
        scale=config.swap_scale,
        crop_scale=config.crop_scale,
        swap_probability=config.swap_probability,
        mask=config.view_mask,
        masks=find_base(config.base).masks or config.align_weight > 0,
        dilo_fraction=config.dilo_fraction,
        dilo_backgrounds=BACKGROUNDS if config.dilo_backgrounds == "all" else (config.dilo_backgrounds,),
        swap_area=config.swap_area,
        swap_crop=config.swap_crop,
        swap_backgrounds=config.swap_backgrounds,
        scenes=scenes,
    )
    return ViewMaker(bank, view=config.view, augmentation=config.augmentation, settings=settings)


def initialise(config: PretrainConfig, runtime: Runtime) -> Method:
    """The method as it is before training: drawn from the seed, its backbone from the first stage if any.

    A second stage keeps the first one's backbone and nothing else: heads are new, keys in queues are random,
    and every momentum copy starts equal to what it follows. [O]
    """
    method = build_method(config)
    load_start(config, method.encoder)
    method.restart_copies()
    return runtime.place(method)  # type: ignore[return-value]


def load_method(config: PretrainConfig, folder: Path, runtime: Runtime) -> Method:
    """The method as it is after training, from a finished run's folder."""
    method: Method = runtime.place(build_method(config))  # type: ignore[assignment]
    load_weights(folder, method)
    return method


def pretrain(config: PretrainConfig, out: Path) -> Record:
    """Pre-train one row on the training split; resumes, and returns at once if ``out`` holds this very run.

    Writes ``weights.safetensors`` (the whole method), ``history.csv`` and, last, ``record.json``. With
    ``config.gpus`` above 1 it starts so many processes that share every batch, and waits for them.

    Args:
        config: resolved by ``cvsa.lineage.resolve_run`` where it starts from another run.
        out: folder of this run.

    Raises:
        CVSAError: see ``cvsa.lineage``, ``cvsa.config``, ``cvsa.data.datasets``, ``cvsa.training.loop`` and
            ``cvsa.launch``; or ``out`` holds another run.
    """
    done = finished(config, out)
    if done:
        return done
    if config.gpus == 1:
        return pretrain_here(config, out)  # type: ignore[return-value]  # the only process is the first
    check_devices(config)
    # All banks are there before several processes want them.
    build_views(config, load_splits(config)["train"])
    return launch(pretrain_here, config, out)


def pretrain_here(config: PretrainConfig, out: Path) -> Record | None:
    """Pre-train in this process, or take this process's part in it.

    Returns:
        The record; None in all but the first of several processes, which write nothing.
    """
    runtime = Runtime.of(config)
    watch = Stopwatch(*runtime.devices)
    bank = load_splits(config)["train"].to(runtime.device)
    if find_base(config.base).queue and config.queue_size > len(bank):
        raise CVSAError(
            f"Parameter queue_size = {config.queue_size}: larger than the training set ({len(bank)} images), "
            "so a queue would hold an image's own old key. Lower queue_size."
        )
    method = initialise(config, runtime)
    views = build_views(config, bank)
    with seeded(config.seed, runtime.device):
        history, rate = fit(method, views, bank, config, runtime, out, config.row)
    part()
    if not world().first:
        return None
    last = history.iloc[-1].drop(["epoch", "learning_rate", "seconds"])
    save_weights(out, method)
    record = make_record(
        config,
        parent=parent_of(config),
        watch=watch,
        runtime=runtime,
        banks={"train": bank, **({"scenes": views.settings.scenes} if views.settings.scenes else {})},
        trained_seconds=float(history["seconds"].sum()),
        metrics={name: float(value) for name, value in last.items()},
        counts={
            "train_images": len(bank),
            "without_object": bank.no_object,
            "parameters": sum(p.numel() for p in method.encoder.parameters()),
        },
        images_per_second=round(rate, 1),
    )
    record = write_record(record, out)
    forget_checkpoint(out)
    return record


@torch.no_grad()
def attention_maps(method: Method, views: ViewMaker, index: Tensor, seed: int) -> tuple[Views, Tensor]:
    """One pair of views per reference, and the alignment module's attention of the first view in the second.

    Args:
        method: with an alignment module.
        views: view generator over a bank.
        index: (B,) int64, references.
        seed: of the views.

    Returns:
        The first views, and their attention (B, 1, H, W) in (0, 1).

    Raises:
        CVSAError: the method has no alignment module.
    """
    pair = views(index, torch.Generator().manual_seed(seed))
    method.eval()
    return pair[0], method.attention(pair)
