"""Banks larger than memory: read in shards, a window at a time, so that little of the file is held at once.

How much may be held is the environment variable CVSA_MEMORY, in GB (10^9 bytes, for each bank); without it,
half of the machine's memory, or of what its container or job may use. That is the memory it has, not what is
free at the moment: the order in which a streamed bank is visited depends on the allowance, and should not
change with what else is running. To repeat a run on a streamed bank elsewhere, give the same CVSA_MEMORY.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.limits import memory

SHARD_BYTES = 2 << 20  # long enough to be read at full speed from most disks
WINDOW_SHARDS = 64  # at least so many places of the file in one window, so that batches mix classes
FALLBACK = 4 << 30  # bytes of memory, where the system does not tell


def allowance() -> int:
    """Bytes that a bank may hold in memory, see the module.

    Raises:
        CVSAError: CVSA_MEMORY is not a positive number.
    """
    if text := os.environ.get("CVSA_MEMORY"):
        try:
            gigabytes = float(text)
        except ValueError:
            gigabytes = math.nan
        if not 0 < gigabytes < math.inf:
            raise CVSAError(
                f"CVSA_MEMORY is {text!r}; give the GB of memory that a bank may hold, e.g. 8, or unset it."
            )
        return int(gigabytes * 1e9)
    found = memory()
    return (found.limit or found.total or FALLBACK) // 2


class Shards:
    """How `images.npy` is read when it is larger than the allowance: row by row, not as mapped memory.

    An epoch visits shards, short runs of rows, in random order. Many shards make a window, half of the
    allowance, in which rows are shuffled; meanwhile the system is asked to read the next window ahead. Rows
    from anywhere (backgrounds) are read just as well, only from farther away on the disk.

    Args:
        images: the mapped array, (N, ...) uint8.
        allowance: bytes that both windows may take.
    """

    def __init__(self, images: np.memmap, allowance: int) -> None:
        pages: Any = images.base
        if not isinstance(pages, mmap.mmap) or images.filename is None:
            raise TypeError("shards are read from a mapped file")
        self._pages = pages
        # Kept open: the file may be replaced by a newer one of its name.
        self._file = open(images.filename, "rb", buffering=0)  # noqa: SIM115 (closed with the bank)
        self._start, self._frame, self._row = images.offset, images.shape[1:], images[0].nbytes
        self._count = len(images)
        window = max(1, allowance // 2 // self._row)
        self._shard = max(1, min(SHARD_BYTES // self._row, window // WINDOW_SHARDS))
        self._window = window // self._shard * self._shard

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """An epoch's batches of row numbers (size,) int64; the last partial one is dropped."""
        shards = torch.randperm(-(-self._count // self._shard), generator=generator)
        rows = (shards[:, None] * self._shard + torch.arange(self._shard)).flatten()
        windows = rows[rows < self._count].split(self._window)
        order = torch.cat([rows[torch.randperm(len(rows), generator=generator)] for rows in windows])
        fetched = 0
        for start in range(0, self._count - size + 1, size):
            # Always a window ahead of the batch that is used.
            while fetched < len(shards) and fetched * self._shard < start + size + self._window:
                first = int(shards[fetched]) * self._shard
                self._fetch(first, min(first + self._shard, self._count))
                fetched += 1
            yield order[start : start + size]

    def read(self, index: Tensor, out: Tensor | None = None) -> Tensor:
        """Rows by number.

        Args:
            index: (B,) int64, each in [0, N).
            out: (B, ...) uint8 on the CPU, to be filled.

        Raises:
            IndexError: a number that is not in [0, N).
            OSError: the file cannot be read, or has become shorter.
        """
        rows = index.tolist()
        if rows and not 0 <= min(rows) <= max(rows) < self._count:
            raise IndexError(f"image numbers are 0 to {self._count - 1}, got {min(rows)} to {max(rows)}")
        out = torch.empty((len(rows), *self._frame), dtype=torch.uint8) if out is None else out
        for row in rows:  # all are asked for before the first is waited for
            self._fetch(row, row + 1)
        for row, place in zip(rows, out.numpy(), strict=True):
            if os.preadv(self._file.fileno(), [place], self._start + row * self._row) != self._row:
                raise OSError(f"{self._file.name} ends before its image {row}")
        return out

    def _fetch(self, first: int, stop: int) -> None:
        # The map begins at the start of the file: NumPy's header is shorter than a page.
        begin = (self._start + first * self._row) // mmap.PAGESIZE * mmap.PAGESIZE
        self._pages.madvise(mmap.MADV_WILLNEED, begin, self._start + stop * self._row - begin)
