"""The doctor's single checks: what they call broken, and what they say to do."""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from collections import namedtuple
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from cvsa.data.sets import find_set
from cvsa.doctor import Finding, installation, machine
from cvsa.doctor.checks import photographs
from cvsa.doctor.finding import GIB
from cvsa.doctor.installation import (
    Need,
    Pair,
    declared,
    fits,
    installed,
    judge_extra,
    judge_libraries,
    judge_package,
    judge_pair,
    judge_python,
    look_at_pair,
)
from cvsa.doctor.machine import (
    Gpu,
    judge_cores,
    judge_disk,
    judge_gpu,
    judge_memory,
    judge_threads,
    look_at_gpu,
)
from cvsa.limits import Memory, cpu_limit, memory

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NMS = "RuntimeError: operator torchvision::nms does not exist"


def test_requirements_are_read_as_packaging_reads_them() -> None:
    lists = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    for extra, lines in lists.items():
        for line in lines:
            need, right = Need.read(f'{line}; extra == "{extra}"' if extra else line), Requirement(line)
            assert (need.name, need.extra) == (right.name, extra)
            assert SpecifierSet(need.versions) == right.specifier
    assert Need.read("torch (>=2.14.0)") == Need("torch", ">=2.14.0")


@pytest.mark.parametrize(
    "wanted", ["", ">=2.6", "<2,>=1.0.4", "==2.6.0", "!=2.6", ">1.0", "<=2.10", ">=3.11,<3.14"]
)
@pytest.mark.parametrize(
    "version", ["1.0.4", "1.0.4.post1", "1", "2.0", "2.6", "2.6.0", "2.10.1", "3.13.2", "3.14"]
)
def test_versions_compare_as_packaging_compares_them(version: str, wanted: str) -> None:
    if version.endswith("post1") and wanted == ">1.0":
        pytest.skip("the same, but for a rule on post-releases")
    assert fits(version, wanted) == SpecifierSet(wanted).contains(version)


@pytest.mark.parametrize(
    ("pair", "mark", "words"),
    [
        (Pair("2.6.0", "0.21.0", "==2.6.0", "12.4", True), "ok", ["CUDA 12.4 build"]),
        (Pair("2.7.1+cpu", "0.22.1+cpu", "==2.7.1", "", False), "ok", ["CPU build"]),
        # Newer ones take later versions of torch, and say so.
        (Pair("2.15.0", "0.29.2", ">=2.14.0", "13.2", True), "ok", []),
        (Pair("2.15.0", "0.29.2", "", "13.2", True), "ok", []),
        (Pair("2.13.0", "0.29.2", ">=2.14.0", ""), "fail", ["torchvision>=0.28,<0.29", "/whl/cpu"]),
        (
            Pair("2.6.0", "0.20.1", "==2.5.1", "12.4", error=NMS), "fail",
            ["do not go together", "nms does not", '"torch==2.6.0" "torchvision>=0.21,<0.22"', "/whl/cu124"],
        ),
        (Pair("2.8.0+cpu", "0.21.0", "==2.6.0"), "fail", ["torchvision>=0.23,<0.24"]),
        (Pair("2.17.0", "0.21.0", "==2.6.0", ""), "fail", ["torchvision>=0.29"]),
        # A pair by its versions, of two builds: both again, from the index of torch's build.
        (
            Pair("2.6.0+cpu", "0.21.0", "==2.6.0", "", error=NMS), "fail",
            ["different builds", "--force-reinstall", '"torchvision==0.21.0"', "/whl/cpu"],
        ),
        (Pair("2.6.0", "0.21.0", "==2.6.0", error="OSError: libcudart.so"), "fail", ["libcudart", "--force"]),
        (Pair("2.6.0", "0.21.0+cpu", "", "12.4", False), "warn", ["for CPUs", "--no-deps", "/whl/cu124"]),
        (Pair(None, None), "fail", ["pip install torch torchvision"]),
        (Pair("2.6.0", None, cuda=""), "fail", ["torchvision is not installed", "torchvision>=0.21,<0.22"]),
    ],
)  # fmt: skip
def test_torch_and_torchvision(pair: Pair, mark: str, words: list[str]) -> None:
    found = judge_pair(pair, "Linux")
    assert found.mark == mark
    assert all(word in f"{found.text} {found.advice}" for word in words)
    assert bool(found.advice) == (mark != "ok")


