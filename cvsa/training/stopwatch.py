"""When a run began, how long it took and, where the device reports its power, the energy it drew."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

import torch

INTERVAL = 0.5  # seconds between two readings of the power


class Stopwatch:
    """Runs from its creation.

    Args:
        device: whose power is read; only CUDA devices report it, through NVML (package nvidia-ml-py).
    """

    def __init__(self, device: torch.device) -> None:
        self.started = datetime.now(UTC)
        self._clock = time.monotonic()
        self._watts: list[float] = []
        self._stop = threading.Event()
        first = _power(device)
        if first is not None:
            self._watts.append(first)
            threading.Thread(target=self._sample, args=(device,), daemon=True).start()

    def _sample(self, device: torch.device) -> None:
        while not self._stop.wait(INTERVAL):
            watts = _power(device)
            if watts is not None:
                self._watts.append(watts)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._clock

    def energy(self) -> float | None:
        """Joules drawn by the whole device since the start, and the end of reading; None if it tells none.

        Mean power times duration: an estimate, which counts whatever else ran on the device.
        """
        self._stop.set()
        return sum(self._watts) / len(self._watts) * self.seconds if self._watts else None


def _power(device: torch.device) -> float | None:
    """Watts now; None where the device or its driver does not report power."""
    if device.type != "cuda":
        return None
    try:
        return torch.cuda.power_draw(device) / 1000.0
    except Exception:  # NVML is missing, or refuses: it raises classes of its own
        return None
