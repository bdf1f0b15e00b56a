"""What a container or a cluster's job may use of a machine: cores and memory, by Linux's control groups."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TABLE, MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


def groups(controller: str, table: Path = TABLE, mount: Path = MOUNT) -> list[Path]:
    """Folders of the control groups that may limit this process: its own and all above it, on Linux.

    Args:
        controller: "cpu" or "memory"; version 1 has a tree for each, version 2 one for all.
        table, mount: where the system tells them.
    """
    try:
        lines = [line.split(":", 2)[1:] for line in table.read_text().splitlines()]
    except OSError:
        return []
    found = []
    for controllers, path in lines:
        if not controllers or controller in controllers.split(","):
            top = mount / controller if controllers else mount
            parts = Path(path.lstrip("/")).parts
            found += [top.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
    return found


def cpu_limit(table: Path = TABLE, mount: Path = MOUNT) -> float | None:
    """Cores' worth of time that a container or a cluster's job may use; None: no limit."""
    limits = []
    for folder in groups("cpu", table, mount):
        told = _words(folder / "cpu.max")  # "150000 100000" or "max 100000"
        told = told or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(told) == 2 and told[0].isdigit() and int(told[1]):
            limits.append(int(told[0]) / int(told[1]))
    return min(limits, default=None)


def allowed_cores() -> int:
    """Cores this process may run on; its affinity counts where the system has such a thing."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def usable(allowed: int, limit: float | None) -> int:
    """Cores worth using: those allowed, and no more than a container or job may use time of; at least 1."""
    return max(1, min(allowed, int(limit) if limit is not None else allowed))


def cores() -> int:
    """Cores worth using by this process."""
    return usable(allowed_cores(), cpu_limit())


@dataclass(frozen=True)
class Memory:
    """Bytes: of the machine, free for new processes, and the limit of a container or job; None: not told."""

    total: int | None
    free: int | None
    limit: int | None = None


def memory(table: Path = TABLE, mount: Path = MOUNT, meminfo: Path = MEMINFO) -> Memory:
    """What there is and what is left of it, by the machine's account and by that of control groups."""
    told = {words[0]: int(words[1]) * 1024 for words in _rows(meminfo) if len(words) > 1}
    total, free = told.get("MemTotal:"), told.get("MemAvailable:")
    if total is None and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    smallest = None
    for folder in groups("memory", table, mount):
        for limit, used, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            words = _words(folder / limit)
            if not words or not words[0].isdigit() or (total is not None and int(words[0]) >= total):
                continue
            smallest = min(int(words[0]), smallest or int(words[0]))
            # Pages of files that were read are counted as used, and given back when memory is wanted.
            given_back = sum(int(w[1]) for w in _rows(folder / "memory.stat") if w[0] == cached)
            left = int(words[0]) - int((_words(folder / used) or ["0"])[0]) + given_back
            free = left if free is None else min(free, left)
    return Memory(total, None if free is None else max(0, free), smallest)


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _rows(file: Path) -> list[list[str]]:
    try:
        return [line.split() for line in file.read_text().splitlines() if line.strip()]
    except OSError:
        return []