def test_elsewhere_there_is_one_build() -> None:
    pair = Pair("2.6.0", "0.20.1", "==2.5.1", "", error=NMS)
    assert "index-url" in judge_pair(pair, "Linux").advice
    assert "index-url" not in judge_pair(pair, "Darwin").advice


def test_an_import_that_fails_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torchvision.py").write_text(f"raise RuntimeError({NMS.partition(': ')[2]!r})")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    found = look_at_pair()
    assert found.error == NMS and found.vision == installed("torchvision")
    assert found.cuda == (torch.version.cuda or "")
    assert judge_pair(found).mark == "fail"


def test_python_and_libraries() -> None:
    wanted = PROJECT["requires-python"]
    assert [judge_python(v, wanted).mark for v in ("3.10.9", "3.11.0", "3.13.7", "3.14.0")] == [
        "fail", "ok", "ok", "fail",
    ]  # fmt: skip
    needs = [Need("numba", ">=0.61"), Need("timm", ">=1.0.15"), Need("ruff", ">=0.6", "dev")]
    assert judge_libraries(needs, {"numba": "0.61.2", "timm": "1.0.20"}.get).mark == "ok"
    found = judge_libraries(needs, {"timm": "1.0.9"}.get)
    assert found.mark == "fail" and found.advice == 'pip install "numba>=0.61" "timm>=1.0.15"'
    assert found.text == "numba is not installed; timm is 1.0.9, not >=1.0.15"


def test_a_missing_part_names_its_extra() -> None:
    needs = [
        Need("papermill", ">=2.6", "notebooks"),
        Need("ipykernel", ">=6", "notebooks"),
        Need("click", ""),
    ]

    def judge(there: dict[str, str], **given: bool) -> Finding:
        return judge_extra("notebooks", needs, there.get, **{"usual": True, "checkout": True, **given})

    assert judge({"papermill": "2.6.0", "ipykernel": "7"}) == Finding(
        "ok", "papermill 2.6.0, ipykernel 7", facts={"papermill": "2.6.0", "ipykernel": "7"}
    )
    found = judge({"papermill": "2.6.0"})
    assert (found.mark, found.text) == ("warn", "ipykernel is not installed")
    assert 'pip install -e ".[notebooks]"' in found.advice
    assert 'pip install ".[notebooks]"' in judge({}, checkout=False).advice
    assert judge({}, usual=False).mark == "ok"


def test_a_checkout_that_asks_for_more_than_was_noted(tmp_path: Path) -> None:
    assert judge_package(tmp_path, []).mark == "ok"  # no checkout, nothing to compare with
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow" / "grid.yaml").touch()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    noted = declared(ROOT / "pyproject.toml")
    assert {need.name for need in noted if not need.extra} == {
        Requirement(line).name for line in PROJECT["dependencies"]
    }
    assert judge_package(tmp_path, noted).mark == "ok"
    older = noted - {need for need in noted if need.name == "papermill"}
    assert judge_package(tmp_path, older).mark == "warn"
    assert judge_package(tmp_path, older | {Need("papermill", ">=2", "notebooks")}).mark == "warn"


