"""Where and how a run computes: device, precision, memory format, seeding, progress."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from cvsa.config import RunConfig
from cvsa.errors import CVSAError
from cvsa.methods.backbone import Backbone
from cvsa.methods.world import world


@dataclass(frozen=True)
class Runtime:
    """Resolved device and precision of a run, and whether its networks are compiled.

    Attributes:
        device: with its index, where it is a GPU.
        bf16: autocast to bfloat16, or none.
        compiled: backbones are compiled by torch's inductor before they train.
    """

    device: torch.device
    bf16: bool
    compiled: bool = False

    @classmethod
    def of(cls, config: RunConfig) -> Runtime:
        """Resolve 'auto' on this machine.

        Precision is then bf16 on a GPU that has it, and fp32 on every CPU: some have units for bf16, and the
        same run shall not depend on which one it met. Where processes share the run, each has the GPU of its
        rank.

        Raises:
            CVSAError: a device this machine lacks.
        """
        name = config.device if config.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(name)
            if device.type == "cuda" and world().size > 1:
                device = torch.device("cuda", world().rank)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError):
            raise CVSAError(
                f"Parameter device = {config.device!r}: not available here. Use auto, cpu, cuda or cuda:N."
            ) from None
        fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        bf16 = config.precision == "bf16" or (config.precision == "auto" and fast)
        return cls(device, bf16, getattr(config, "compile", False))  # an evaluation has nothing to compile

    @property
    def devices(self) -> list[torch.device]:
        """Those of all processes that share the run; the CPU once."""
        if self.device.type != "cuda" or world().size == 1:
            return [self.device]
        return [torch.device("cuda", rank) for rank in range(world().size)]

    def autocast(self) -> AbstractContextManager[Any]:
        """bf16 autocast where the run uses it."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self.bf16 else nullcontext()

    def place(self, module: nn.Module) -> nn.Module:
        """Move a network to the device, in channels_last."""
        # torch's stubs miss this overload of Module.to.
        return module.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def prepare(self, module: nn.Module) -> None:
        """Before training: compile every backbone in a placed network, where the run asks for it.

        Names of weights stay as they are. On a GPU, let cuDNN choose among its convolutions by trying: sizes
        do not change from step to step.
        """
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True
        if self.compiled:
            for part in module.modules():
                if isinstance(part, Backbone):
                    part.compile()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Initialise layers from a seed without touching the caller's random state."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def progress_bar(total: int, done: int, what: str, unit: str) -> tqdm[Any]:
    """A tqdm bar with rate and time left; throttled where the output is stored (notebooks, logs).

    Of the processes that share a run only the first shows one.
    """
    interactive = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=done,
        desc=what,
        unit=unit,
        mininterval=0.5 if interactive else 10,
        dynamic_ncols=interactive,
        smoothing=0.1,
        disable=not world().first,
    )
