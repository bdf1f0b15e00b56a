"""Where things come from: the report's own account, and the commands that make runs and figures again."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from tests_support import example_record

from cvsa.config import KINDS, resolve
from cvsa.duration import duration
from cvsa.errors import CVSAError
from cvsa.freshness import Freshness
from cvsa.provenance import commit
from cvsa.records import RECORD, WEIGHTS, Record, collect, config_of, read_record, write_record
from cvsa.report import pages
from cvsa.report.every_run import runs_table
from cvsa.report.page import Page, is_named
from cvsa.report.sections import SECTIONS, Section
from cvsa.report.sources import EVIDENCE, Sources
from cvsa.report.where import (
    about_runs,
    run_commands,
    several,
    shared_parameters,
    stale_sentences,
    with_parents,
)

ROOT = Path(__file__).parents[2]
MODELS = {kind: model for model, kind in KINDS.items()}
MAIN = EVIDENCE[-1]
REMADE = ("finetune_main.svg", "probes.svg", "curves.svg")


def given(command: str) -> tuple[str, dict[str, str]]:
    """Notebook and parameters of a papermill command."""
    words = shlex.split(command)
    assert words[0] == "papermill" and words[2] == "out.ipynb" and set(words[3::3]) == {"-p"}
    return Path(words[1]).stem, dict(zip(words[4::3], words[5::3], strict=True))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with few records: committed ones, and the same as if they had been made here."""
    root = tmp_path_factory.mktemp("checkout")
    taken = ROOT / "results" / "saliency"  # small, with two seeds; its runs stand for those of any set
    for name in ("byol-s0", "byol-s1", "byol-cvsa-s0", "byol-cvsa-s1"):
        for folder in taken.glob(f"*/{name}"):
            for there in (root / "results" / MAIN, root / "book" / "results" / "tiny"):
                shutil.copytree(folder, there / folder.relative_to(taken))
    (root / "workflow").mkdir()
    (root / "workflow" / "grid.yaml").write_text(
        "tiny: {second_stage_only: [{rows: [BYOL, BYOL+CVSA], seeds: [0, 1]}]}\n"
    )
    (root / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "figure.ipynb", root / "notebooks")
    return root


