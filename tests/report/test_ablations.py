"""Ablations from records with known numbers: what is found, compared, told, drawn; and the notebook."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from scipy import stats
from tests_support import SMALL, example_record, papermill

from cvsa.config import PretrainConfig, resolve
from cvsa.errors import CVSAError
from cvsa.grid import Ablation, Grid, load_grid
from cvsa.records import Runs
from cvsa.report.ablations import draw
from cvsa.report.ablations_figures import parts_figure, small_multiples
from cvsa.report.ablations_run import Plan
from cvsa.report.ablations_study import (
    FINETUNED,
    GAP,
    PROBED,
    _verdict,
    against_default,
    baseline,
    check_vary,
    compare,
    label,
    studies,
    study,
    usual_of,
)
from cvsa.report.ablations_text import NOTHING, findings, values_table
from cvsa.report.page import Page
from cvsa.report.sources import Sources

ROOT = Path(__file__).parents[2]
WEIGHTS = Ablation("align_weight", [0.1, 1.0, 3.0], ["BYOL+CVSA"], [0, 1], ["finetune", "probe"])


usual = usual_of("tiny")


@cache
def grid() -> Grid:
    return load_grid(ROOT / "workflow" / "grid.yaml", "ablations")


def made(
    runs: list[tuple[str, int, dict[str, Any], float]], kinds: tuple[str, ...] = ("finetune", "probe")
) -> Runs:
    """Records of (row, seed, what differs from tiny, accuracy)."""
    found: Runs = []
    for number, (row, seed, change, value) in enumerate(runs):
        config = resolve(PretrainConfig, row=row, preset="tiny", seed=seed, **change).model_dump(mode="json")
        trained = f"{10 * number:012x}"
        metrics = {
            "pretrain": {"loss": 1.0, "attention_gap": value / 2},
            "finetune": {"test_accuracy": value}, "probe": {"linear_test": value / 4},
        }  # fmt: skip
        for offset, kind in enumerate(("pretrain", *kinds)):
            record = example_record(
                kind=kind, run_id=f"{10 * number + offset:012x}", row=row, seed=seed, stage2=row,
                config=config if kind == "pretrain" else {}, metrics=metrics[kind],
                parents=[] if kind == "pretrain" else [trained],
            )  # fmt: skip
            found.append((Path(kind) / f"any-name-{number}", record))
    return found


def weights(low: tuple[float, float] = (0.6, 0.8), high: tuple[float, float] = (0.65, 0.77)) -> Runs:
    runs = [("BYOL+CVSA", seed, {"align_weight": w}, v[seed])
            for w, v in ((0.1, low), (1.0, (0.7, 0.8)), (3.0, high)) for seed in (0, 1)]  # fmt: skip
    others = [
        ("BYOL+CVSA", 0, {"align_weight": 3.0, "epochs": 5}, 0.1),
        ("BYOL", 0, {}, 0.5),
        ("BYOL", 1, {}, 0.7),
    ]
    return made([*runs, *others])


def whole(skip: tuple[str, ...] = ()) -> Runs:
    """Every run of the preset, with noise for results."""
    noise, ids, found = np.random.default_rng(0), {}, []
    for number, run in enumerate(grid().runs):
        if run.name in skip:
            continue
        ids[run.kind, run.name] = run_id = f"{number:012x}"
        value = 0.7 + noise.normal(0, 0.03)
        looks = {"attention_gap": value - 0.3} if "CVSA" in run.config.row else {}
        metrics: dict[str, float] = {
            "pretrain": {"loss": 1.0, **looks}, "finetune": {"test_accuracy": value},
            "probe": {"linear_test": value / 4},
        }[run.kind]  # fmt: skip
        record = example_record(
            kind=run.kind, run_id=run_id, row=run.config.row, seed=run.config.seed, preset="ablations",
            config=run.config.model_dump(mode="json"), metrics=metrics, stage2=run.config.row,
            parents=[ids["pretrain", run.parent]] if run.parent else [],
        )  # fmt: skip
        found.append((Path(run.kind) / run.name, record))
    return found


def test_a_network_with_a_recipe_of_its_own_is_found_by_that_recipe() -> None:
    networks = Ablation("backbone", ["resnet_slim", "vit_slim"], ["BYOL"], [0], ["finetune"])
    assert usual("BYOL", backbone="vit_slim").optimizer == "adamw" != usual("BYOL").optimizer
    runs = [("BYOL", 0, {"backbone": "vit_slim"}, 0.6), ("BYOL", 0, {}, 0.7)]
    other = [("BYOL", 0, {"backbone": "vit_slim", "optimizer": "sgd"}, 0.1)]
    found = study("network", networks, made([*runs, *other]), usual)
    assert found.values("BYOL", "vit_slim", FINETUNED).tolist() == [0.6]
    assert found.values("BYOL", "resnet_slim", FINETUNED).tolist() == [0.7] and not found.missing


def test_runs_are_found_by_their_configuration_and_not_by_their_folders() -> None:
    found = study("weight", WEIGHTS, weights(), usual)
    assert found.reference == {"BYOL+CVSA": "1"} and found.usual and not found.missing
    assert found.values("BYOL+CVSA", "3", FINETUNED).tolist() == [0.65, 0.77]  # not the one of five epochs
    assert found.values("BYOL+CVSA", "0.1", GAP).tolist() == [0.3, 0.4]
    assert found.labels == ["0.1", "1", "3"] and set(found.runs["row"]) == {"BYOL+CVSA"}


def test_a_field_that_a_record_does_not_know_has_its_default() -> None:
    runs = weights()
    for _, record in runs:
        record.config.pop("swap_area", None)
    assert not study("weight", WEIGHTS, runs, usual).missing


def test_differences_are_paired_over_seeds() -> None:
    table = compare([study("weight", WEIGHTS, weights(), usual)], FINETUNED).set_index("at")
    assert table.loc["0.1", "each"] == pytest.approx([-0.1, 0.0])
    assert table.loc["0.1", "difference"] == pytest.approx(-0.05)
    # t of one degree of freedom: 12.706 standard errors.
    assert table.loc["0.1", "high"] == pytest.approx(-0.05 + 12.706 * 0.05, abs=1e-4)
    assert set(table["verdict"]) == {"no"} and set(table["family"]) == {2}
    assert table.loc["0.1", "detectable"] > 0.1


@pytest.mark.parametrize(
    ("low", "verdict", "words"),
    [
        ((0.7, 0.8), "equal", "0.1 equal to the last digit"),
        ((0.6, 0.6999), "yes", "0.1 separates."),
        ((0.6, 0.697), "uncorrected", "0.1 separates only before correction"),
        ((0.6, 0.8), "no", "no difference separates"),
    ],
)
def test_the_verdict_is_that_of_interval_and_correction(
    low: tuple[float, float], verdict: str, words: str
) -> None:
    found = study("weight", WEIGHTS, weights(low), usual)
    contrasts = compare([found], FINETUNED)
    if verdict == "uncorrected":  # p of about 0.01: twenty differences are too many for it
        contrasts = contrasts.assign(p_adjusted=contrasts["p"] * 20, family=20)
        contrasts["verdict"] = [_verdict(line) for line in contrasts.to_dict("records")]
    assert contrasts.set_index("at").loc["0.1", "verdict"] == verdict
    told = findings([found], FINETUNED, contrasts)
    assert words in told[-1] and told[-1].startswith("`align_weight`, against 1, the default: 0.1: ")
    assert any("apart" in line and "othing here tells" in line for line in told) is (verdict != "yes")


def test_a_spread_that_all_settings_share_separates_what_two_seeds_cannot() -> None:
    # Seeds 0.02 apart everywhere, one value 0.1 below the default.
    low, high = (0.60, 0.621), (0.70, 0.719)
    runs = [("BYOL+CVSA", seed, {"align_weight": w}, v[seed])
            for w, v in ((0.1, low), (1.0, (0.7, 0.72)), (3.0, high)) for seed in (0, 1)]  # fmt: skip
    found = study("weight", WEIGHTS, made(runs), usual)
    pooled = against_default([found], FINETUNED).set_index("at")["p"]
    expected = stats.dunnett(low, high, control=(0.7, 0.72), rng=np.random.default_rng(0)).pvalue
    assert pooled.tolist() == pytest.approx(expected.tolist(), abs=1e-3)
    assert pooled["0.1"] < 0.05 < pooled["3"]
    told = findings([found], FINETUNED, compare([found], FINETUNED))
    assert any("Dunnett's test (all 2 values" in line and "separates 1 of the 2" in line for line in told)
    assert against_default([study("weight", WEIGHTS, [], usual)], FINETUNED).empty


def test_one_seed_settles_nothing() -> None:
    ablation = Ablation("align_weight", [0.1, 1.0], ["BYOL+CVSA"], [0], ["finetune"])
    found = study("weight", ablation, [pair for pair in weights() if pair[1].seed == 0], usual)
    contrasts = compare([found], FINETUNED)
    assert findings([found], FINETUNED, contrasts)[0] == "One seed each: nothing is settled."
    assert values_table([found], FINETUNED, contrasts)["over seeds"].tolist() == ["–", "–"]


def test_what_is_missing_is_named() -> None:
    runs = [pair for pair in weights() if not (pair[1].kind == "probe" and pair[1].seed == 1)]
    lost = next(
        r for _, r in runs if r.kind == "pretrain" and r.config["align_weight"] == 3.0 and r.seed == 1
    )
    found = study("weight", WEIGHTS, [pair for pair in runs if pair[1] is not lost], usual)
    assert found.missing == [
        "`align_weight` 0.1, seed 1: not probed", "`align_weight` 1, seed 1: not probed",
        "`align_weight` 3, seed 1: not trained",
    ]  # fmt: skip
    assert study("weight", WEIGHTS, [], usual).missing == ["`align_weight`: every run"]
    assert findings([study("weight", WEIGHTS, [], usual)], FINETUNED, compare([], FINETUNED)) == [NOTHING]


def test_every_ablation_of_the_grid_is_found_and_other_objectives_besides() -> None:
    found = studies(ROOT, "ablations", whole())
    assert set(found) == {*grid().ablations, "objectives"}
    assert not [phrase for each in found.values() for phrase in each.missing]
    assert found["objectives"].labels == ["MoCo.v2", "SimCLR"]
    assert found["objectives"].pairs[:2] == [
        ("MoCo.v2+SS", "MoCo.v2", "MoCo.v2", "MoCo.v2"), ("MoCo.v2+CVSA", "MoCo.v2", "MoCo.v2+SS", "MoCo.v2"),
    ]  # fmt: skip
    assert found["network"].pairs[-1] == ("BYOL+CVSA", "vit_slim", "BYOL+SS", "vit_slim")
    assert len(found["scale"].pairs) == 3 * 3


def test_small_multiples_show_every_seed_the_mean_the_default_and_the_reference() -> None:
    runs = weights()
    plain = baseline(runs, usual, "BYOL")
    figure = small_multiples([study("weight", WEIGHTS, runs, usual)] * 3, FINETUNED, "fine-tuned", plain)
    axis = figure.axes[0]
    assert [len(dots.get_offsets()) for dots in axis.collections] == [2, 2, 2]
    assert sum(line.get_linestyle() == "--" for line in axis.lines) == 1
    assert np.asarray(axis.lines[-1].get_ydata()) == pytest.approx([60.0, 60.0])
    assert [each.get_text() for each in axis.get_xticklabels()] == ["0.1", "1", "3"]
    assert len({each.get_ylim() for each in figure.axes[:3]}) == 1 and not figure.axes[3].get_visible()
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["BYOL+CVSA", "the default", "BYOL, mean"]
    nothing = small_multiples([study("weight", WEIGHTS, [], usual)], FINETUNED, "fine-tuned", plain.iloc[:0])
    assert nothing.texts[0].get_text() == NOTHING


def test_rows_are_compared_at_each_network_and_objective() -> None:
    found = studies(ROOT, "ablations", whole())
    figure = parts_figure([found["network"], found["objectives"]], FINETUNED, "fine-tuned")
    assert [sum(len(dots.get_offsets()) for dots in axis.collections) for axis in figure.axes] == [
        3 * 6 + 3 * 2,
        2 * 6 + 2 + 3 * 2,  # the slim ResNet, MoCo.v2 and MoCo.v2+SS have more seeds
    ]
    table = values_table([found["objectives"]], FINETUNED, compare([found["objectives"]], FINETUNED))
    assert table["value"].tolist()[:2] == ["MoCo.v2", "MoCo.v2+SS"]
    assert "to MoCo.v2" in table["difference"].iloc[1] and table["difference"].iloc[0] == "–"


@pytest.mark.parametrize("skip", [(), ("byol-cvsa-s1-align_depth3",)])
def test_the_chapter_is_whole_and_says_what_is_missing(tmp_path: Path, skip: tuple[str, ...]) -> None:
    page = Page(tmp_path, only="ablations_missing" if skip else None)
    draw(page, Sources(ROOT, "tiny", grid(), [], {"ablations": whole(skip)}))
    names = ("finetuned", "attention", "parts")
    wanted = {f"figures/ablations_{name}.svg" for name in names} | {"text/ablations_missing.md"}
    wanted |= {f"{kind}/ablations_{name}.md" for kind in ("tables", "text") for name in names}
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert made == (wanted if not skip else {"text/ablations_missing.md"}) and set(page.drawn) == wanted
    told = (tmp_path / "text" / "ablations_missing.md").read_text()
    assert ("`align_depth` 3, seed 1: not trained" in told) if skip else told == "- No run is missing.\n"
    assert (
        page.numbers["ablations.seeds"]["text"] in ("2 to 6", "1 to 6")
        and page.drawn["figures/ablations_parts.svg"].runs
    )


def test_the_chapter_is_drawn_without_any_run(tmp_path: Path) -> None:
    draw(Page(tmp_path), Sources(ROOT, "tiny", grid(), []))
    assert "`align_weight`: every run" in (tmp_path / "text" / "ablations_missing.md").read_text()


def test_values_are_written_as_people_write_them() -> None:
    told = [label("x", value) for value in (True, 0.10, 3, "image")]
    assert told == ["true", "0.1", "3", "image"] and label("base", "moco_v2") == "MoCo.v2"


def plan(tmp_path: Path, **changes: Any) -> Plan:
    given: dict[str, Any] = {
        "vary": "align_weight", "values": [0.3, 1.0], "row": "BYOL+CVSA", "seeds": [0, 1],
        "reference": "BYOL",
        "evaluate": ["finetune"], "fields": {"preset": "tiny", **SMALL}, "tuning": {}, "out": tmp_path,
    }  # fmt: skip
    return Plan(**{**given, **changes})


def test_the_usual_value_shares_the_plain_runs(tmp_path: Path) -> None:
    made = plan(tmp_path)
    assert list(made.pretrained)[:3] == ["byol-cvsa-s0-align_weight0.3", "byol-cvsa-s0", "byol-s0"]
    assert len(list(made.steps())) == 2 * 3 * 2 and made.cost().startswith("12 runs, 0 of them there already")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vary": "align_wieght"}, "Did you mean 'align_weight'"),
        ({"vary": "row"}, "no parameter of pre-training that can be varied"),
        ({"values": []}, "Parameter values"),
        ({"values": [1, 1.0]}, "some of them are the same"),
        ({"values": [-1]}, "Parameter align_weight = -1"),
        ({"evaluate": ["guess"]}, "unknown 'guess'"),
        ({"tuning": {"epoch": 1}}, "Did you mean 'epochs'"),
        ({"fields": {"preset": "tiny", "align_weight": 1.0}}, "is varied, and was also given one value"),
        ({"row": "BYOL+CVAS"}, "Did you mean 'BYOL+CVSA'"),
    ],
)
def test_bad_plans_are_refused_before_anything_runs(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(CVSAError, match=words.replace("+", r"\+")):
        plan(tmp_path, **changes)
    assert check_vary("backbone") == "backbone"


def test_the_notebook_runs_draws_and_takes_over_what_is_there(tmp_path: Path) -> None:
    small = ", ".join(f"{name}: {value}" for name, value in {**SMALL, "epochs": 2}.items())
    yaml = f"{{values: [0.3, 1.0], seeds: [0], reference: '', evaluate: [probe], training: {{{small}}}}}"
    made = plan(tmp_path / "runs", values=[1.0], seeds=[0], reference="", evaluate=["probe"],
                fields={"preset": "tiny", **SMALL, "epochs": 2})  # fmt: skip
    for _, run in made.steps():
        run()
    result = papermill("ablation.ipynb", tmp_path / "a.ipynb", yaml, out=tmp_path / "runs")
    assert result.returncode == 0, result.stderr[-2000:]
    cells = [cell for cell in nbformat.read(tmp_path / "a.ipynb", 4).cells if cell.cell_type == "code"]
    shown = [output for cell in cells for output in cell.outputs]
    told = "".join(output.get("text", "") for output in shown)
    assert "4 runs, 2 of them there already" in told and "One seed each: nothing is settled." in told
    assert "No run is missing." in told and PROBED.partition(".")[2] in told
    assert sum("image/png" in output.get("data", {}) for output in shown) == 2
