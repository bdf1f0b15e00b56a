"""What `cvsa doctor` asks of the machine: cores, threads, memory, disk, GPU, and what limits them."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from cvsa.config import PretrainConfig, resolve
from cvsa.doctor.finding import GIB, Finding, Looks, gib
from cvsa.errors import one_line
from cvsa.io.paths import cache_root
from cvsa.limits import Memory, allowed_cores, cpu_limit, memory, usable
from cvsa.provenance import cpu_name

LEAST_MEMORY = 1.5 * GIB  # a run of the tiny preset takes a little more than one
LEAST_DISK = 2 * GIB  # all records and weights of the tiny preset, the book, banks of drawn birds
LEAST_GPU = 2 * GIB


def judge_cores(name: str, every: int, allowed: int, limit: float | None) -> Finding:
    """How many cores runs may use.

    Args:
        name: of the processor.
        every, allowed: cores of the machine, and those this process may run on.
        limit: cores' worth of time it may use, or None.
    """
    count = usable(allowed, limit)
    why = [f"this process may run on {allowed}"] if allowed < every else []
    if limit is not None and limit < allowed:
        why.append(f"a control group allows {limit:g}")
    told = f"{name}, {count} of {every} cores usable" + (f" ({'; '.join(why)})" if why else "")
    facts = {"cpu": name, "cores": every, "allowed": allowed, "limit": limit, "usable": count}
    return Finding("ok", told, facts=facts)


def judge_threads(setting: str | None, threads: int, usable: int) -> Finding:
    """Whether threads exceed the cores.

    Args:
        setting: value of OMP_NUM_THREADS, or None.
        threads: that torch uses in one process.
        usable: cores; so many runs of one thread each `cvsa reproduce` starts by default.
    """
    said = "OMP_NUM_THREADS is not set" if setting is None else f"OMP_NUM_THREADS={setting}"
    told = f"torch uses {threads} ({said})"
    facts = {"OMP_NUM_THREADS": setting, "torch": threads, "jobs": usable}
    if threads > usable:
        advice = f"export OMP_NUM_THREADS={usable}; 1 where several runs go at a time"
        return Finding("warn", f"{told}, more than the {usable} usable cores", advice, facts)
    if threads > 1:
        told += "; `cvsa reproduce` gives each run one: export OMP_NUM_THREADS=1 before you start several"
    return Finding("ok", told, facts=facts)


def judge_memory(found: Memory) -> Finding:
    """Whether a run of the smallest preset has room."""
    if found.free is None:
        total = "" if found.total is None else f"{gib(found.total)}, "
        return Finding("ok", f"{total}how much is free is not told by this system", facts=asdict(found))
    told = f"{gib(found.free)} free" + ("" if found.total is None else f" of {gib(found.total)}")
    told += "" if found.limit is None else f", {gib(found.limit)} allowed by a control group"
    if found.free < LEAST_MEMORY:
        advice = f"close other programs: a run of the tiny preset takes about {gib(LEAST_MEMORY)}"
        return Finding("warn", told, advice, asdict(found))
    return Finding("ok", told, facts=asdict(found))


def judge_disk(folder: Path, hint: str) -> Finding:
    """Whether a folder, which need not be there yet, can be written to and has room.

    Args:
        folder: looked at.
        hint: what to do about it.
    """
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    facts = {"folder": str(folder.absolute()), "free": free}
    if not os.access(there, os.W_OK):
        return Finding("fail", f"{there} cannot be written to", hint, facts)
    told = f"{gib(free)} free in {folder.absolute()}"
    return Finding("warn", told, hint, facts) if free < LEAST_DISK else Finding("ok", told, facts=facts)


@dataclass(frozen=True)
class Gpu:
    """What torch tells of GPUs.

    Attributes:
        names: of all that it sees.
        memory, free: bytes of the first.
        cuda: version that torch was built for; None: built without.
        reason: why it sees none.
        driver: version of NVIDIA's driver, by its own tool; None: no such tool.
        present: names by that tool, which asks no torch.
    """

    names: list[str] = field(default_factory=list)
    memory: int = 0
    free: int = 0
    cuda: str | None = None
    reason: str = ""
    driver: str | None = None
    present: list[str] = field(default_factory=list)


def look_at_gpu() -> Gpu:
    """Ask torch and, where it is there, nvidia-smi."""
    import torch

    driver, present = _nvidia_smi()
    cuda = torch.version.cuda
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old driver: the reason below tells
        if torch.cuda.is_available():
            names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
            free, total = torch.cuda.mem_get_info()
            return Gpu(names, total, free, cuda, "", driver, present)
        if cuda is None:
            return Gpu(reason="this torch is built without CUDA", driver=driver, present=present)
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        try:
            torch.cuda.init()
            reason = "torch finds no device"
        except (RuntimeError, AssertionError) as error:
            reason = one_line(str(error)).partition(". ")[0]
    reason += f" (CUDA_VISIBLE_DEVICES={hidden!r})" if hidden is not None else ""
    return Gpu(cuda=cuda, reason=reason, driver=driver, present=present)


def _nvidia_smi() -> tuple[str | None, list[str]]:
    """Driver and names of GPUs."""
    command = ["nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None, []
    rows = [line.split(", ", 1) for line in told.splitlines() if ", " in line]
    return (rows[0][0] if rows else None), [name for _, name in rows]


def judge_gpu(gpu: Gpu) -> Finding:
    """Which GPU runs will use, or why none."""
    driver, facts = f", driver {gpu.driver}" if gpu.driver else "", asdict(gpu)
    if gpu.names:
        more = f" (the first of {len(gpu.names)})" if len(gpu.names) > 1 else ""
        told = f"{gpu.names[0]}{more}, {gib(gpu.free)} free of {gib(gpu.memory)}, CUDA {gpu.cuda}{driver}"
        if gpu.free < LEAST_GPU:
            advice = "others use its memory: wait, or choose another with -p device cuda:N"
            return Finding("warn", told, advice, facts)
        return Finding("ok", told, facts=facts)
    if not gpu.present:
        return Finding("ok", f"none visible ({gpu.reason}); the book's presets need none", facts=facts)
    told = f"{gpu.present[0]} is there{driver}, and torch does not see it: {gpu.reason}"
    if gpu.cuda is None:
        advice = "install the CUDA builds of torch and torchvision, in a checkout: `make distclean setup`"
    else:
        advice = "update the driver, or install torch and torchvision for a CUDA version that it can run"
    return Finding("warn", told, advice, facts)


class Machine:
    """The checks of the machine.

    Args:
        torch_works: whether torch may be asked.

    Attributes:
        cpu, cores, free: name of the processor, usable cores, bytes of free memory if told.
        gpu: what torch sees. All are told after the checks were made.
    """

    def __init__(self, torch_works: bool) -> None:
        self.torch_works = torch_works
        self.cpu, self.cores, self.every = cpu_name(), 1, os.cpu_count() or 1
        self.free: int | None = None
        self.gpu = Gpu()

    def looks(self, root: Path) -> Looks:
        """Each check with its name.

        Args:
            root: folder that is worked in.
        """
        yield "processor", self._processor
        if self.torch_works:
            yield "threads", self._threads
        yield "memory", self._memory
        yield "disk", partial(judge_disk, root, "free some space, or work in a folder of another disk")
        hint = "free some space, or set CVSA_CACHE to a folder of another disk"
        yield "disk, cache", partial(judge_disk, cache_root(), hint)
        if self.torch_works:
            yield "GPU", self._gpu
            yield "precision", _precision

    def _processor(self) -> Finding:
        finding = judge_cores(self.cpu, self.every, allowed_cores(), cpu_limit())
        self.cores = finding.facts["usable"]
        return finding

    def _threads(self) -> Finding:
        import torch

        setting = os.environ.get("OMP_NUM_THREADS")
        return judge_threads(setting, torch.get_num_threads(), self.cores)

    def _memory(self) -> Finding:
        found = memory()
        self.free = found.free
        return judge_memory(found)

    def _gpu(self) -> Finding:
        self.gpu = look_at_gpu()
        return judge_gpu(self.gpu)


def _precision() -> Finding:
    """What `precision` auto and `device` auto will be."""
    from cvsa.training.runtime import Runtime

    runtime = Runtime.of(resolve(PretrainConfig))
    told = "bf16, for which it has units" if runtime.bf16 else "fp32"
    facts = {"device": str(runtime.device), "bf16": runtime.bf16}
    return Finding("ok", f"device {runtime.device}: {told}", facts=facts)
