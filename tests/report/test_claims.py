"""Claims as data, the rules of their verdicts, and what sets of runs show about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests_support import example_record

from cvsa.freshness import Freshness
from cvsa.grid import Ablation, Grid
from cvsa.methods.catalogue import ROWS
from cvsa.records import Runs
from cvsa.report import evidence
from cvsa.report.claims import Claim, Part, claims
from cvsa.report.evidence import contradicted, judge, ledger, named, run_sets, verdict_of
from cvsa.report.sources import Sources
from cvsa.report.statistics import Interval
from cvsa.report.tables import TOP1
from cvsa.report.verdicts import rank, verdict_of_claim, verdict_of_part

NAN = float("nan")
C1 = Claim(
    "C1", "swap", "The swap is better.", (Part("BYOL+SS", "BYOL", 1, reported={"CUB-200-2011": 0.0066}),)
)


def t(low: float, high: float) -> Interval:
    return Interval(low, high, "t")


@pytest.mark.parametrize(
    ("differences", "interval", "p", "direction", "verdict"),
    [
        ([], None, NAN, 1, "not tested"),
        ([0.3], None, NAN, 1, "inconclusive"),  # one seed, however large
        ([0.02, 0.03], t(0.01, 0.04), 0.01, 1, "reproduced"),
        ([-0.02, -0.03], t(-0.04, -0.01), 0.01, -1, "reproduced"),
        ([0.02, 0.03], t(0.01, 0.04), 0.08, 1, "same direction"),  # not after correction
        ([0.02, 0.03], t(-0.05, 0.1), 0.2, 1, "same direction"),
        ([0.02, -0.01], t(-0.05, 0.1), 0.7, 1, "inconclusive"),
        ([-0.02, -0.03], t(-0.1, 0.05), 0.2, 1, "inconclusive"),
        ([-0.02, -0.03], t(-0.04, -0.01), 0.01, 1, "not reproduced"),
        ([0.02, 0.02], t(0.02, 0.02), NAN, 1, "same direction"),  # no spread, no test
        ([0.0, 0.02], t(-0.2, 0.2), 0.5, 1, "inconclusive"),
    ],
)
def test_verdicts_of_parts(
    differences: list[float], interval: Interval | None, p: float, direction: int, verdict: str
) -> None:
    assert verdict_of_part(differences, interval, p, direction) == verdict
    # A verdict does not depend on which row is written first.
    turned = None if interval is None else t(-interval.high, -interval.low)
    assert verdict_of_part([-d for d in differences], turned, p, -direction) == verdict


def test_an_effect_far_below_the_reported_one_contradicts_it_only_at_its_own_scale() -> None:
    small: dict[str, Any] = {"differences": [0.002, 0.003], "interval": t(0.001, 0.004), "p_adjusted": 0.01}
    assert verdict_of_part(**small, direction=1, reported=0.02) == "reproduced"
    assert verdict_of_part(**small, direction=1, reported=0.02, comparable=True) == "not reproduced"
    assert verdict_of_part(**small, direction=1, reported=0.005, comparable=True) == "reproduced"
    turned: dict[str, Any] = {
        "differences": [-0.002, -0.003],
        "interval": t(-0.004, -0.001),
        "p_adjusted": 0.01,
    }
    assert verdict_of_part(**turned, direction=-1, reported=-0.02, comparable=True) == "not reproduced"


def test_no_difference_has_to_be_shown_and_is_not_the_absence_of_a_finding() -> None:
    assert verdict_of_part([0.01, -0.01], t(-0.1, 0.1), 0.9, 0, margin=0.003) == "inconclusive"
    assert verdict_of_part([0.001, -0.001], t(-0.002, 0.002), 0.9, 0, margin=0.003) == "reproduced"
    assert verdict_of_part([0.05, 0.051], t(0.04, 0.06), 0.01, 0, margin=0.003) == "not reproduced"
    assert verdict_of_part([0.001], None, NAN, 0, margin=0.003) == "inconclusive"


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        (["not tested", "not tested"], "not tested"),
        (["reproduced", "reproduced"], "reproduced"),
        (["reproduced", "not tested"], "same direction"),
        (["reproduced", "same direction"], "same direction"),
        (["same direction", "not tested", "not tested"], "inconclusive"),  # too few of its parts
        (["reproduced", "inconclusive"], "inconclusive"),
        (["reproduced", "reproduced", "not reproduced"], "not reproduced"),
    ],
)
def test_verdicts_of_claims(parts: list[Any], verdict: str) -> None:
    assert verdict_of_claim(parts) == verdict


def test_evidence_is_ranked_without_a_look_at_verdicts() -> None:
    base: dict[str, Any] = {
        "fresh": True,
        "comparable": False,
        "parts": 2,
        "repeated": 1,
        "seen": 20_000,
        "planned": False,
        "whole": False,
        "seeds": 3,
    }
    orders = (
        {"comparable": True},
        {"repeated": 2},
        {"parts": 3},
        {"planned": True},
        {"seen": 100_000},
        {"whole": True},
        {"seeds": 4},
    )
    for better in orders:
        assert rank(**base | better) > rank(**base)
    assert rank(**base) > rank(**base | {"fresh": False, "seen": 1e9, "seeds": 99, "comparable": True})
    assert rank(**base | {"seen": 40_000}) > rank(**base | {"seeds": 9})
    assert rank(**base | {"parts": 3}) > rank(**base | {"planned": True, "seen": 40_000, "whole": True})
    assert rank(**base | {"planned": True}) > rank(**base | {"seen": 40_000, "whole": True, "seeds": 9})


def test_claims_are_the_paper_s_and_reported_numbers_its_tables() -> None:
    known = {claim.key: claim for claim in claims()}
    assert list(known) == [f"C{number}" for number in range(1, 9)]
    points = {
        key: {part.rows: {name: round(100 * value, 2) for name, value in part.reported.items()}
              for part in claim.parts}
        for key, claim in known.items()
    }  # fmt: skip
    cub = "CUB-200-2011"
    assert points["C1"] == {"BYOL+SS − BYOL": {cub: 0.66}, "MoCo.v2+SS − MoCo.v2": {cub: 1.17}}
    assert [each[cub] for each in points["C2"].values()] == [0.83, 0.88]
    assert points["C3"]["BYOL+SS at 0.08 − BYOL"] == {cub: -0.01}
    assert len(points["C3"]) == 7 and "BYOL+CVSA at 0.5 − BYOL+CVSA at 0.8" in points["C3"]
    assert list(points["C4"]["BYOL+CVSA − BYOL"].values()) == [2.03, 1.21, 1.95, 1.58]
    assert len(points["C4"]) == 9 and min(min(each.values()) for each in points["C4"].values()) > 0
    assert len(points["C5"]) == 6 and all(each[cub] > 0 and len(each) == 1 for each in points["C5"].values())
    assert list(points["C6"]["BYOL → BYOL − BYOL alone"].values()) == [-0.54, -0.47, -1.20, -0.87]
    assert list(points["C6"]["BYOL → BYOL+CVSA − BYOL alone"].values()) == [0.59, 1.28, 1.04, 0.77]
    assert not any(part.reported for key in ("C7", "C8") for part in known[key].parts)
    assert {part.direction for part in known["C8"].parts} == {-1}
    for claim in claims():  # the authors' numbers lie on the side that the claim names
        for part in claim.parts:
            assert all(value * part.direction > 0 for value in part.reported.values()) or part.direction == 0


def test_claims_speak_of_rows_that_exist() -> None:
    for claim in claims():
        for part in claim.parts:
            for name in (part.row, part.against):
                for row in name.split(" at ")[0].removesuffix(" → none").split(" → "):
                    assert row in ROWS


def finetuned(number: int, row: str, seed: int, share: float, root: Path, **trained: Any) -> Runs:
    """A pre-training and its fine-tuning, without a file of decisions."""
    first, second = f"{number:06x}aaaaaa", f"{number:06x}bbbbbb"
    config = {"dataset": "synthbirds", "backbone": "resnet_slim", "epochs": 20, "swap_scale": 0.5} | trained
    shared: dict[str, Any] = {"row": row, "seed": seed, "stage2": row}
    metrics = {"val_accuracy": share, "test_swapped_accuracy": share - 0.1}
    return [
        (root / first, example_record(kind="pretrain", run_id=first, config=config, metrics={"loss": 1.0},
                                      counts={"train_images": 1000}, **shared)),
        (root / second, example_record(run_id=second, parents=[first], config={}, metrics=metrics, **shared)),
    ]  # fmt: skip


def pairs(differences: list[float], root: Path, start: int = 0, **trained: Any) -> Runs:
    """BYOL at 0.5 and BYOL+SS above it by the given differences, a seed each."""
    runs: Runs = []
    for seed, difference in enumerate(differences):
        runs += finetuned(start + 2 * seed, "BYOL", seed, 0.5 + 0.01 * seed, root, **trained)
        runs += finetuned(
            start + 2 * seed + 1, "BYOL+SS", seed, 0.5 + 0.01 * seed + difference, root, **trained
        )
    return runs


def sources(
    root: Path, live: Runs, stale: tuple[str, ...] = (), dials: tuple[str, ...] = (), **committed: Runs
) -> Sources:
    """Records at hand, all fresh but those of the sets named stale."""
    ablations = {name: Ablation(name, [], [], [], []) for name in dials}
    found = Sources(root, "tiny", Grid("tiny", ablations=ablations), live, committed)
    states = {record.run_id: Freshness("fresh") for runs in found.sets.values() for _, record in runs}
    states |= {record.run_id: Freshness("stale", ["x"]) for name in stale for _, record in found.sets[name]}
    found.__dict__["fresh"] = states
    return found


def test_evidence_by_hand(tmp_path: Path) -> None:
    live = pairs([0.02, 0.03, 0.025], tmp_path)
    (tested,) = ledger(sources(tmp_path, live), [C1])["C1"]
    each = tested.evidence[0]
    assert each.differences == pytest.approx((0.02, 0.03, 0.025)) and each.seeds == (0, 1, 2)
    assert each.interval is not None and each.interval.low > 0 and each.p_adjusted == each.p < 0.05
    assert each.verdict == tested.verdict == "reproduced" and not tested.stale
    assert tested.scale == "SynthBirds, resnet-slim, 1,000 images, 20 epochs, tested on 1,000"
    assert len(each.runs) == 6 and set(each.runs) < {record.run_id for _, record in live}


def test_many_parts_make_one_finding_less_sure(tmp_path: Path) -> None:
    live = pairs([0.03, 0.05, 0.035], tmp_path)
    rest = tuple(Part(f"row {number}", "BYOL", 1) for number in range(9))
    for number in range(9):
        for seed, noise in enumerate((0.1, -0.1, 0.02)):
            live += finetuned(100 + 10 * number + seed, f"row {number}", seed, 0.5 + noise, tmp_path)
    runs = run_sets(sources(tmp_path, live))[0]
    alone, among = judge(runs, [C1])[0], judge(runs, [C1, Claim("C9", "", "", rest)])[0]
    assert alone.verdict == "reproduced" and alone.evidence[0].p == among.evidence[0].p < 0.05
    assert among.evidence[0].p_adjusted > 0.05 and among.verdict == "same direction"


def test_stale_sets_rank_after_fresh_ones_and_repeated_runs_are_named(tmp_path: Path) -> None:
    live = pairs([0.02, 0.03], tmp_path)
    more = pairs([0.01, -0.03, 0.02], tmp_path, 40, epochs=100)
    again = pairs([0.02, 0.03], tmp_path, 80)
    found = ledger(sources(tmp_path, live, ("more",), more=more, pilot=again), [C1])["C1"]
    assert [each.runs.name for each in found] == ["tiny", "pilot", "more"]
    assert [each.stale for each in found] == [False, False, True]
    assert found[1].repeats == "this build (`tiny`)" and not found[0].repeats + found[2].repeats
    fresh = ledger(sources(tmp_path, live, more=more), [C1])["C1"]
    assert [each.runs.name for each in fresh] == ["more", "tiny"], "more images seen come first"
    assert verdict_of(fresh) == "inconclusive" and verdict_of([]) == "not tested"


def test_what_starts_from_a_stale_run_is_stale(tmp_path: Path) -> None:
    found = sources(tmp_path, pairs([0.02, 0.03], tmp_path))
    first = found.live[0][1]
    found.fresh[first.run_id] = Freshness("stale", ["x"])
    assert ledger(found, [C1])["C1"][0].stale


def test_variants_of_a_set_are_no_evidence_but_scales_are(tmp_path: Path) -> None:
    live = pairs([0.02, 0.03], tmp_path)
    live += finetuned(60, "BYOL+SS", 0, 0.9, tmp_path, swap_probability=0.25)
    live += finetuned(61, "BYOL+SS", 0, 0.4, tmp_path, swap_scale=0.08)
    table = named(live, ["swap_probability", "swap_scale"])
    part = table[table["metric"] == TOP1]
    assert part[part["row"] == "BYOL+SS"]["value"].tolist() == pytest.approx([0.52, 0.54])
    assert part[part["row"] == "BYOL+SS at 0.08"]["value"].tolist() == [0.4]
    unknown = named(live)
    twice = unknown[(unknown["metric"] == TOP1) & (unknown["row"] == "BYOL+SS")]
    assert twice["seed"].tolist() == [1], "of two runs that cannot be told apart neither counts"
    lost = table[(table["metric"] == "finetune.swap_loss") & (table["row"] == "BYOL")]["value"]
    assert lost.tolist() == pytest.approx([0.1, 0.1])


def test_dual_stages_have_names_of_their_own(tmp_path: Path) -> None:
    runs: Runs = [
        (tmp_path, example_record(run_id="1" * 12, stage1="BYOL on scenes", stage2=None)),
        (tmp_path, example_record(run_id="2" * 12, stage1="BYOL on scenes", stage2="BYOL+CVSA")),
    ]
    assert set(named(runs)["row"]) == {"BYOL → none", "BYOL → BYOL+CVSA"}
    assert named([]).empty


def test_what_speaks_against_a_claim_is_not_hidden(tmp_path: Path) -> None:
    (tested,) = ledger(sources(tmp_path, pairs([-0.02, -0.09], tmp_path)), [C1])["C1"]
    assert tested.verdict == "inconclusive" and contradicted(tested) == list(C1.parts)
    (single,) = ledger(sources(tmp_path, pairs([-0.2], tmp_path)), [C1])["C1"]
    assert single.verdict == "inconclusive" and contradicted(single) == []


def test_only_the_authors_data_with_their_network_compare_sizes(tmp_path: Path) -> None:
    def found(**trained: Any) -> evidence.Tested:
        return ledger(sources(tmp_path, pairs([0.001, 0.0011, 0.0012], tmp_path, **trained)), [C1])["C1"][0]

    assert found(dataset="cub200", backbone="resnet50").verdict == "not reproduced"
    assert found(dataset="cub200").verdict == "reproduced"
    assert evidence.AUTHORS["cub200"] in C1.parts[0].reported


def test_no_run_is_no_difference(tmp_path: Path) -> None:
    assert ledger(sources(tmp_path, []), claims()) == {claim.key: [] for claim in claims()}
    assert np.isnan(evidence.Evidence().mean)


def test_fine_tuning_with_about_as_many_labels_as_theirs_is_a_set_of_its_own(tmp_path: Path) -> None:
    runs = [pair for pair in pairs([0.02, 0.03], tmp_path) if pair[1].kind == "pretrain"]
    trained = [record for _, record in runs]
    for number, (share, gain) in enumerate(((1.0, 0.0), (0.375, 0.1), (0.125, 0.2))):
        for place, parent in enumerate(trained):
            key = f"{number:05x}{place:06x}c"
            runs.append((tmp_path / key, example_record(
                run_id=key, parents=[parent.run_id], row=parent.row, seed=parent.seed, stage2=parent.row,
                config={"label_fraction": share}, counts={"train_images": int(4000 * share), "classes": 50},
                metrics={"test_accuracy": 0.5 + gain * (parent.row != "BYOL")},
            )))  # fmt: skip
    found = {each.label: each for each in run_sets(sources(tmp_path, [], small_cpu=runs))}
    assert list(found) == [
        "committed `small_cpu`",
        "committed `small_cpu`, fine-tuned with 30 labels a class",
    ]
    few = found["committed `small_cpu`, fine-tuned with 30 labels a class"]
    usual = found["committed `small_cpu`"]
    assert few.a_class == 30 and few.few and not few.whole
    assert usual.a_class == 80 and usual.whole and not usual.few
    (tested,) = judge(few, [C1])
    assert tested.evidence[0].differences == pytest.approx((0.1, 0.1))
    assert tested.rank < judge(usual, [C1])[0].rank, "of sets alike the one with all labels"


def test_a_planned_set_s_own_share_of_the_labels_is_the_whole(tmp_path: Path) -> None:
    runs = [
        (folder, record.model_copy(update={
            "preset": "confirm", "config": {**record.config, "label_fraction": 0.375},
            "counts": {"train_images": 1500, "classes": 50},
        }))
        for folder, record in pairs([0.02, 0.03], tmp_path)
    ]  # fmt: skip
    (found,) = run_sets(sources(tmp_path, [], confirm=runs))
    assert (
        found.planned
        and found.whole
        and found.few
        and found.label == "committed `confirm`, fine-tuned with 30 labels a class"
    )
    assert judge(found, [C1])[0].evidence[0].differences == pytest.approx((0.02, 0.03))