@pytest.fixture(scope="module")
def report(checkout: Path) -> Path:
    """What a report of these records writes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "SECTIONS", some("live", "main", "what_ran"))
        pages.draw("tiny", checkout)
    return checkout / "book" / "_generated"


def some(*names: str) -> list[Section]:
    """Sections that need no more than records."""
    return [section for section in SECTIONS if section.name in names]


def read(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / name).read_text())  # type: ignore[no-any-return]


def test_commands_pasted_into_a_shell_make_the_figures_again(
    report: Path, checkout: Path, tmp_path: Path
) -> None:
    where = read(report, "where.json")
    tried = []
    for number, name in enumerate(REMADE):  # side by side: starting notebooks takes most of the time
        here = tmp_path / str(number)
        shutil.copytree(checkout, here, ignore=shutil.ignore_patterns("_generated"))
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        shell = subprocess.Popen(
            ["sh"], cwd=here, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert shell.stdin
        shell.stdin.write(where[f"figures/{name}"]["command"] + "\n")
        shell.stdin.close()
        tried.append((shell, here / "figures" / name))
    for (shell, made), name in zip(tried, REMADE, strict=True):
        assert shell.stderr
        said = shell.stderr.read()
        assert shell.wait() == 0, said[-2000:]
        assert made.read_bytes() == (report / "figures" / name).read_bytes()


def test_everything_that_is_drawn_tells_its_runs(report: Path) -> None:
    where, runs = read(report, "where.json"), read(report, "runs.json")
    drawn = {path.relative_to(report).as_posix() for path in report.glob("*/*.*")}
    assert drawn - set(where) == {"text/excluded.md", "text/stale.md", "html/runs.html"}
    assert set(where) <= drawn
    tuned = where["figures/finetune_main.svg"]
    assert tuned["kind"] == "figures" and tuned["section"] == "main"
    assert {runs[run]["kind"] for run in tuned["runs"]} == {"finetune"} and len(tuned["runs"]) == 4
    assert {runs[run]["kind"] for run in where["figures/curves.svg"]["runs"]} == {"pretrain"}
    told = runs[tuned["runs"][0]]
    assert told["preset"] == "saliency" and told["hardware"] and "/finetune/" in told["folder"]
    page = (report / "html" / "runs.html").read_text()
    assert all(f'<tr id="run-{run}">' in page for run in runs)


def test_every_committed_run_has_a_command_that_means_the_same_run() -> None:
    found = collect(ROOT / "results").runs
    known = {record.run_id: (folder, record) for folder, record in found}
    for folder, record in found:
        kind, told = given(run_commands(folder, record, known, ROOT)[-1])
        assert kind == record.kind and told.pop("out").startswith("runs/")
        starts = {name: told.pop(name) for name in ("pretrained", "finetuned") if name in told}
        assert bool(starts) == bool(record.parents)
        lineage = {name: record.config.get(name) for name in ("parent", "classifier")}
        wanted = config_of(record).model_dump(mode="json")
        again = resolve(MODELS[kind], **told, **lineage).model_dump(mode="json")
        free = {"pretrained", "finetuned"}
        assert {k: v for k, v in again.items() if k not in free} == {
            k: v for k, v in wanted.items() if k not in free
        }


def test_commands_go_back_to_where_weights_are(tmp_path: Path) -> None:
    config = {"row": "BYOL", "preset": "tiny", "seed": 0, "lr": 0.5}
    first = example_record(kind="pretrain", run_id="a" * 12, config=resolved("pretrain", **config))
    second = example_record(
        kind="finetune", run_id="b" * 12, parents=["a" * 12],
        config=resolved("finetune", row="BYOL", preset="tiny", seed=0, parent="a" * 12),
    )  # fmt: skip
    third = example_record(
        kind="evaluate", run_id="c" * 12, parents=["a" * 12, "b" * 12],
        config=resolved("evaluate", row="BYOL", preset="tiny", parent="a" * 12, classifier="b" * 12),
    )  # fmt: skip
    folders = [tmp_path / "results" / "x" / record.kind / "one" for record in (first, second, third)]
    for folder in folders:
        folder.mkdir(parents=True)
    runs = dict(zip("abc", zip(folders, (first, second, third), strict=True), strict=True))
    known = {record.run_id: (folder, record) for folder, record in runs.values()}

    def commands(letter: str) -> list[tuple[str, dict[str, str]]]:
        return [given(command) for command in run_commands(*runs[letter], known, tmp_path)]

    assert [kind for kind, _ in commands("c")] == ["pretrain", "finetune", "evaluate"]
    assert commands("c")[0][1] == {
        "row": "BYOL", "preset": "tiny", "seed": "0", "lr": "0.5", "out": "runs/x/pretrain/one",
    }  # fmt: skip
    assert commands("c")[1][1]["pretrained"] == "runs/x/pretrain/one"
    assert commands("c")[2][1]["finetuned"] == commands("c")[1][1]["out"]
    (folders[1] / WEIGHTS).touch()
    ((kind, told),) = commands("c")
    assert kind == "evaluate" and told["finetuned"] == "results/x/finetune/one"


def resolved(kind: str, **fields: Any) -> dict[str, Any]:
    return resolve(MODELS[kind], **fields).model_dump(mode="json")


def test_no_command_where_the_code_knows_no_such_run(tmp_path: Path) -> None:
    record = example_record(config={"row": "BYOL", "gone": 1})
    assert run_commands(tmp_path, record, {}, tmp_path) == []
    told = about_runs([record.run_id], [[(tmp_path, record)]], tmp_path, {})
    assert "knows no such preset" in runs_table(told)


@pytest.mark.parametrize("damage", ["digit", "history"])
def test_damaged_records_are_named_and_left_out(
    checkout: Path, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    shutil.copytree(checkout, root)
    folder = root / "results" / MAIN / "pretrain" / "byol-s1"
    write_record(read_record(folder), folder)
    if damage == "digit":
        text = (folder / RECORD).read_text()
        assert '"seconds": ' in text
        (folder / RECORD).write_text(text.replace('"seconds": ', '"seconds": 1', 1))
    else:
        (folder / "history.csv").unlink()
    monkeypatch.setattr(pages, "SECTIONS", some("main"))
    with pytest.warns(UserWarning, match="left out.*byol-s1"):
        pages.draw("tiny", root)
    told = (root / "book" / "_generated" / "text" / "excluded.md").read_text()
    damaged = f"results/{MAIN}/pretrain/byol-s1"
    assert damaged in told and str(root) not in told
    assert damaged in read(root / "book" / "_generated", "report.json")["excluded"][0]
    with pytest.raises(CVSAError, match="byol-s1"):
        pages.draw("tiny", root, strict=True)


def test_what_older_code_made_is_told_and_refused_when_strict(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    shutil.copytree(checkout, root)
    (root / "workflow" / "grid.yaml").write_text("tiny: {}\n")
    for folder, record in collect(root / "results").runs:
        now = record.model_copy(
            update={"code": commit(config_of(record)), "run_id": config_of(record).identity()}
        )
        write_record(now, folder)
    monkeypatch.setattr(pages, "SECTIONS", ())
    pages.draw("tiny", root, strict=True)
    generated = root / "book" / "_generated"
    assert (generated / "text" / "stale.md").read_text() == "- Every run was made by the code as it is.\n"
    folder = root / "results" / MAIN / "pretrain" / "byol-s0"
    record = read_record(folder)
    files = {**record.code["files"], "cvsa/methods/byol.py": "0" * 12}
    write_record(record.model_copy(update={"code": {**record.code, "files": files}}), folder)
    pages.draw("tiny", root)
    assert "cvsa/methods/byol.py was changed" in (generated / "text" / "stale.md").read_text()
    with pytest.raises(CVSAError, match=f"`{MAIN}`: 1 of 12 runs: cvsa/methods/byol.py was changed"):
        pages.draw("tiny", root, strict=True)


@pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux only")
def test_several_processes_draw_what_one_does(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "SECTIONS", some("live", "main", "what_ran"))
    made = {}
    for count in (1, 2):
        root = tmp_path / str(count)
        shutil.copytree(checkout, root)
        monkeypatch.setattr(pages, "cores", lambda count=count: count)
        pages.draw("tiny", root)
        folder = root / "book" / "_generated"
        made[count] = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    assert len(made[1]) > 10 and made[1] == made[2]

    def fails(page: Page, sources: Sources) -> None:
        raise CVSAError("no such row")

    monkeypatch.setattr(pages, "SECTIONS", (*some("live"), Section("bad", fails, ("bad",))))
    with pytest.raises(CVSAError, match="no such row"):
        pages.draw("tiny", root)


def test_one_name_alone_is_drawn(checkout: Path, tmp_path: Path) -> None:
    assert pages.draw_only("tables/contrasts_main.md", "tiny", checkout, tmp_path) == [
        tmp_path / "tables" / "contrasts_main.md"
    ]
    assert [path.name for path in tmp_path.rglob("*.*")] == ["contrasts_main.md"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "finetune_mai.svg",
            "Nothing in the report is named 'finetune_mai.svg'. Did you mean finetune_main.svg",
        ),
        ("contrasts_mian", "Did you mean tables/contrasts_main.md"),
        ("sweep_", "Nothing in the report is named"),
    ],
)
def test_a_name_that_is_not_there_brings_near_ones(
    report: Path, checkout: Path, tmp_path: Path, name: str, words: str
) -> None:
    with pytest.raises(CVSAError) as error:
        pages.draw_only(name, "tiny", checkout, tmp_path)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_live_runs_that_are_missing_are_named_and_committed_ones_are_dashes(tmp_path: Path) -> None:
    (tmp_path / "workflow").mkdir()
    shutil.copy(ROOT / "workflow" / "grid.yaml", tmp_path / "workflow")
    (drawn,) = pages.draw_only("results_main", "tiny", tmp_path, tmp_path / "out")
    assert set(drawn.read_text().splitlines()[2]) == set("| –")
    with pytest.raises(CVSAError, match=r"has no finished run\. Run `cvsa reproduce --preset tiny` first"):
        pages.draw_only("finetune.svg", "tiny", tmp_path, tmp_path / "out")


def test_a_page_keeps_the_most_precise_source(tmp_path: Path) -> None:
    page, table = Page(tmp_path), pd.DataFrame({"a": [1]})
    records = [(tmp_path, example_record(run_id=letter * 12)) for letter in "ab"]
    with page.section("s", records):
        page.table("of_section", table)
        page.number("n", "1")
        with page.source(["c" * 12]):
            page.table("of_source", table)
            page.number("m", "1")
            page.figure("own.png", Figure(), runs=["d" * 12, "d" * 12])
        page.text("none", ["x"], runs=[])
    sources = {key: drawn.runs for key, drawn in page.drawn.items()}
    assert sources == {
        "tables/of_section.md": ("a" * 12, "b" * 12), "tables/of_source.md": ("c" * 12,),
        "figures/own.png": ("d" * 12,), "text/none.md": (),
    }  # fmt: skip
    assert page.numbers["n"]["runs"] == [] and page.numbers["m"]["runs"] == ["c" * 12]
    page.comes_from("text/none.md", records[:1])
    page.comes_from("text/unknown.md", records)
    assert page.drawn["text/none.md"].runs == ("a" * 12,) and "text/unknown.md" not in page.drawn


def test_names() -> None:
    assert is_named("tables/table_1.md", "table_1") and is_named("tables/table_1.md", "table_1.md")
    assert is_named("figures/a.svg", "a.svg") and is_named("figures/a.svg", "figures/a.svg")
    assert not is_named("figures/a.svg", "a") and not is_named("figures/a.svg", "b.svg")
    section = Section("s", lambda page, sources: None, ("pilot_*",))
    assert section.may_draw("pilot_crop.svg") and section.may_draw("tables/pilot_crop.md")
    assert not section.may_draw("crop.svg")


def test_words() -> None:
    assert [duration(s) for s in (48.2, 600, 12345)] == ["48 s", "10 min", "3.4 h"]
    assert several(["a", "a"]) == "a" and several(["a", "b", "a"]) == "a (2), b (1)"
    runs = [
        {"kind": "pretrain", "parameters": {"dataset": "x", "epochs": 20}},
        {"kind": "pretrain", "parameters": {"dataset": "x", "epochs": 20, "lr": 0.1}},
        {"kind": "probe", "parameters": {"dataset": "x"}},
    ]
    assert shared_parameters(runs) == "dataset x; pretrain: epochs 20"


def test_older_code_is_counted_by_set_and_reason(tmp_path: Path) -> None:
    runs = [(tmp_path, example_record(run_id=letter * 12)) for letter in "abc"]
    fresh = {
        "a" * 12: Freshness("stale", ["x was changed"]), "b" * 12: Freshness("stale", ["x was changed"]),
        "c" * 12: Freshness("fresh"),
    }  # fmt: skip
    assert stale_sentences({"pilot": runs}, fresh) == ["`pilot`: 2 of 3 runs: x was changed."]
    assert stale_sentences({"pilot": runs[2:]}, fresh) == []


def test_runs_bring_those_they_start_from() -> None:
    runs = {"a": {"parents": []}, "b": {"parents": ["a"]}, "c": {"parents": ["a", "b", "gone"]}}
    assert with_parents(["c", "b"], runs) == ["c", "b", "a"]


def test_an_imported_record_says_so(tmp_path: Path) -> None:
    record = example_record(
        imported={"file": "runs.zip", "on": "2026-01-02T00:00:00Z", "digest": None, "by": "0.1"},
    )
    assert isinstance(record, Record)
    told = about_runs([record.run_id], [[(tmp_path, record)]], tmp_path, {record.run_id: Freshness("fresh")})
    assert told[record.run_id]["state"] == "imported"
    assert told[record.run_id]["reasons"] == ["imported from runs.zip on 2026-01-02"]
    assert "imported" in runs_table(told)
