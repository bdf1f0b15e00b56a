"""The notes on the scale of the evidence: what ran, and what the same takes at the paper's size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests_support import example_record

from cvsa.config import FinetuneConfig, PretrainConfig, resolve
from cvsa.freshness import Freshness
from cvsa.grid import Grid
from cvsa.records import Record, Runs
from cvsa.report import scale_of
from cvsa.report.compute_form import hours, overhead, plan
from cvsa.report.page import Page
from cvsa.report.sections import NOTED, SECTIONS
from cvsa.report.sources import EVIDENCE, Sources
from cvsa.throughput import FOLDER, Throughput, read_all

ROOT = Path(__file__).parents[2]
CPU = {"device": "cpu", "cpu": "a CPU", "threads": 2}
GPU = {**CPU, "device": "cuda:0", "gpu": "a GPU"}


def made(kind: str, row: str, seed: int = 0, **fields: Any) -> Record:
    """A run of 100 tiny birds."""
    model = PretrainConfig if kind == "pretrain" else FinetuneConfig
    given = {"row": row, "preset": "tiny", "seed": seed, "train_images": 100}
    config = resolve(model, **given, **fields.pop("config", {})).model_dump(mode="json")
    counts = {"train_images": 100} | ({"classes": 10} if kind == "finetune" else {})
    shared = {"metrics": {"x": 1.0}, "counts": counts, "seconds": 1800.0, "hardware": CPU}
    return example_record(kind=kind, row=row, seed=seed, config=config, **{**shared, **fields})


def runs(*records: Record) -> Runs:
    """Each with an id of its own."""
    ids = [f"{number:012x}" for number in range(len(records))]
    return [
        (Path(i), record.model_copy(update={"run_id": i})) for i, record in zip(ids, records, strict=True)
    ]


@pytest.fixture
def few() -> Runs:
    """BYOL with two seeds, no pre-training with one."""
    records = [made(kind, "BYOL", seed) for kind in ("pretrain", "finetune") for seed in (0, 1)]
    return runs(*records, made("finetune", "Random"))


@pytest.fixture(scope="module")
def measured() -> list[Throughput]:
    return read_all(ROOT / FOLDER)[:1]


def sources(root: Path, stale: int = 0, **committed: Runs) -> Sources:
    found = Sources(root, "tiny", Grid("tiny"), [], committed)
    ids = [record.run_id for runs in committed.values() for _, record in runs]
    found.__dict__["fresh"] = {
        run: Freshness("stale" if number < stale else "fresh") for number, run in enumerate(ids)
    }
    return found


def test_a_note_says_what_ran(few: Runs) -> None:
    epochs = resolve(PretrainConfig, preset="tiny").epochs
    tuned = resolve(FinetuneConfig, preset="tiny").epochs
    size = resolve(PretrainConfig, preset="tiny").image_size
    assert scale_of.what("some", [record for _, record in few]) == (
        f"Committed runs `some`: SynthBirds, 10 classes, 100 training images of {size} px, network "
        f"resnet-slim, {epochs} epochs of pre-training, {tuned} epochs of fine-tuning, 2 rows with 1 to 2 "
        "seeds each."
    )
    alone = scale_of.what("some", [few[0][1]])
    assert alone.endswith("epochs of pre-training, 1 row with one seed each.") and "classes" not in alone


def test_several_values_become_a_range_and_first_stages_stay_apart() -> None:
    lengths = [made("pretrain", "BYOL", config={"epochs": epochs}) for epochs in (5, 60, 20)]
    first = made("pretrain", "BYOL", stage1="BYOL on synthscenes", config={"epochs": 400, "stage": 1})
    assert "5 to 60 epochs of pre-training" in scale_of.what("some", [*lengths, first])


def test_a_note_says_what_it_took_and_whether_code_has_changed(few: Runs) -> None:
    assert scale_of.spent(few, []) == "5 runs in 300 thread-minutes on a CPU, all of them by today's code."
    older = [record for _, record in few]
    assert scale_of.spent(few, older[:2]).endswith("2 of them by older code than today's.")
    assert scale_of.spent(few, older).endswith("all of them by older code than today's.")
    both = runs(made("finetune", "BYOL"), made("finetune", "BYOL", 1, hardware=GPU))
    assert "30 device-minutes on a GPU and 60 thread-minutes on a CPU" in scale_of.spent(both, [])


def test_the_paper_scale_is_counted_as_on_the_page_of_compute(few: Runs, measured: list[Throughput]) -> None:
    needed = plan()
    found = [scale_of.paper_passes(record) for _, record in few]
    assert found[0] == {"BYOL": needed.rows["BYOL"][0]} and found[2] == {scale_of.TUNED: needed.finetune[0]}
    tiny = resolve(PretrainConfig, row="BYOL", preset="tiny")
    tuned = resolve(FinetuneConfig, row="BYOL", preset="tiny")
    assert scale_of.passes_here(few) == 100 * (2 * 8 * tiny.epochs + 3 * 3 * tuned.epochs)
    (rate,) = measured
    took = 2 * hours(needed.rows["BYOL"][0], rate.rate(), overhead(rate, "BYOL"))
    took += 3 * hours(needed.finetune[0], rate.rate())
    told = scale_of.at_paper(few, measured)
    threads = rate.hardware["threads"]
    assert f"about {float(f'{took * threads:.2g}'):,.0f} thread-hours on {rate.hardware['cpu']}" in told
    assert told.endswith("Here it took 5 thread-hours on a CPU.")
    times = (2 * needed.rows["BYOL"][0] + 3 * needed.finetune[0]) / scale_of.passes_here(few)
    assert f"{float(f'{times:.2g}'):,.0f} times as many passes" in told


def test_stages_labels_and_other_kinds_are_scaled_as_they_are() -> None:
    needed = plan()
    first = made("pretrain", "BYOL", config={"stage": 1})
    assert scale_of.paper_passes(first) == {"BYOL": needed.first["BYOL"][0]}
    part = made("finetune", "BYOL", config={"label_fraction": 0.1})
    assert scale_of.paper_passes(part)[scale_of.TUNED] == pytest.approx(0.1 * needed.finetune[0])
    assert scale_of.paper_passes(example_record(kind="probe")) == {}


def test_without_a_rate_or_a_known_configuration_less_is_said(few: Runs) -> None:
    assert scale_of.at_paper(few, []).endswith("How long such a pass takes was not measured.")
    unknown = few[0][1].model_copy(update={"config": {"gone": 1}})
    assert "takes more passes of an image" in scale_of.at_paper([(Path(), unknown)], [])


def test_every_note_is_written_also_for_sets_that_are_not_there(few: Runs, tmp_path: Path) -> None:
    (section,) = [section for section in SECTIONS if section.name == "scale_of"]
    page = Page(tmp_path / "book")
    section.draw(page, sources(tmp_path, stale=1, **{EVIDENCE[-1]: few, "pilot": few[1:2]}))
    texts = {path.stem: path.read_text() for path in (page.folder / "text").iterdir()}
    assert set(texts) == {f"evidence_{name}" for name in ("main", "ledger", "scale", *NOTED)}
    assert (
        f"`{EVIDENCE[-1]}`" in texts["evidence_main"] and "1 of them by older code" in texts["evidence_main"]
    )
    assert "`pilot`" in texts["evidence_pilot"] and texts["evidence_pilot"].count("\n- ") == 2
    assert texts["evidence_saliency"].startswith("- No committed records in `results/saliency`")
    assert page.drawn["text/evidence_pilot.md"].runs == (few[1][1].run_id,)
    section.draw(page, sources(tmp_path))
    empty = (page.folder / "text" / "evidence_main.md").read_text()
    assert all(f"`results/{name}`" in empty for name in EVIDENCE)
    assert (page.folder / "text" / "evidence_ledger.md").read_text() == empty


def test_the_note_on_the_scale_ablation_names_every_set_that_has_one(tmp_path: Path) -> None:
    (section,) = [section for section in SECTIONS if section.name == "scale_of"]
    swept = runs(*(made("pretrain", "BYOL+SS", config={"swap_scale": scale}) for scale in (0.08, 0.5)))
    page = Page(tmp_path)
    section.draw(page, sources(tmp_path, **{EVIDENCE[0]: swept, "ablations": swept, "pilot": swept[:1]}))
    told = (tmp_path / "text" / "evidence_scale.md").read_text()
    assert [name for name in (EVIDENCE[0], "ablations", "pilot") if f"runs `{name}`" in told] == [
        EVIDENCE[0],
        "ablations",
    ]
    section.draw(page, sources(tmp_path))
    assert "`results/ablations`" in (tmp_path / "text" / "evidence_scale.md").read_text()


def test_every_chapter_of_results_shows_its_note() -> None:
    shown = {
        page.stem: [line for line in page.read_text().splitlines() if "text/evidence_" in line]
        for page in (ROOT / "book").glob("*.md")
    }
    used = {line.partition("evidence_")[2].removesuffix(".md") for lines in shown.values() for line in lines}
    assert used <= {"main", "ledger", "scale", *NOTED}
    told = {page for page, lines in shown.items() if lines}
    assert told >= {
        "results", "tables", "scale", "localisation", "background", "ablations", "saliency", "what_it_sees",
        "photographs", "ledger",
    }  # fmt: skip
