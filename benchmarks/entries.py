"""Which contenders a setting has, and the ways to use the processor that each may try."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

from benchmarks.contenders import Ours, Peer
from benchmarks.images import Batches, Pictures
from benchmarks.recipes import by_kornia, by_lightly, by_torchvision, recipes
from benchmarks.rounds import Entry
from benchmarks.settings import CEILINGS, OURS, PEERS, VIEWS_OF, Setting
from cvsa.config import PretrainConfig
from cvsa.data.bank import ImageBank
from cvsa.limits import cores
from cvsa.report.speed_records import CVSA, Contender, Work
from cvsa.training.runtime import Runtime

LIBRARIES = ("lightly", "torchvision", "kornia")


def missing() -> dict[str, str]:
    """Peers that are not installed, and what to do."""
    return {
        name: "not installed; `pip install -e '.[bench]'` brings it"
        for name in LIBRARIES
        if find_spec(name) is None
    }


class Both:
    """Two views of an image, or of a batch, each by its own transform.

    Args:
        transforms: of the views.
    """

    def __init__(self, *transforms: Any) -> None:
        self.transforms = transforms

    def __call__(self, image: Any) -> list[Any]:
        return [transform(image) for transform in self.transforms]


class Stage:
    """A setting's images and device, and the contenders made of them.

    Args:
        setting: what is measured.
        runtime: device and precision.
        bank: the images, on the CPU.
        files: the same as PNG files, in order.
        memory: the same, decoded.
    """

    def __init__(
        self, setting: Setting, runtime: Runtime, bank: ImageBank, files: Sequence[Path],
        memory: Sequence[Image.Image],
    ) -> None:  # fmt: skip
        self.setting, self.runtime, self.files, self.memory = setting, runtime, files, memory
        self.bank = bank.to(runtime.device)
        self.cuda = runtime.device.type == "cuda"
        self.left_out = missing()

    @cached_property
    def colours(self) -> Tensor:
        """The images without their saliency, (N, 3, R, R) uint8, on the device."""
        return self.bank.images[:, :3].contiguous()

    def config(self, row: str) -> PretrainConfig:
        """The pre-training of a row, on this device."""
        return self.setting.config(row, str(self.runtime.device))

    def here(self) -> list[tuple[int, int]]:
        """Ways to use the processor without workers: one thread, or all cores; a GPU needs one."""
        return [(1, 0)] if self.cuda else _distinct([(1, 0), (cores(), 0)])

    def loading(self) -> list[tuple[int, int]]:
        """Ways with workers; on a GPU the threads do nothing else."""
        if self.cuda:
            return _distinct([(1, max(1, cores() // 2)), (1, cores())])
        counts = (0, max(1, cores() // 2), cores())
        return _distinct([(threads, workers) for threads in (1, cores()) for workers in counts])

    def contenders(self, asked: Sequence[str]) -> list[Entry]:
        """Those that train: ceilings, our own, peers, as far as asked for."""
        entries = []
        for role, rows in (("ceiling", CEILINGS), ("ours", OURS)):
            for row in rows if role in asked else ():
                config, fixed = self.config(row), role == "ceiling"
                work = Contender(
                    role=role,  # type: ignore[arg-type]
                    library=CVSA, row=row, images="fixed" if fixed else "bank", batch=config.batch_size,
                )  # fmt: skip
                entries.append(Entry(work, Ours(config, self.runtime, self.bank, fixed), self.here()))
        for library in LIBRARIES if "peers" in asked else ():
            for row in PEERS if library not in self.left_out else ():
                for images in ("memory",) if library == "kornia" else ("files", "memory"):
                    entries.append(self._peer(library, row, images))
        return entries

    def _peer(self, library: str, row: str, images: str) -> Entry:
        config = self.config(row)
        work = Contender(
            role="peer", library=library, row=row, images=images,  # type: ignore[arg-type]
            batch=config.batch_size,
        )  # fmt: skip
        running = Peer(config, self.runtime, self.dataset(library, config, images), library == "lightly")
        on_device = library == "kornia" and self.cuda
        return Entry(work, running, self.here() if on_device else self.loading())

    def dataset(self, library: str, config: PretrainConfig, images: str) -> Pictures | Batches:
        """A peer's views of the images in "files" or in "memory"."""
        first, second = recipes(config)
        if library == "kornia":
            cropping = "resample" if self.cuda else "slice"
            both: list[nn.Module] = [by_kornia(recipe, cropping) for recipe in (first, second)]
            return Batches(self.colours, Both(*both))
        sources = self.files if images == "files" else self.memory
        if library == "lightly":
            return Pictures(sources, by_lightly(first, second))
        return Pictures(sources, Both(by_torchvision(first), by_torchvision(second)))

    def views(self) -> list[Entry]:
        """Those that make views alone, on one thread and from memory."""
        entries = [
            Entry(
                Work(library=CVSA, row=row, images="bank", batch=self.config(row).batch_size),
                Ours(self.config(row), self.runtime, self.bank),
            )
            for row in VIEWS_OF
        ]
        config = self.config(PEERS[0])
        for library in LIBRARIES:
            if library not in self.left_out:
                work = Work(library=library, row=PEERS[0], images="memory", batch=config.batch_size)
                running = Peer(config, self.runtime, self.dataset(library, config, "memory"))
                entries.append(Entry(work, running))
        return entries


def _distinct(grid: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return list(dict.fromkeys(grid))
