"""When a run began, how long it took and, where the device reports its power, the energy it drew."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import torch

INTERVAL = 0.5  # seconds between two readings of the power


class Stopwatch:
    """Runs from its creation.

    Args:
        devices: whose power is read; only CUDA devices report it, through NVML (package nvidia-ml-py).
    """

    def __init__(self, *devices: torch.device) -> None:
        self.started = datetime.now(UTC)
        self._clock = time.monotonic()
        self._watts: list[float] = []
        self._stop = threading.Event()
        first = _power(devices)
        if first is not None:
            self._watts.append(first)
            threading.Thread(target=self._sample, args=(devices,), daemon=True).start()

    def _sample(self, devices: Sequence[torch.device]) -> None:
        while not self._stop.wait(INTERVAL):
            watts = _power(devices)
            if watts is not None:
                self._watts.append(watts)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._clock

    def energy(self) -> float | None:
        """Joules drawn by the whole devices since the start, and the end of reading; None if one tells none.

        Mean power times duration: an estimate, which counts whatever else ran on the devices.
        """
        self._stop.set()
        return sum(self._watts) / len(self._watts) * self.seconds if self._watts else None


def _power(devices: Sequence[torch.device]) -> float | None:
    """Watts now, of all together; None where a device or its driver does not report power."""
    if any(device.type != "cuda" for device in devices):
        return None
    try:
        return sum(torch.cuda.power_draw(device) for device in devices) / 1000.0
    except Exception:  # NVML is missing, or refuses: it raises classes of its own
        return None
