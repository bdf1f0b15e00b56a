"""Where a result comes from: the files that shaped it, their commit, the libraries, the machine."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tokenize
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
    base = None
    if isinstance(config, PretrainConfig):
        base = find_base(config.base).method.partition(":")[0]
    ours = not isinstance(config, PretrainConfig) or config.base in BASES  # or a file of the user's own
    drawn, scenes = config.dataset in DRAWN, getattr(config, "swap_backgrounds", "") == "scenes"
    other = "cvsa.data.photographs" if drawn else "" if scenes else "cvsa.data.drawn"
    return list(_shaping_files(KINDS[type(config)], other, base, ours))


@cache
def _shaping_files(kind: str, other: str, base: str | None, ours: bool) -> tuple[Path, ...]:
    found: dict[str, Path] = {}
    waiting = [ENTRANCES[kind]]
    if base is not None:
        spec = None if ours else find_spec(base)
        if spec and spec.origin:
            found[base] = Path(spec.origin)
        waiting.append(base)
    while waiting:
        module = waiting.pop()
        file = _file(module)
        if module in (other, *found) or file is None or not _shapes(file):
            continue
        found[module] = file
        waiting += _imports(file)
    return tuple(found[module] for module in sorted(found))


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
    """Twelve hex digits over the files that shape a run of this configuration; see :func:`file_hashes`."""
    return _digest(tuple(sorted(file_hashes(config).items())))


@cache
def _digest(hashes: tuple[tuple[str, str], ...]) -> str:
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()[:12]


def package_hash() -> str:
    """Twelve hex digits over all files of the package that shape results."""
    root = Path(cvsa.__file__).parent
    files = sorted(file for part in SHAPING for file in (root / part).rglob("*.py"))
    return _digest(tuple((file.relative_to(root).as_posix(), _file_hash(file)) for file in files))


def file_hashes(config: RunConfig) -> dict[str, str]:
    """The files that shape a run, "cvsa/views/swap.py", each with twelve hex digits over its code.

    Comments, docstrings and empty lines do not count: they shape nothing. A file of the user's own is named
    by itself alone.
    """
    return {_name(file): _file_hash(file) for file in shaping_files(config)}


@cache
def _name(file: Path) -> str:
    package = Path(cvsa.__file__).parent
    return file.relative_to(package.parent).as_posix() if file.is_relative_to(package) else file.name


@cache
def _file_hash(file: Path) -> str:
    return hashlib.sha256(without_remarks(file.read_text(encoding="utf-8")).encode()).hexdigest()[:12]


def without_remarks(source: str) -> str:
    """Python source without comments, docstrings, blank lines and spaces at the ends of lines."""
    lines = source.splitlines()
    blank: list[tuple[int, int, int, int]] = []  # first line, column, last line, column; of characters
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str):
                last, end = first.end_lineno or first.lineno, first.end_col_offset or 0
                end = len(lines[last - 1].encode()[:end].decode())  # ast counts bytes
                blank.append((first.lineno, first.col_offset, last, end))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            blank.append((*token.start, *token.end))
    for top, left, bottom, right in sorted(blank, reverse=True):
        kept = lines[top - 1][:left] + lines[bottom - 1][right:]
        lines[top - 1 : bottom] = [kept, *[""] * (bottom - top)]
    return "\n".join(line.rstrip() for line in lines if line.strip())


@cache
def lock_hash() -> str | None:
    """Twelve hex digits over the lock file; None outside a checkout."""
    file = Path(cvsa.__file__).parents[1] / "requirements.lock"
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12] if file.is_file() else None


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
        config: of a run; adds "hash" (:func:`code_hash`), "files" (:func:`file_hashes`) and "dirty", whether
            these files differ from that commit (None outside a checkout).
    """
    told = {"version": cvsa.__version__, "commit": _git("rev-parse", "HEAD")}
    if config is None:
        return told
    status = _git("status", "--porcelain", "--", *map(str, shaping_files(config)))
    dirty = None if status is None else bool(status)
    return {**told, "dirty": dirty, "hash": code_hash(config), "files": file_hashes(config)}


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
        "cpu": cpu_name(),
    }
    counts = {"cores": os.cpu_count(), "threads": torch.get_num_threads()}
    return {
        **info,
        **counts,
        **({"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}),
    }


def cpu_name() -> str:
    """The processor's name as the system tells it."""
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
