"""One list of dependencies: pyproject.toml, lock and conda environment agree; public files are in order."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OPTIONAL = {"saliency", "bench"}  # for those who want it: neither in the lock nor in `all`


def direct_requirements() -> list[Requirement]:
    """Every requirement of pyproject.toml that is locked, without the project's own extras."""
    extras = PROJECT["project"]["optional-dependencies"]
    lists = [PROJECT["project"]["dependencies"], *(extras[name] for name in extras if name not in OPTIONAL)]
    every = [Requirement(line) for each in lists for line in each]
    return [r for r in every if canonicalize_name(r.name) != PROJECT["project"]["name"]]


def locked() -> dict[str, list[Requirement]]:
    """Package -> its pins; more than one where Python versions need different ones."""
    pins: dict[str, list[Requirement]] = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    return pins


def version_of(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    assert specifier.operator == "==", f"{pin} is not pinned exactly"
    return specifier.version


def test_every_pin_is_exact() -> None:
    for pins in locked().values():
        for pin in pins:
            version_of(pin)


@pytest.mark.parametrize("requirement", direct_requirements(), ids=str)
def test_direct_dependency_is_locked_at_a_version_it_allows(requirement: Requirement) -> None:
    pins = locked().get(canonicalize_name(requirement.name), [])
    assert pins, f"{requirement.name} is missing in requirements.lock: run `make lock`"
    for pin in pins:
        assert requirement.specifier.contains(version_of(pin)), (
            f"lock has {pin}, pyproject.toml wants {requirement}"
        )


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_lock_has_each_direct_dependency_exactly_once(python: str, platform: str) -> None:
    here = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": platform}
    for requirement in direct_requirements():
        pins = locked()[canonicalize_name(requirement.name)]
        valid = [pin for pin in pins if pin.marker is None or pin.marker.evaluate(here)]
        assert len(valid) == 1, f"{requirement.name} on Python {python}, {platform}: {valid}"


def test_torch_and_torchvision_are_a_pair() -> None:
    # A torchvision built for another torch, or another device, fails when its operators are loaded.
    import torch
    import torchvision

    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3.9], [6, 6, 9, 9]])
    assert torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 2]
    (needed,) = [r for r in map(Requirement, metadata.requires("torchvision") or []) if r.name == "torch"]
    assert needed.specifier.contains(version_of(locked()["torch"][0]))


def test_lock_leaves_the_gpu_packages_to_torch() -> None:
    assert not [name for name in locked() if name.startswith(("nvidia", "cuda", "triton"))]


def test_conda_environment_is_thin() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-e .[all]"], "everything comes from pyproject.toml"
    assert [re.split(r"[<>=]", entry)[0] for entry in conda] == ["python", "pip"]
    wanted = Requirement(f"python{PROJECT['project']['requires-python']}").specifier
    assert Requirement(conda[0]).specifier == wanted


def test_all_is_the_sum_of_the_extras() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    (every,) = (Requirement(line) for line in extras["all"])
    assert every.extras == set(extras) - {"all"} - OPTIONAL


def test_binder_installs_the_project() -> None:
    lines = (ROOT / "binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    installed = [line for line in lines if line and not line.startswith(("#", "--"))]
    assert installed == ["-e .[notebooks]"]


def test_licence_agrees_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    assert PROJECT["project"]["license"] == citation["license"] == "MIT"


def test_citation_has_what_the_format_requires() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["repository-code"] == PROJECT["project"]["urls"]["Repository"]
    (paper,) = citation["references"]
    assert {"type", "title", "authors"} <= set(paper)
    assert paper["url"] == PROJECT["project"]["urls"]["Paper"]


def test_the_book_knows_the_repository() -> None:
    book = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert book["repository"]["url"] == PROJECT["project"]["urls"]["Repository"]
    assert book["execute"]["execute_notebooks"] == "off"  # a bare off would be read as false


def test_commit_hooks_are_local() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert {repo["repo"] for repo in hooks["repos"]} == {"local"}


def test_notebook_hook_tells_outputs_from_none(tmp_path: Path) -> None:
    import shlex
    import sys

    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    (entry,) = (hook["entry"] for hook in repo["hooks"] if hook["id"] == "notebooks-without-outputs")
    command = [sys.executable, *shlex.split(entry)[1:]]
    for outputs, status in (([], 0), ([{"output_type": "stream"}], 1)):
        notebook = tmp_path / "n.ipynb"
        notebook.write_text(
            json.dumps({"cells": [{"cell_type": "code", "outputs": outputs, "execution_count": None}]})
        )
        assert (
            subprocess.run([*command, str(notebook)], capture_output=True, check=False).returncode == status
        )


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_says_in_one_line_that_no_python_fits(tmp_path: Path) -> None:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    command = ["make", "setup", "PYTHON=/no/such/python"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "No Python 3.11 to 3.13" in result.stderr.splitlines()[0]
    assert not (tmp_path / ".venv").exists()


def public_files() -> list[Path]:
    """What git would publish: tracked files and new ones it does not ignore."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def test_no_file_names_somebodys_own_folders() -> None:
    # Absolute paths of one machine, written apart so that this file does not name them itself.
    own = re.compile(
        "|".join(["/ro" + "ot/", "/wo" + "rk/", r"/home/\w+/", r"/Users/\w+/", r"[A-Z]:\\Users"])
    )
    found = []
    for file in public_files():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{file.relative_to(ROOT)}:{n}" for n, line in enumerate(text.splitlines(), 1) if own.search(line)
        ]
    assert not found


def test_the_package_is_installed_with_its_data() -> None:
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["cvsa"]
    packaged = {file for pattern in patterns for file in (ROOT / "cvsa").glob(pattern)}
    data = {file for file in public_files() if file.is_relative_to(ROOT / "cvsa") and file.suffix != ".py"}
    assert data == packaged


def test_published_files_are_small() -> None:
    assert not [str(f.relative_to(ROOT)) for f in public_files() if f.stat().st_size > 2 * 2**20]


def test_the_wheels_for_a_machine_without_network_are_all_it_lacks() -> None:
    text = (ROOT / "book" / "running.md").read_text()
    asked = re.findall(r"pip (?:download|install) .*(?:3\.12|wheels) (click .*?) +#", text)
    there = {"torch", "torchvision", "timm", "pandas"} | {"numpy", "pillow"}  # the first four bring these
    needed = {Requirement(each).name for each in PROJECT["project"]["dependencies"]}
    assert len(asked) == 2 and all(set(each.split()) == needed - there for each in asked)
