"""What `cvsa doctor` asks of the installation: Python, libraries, torch with its torchvision, extras."""

from __future__ import annotations

import operator
import platform
import re
import sys
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path

import cvsa
from cvsa.doctor.finding import Finding, Looks
from cvsa.errors import one_line
from cvsa.provenance import commit

# torchvision 0.(N+15) is made for torch 2.N; from this one on it takes any torch from 2.14 on.
OFFSET, FREE_FROM = 15, 29
WHEELS = "https://download.pytorch.org/whl"
COMPARE = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
    ">": operator.gt, "<": operator.lt,
}  # fmt: skip
Versions = Callable[[str], str | None]
"""Name of a distribution -> its version; None if it is not installed."""


def installed(name: str) -> str | None:
    """Version of a distribution, None if there is none of that name."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True)
class Need:
    """A requirement of a package, and the extra that brings it (empty: it is always needed)."""

    name: str
    versions: str
    extra: str = ""

    def __str__(self) -> str:
        return f'"{self.name}{self.versions}"'

    @classmethod
    def read(cls, line: str) -> Need:
        """From the metadata's form: 'papermill>=2.6; extra == "notebooks"'."""
        wanted, _, marker = line.partition(";")
        name, rest = re.match(r"\s*([\w.-]+)\s*(?:\[[^]]*\])?(.*)", wanted).groups()  # type: ignore[union-attr]
        extra = re.search(r"""extra\s*==\s*["']([^"']+)""", marker)
        versions = sorted(re.sub(r"[\s()]", "", rest).split(","))  # in one order, whoever wrote them
        return cls(name, ",".join(versions), extra[1] if extra else "")


