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


@dataclass(frozen=True)
class Runtime:
    """Resolved device and precision of a run."""

    device: torch.device
    bf16: bool

    @classmethod
    def of(cls, config: RunConfig) -> Runtime:
        """Resolve 'auto' on this machine.

        Raises:
            CVSAError: a device this machine lacks.
        """
        name = config.device if config.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(name)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError):
            raise CVSAError(
                f"Parameter device = {config.device!r}: not available here. Use auto, cpu, cuda or cuda:N."
            ) from None
        return cls(
            device, config.precision == "bf16" or (config.precision == "auto" and _has_bf16_units(device))
        )

    def autocast(self) -> AbstractContextManager[Any]:
        """bf16 autocast where the run uses it."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self.bf16 else nullcontext()

    def place(self, module: nn.Module) -> nn.Module:
        """Move a network to the device, in channels_last."""
        # torch's stubs miss this overload of Module.to.
        return module.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _has_bf16_units(device: torch.device) -> bool:
    # Without such units bf16 is emulated and slower than fp32.
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    return any(
        getattr(torch.cpu, probe, lambda: False)()
        for probe in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    )


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Initialise layers from a seed without touching the caller's random state."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def progress_bar(total: int, done: int, what: str, unit: str) -> tqdm[Any]:
    """A tqdm bar with rate and time left; throttled where the output is stored (notebooks, logs)."""
    interactive = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=done,
        desc=what,
        unit=unit,
        mininterval=0.5 if interactive else 10,
        dynamic_ncols=interactive,
        smoothing=0.1,
    )
