"""Attention against training epoch: what the alignment module sees of fixed views while a run is trained.

The training is the run's own, to the last bit of its weights: the training loop calls ``after_step`` of the
method, and a method that is watched looks at the views there, in eval mode and without drawing a random
number. Nothing of the training code knows of it. [O]
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from cvsa.config import PretrainConfig
from cvsa.data.datasets import load_splits
from cvsa.errors import CVSAError, one_line
from cvsa.methods.alignment import reduce_mask
from cvsa.methods.base import Method
from cvsa.provenance import code_hash
from cvsa.records import atomic_write
from cvsa.training.loop import fit
from cvsa.training.pretrain import build_views, initialise
from cvsa.training.runtime import Runtime, seeded
from cvsa.views import Views

FILE = "attention.npz"


@dataclass(frozen=True)
class Frames:
    """Attention on the same views at several epochs of one training.

    Attributes:
        epochs: (E,) int64, ascending; 0 is before training.
        views: (n, 3, S, S) uint8, the views whose attention is shown, of images held out from training.
        others: (n, 3, S, S) uint8, the second view of each, in which partners are looked for.
        masks: (n, S, S) uint8, 255 where the pasted object lies in ``views``.
        attention: (E, n, h, w) uint8, 255 is an attention of 1.
        gap: (E,) float32, attention inside minus outside of the mask, mean over ``measured`` images.
        measured: how many images ``gap`` is the mean of.
        row, run_id, code: of the training, as a record of it has them (the hash of the code that shapes it).
    """

    epochs: np.ndarray
    views: np.ndarray
    others: np.ndarray
    masks: np.ndarray
    attention: np.ndarray
    gap: np.ndarray
    measured: int
    row: str
    run_id: str
    code: str


def attention_over_training(
    config: PretrainConfig,
    out: Path,
    epochs: Iterable[int],
    *,
    count: int = 4,
    measured: int = 200,
    seed: int = 0,
) -> Frames:
    """Train as ``cvsa.training.pretrain.pretrain`` does, and write the attention met on the way.

    The file is ``attention.npz``; if it holds these frames already, they are returned at once. The training
    leaves nothing else: history and checkpoints are forgotten, as one that was resumed would lack its first
    frames.

    Args:
        config: of a row with an alignment module.
        out: folder of the file; the folder of a run or any other.
        epochs: after which to look, each from 0 (before training) to ``config.epochs``.
        count: n, images shown, drawn at random from the validation split.
        measured: images that the gap is the mean of, those shown among them; all if there are fewer.
        seed: of that draw and of the views.

    Raises:
        CVSAError: no alignment module, no such epoch, or whatever the training raises.
    """
    wanted = sorted(set(epochs))
    if config.align_weight <= 0:
        raise CVSAError(f"{config.row} has no alignment module, hence no attention: take BYOL+CVSA.")
    if not wanted or wanted[0] < 0 or wanted[-1] > config.epochs:
        raise CVSAError(f"Epochs {wanted} are not there: the run has 0 (before training) to {config.epochs}.")
    path = out / FILE
    if path.is_file():
        stored = load_frames(path)
        same = (stored.run_id, stored.code) == (config.identity(), code_hash(config))
        if same and stored.epochs.tolist() == wanted and len(stored.views) == count:
            return stored

    runtime, splits = Runtime.of(config), load_splits(config)
    bank, held_out = (splits[name].to(runtime.device) for name in ("train", "val"))
    chosen = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(seed))[:measured]
    maker = build_views(config, held_out)
    pair = maker(chosen.to(runtime.device), torch.Generator().manual_seed(seed))
    method = initialise(config, runtime)
    attention: list[np.ndarray] = []
    gaps: list[float] = []

    def look(epoch: int) -> None:
        if epoch in wanted:
            maps = _attention(method, pair)
            attention.append(_to_uint8(maps[:count, 0]))
            gaps.append(_gap(maps, pair[0].masks))

    look(0)
    watch(method, config.epochs, look)
    with seeded(config.seed, runtime.device), tempfile.TemporaryDirectory() as scratch:
        fit(method, build_views(config, bank), bank, config, runtime, Path(scratch), config.row)
    frames = Frames(
        epochs=np.array(wanted),
        views=_to_uint8(pair[0].images[:count]),
        others=_to_uint8(pair[1].images[:count]),
        masks=_to_uint8(pair[0].masks[:count, 0]),
        attention=np.stack(attention),
        gap=np.array(gaps, dtype=np.float32),
        measured=len(chosen),
        row=config.row,
        run_id=config.identity(),
        code=code_hash(config),
    )
    save_frames(frames, path)
    return frames


def watch(method: Method, epochs: int, look: Callable[[int], None]) -> None:
    """Call ``look(epoch)`` at the end of every epoch, after the method has updated itself.

    Args:
        method: about to be trained.
        epochs: of the whole training.
        look: given 1 at the end of the first epoch. Whatever it does to the method's mode is undone.
    """
    update = method.after_step

    def after_step(progress: float) -> None:
        update(progress)
        epoch = progress * epochs
        if abs(epoch - round(epoch)) < 1e-6:  # far below one step
            look(round(epoch))

    method.after_step = after_step  # type: ignore[method-assign]


@torch.no_grad()
def _attention(method: Method, pair: tuple[Views, ...], batch: int = 100) -> Tensor:
    """The attention of the first views in the second, (B, 1, h, w), in eval mode and back."""
    modes = [(module, module.training) for module in method.modules()]
    method.eval()
    parts = [
        method.attention(tuple(Views(view.images[rows], view.masks[rows]) for view in pair))
        for rows in torch.arange(len(pair[0].images), device=pair[0].images.device).split(batch)
    ]
    for module, training in modes:
        module.training = training
    return torch.cat(parts)


def _gap(attention: Tensor, masks: Tensor) -> float:
    """Mean over images of the attention inside the mask minus that outside."""
    inside = reduce_mask(masks, attention)  # (B, 1, h, w)
    within, beyond = (
        (attention * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp_min(1e-6)
        for weight in (inside, 1 - inside)
    )
    return float((within - beyond).mean())


def _to_uint8(values: Tensor) -> np.ndarray:
    return values.float().clamp(0, 1).mul(255).round().byte().cpu().numpy()


def save_frames(frames: Frames, path: Path) -> None:
    """Write frames as a compressed ``.npz`` (tens of kilobytes), atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **asdict(frames))
    atomic_write(path, buffer.getvalue())


def load_frames(path: Path) -> Frames:
    """Read what :func:`save_frames` wrote.

    Raises:
        CVSAError: no such file, or one that holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            values = {field.name: stored[field.name] for field in fields(Frames)}
    except (OSError, ValueError, KeyError, BadZipFile, EOFError) as error:
        message = f"No attention frames in {path} ({error}); make them with attention_over_training."
        raise CVSAError(one_line(message)) from error
    return Frames(**{name: value if value.ndim else value.item() for name, value in values.items()})
