"""Cards: what a checkpoint's card says is true, its snippet works, and its terms follow from the data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests_support import SMALL, example_record

from cvsa.config import DRAWN, KINDS, DataConfig, PretrainConfig, resolve
from cvsa.data.sets import SETS, find_set
from cvsa.errors import CVSAError
from cvsa.evaluation.finetune import finetune
from cvsa.grid import Grid
from cvsa.records import Record, Runs, read_record, write_record
from cvsa.report import cards, tables
from cvsa.report.cards import DRAWN_CARDS, drawn_card, model_card, published_card, terms, write_card
from cvsa.report.page import Page
from cvsa.report.sources import Sources
from cvsa.training.pretrain import pretrain

ROOT = Path(__file__).parents[2]
Made = dict[str, Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A pre-training, a fine-tuning of it, and one with half of the labels."""
    root = tmp_path_factory.mktemp("runs")
    small = {**SMALL, "epochs": 1, "warmup_epochs": 0}
    folder = root / "pretrain" / "byol-cvsa-s0"
    pretrain(resolve(PretrainConfig, row="BYOL+CVSA", **small), folder)
    short = {name: small[name] for name in ("batch_size", "epochs", "warmup_epochs")}
    tuned = root / "finetune" / "byol-cvsa-s0"
    finetune(tuned, pretrained=folder, **short)
    finetune(
        tuned.with_name("byol-cvsa-s0-label_fraction0.5"), pretrained=folder, label_fraction=0.5, **short
    )
    return {"root": root, "pretrain": folder, "finetune": tuned}


def front(card: str) -> dict[str, Any]:
    """The metadata block of a card."""
    assert card.startswith("---\n")
    found: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return found


def sibling(record: Record, seed: int, accuracy: float, **config: Any) -> Record:
    """The same run with another seed."""
    return record.model_copy(update={
        "seed": seed, "run_id": f"{seed:012x}", "config": {**record.config, "seed": seed, **config},
        "metrics": {**record.metrics, "val_accuracy": accuracy},
    })  # fmt: skip


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_snippet_of_the_card_runs(kind: str, made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    code = re.search(r"```python\n(.*?)```", model_card(made[kind], ROOT), re.DOTALL)
    assert code
    exec(code[1], {})
    expected = r"torch.Size\(\[2, \d+\]\)" if kind == "pretrain" else r"tensor\(\[\d, \d\]\)"
    assert re.match(expected, capsys.readouterr().out)


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_card_has_what_the_hub_asks_for(kind: str, made: Made) -> None:
    card, record = model_card(made[kind], ROOT), read_record(made[kind])
    told = front(card)
    assert told["license"] == "mit"
    assert told["datasets"] == ["synthbirds"]
    (index,) = told["model-index"]
    (result,) = index["results"]
    assert {"task", "dataset", "metrics"} == set(result)
    named = {metric["name"]: metric["value"] for metric in result["metrics"]}
    tuned = read_record(made["finetune"])
    assert named["fine-tuned"] == round(
        tables.metrics_of(tuned)[tables.TOP1], 4
    )  # not that with half the labels
    for part in ("Configuration", "Data", "Training", "Results", "Limits", "Compute", "Citation"):
        assert f"\n## {part}\n" in card
    assert record.run_id in card
    assert record.data_fingerprints["train"][:16] in card
    assert "not reported by the device" in card
    assert f"papermill notebooks/{kind}.ipynb" in card
    assert "@inproceedings{cvsa," in card


def test_siblings_are_runs_that_differ_by_their_seed(made: Made) -> None:
    record = read_record(made["finetune"])
    runs: Runs = [
        (Path("a"), sibling(record, 2, 0.75)),
        (Path("b"), sibling(record, 1, 0.25)),
        (Path("c"), sibling(record, 3, 0.5, epochs=99)),
        (Path("d"), record),
    ]
    assert [other.seed for _, other in cards.siblings(record, runs)] == [1, 2]
    line = cards.results(record, runs).set_index("measure").loc["fine-tuned"]
    assert line["seeds"] == [(0, record.metrics["val_accuracy"]), (1, 0.25), (2, 0.75)]
    card = model_card(made["finetune"], ROOT, runs)
    assert "25.0 (seed 1), 75.0 (seed 2)" in card
    assert "Measured with" not in card


@pytest.mark.parametrize(
    ("config", "stage1", "free", "said"),
    [
        ({"dataset": "synthbirds"}, None, True, "MIT"),
        ({"dataset": "synthbirds"}, "BYOL on synthscenes", True, "MIT"),
        ({"dataset": "synthbirds"}, "BYOL on coco", False, "BYOL on coco"),
        ({"dataset": "synthbirds"}, "published weights of resnet50", False, "their licence holds too"),
        ({"dataset": "inat2018"}, None, False, "the images must not be passed on"),
        ({"dataset": "folder", "root": "$CVSA_DATA/mine"}, None, False, "Do not pass the weights on"),
    ],
)
def test_terms_follow_from_every_stage(
    config: dict[str, Any], stage1: str | None, free: bool, said: str
) -> None:
    record = example_record(config=config, stage1=stage1)
    assert cards.made_of_drawings(record) is free
    assert said in terms(record)
    assert cards.front_matter(record, cards.results(record, []))["license"] == ("mit" if free else "other")


def test_a_card_is_written_once(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "README.md"
    assert write_card(made["finetune"], out, ROOT) == [f"Card of {made['finetune']} in {out}"]
    assert out.read_text() == "\n".join(write_card(made["finetune"], None, ROOT)) + "\n"
    with pytest.raises(CVSAError, match="is there already"):
        write_card(made["finetune"], out, ROOT)


def test_bad_runs_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(CVSAError, match="No finished run"):
        model_card(tmp_path, ROOT)
    write_record(example_record(kind="probe"), tmp_path)
    with pytest.raises(CVSAError, match="holds a probe run"):
        model_card(tmp_path, ROOT)


def test_the_book_gets_one_model_card_and_all_data_cards(made: Made, tmp_path: Path) -> None:
    page = Page(tmp_path)
    live = [(made[kind], read_record(made[kind])) for kind in ("pretrain", "finetune")]
    cards.draw(page, Sources(ROOT, "tiny", Grid("tiny"), live))
    assert page.drawn["cards/card_model.md"].runs == (live[1][1].run_id,)
    told = (tmp_path / "cards" / "card_data_published.md").read_text()
    for name in SETS:
        assert (find_set(name).card.title in told) is bool(find_set(name).card.splits)
    with pytest.raises(CVSAError, match="run the preset first"):
        cards.draw(page, Sources(ROOT, "tiny", Grid("tiny"), live[:1]))


@pytest.mark.parametrize("name", DRAWN_CARDS)
def test_cards_of_drawn_sets_speak_of_parameters_that_exist(name: str) -> None:
    assert set(DRAWN_CARDS) == set(DRAWN)
    assert set(DRAWN_CARDS[name]["parameters"]) <= set(DataConfig.model_fields)
    assert drawn_card(name).startswith(f"### {cards.TITLES[name]}\n")
    assert "\n# " not in drawn_card(name)


def test_cards_of_published_sets_say_their_terms_and_checksums() -> None:
    card = find_set("cub200").card
    told = published_card("cub200")
    assert card.terms in " ".join(told.split())
    assert all(str(archive.md5) in told for archive in card.archives)


def test_fields_left_out_of_siblings_exist() -> None:
    assert set(cards._OF_SIBLINGS) <= {name for model in KINDS for name in model.model_fields}
