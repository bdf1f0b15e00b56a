"""The page "Your own images": its commands are those of the committed runs it shows."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
from book_support import ROOT

from cvsa.config import FinetuneConfig, PretrainConfig, resolve
from cvsa.data.sets.commands import data
from cvsa.report.examine import configure

PAGE = (ROOT / "book" / "own_images.md").read_text(encoding="utf-8")
PRESET = "pets3"


def commands(start: str) -> list[list[str]]:
    """Every command of the page that starts so, split into words."""
    lines = re.findall(rf"^{start} .*$", PAGE.replace("\\\n", " "), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def given(notebook: str) -> dict[str, Any]:
    """Parameters of the page's first papermill command for a notebook."""
    words = next(words for words in commands("papermill") if words[1] == f"notebooks/{notebook}.ipynb")
    assert (ROOT / words[1]).is_file() and words[3::3] == ["-p"] * len(words[3::3])
    return dict(zip(words[4::3], words[5::3], strict=True))


def test_the_commands_make_the_runs_that_are_shown() -> None:
    told = given("pretrain")
    del told["out"]
    shown = resolve(PretrainConfig, row="BYOL+CVSA", preset=PRESET).model_dump()
    free = {"preset", "queue_size"}  # a name; and what BYOL does not have
    assert {k: v for k, v in resolve(PretrainConfig, **told).model_dump().items() if k not in free} == {
        k: v for k, v in shown.items() if k not in free
    }
    epochs = resolve(FinetuneConfig, row="BYOL+CVSA", preset=PRESET).epochs
    assert int(given("finetune")["epochs"]) == epochs
    assert given("finetune")["pretrained"] == given("probe")["pretrained"] == given("pretrain")["out"]


def test_the_look_is_at_what_is_trained_on() -> None:
    told = given("pretrain")
    names = ("dataset", "root", "bank_size", "image_size")
    assert given("dataset") == {name: told[name] for name in names}
    configure(given("dataset"))


@pytest.mark.parametrize("words", commands("cvsa"), ids=" ".join)
def test_every_command_of_the_command_line_exists(words: list[str]) -> None:
    assert words[1] == "data" and words[2] in data.commands


def test_every_picture_of_the_page_is_committed() -> None:
    kept = ROOT / "results" / PRESET
    for name in re.findall(rf"_generated/figures/{PRESET}_(\w+\.png)", PAGE):
        assert (kept / name).is_file() or (kept / "dataset" / name).is_file(), name
    assert (kept / "dataset" / "verify.txt").is_file()
