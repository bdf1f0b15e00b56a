"""The page "Add your own method", done as it says: its files, its commands and its lines."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from book_support import ROOT

from cvsa.config import PretrainConfig, resolve
from cvsa.data.datasets import load_splits
from cvsa.evaluation.finetune import finetune
from cvsa.evaluation.probe import probe
from cvsa.lineage import resolve_run
from cvsa.methods import build_method, catalogue
from cvsa.records import Record, find_records
from cvsa.report import tables
from cvsa.training.pretrain import pretrain
from cvsa.views import Views, ViewSettings

EXAMPLES = ROOT / "book" / "examples"
PAGE = (ROOT / "book" / "own_method.md").read_text(encoding="utf-8")


def lines(kind: str) -> dict[str, str]:
    """The page's entries of a table of the package: name -> entry as written."""
    blocks = re.findall(r"^```python\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
    return {block.split('"')[1]: block for block in blocks if f": {kind}(" in block}


@pytest.fixture
def simsiam(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example, importable by name; its lines are in the catalogue."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for table, kind in ((catalogue.ROWS, "Row"), (catalogue.BASES, "Base")):
        for line in lines(kind).values():
            for name, entry in eval(f"{{{line}}}", vars(catalogue)).items():
                monkeypatch.setitem(table, name, entry)  # type: ignore[arg-type]
    import simsiam  # type: ignore[import-not-found]

    return simsiam  # type: ignore[no-any-return]


def run_commands(folder: Path, small: dict[str, Any]) -> dict[str, Record]:
    """Every papermill command of the page, in its order and at a small size: name of its run -> record."""
    made = {}
    for command in re.findall(r"^papermill .*$", PAGE.replace("\\\n", " "), re.MULTILINE):
        _, notebook, _, *rest = shlex.split(command)
        assert (ROOT / notebook).is_file()
        assert rest[::3] == ["-p"] * len(rest[::3])
        given = dict(zip(rest[1::3], rest[2::3], strict=True))
        kind = Path(notebook).stem
        out = folder / kind / Path(given.pop("out", given.get("pretrained", ""))).name
        if "pretrained" in given:
            given["pretrained"] = str(folder / "pretrain" / Path(given["pretrained"]).name)
        name = f"{kind} {out.name}"
        if kind == "pretrain":
            made[name] = pretrain(resolve_run(PretrainConfig, **given, **small)[0], out)
        else:
            evaluate = {"finetune": finetune, "probe": probe}[kind]
            made[name] = evaluate(out, **given, epochs=2, batch_size=20)
    return made


def test_the_commands_train_and_the_row_stands_in_a_table(
    simsiam: ModuleType, small: dict[str, Any], tmp_path: Path
) -> None:
    made = run_commands(tmp_path, small)
    assert list(made) == ["pretrain trial", "probe trial", "pretrain simsiam", "finetune simsiam"]
    assert made["pretrain trial"].row == "BYOL" and made["pretrain trial"].config["base"] == "simsiam:SimSiam"
    assert made["pretrain simsiam"].row == "SimSiam"
    table = tables.main_runs(tables.long_table(find_records(tmp_path)))
    summary = tables.by_row(table, "finetune.test_accuracy")
    assert list(summary.index) == ["SimSiam"]
    history = pd.read_csv(tmp_path / "pretrain" / "simsiam" / "history.csv")
    assert history["contrastive"].iloc[-1] < history["contrastive"].iloc[0] < 1


def test_its_loss_is_the_equation(simsiam: ModuleType, small: dict[str, Any]) -> None:
    method = build_method(resolve(PretrainConfig, row="SimSiam", **small))
    generator = torch.Generator().manual_seed(0)
    views = tuple(
        Views(torch.rand(6, 3, 32, 32, generator=generator), torch.ones(6, 1, 32, 32)) for _ in range(2)
    )
    losses = method(views)
    z = [method.projector(method.encoder(view.images).mean((2, 3))) for view in views]
    p = [method.predictor(each) for each in z]
    wanted = torch.zeros(())
    for i in range(6):
        for a, b in ((0, 1), (1, 0)):
            wanted = wanted - p[a][i] @ z[b][i] / (p[a][i].norm() * z[b][i].norm()) / (2 * 6)
    torch.testing.assert_close(losses["contrastive"], wanted)
    target = z[1].detach().requires_grad_()
    simsiam.negative_cosine(p[0], target).backward()
    assert target.grad is None, "gradient reaches the target"


def test_it_learns_and_does_not_collapse(simsiam: ModuleType, small: dict[str, Any], tmp_path: Path) -> None:
    fields = {**small, "train_images": 200, "epochs": 8, "lr": 0.05}
    record = pretrain(resolve(PretrainConfig, row="SimSiam", **fields), tmp_path)
    history = pd.read_csv(tmp_path / "history.csv")
    assert record.metrics["contrastive"] < history["contrastive"].iloc[0] - 0.2
    assert record.metrics["embedding_std"] > 0.2  # 0 is collapsed, 1 even over the sphere


def test_the_alignment_attaches_by_the_lines_shown(simsiam: ModuleType, small: dict[str, Any]) -> None:
    assert set(lines("Row")) == {"SimSiam", "SimSiam+CVSA"} and set(lines("Base")) == {"simsiam"}
    method = build_method(resolve(PretrainConfig, row="SimSiam+CVSA", **small))
    view = Views(torch.rand(4, 3, 32, 32), torch.ones(4, 1, 32, 32))
    assert set(method((view, view))) == {"contrastive", "alignment"}


def test_an_object_crop_is_the_box_resized(monkeypatch: pytest.MonkeyPatch, small: dict[str, Any]) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from object_crop import object_crop  # type: ignore[import-not-found]

    bank = load_splits(resolve(PretrainConfig, **small))["train"]
    index = torch.arange(5)
    images = bank.gather(index)
    settings = ViewSettings(24, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)  # the whole box
    views = object_crop(bank, index, images, settings, torch.Generator().manual_seed(0))
    for n, (x1, y1, x2, y2) in enumerate(bank.boxes[index].int().tolist()):
        wanted = F.interpolate(images[n : n + 1, :, y1:y2, x1:x2], 24, mode="bilinear", antialias=True)[0]
        assert torch.allclose(torch.cat([views.images[n], views.masks[n]]), wanted, atol=1e-5)


USE = """
from cvsa.cli import main
from cvsa.config import PretrainConfig, resolve
from cvsa.report import figures
from cvsa.training.pretrain import pretrain
import cvsa, sys
from pathlib import Path
small = {small!r}
for name, fields in (("row", dict(row="SimSiam")), ("view", dict(row="BYOL", view="object_crop"))):
    record = pretrain(resolve(PretrainConfig, **fields, **small), Path(name))
    print(name, record.row, record.config["view"], Path(cvsa.__file__).parent)
main(["rows"])
"""


def test_the_lines_pasted_into_the_files_work(small: dict[str, Any], tmp_path: Path) -> None:
    """A copy of the package, edited as the page says, in a process of its own."""
    package = tmp_path / "cvsa"
    shutil.copytree(ROOT / "cvsa", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(EXAMPLES / "object_crop.py", package / "views")

    def paste(file: str, before: str, text: str) -> None:
        source = (package / file).read_text()
        assert source.count(before) == 1, f"{before!r} in {file}"
        (package / file).write_text(source.replace(before, f"{before}{text}"))

    for opening, kind in (("ROWS: dict[str, Row] = {", "Row"), ("BASES: dict[str, Base] = {", "Base"),
                          ("VIEWS: dict[str, View] = {", "View")):  # fmt: skip
        paste("methods/catalogue.py", opening, "\n    " + "\n    ".join(lines(kind).values()))
    paste("methods/catalogue.py", "PAIRS = (", '"object_crop", ')
    imported = "from cvsa.views.object_crop import object_crop\n"
    paste("views/maker.py", "from cvsa.views.leave_one_out import leave_one_out\n", imported)
    opening = "VIEW_GENERATORS: dict[str, ViewGenerator] = {"
    paste("views/maker.py", opening, f"\n    {lines('ViewGenerator')['object_crop']}")
    path = os.pathsep.join([str(tmp_path), str(EXAMPLES)])
    result = subprocess.run(
        [sys.executable, "-c", USE.format(small=small | {"epochs": 2})],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    first, second, *listed = result.stdout.splitlines()
    assert first == f"row SimSiam random_resized_crop {package}"
    assert second == f"view BYOL object_crop {package}"
    assert any(line.startswith("SimSiam+CVSA") for line in listed)
