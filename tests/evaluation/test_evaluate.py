"""Evaluations: one record of all that applies, from a fine-tuned, a frozen or an untrained network."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from tests_support import SMALL

from cvsa.cli import main
from cvsa.config import EvaluateConfig, resolve
from cvsa.errors import CVSAError
from cvsa.evaluation.attribution import fixed_share, sources
from cvsa.evaluation.evaluate import PARTS, evaluate
from cvsa.evaluation.finetune import finetune, predict
from cvsa.evaluation.localization import to_pixels
from cvsa.evaluation.subject import Findings, OnDemand, Subject, sample
from cvsa.lineage import resolve_evaluation
from cvsa.records import Record, read_record, write_record
from cvsa.training.runtime import Runtime

FAST = {"epochs": 2, "warmup_epochs": 0, "batch_size": 20}
DATA = {
    name: SMALL[name] for name in ("bank_size", "image_size", "train_images", "val_images", "test_images")
}


@pytest.fixture(scope="module")
def tuned(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    finetune(folder, pretrained=trained, **FAST)
    return folder


@pytest.fixture(scope="module")
def whole(tuned: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Record]:
    folder = tmp_path_factory.mktemp("evaluated")
    return folder, evaluate(folder, finetuned=tuned, parts="all", images=12, episodes=5)


def test_one_record_holds_all_that_applies(whole: tuple[Path, Record], tuned: Path, trained: Path) -> None:
    folder, record = whole
    assert record.kind == "evaluate" and record == read_record(folder)
    assert record.parents == [read_record(trained).run_id, read_record(tuned).run_id]
    assert (record.row, record.stage2, record.seed) == ("BYOL+CVSA", "BYOL+CVSA", 0)
    groups = {name.split(".")[0] for name in record.metrics}
    assert groups >= {"localization", "background", "causal", "texture", "linear", "retrieval", "boxes"}
    looked = {name.split(".")[1] for name in record.metrics if name.startswith("localization.")}
    assert looked == {
        "cam_finetuned", "cam_probe", "similarity", "similarity_centred", "norm", "attention_self",
        "attention_pair", "attention_self_fixed", "attention_pair_fixed",
        "ref_centre", "ref_whole", "ref_random", "ref_detector",
    }  # fmt: skip
    assert "linear.class_sgd" in record.metrics
    # Two test images a class are too few for these episodes, and no reason to lose the rest.
    assert "images" in record.unavailable["fewshot.5way1shot"]
    assert record.metrics["background.probe.count_images"] == record.metrics["localization.norm.images"] == 12
    # What looks at nothing is judged like everything else.
    assert record.metrics["localization.ref_whole.energy"] == record.metrics["localization.ref_whole.iou"]


def test_lines_per_image_add_up_to_the_metrics(whole: tuple[Path, Record]) -> None:
    folder, record = whole
    looked = pd.read_csv(folder / "localization.csv")
    assert (looked.groupby("source")["image"].nunique() == 12).all()
    for source, part in looked.groupby("source"):
        for name in ("iou", "energy", "pointing"):
            assert part[name].mean() == pytest.approx(
                record.metrics[f"localization.{source}.{name}"], abs=1e-4
            )
    leaning = pd.read_csv(folder / "background.csv")
    for classifier, part in leaning.groupby("classifier"):
        share = (part["same_class"] == part["label"]).mean() - (part["random_class"] == part["label"]).mean()
        assert share == pytest.approx(record.metrics[f"background.{classifier}.gap"])


def test_the_same_evaluation_is_not_repeated(whole: tuple[Path, Record], tuned: Path) -> None:
    folder, record = whole
    assert evaluate(folder, finetuned=tuned, parts="all", images=12, episodes=5) == record
    with pytest.raises(CVSAError, match="holds another run"):
        evaluate(folder, finetuned=tuned, parts="background", images=12)


def test_tables_of_a_stopped_evaluation_are_not_adopted(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "background.csv").write_text("image,label")
    evaluate(tmp_path, pretrained=trained, parts="protocols", episodes=2)
    assert not (tmp_path / "background.csv").exists()


def test_pictures_without_habitat_lose_that_probe_only(tmp_path: Path) -> None:
    record = evaluate(tmp_path, row="Random", parts="protocols", **{**DATA, "dataset": "synthscenes"})
    assert "linear.class_closed" in record.metrics and "linear.class_chance" in record.metrics
    assert "no habitat" in record.unavailable["linear.habitat_closed"]


def test_a_frozen_network_is_asked_without_a_classifier(trained: Path, tmp_path: Path) -> None:
    record = evaluate(tmp_path, pretrained=trained, parts="localization,background", images=6)
    names = {name.split(".")[1] for name in record.metrics}
    assert "probe" in names and not names & {"finetuned", "cam_finetuned"}
    assert record.config["parts"] == "localization,background" and record.config["classifier"] is None


def test_an_untrained_network_has_no_attention(tmp_path: Path) -> None:
    record = evaluate(tmp_path, row="Random", parts="localization", images=6, **DATA)
    sources = {name.split(".")[1] for name in record.metrics}
    assert {"cam_probe", "norm", "ref_centre"} <= sources and not {s for s in sources if "attention" in s}
    assert record.parents == []


@pytest.mark.parametrize("saliency", ["masks", "classical"])
def test_photographs_without_annotation_lose_localisation_only(
    photographs: Path, saliency: str, tmp_path: Path
) -> None:
    data = {"dataset": "folder", "root": photographs, "bank_size": 32, "image_size": 32, "val_fraction": 0.2}
    record = evaluate(tmp_path, row="Random", saliency=saliency, images=6, **data)
    assert "linear.class_closed" in record.metrics and "background.probe.original" in record.metrics
    assert record.unavailable["causal"] == "only drawn birds can be drawn anew"
    if saliency == "masks":
        assert "localization.norm.iou" in record.metrics and "background.probe.gap" in record.metrics
        assert "localization.norm.part_hit" in record.unavailable
    else:
        assert "(classical-1" in record.unavailable["localization"]
        assert "background.probe.gap" not in record.metrics and "boxes" in record.unavailable


def test_the_classifier_is_the_fine_tuned_one(tuned: Path) -> None:
    config, parent, _ = resolve_evaluation(finetuned=tuned)
    subject = Subject(config, parent, Runtime.of(config))
    bank = subject.splits["test"]
    assert subject.classifier is not None
    wanted = predict(subject.classifier, bank, config.image_size, subject.runtime)
    given = subject.predictors["finetuned"](bank.images[:, :3].float() / 255).argmax(1)
    assert torch.equal(given, wanted)
    predictions = pd.read_csv(tuned / "predictions.csv").query("split == 'test'")
    assert (given.numpy() == predictions["predicted"].to_numpy()).all()


def test_maps_do_not_depend_on_the_other_images_asked_for(trained: Path) -> None:
    config, parent, _ = resolve_evaluation(pretrained=trained)
    subject = Subject(config, parent, Runtime.of(config))
    bank, index = subject.measured, torch.tensor([1, 4, 7, 9])
    for name, make in sources(subject).items():
        if name not in (
            "similarity",
            "similarity_centred",
            "attention_pair",
        ):  # these draw partners at random
            together, alone = make(bank, index), make(bank, index[2:3])
            assert torch.allclose(together[2:3], alone, atol=1e-5), name
        assert torch.equal(make(bank, index), make(bank, index)), name


def test_the_bar_knows_how_many_steps_there_are(trained: Path) -> None:
    config, parent, _ = resolve_evaluation(pretrained=trained, images=4, episodes=2)
    subject = Subject(config, parent, Runtime.of(config))
    for name, part in PARTS.items():
        steps: list[str] = []
        part.measure(subject, steps.append)
        assert len(steps) == part.steps(subject), name


def test_only_what_a_map_needs_is_made(trained: Path) -> None:
    config, parent, _ = resolve_evaluation(pretrained=trained)
    subject = Subject(config, parent, Runtime.of(config))
    made: list[str] = []
    subject.features = OnDemand(lambda name: made.append(name) or torch.ones(20, 2), subject.splits)  # type: ignore[func-returns-value, misc]
    maps = sources(subject)
    maps["norm"](subject.measured, torch.tensor([0]))
    maps["similarity"](subject.measured, torch.tensor([0]))
    assert not made and "probe" not in vars(subject)
    features = subject.features
    assert list(features) == list(subject.splits) and features["val"] is features["val"] and made == ["val"]
    with pytest.raises(KeyError):
        features["nowhere"]


def test_a_map_that_ignores_the_image_is_found_out() -> None:
    rng = np.random.default_rng(0)
    still = rng.random((1, 6, 6))
    assert fixed_share(np.broadcast_to(still, (20, 6, 6))) == pytest.approx(1)
    assert fixed_share(rng.random((2000, 6, 6))) < 0.01
    assert 0.2 < fixed_share(still + rng.random((200, 6, 6))) < 0.8
    assert np.isnan(fixed_share(to_pixels(np.ones((3, 4, 4)), 8)))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"finetuned": "nowhere"}, ["nowhere", "record.json"]),
        ({"finetuned": "TRAINED"}, ["pretrain run", "finetuned must be"]),
        ({"finetuned": "TUNED", "image_size": 64}, ["image_size", "contradicts"]),
        ({"finetuned": "TUNED", "pretrained": "nowhere"}, ["nowhere", "Give its place as pretrained"]),
        ({"finetuned": "TUNED", "parts": "locations"}, ["locations", "localization", "sgd"]),
        ({"finetuned": "TUNED", "parts": " , "}, ["unknown part", "localization"]),
    ],
)
def test_mistakes_are_told_in_one_line(
    given: dict[str, Any], words: list[str], tuned: Path, trained: Path, tmp_path: Path
) -> None:
    named = {"TUNED": tuned, "TRAINED": trained}
    with pytest.raises(CVSAError) as error:
        evaluate(tmp_path / "out", **{k: named.get(str(v), v) for k, v in given.items()})
    assert "\n" not in str(error.value) and all(word in str(error.value) for word in words)
    assert not (tmp_path / "out").exists()


def test_a_fine_tuning_of_another_network_is_refused(tuned: Path, trained: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(trained, other)
    write_record(read_record(other).model_copy(update={"run_id": "0" * 12}), other)
    with pytest.raises(CVSAError, match="did not start from"):
        evaluate(tmp_path / "out", finetuned=tuned, pretrained=other)


def test_the_command_takes_either_run(tuned: Path, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "told"
    result = CliRunner().invoke(main, ["evaluate", str(trained), "--parts", "protocols", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "linear.class_closed" in result.output and "not available: fewshot.5way1shot" in result.output
    assert read_record(out).config["parts"] == "protocols"
    again = CliRunner().invoke(main, ["evaluate", str(out)])
    assert again.exit_code == 2 and again.output.count("\n") == 1 and "kind 'evaluate'" in again.output
    moved = ["evaluate", str(trained), "--pretrained", str(trained), "--out", str(tmp_path / "moved")]
    assert "goes with a fine-tuning run" in CliRunner().invoke(main, moved).output
    both = CliRunner().invoke(main, ["evaluate", str(tuned), "--all", "--parts", "sgd"])
    assert both.exit_code == 2 and "exclude each other" in both.output


def test_parts_are_kept_in_one_order() -> None:
    assert resolve(EvaluateConfig, row="Random", parts="protocols, localization").parts == (
        "localization,protocols"
    )
    assert resolve(EvaluateConfig, row="Random", parts="all").parts == (
        "localization,background,protocols,sgd"
    )


def test_what_is_not_finite_is_named_not_kept() -> None:
    found = Findings()
    found.add("a", {"fine": 1.0, "gone": float("nan")}, {"missing": "no masks"})
    assert found.metrics == {"a.fine": 1.0}
    assert found.unavailable == {"a.gone": "undefined on these images", "a.missing": "no masks"}


def test_samples_are_the_same_for_every_network() -> None:
    assert torch.equal(sample(range(50), 10, 3), sample(range(50), 10, 3))
    assert len(sample(range(50), 10, 3).unique()) == 10 and len(sample(range(5), 10, 3)) == 5
