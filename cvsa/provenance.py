"""Where a result comes from: the files that shaped it, their commit, the libraries, the machine."""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cvsa
from cvsa.config import DRAWN, KINDS, PretrainConfig, RunConfig
from cvsa.methods.catalogue import BASES, find_base

if TYPE_CHECKING:
    import torch

# What shapes a result. The command line, the report and the book do not; config.py and the catalogue do so
# only through the configuration, which a record holds whole.
SHAPING = ("data", "evaluation", "io", "methods", "saliency", "training", "views")
LIBRARIES = ("torch", "torchvision", "timm", "numba", "numpy", "scipy")
# Where each kind of run begins.
ENTRANCES = {
    "pretrain": "cvsa.training.pretrain",
    "finetune": "cvsa.evaluation.finetune",
    "probe": "cvsa.evaluation.probe",
    "evaluate": "cvsa.evaluation.evaluate",
}


def shaping_files(config: RunConfig) -> list[Path]:
    """The files that shape a run: what its kind, its base and its data import, in a stable order.

    A run is not made anew because some other method changed, nor one on drawn birds because of photographs.
    """
    found: dict[str, Path] = {}
    other = "cvsa.data.photographs" if config.dataset in DRAWN else "cvsa.data.drawn"
    waiting = [ENTRANCES[KINDS[type(config)]]]
    if isinstance(config, PretrainConfig):
        module = find_base(config.base).method.partition(":")[0]
        spec = None if config.base in BASES else find_spec(module)
        if spec and spec.origin:  # a file of the user's own
            found[module] = Path(spec.origin)
        waiting.append(module)
    while waiting:
        module = waiting.pop()
        file = _file(module)
        if module in (other, *found) or file is None or not _shapes(file):
            continue
        found[module] = file
        waiting += _imports(file)
    return [found[module] for module in sorted(found)]


def _shapes(file: Path) -> bool:
    part = file.relative_to(Path(cvsa.__file__).parent).parts[0]
    return part in SHAPING and file.name != "catalogue.py"


@cache
def _file(module: str) -> Path | None:
    path = Path(cvsa.__file__).parents[1] / module.replace(".", "/")
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def _imports(file: Path) -> tuple[str, ...]:
    """Modules of this package that a file imports, wherever in it; not those only type checkers see."""

    def walk(body: Iterable[ast.AST]) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
                continue
            if isinstance(node, ast.ImportFrom) and node.module:
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)  # a module or a name in it
            elif isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            # Statements hold imports, expressions do not: most of a tree need not be looked at.
            for part in ("body", "orelse", "finalbody", "handlers", "cases"):
                yield from walk(getattr(node, part, None) or [])

    return tuple(name for name in walk(ast.parse(file.read_text()).body) if name.startswith("cvsa."))


def code_hash(config: RunConfig) -> str:
    """Twelve hex digits over the files that shape a run of this configuration."""
    return _digest(tuple(shaping_files(config)))


@cache
def _digest(files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update("/".join(file.parts[-2:]).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _git(*arguments: str) -> str | None:
    # Only a checkout of this project counts: an installed copy may lie inside somebody else's repository.
    root = Path(cvsa.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    return result.stdout.strip() if result.returncode == 0 else None


def commit(config: RunConfig | None = None) -> dict[str, Any]:
    """Version of the package and its commit.

    Args:
        config: of a run; adds "hash" (:func:`code_hash`) and "dirty", whether the files that shape the run
            differ from that commit (None outside a checkout).
    """
    told = {"version": cvsa.__version__, "commit": _git("rev-parse", "HEAD")}
    if config is None:
        return told
    status = _git("status", "--porcelain", "--", *map(str, shaping_files(config)))
    return {**told, "dirty": None if status is None else bool(status), "hash": code_hash(config)}


def library_versions() -> dict[str, str]:
    """Versions of what computes the numbers; numba may be missing."""
    names = [name for name in LIBRARIES if find_spec(name)]
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def hardware(device: torch.device, bf16: bool) -> dict[str, Any]:
    """Device, precision, processor, cores, threads in use, and the GPU when it is the device."""
    import torch

    info = {
        "device": str(device),
        "precision": "bf16" if bf16 else "fp32",
        "system": platform.system(),
        "cpu": _cpu_name(),
    }
    counts = {"cores": os.cpu_count(), "threads": torch.get_num_threads()}
    return {
        **info,
        **counts,
        **({"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def peak_memory_mib(device: torch.device) -> float:
    """Peak memory, MiB: allocated on the GPU when it is the device, else resident in this process."""
    import resource

    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024.0**2 if sys.platform == "darwin" else 1024.0)
