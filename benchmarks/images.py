"""The images for the peers, those of our bank as PNG files or decoded in memory, and what loads them."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cvsa.data.bank import ImageBank

PREFETCH = 2  # batches that a worker holds ready: the default of torch


def write_png(bank: ImageBank, folder: Path) -> list[Path]:
    """Write every image of a bank as a PNG file, without its saliency; lossless.

    Returns:
        The files, in the bank's order.
    """
    paths = []
    for number, image in enumerate(bank.images[:, :3].permute(0, 2, 3, 1).cpu().numpy()):
        path = folder / f"{number:06d}.png"
        Image.fromarray(image).save(path)
        paths.append(path)
    return paths


def decoded(bank: ImageBank) -> list[Image.Image]:
    """Every image of a bank in memory, as PIL has it after decoding."""
    return [Image.fromarray(image) for image in bank.images[:, :3].permute(0, 2, 3, 1).cpu().numpy()]


class Pictures(Dataset[Any]):
    """Images one by one, each turned into its views.

    Args:
        sources: PNG files, or decoded images.
        views: PIL image -> its views, each (3, S, S).
    """

    def __init__(self, sources: Sequence[Path | Image.Image], views: Callable[[Image.Image], Any]) -> None:
        self.sources, self.views = sources, views

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, number: int) -> Any:
        source = self.sources[number]
        if isinstance(source, Path):
            with Image.open(source) as opened:
                source = opened.convert("RGB")
        return self.views(source)


class Batches(Dataset[Any]):
    """Whole batches of images, each turned into the views of its images at once.

    Args:
        images: (N, 3, R, R) uint8, on the device where views are made.
        views: (B, 3, R, R) float in [0, 1] -> views, each (B, 3, S, S).
    """

    def __init__(self, images: Tensor, views: Callable[[Tensor], Any]) -> None:
        self.images, self.views = images, views

    def __len__(self) -> int:
        return len(self.images)

    @torch.no_grad()
    def __getitem__(self, index: Sequence[int]) -> Any:
        chosen = torch.as_tensor(index, device=self.images.device)
        return self.views(self.images.index_select(0, chosen).to(torch.float32).div_(255))


class Endless(Sampler[list[int]]):
    """Image numbers of batches without end: no epoch's end stops the workers, which is in the peers' favour.

    Args:
        count: images.
        batch: of a step.
    """

    def __init__(self, count: int, batch: int) -> None:
        self.count, self.batch = count, batch

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(0)
        while True:
            yield torch.randint(self.count, (self.batch,), generator=generator).tolist()


class Loader:
    """A DataLoader at work.

    Args:
        dataset: of single images or of batches.
        batch: images of a step.
        workers: processes; 0: this one.
        device: where batches go; to a GPU through page-locked memory.
    """

    def __init__(self, dataset: Pictures | Batches, batch: int, workers: int, device: torch.device) -> None:
        self.device = device
        order = Endless(len(dataset), batch)
        several: dict[str, Any] = {"prefetch_factor": PREFETCH} if workers else {}
        single = isinstance(dataset, Pictures)
        here = single or dataset.images.device.type == "cpu"  # type: ignore[union-attr]
        self._loader: DataLoader[Any] = DataLoader(
            dataset, num_workers=workers, pin_memory=device.type == "cuda" and here, **several,
            **({"batch_sampler": order} if single else {"sampler": order, "batch_size": None}),
        )  # fmt: skip
        self._batches = iter(self._loader)

    def __next__(self) -> list[Tensor]:
        """The views of the next batch, on the device."""
        return [view.to(self.device, non_blocking=True) for view in next(self._batches)]

    def close(self) -> None:
        """Stop the workers and wait for their end."""
        del self._batches, self._loader  # an iterator without owner tells its workers to end
        if multiprocessing.active_children():
            gc.collect()
        for worker in multiprocessing.active_children():
            worker.join(10)
            if worker.is_alive():
                worker.kill()
                worker.join()


def release() -> None:
    """Give memory back before the next is measured."""
    gc.collect()
    if torch.cuda.is_available():
        with contextlib.suppress(RuntimeError):
            torch.cuda.empty_cache()