def declared(pyproject: Path) -> set[Need]:
    """What a project file asks for, without the extras it makes of its own."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    lists = {"": project["dependencies"], **project["optional-dependencies"]}
    needs = (replace(Need.read(line), extra=extra) for extra, lines in lists.items() for line in lines)
    return {need for need in needs if need.name != project["name"]}


def fits(version: str, wanted: str) -> bool:
    """Whether a version is allowed by plain comparisons, ">=1.0.4,<2"; only its numbers count."""
    for one in filter(None, wanted.split(",")):
        sign, limit = re.match(r"([<>=!]=?)(.*)", one).groups()  # type: ignore[union-attr]
        if not COMPARE[sign](_release(version), _release(limit)):
            return False
    return True


def _release(version: str) -> tuple[int, ...]:
    numbers = re.match(r"\d+(\.\d+)*", version)
    parts = [int(part) for part in numbers[0].split(".")] if numbers else [0]
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    return tuple(parts)


@dataclass(frozen=True)
class Pair:
    """torch and torchvision as they were found.

    Attributes:
        torch, vision: versions; None: not installed.
        wants: the versions of torch that torchvision asks for; empty: it does not say.
        cuda: CUDA version that torch was built for; empty: a CPU build; None: not known.
        vision_cuda: whether torchvision was built for CUDA; None: not known.
        error: what importing them said, in one line; empty: nothing.
    """

    torch: str | None
    vision: str | None
    wants: str = ""
    cuda: str | None = None
    vision_cuda: bool | None = None
    error: str = ""

    @property
    def fits(self) -> bool:
        """Whether this torchvision goes with this torch, by the rule or by its own account."""
        if self.torch is None or self.vision is None:
            return False
        by_rule = fits(f"{_public(self.vision)}.0", partner(self.torch).removeprefix("torchvision"))
        return by_rule or bool(self.wants and fits(self.torch, self.wants))


def partner(torch: str) -> str:
    """The torchvision for a version of torch, as pip takes it: "torchvision>=0.21,<0.22" for 2.6.1."""
    major, minor = (*_release(torch), 0)[:2]
    wanted = minor + OFFSET
    if major != 2 or wanted >= FREE_FROM:
        return f"torchvision>=0.{FREE_FROM}"
    return f"torchvision>=0.{wanted},<0.{wanted + 1}"


def _public(version: str) -> str:
    """Without the build: "2.6.0+cpu" -> "2.6.0"."""
    return version.partition("+")[0]


def look_at_pair() -> Pair:
    """Import both, here and now: what goes wrong is what a run would meet."""
    versions, wants = (installed("torch"), installed("torchvision")), ""
    if versions[1] is not None:
        found = map(Need.read, metadata.requires("torchvision") or [])
        wants = next((need.versions for need in found if need.name == "torch" and not need.extra), "")
    cuda: str | None = None
    try:
        import torch

        cuda = torch.version.cuda or ""
        import torchvision

        return Pair(*versions, wants, cuda, hasattr(torchvision.version, "cuda"))
    except Exception as caught:  # ImportError, OSError of a library, RuntimeError of an operator
        return Pair(*versions, wants, cuda, error=one_line(f"{type(caught).__name__}: {caught}"))


def judge_pair(pair: Pair, system: str = platform.system()) -> Finding:
    """Whether they work together and, where not, what to install.

    Args:
        pair: as found.
        system: as `platform.system` names it; only on Linux there are two builds to choose from.
    """
    facts = {"torch": pair.torch, "torchvision": pair.vision, "cuda": pair.cuda}
    tag = None if pair.cuda is None else f"cu{pair.cuda.replace('.', '')}" if pair.cuda else "cpu"
    index = f" --index-url {WHEELS}/{tag}" if tag and system == "Linux" else ""
    if pair.torch is None:
        return Finding("fail", "torch is not installed", "pip install torch torchvision", facts)
    torch, wanted = f'"torch=={_public(pair.torch)}"', f'"{partner(pair.torch)}"'
    if pair.vision is None:
        return Finding("fail", "torchvision is not installed", f"pip install {torch} {wanted}{index}", facts)
    told = f"{pair.torch} and {pair.vision}"
    if not pair.fits:
        why = f"do not go together{f' ({pair.error})' if pair.error else ''}; this torch wants {wanted[1:-1]}"
        return Finding("fail", f"{told} {why}", f"pip install {torch} {wanted}{index}", facts)
    vision = f'"torchvision=={_public(pair.vision)}"'
    if pair.error:
        # "operator torchvision::nms does not exist": its library was made for another torch and did not load.
        other = "torchvision::" in pair.error
        why = "are of different builds, one for CPUs and one for CUDA" if other else "cannot be imported"
        advice = f"pip install --force-reinstall {torch} {vision}{index}"
        return Finding("fail", f"{told} {why}: {pair.error}", advice, facts)
    if pair.cuda and pair.vision_cuda is False:
        why = f"torch is built for CUDA {pair.cuda} and torchvision for CPUs: its operators fail on a GPU"
        advice = f"pip install --force-reinstall --no-deps {vision}{index}"
        return Finding("warn", f"{told}; {why}", advice, facts)
    return Finding("ok", f"{told}, {f'CUDA {pair.cuda}' if pair.cuda else 'CPU'} build", facts=facts)


def judge_python(version: str, wanted: str) -> Finding:
    """Whether the package is made for this Python."""
    facts = {"version": version, "wanted": wanted}
    if fits(version, wanted):
        return Finding("ok", version, facts=facts)
    return Finding(
        "fail", f"{version}, and {wanted} is needed", "make an environment with such a Python", facts
    )


def judge_libraries(needs: Iterable[Need], versions: Versions) -> Finding:
    """Whether all that every user needs is there, in versions that will do."""
    wanted = [need for need in needs if not need.extra]
    facts, bad = {need.name: versions(need.name) for need in wanted}, _bad(wanted, versions)
    if bad:
        return Finding("fail", "; ".join(bad.values()), "pip install " + " ".join(map(str, bad)), facts)
    return Finding("ok", _some(facts), facts=facts)


def judge_extra(
    extra: str, needs: Iterable[Need], versions: Versions, *, usual: bool, checkout: bool
) -> Finding:
    """Whether an optional part is there, and what brings it.

    Args:
        extra: its name, as pip takes it.
        needs: of the package.
        versions: tells what is installed.
        usual: whether it belongs to what most want (the extra "all"): without it there is a warning.
        checkout: whether the package runs from a checkout, to be installed in editable mode.
    """
    wanted = [need for need in needs if need.extra == extra]
    facts, bad = {need.name: versions(need.name) for need in wanted}, _bad(wanted, versions)
    if not bad:
        return Finding("ok", _some(facts), facts=facts)
    advice = f'pip install {"-e " if checkout else ""}".[{extra}]", in a checkout'
    return Finding("warn" if usual else "ok", "; ".join(bad.values()), advice, facts)


def _some(found: dict[str, str | None], most: int = 4) -> str:
    told = [f"{name} {version}" for name, version in found.items()]
    return ", ".join(told[:most]) + (f" and {len(told) - most} more" if told[most:] else "")


def _bad(needs: Iterable[Need], versions: Versions) -> dict[Need, str]:
    """Those that are missing or of a wrong version, each with a phrase."""
    found = {need: versions(need.name) for need in needs}
    return {
        need: f"{need.name} is {f'{version}, not {need.versions}' if version else 'not installed'}"
        for need, version in found.items()
        if version is None or not fits(version, need.versions)
    }


class Installation:
    """The checks of the installation.

    Attributes:
        works: whether torch can be imported; told after the checks were made.
    """

    works = False

    def looks(self) -> Looks:
        """Each check with its name."""
        root = Path(cvsa.__file__).parents[1]
        checkout = (root / "workflow" / "grid.yaml").is_file()
        try:
            python, lines = metadata.metadata("cvsa")["Requires-Python"], metadata.requires("cvsa") or []
        except metadata.PackageNotFoundError:
            told = Finding("fail", f"{cvsa.__version__} is not installed", f"pip install -e {root}")
            yield "cvsa", lambda: told
            yield "torch, torchvision", self._torch
            return
        needs = [need for need in map(Need.read, lines) if need.name != "cvsa"]
        usual = ",".join(re.findall(r"^cvsa\[(.*)\]", "\n".join(lines), re.MULTILINE)).split(",")
        yield "Python", lambda: judge_python(platform.python_version(), python)
        yield "cvsa", lambda: judge_package(root, needs)
        yield "libraries", lambda: judge_libraries(needs, installed)
        yield "torch, torchvision", self._torch
        for extra in dict.fromkeys(need.extra for need in needs if need.extra):
            given = {"usual": extra in usual, "checkout": checkout}
            yield f"extra {extra}", partial(judge_extra, extra, needs, installed, **given)

    def _torch(self) -> Finding:
        finding = judge_pair(look_at_pair())
        self.works = finding.mark != "fail"
        return finding


def judge_package(root: Path, needs: Iterable[Need]) -> Finding:
    """Which version, and whether what was noted when it was installed is still what it asks for.

    Args:
        root: folder that holds the package.
        needs: as noted.
    """
    checkout = (root / "workflow" / "grid.yaml").is_file()
    facts = {
        "version": cvsa.__version__,
        "checkout": str(root) if checkout else None,
        "python": sys.executable,
    }
    if not checkout:
        return Finding("ok", f"{cvsa.__version__}, installed; presets are run in a checkout", facts=facts)
    made = commit()["commit"]
    told = f"{cvsa.__version__}, from the checkout {root}" + (f" at {made[:7]}" if made else "")
    if declared(root / "pyproject.toml") != set(needs):
        told += "; pyproject.toml was changed since it was installed"
        return Finding("warn", told, "`make setup`, or pip install -e .", {**facts, "commit": made})
    return Finding("ok", told, facts={**facts, "commit": made})