def test_every_extra_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "installed", lambda name: None)
    monkeypatch.setattr(installation, "look_at_pair", lambda: Pair(None, None))
    looked = installation.Installation()
    found = {name: look() for name, look in looked.looks()}
    extras = set(metadata.metadata("cvsa").get_all("Provides-Extra") or []) - {"all"}
    (every,) = (r for r in map(Requirement, metadata.requires("cvsa") or []) if r.name == "cvsa")
    assert {name.removeprefix("extra ") for name in found if name.startswith("extra")} == extras
    assert {extra for extra in extras if found[f"extra {extra}"].mark == "ok"} == extras - every.extras
    for name in ("papermill", "ipykernel", "matplotlib"):
        assert f"{name} is not installed" in found["extra notebooks"].text
    assert "numba" in found["libraries"].text and not looked.works


def tree(root: Path, files: dict[str, str]) -> dict[str, Path]:
    """Files of a made-up system; the arguments that point there."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return {"table": root / "cgroup", "mount": root / "fs"}


def test_cores_that_a_control_group_allows(tmp_path: Path) -> None:
    two = {
        "cgroup": "0::/pod/job\n", "fs/cpu.max": "max 100000", "fs/pod/cpu.max": "150000 100000",
        "fs/pod/job/cpu.max": "800000 100000",
    }  # fmt: skip
    assert cpu_limit(**tree(tmp_path / "v2", two)) == 1.5
    one = {
        "cgroup": "4:memory:/x\n3:cpu,cpuacct:/x\n", "fs/cpu/cpu.cfs_quota_us": "-1",
        "fs/cpu/cpu.cfs_period_us": "100000", "fs/cpu/x/cpu.cfs_quota_us": "300000",
        "fs/cpu/x/cpu.cfs_period_us": "100000",
    }  # fmt: skip
    assert cpu_limit(**tree(tmp_path / "v1", one)) == 3
    assert cpu_limit(**tree(tmp_path / "none", {"cgroup": "0::/\n"})) is None
    assert cpu_limit(tmp_path / "no such", tmp_path) is None


def test_memory_that_a_control_group_leaves(tmp_path: Path) -> None:
    files = {
        "cgroup": "0::/job\n", "meminfo": f"MemTotal: {16 * 2**20} kB\nMemAvailable: {8 * 2**20} kB\n",
        "fs/memory.max": "max", "fs/job/memory.max": str(4 * GIB), "fs/job/memory.current": str(3 * GIB),
        "fs/job/memory.stat": f"anon {GIB}\ninactive_file {GIB // 2}\n",
    }  # fmt: skip
    where = tree(tmp_path / "v2", files)
    assert memory(**where, meminfo=tmp_path / "v2/meminfo") == Memory(16 * GIB, 3 * GIB // 2, 4 * GIB)
    files |= {
        "cgroup": "4:memory:/job\n", "fs/job/memory.max": "max",
        "fs/memory/memory.limit_in_bytes": str(2**63 - 4096),
        "fs/memory/job/memory.limit_in_bytes": str(6 * GIB), "fs/memory/job/memory.usage_in_bytes": str(GIB),
    }  # fmt: skip
    where = tree(tmp_path / "v1", files)
    assert memory(**where, meminfo=tmp_path / "v1/meminfo") == Memory(16 * GIB, 5 * GIB, 6 * GIB)
    free = tree(tmp_path / "free", {"cgroup": "0::/\n"})
    assert memory(**free, meminfo=tmp_path / "v2/meminfo") == Memory(16 * GIB, 8 * GIB, None)
    assert memory(**free, meminfo=tmp_path / "no such").free is None


@pytest.mark.parametrize(
    ("allowed", "limit", "usable"), [(8, None, 8), (4, None, 4), (8, 2.5, 2), (2, 6.0, 2), (8, 0.5, 1)]
)
def test_usable_cores(allowed: int, limit: float | None, usable: int) -> None:
    found = judge_cores("a CPU", 8, allowed, limit)
    assert found.facts["usable"] == usable and f"a CPU, {usable} of 8" in found.text
    assert ("control group allows" in found.text) == (limit is not None and limit < allowed)


@pytest.mark.parametrize(
    ("threads", "usable", "mark", "words"),
    [
        (1, 2, "ok", "OMP_NUM_THREADS is not set"),
        (2, 2, "ok", "export OMP_NUM_THREADS=1"),
        (4, 2, "warn", "export OMP_NUM_THREADS=2"),
    ],
)
def test_threads_and_cores(threads: int, usable: int, mark: str, words: str) -> None:
    found = judge_threads(None, threads, usable)
    assert found.mark == mark and words in f"{found.text} {found.advice}"


def test_little_memory_warns() -> None:
    assert judge_memory(Memory(16 * GIB, 8 * GIB)).mark == "ok"
    low = judge_memory(Memory(16 * GIB, GIB // 2, 2 * GIB))
    assert low.mark == "warn" and "0.5 GiB free of 16.0 GiB, 2.0 GiB allowed" in low.text and low.advice
    assert "not told" in judge_memory(Memory(16 * GIB, None)).text


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(5 * GIB))
    later = tmp_path / "not" / "there"
    assert judge_disk(later, "do this") == Finding(
        "ok", f"5.0 GiB free in {later}", facts={"folder": str(later), "free": 5 * GIB}
    )
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    assert judge_disk(later, "do this").mark == "fail"
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(GIB))
    assert (judge_disk(tmp_path, "do this").mark, judge_disk(tmp_path, "do this").advice) == (
        "warn",
        "do this",
    )


def test_gpu_and_why_there_is_none() -> None:
    one = Gpu(["A GPU"], 80 * GIB, 79 * GIB, "12.4", "", "550.1")
    assert judge_gpu(one).text == "A GPU, 79.0 GiB free of 80.0 GiB, CUDA 12.4, driver 550.1"
    assert judge_gpu(replace(one, free=GIB)).mark == "warn"
    assert "the first of 2" in judge_gpu(replace(one, names=["A GPU", "A GPU"])).text
    none = judge_gpu(Gpu(reason="this torch is built without CUDA"))
    assert none.mark == "ok" and "none visible (this torch is built without CUDA)" in none.text
    unseen = judge_gpu(Gpu(reason="this torch is built without CUDA", driver="550.1", present=["A GPU"]))
    assert unseen.mark == "warn" and "CUDA builds" in unseen.advice
    assert "driver" in judge_gpu(Gpu(cuda="13.2", reason="too old", driver="1", present=["A GPU"])).advice


def test_torch_is_asked_why_it_sees_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise RuntimeError("Found no NVIDIA driver on your system. Please check.")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "_nvidia_smi", lambda: (None, []))
    monkeypatch.setattr(torch.version, "cuda", None)
    assert look_at_gpu() == Gpu(reason="this torch is built without CUDA")
    monkeypatch.setattr(torch.version, "cuda", "12.4")
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert look_at_gpu().reason == "Found no NVIDIA driver on your system"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    assert look_at_gpu() == Gpu(cuda="12.4", reason="torch finds no device (CUDA_VISIBLE_DEVICES='')")


def test_nvidias_own_tool_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine._nvidia_smi() == (None, [])
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '550.1, A GPU'\necho '550.1, Another, larger'\n")
    tool.chmod(0o755)
    assert machine._nvidia_smi() == ("550.1", ["A GPU", "Another, larger"])


def test_folder_of_data_sets(tmp_path: Path) -> None:
    assert photographs(None).mark == "ok"
    assert photographs(str(tmp_path / "gone")).mark == "warn"
    for name in ("pets3", "cub200", "cars", ".hidden"):
        (tmp_path / name).mkdir()
    file = tmp_path / "cub200" / find_set("cub200").card.files[0]
    file.parent.mkdir(exist_ok=True)
    file.touch()
    found = photographs(str(tmp_path))
    assert (found.facts["published"], found.facts["folders"]) == (["cub200"], ["cars", "pets3"])
    assert "published: cub200; other folders: cars, pets3" in found.text
