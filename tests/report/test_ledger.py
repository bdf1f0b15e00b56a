"""The ledger's pages: tables, sentences and figures from records with known numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from tests_support import example_record

from cvsa.freshness import Freshness
from cvsa.grid import Grid
from cvsa.methods.catalogue import TABLES
from cvsa.records import Runs
from cvsa.report import ledger, ledger_scale, ledger_tables
from cvsa.report.claims import claims
from cvsa.report.evidence import ledger as judge_all
from cvsa.report.evidence import run_sets
from cvsa.report.ledger_figures import forest
from cvsa.report.page import Page
from cvsa.report.sources import Sources
from cvsa.report.tables import TOP1
from cvsa.report.verdicts import VERDICTS

CUB, CARS = "CUB-<br>200-2011<br><small>reported</small>", "Stanford-<br>Cars<br><small>reported</small>"
OURS = "SynthBirds,<br>this build (`tiny`)<br><small>resnet-slim,<br>20 epochs</small>"


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty figures in place of the eight forest plots, whose drawing takes seconds."""
    monkeypatch.setattr(ledger, "forest", lambda *_: Figure(figsize=(1, 1)))


class Maker:
    """Pre-trainings and fine-tunings of an own run id each."""

    def __init__(self, root: Path) -> None:
        self.root, self.number = root, 0

    def run(
        self, row: str, seed: int, share: float, first: str | None = None, second: bool = True, **config: Any
    ) -> Runs:
        """A row after a first stage of another or without; or, without a second, that first stage alone."""
        self.number += 1
        ids = [f"{self.number:011x}{letter}" for letter in "ab"]
        config = {
            "dataset": "synthbirds",
            "backbone": "resnet_slim",
            "epochs": 20,
            "swap_scale": 0.5,
        } | config
        shared: dict[str, Any] = {
            "row": row, "seed": seed, "stage1": f"{first} on synthscenes" if first else None,
            "stage2": row if second and row != "Random" else None,
        }  # fmt: skip
        tuned = {"val_accuracy": share, "test_swapped_accuracy": share - 0.2}
        counts = {"train_images": 1000}
        return [
            (self.root / ids[0], example_record(
                kind="pretrain", run_id=ids[0], config=config, metrics={"loss": 1}, counts=counts, **shared)),
            (self.root / ids[1], example_record(
                run_id=ids[1], parents=ids[:1], config={}, metrics=tuned, **shared)),
        ]  # fmt: skip

    def seeds(self, row: str, *shares: float, **given: Any) -> Runs:
        """One run a share, of seeds 0, 1, 2 and so on."""
        return [pair for seed, share in enumerate(shares) for pair in self.run(row, seed, share, **given)]


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path / "runs")


def sources(root: Path, live: Runs, **committed: Runs) -> Sources:
    found = Sources(root, "tiny", Grid("tiny"), live, committed)
    runs = [record for runs in found.sets.values() for _, record in runs]
    found.__dict__["fresh"] = {record.run_id: Freshness("fresh") for record in runs}
    return found


def table(folder: Path, name: str, keys: int = 1) -> dict[str, dict[str, str]]:
    """A Markdown table: the first cells, joined -> heading -> cell."""
    head, _, *rows = (folder / "tables" / f"{name}.md").read_text().strip().splitlines()
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, *rows)]
    return {
        " → ".join(cells[:keys]): dict(zip(split[0][keys:], cells[keys:], strict=True)) for cells in split[1:]
    }


def several(maker: Maker) -> Runs:
    """Rows whose differences from BYOL are known."""
    return [
        *maker.seeds("BYOL", 0.50, 0.52, 0.54), *maker.seeds("BYOL+SS", 0.52, 0.545, 0.562),
        *maker.seeds("BYOL+CVSA", 0.51, 0.50, 0.60), *maker.seeds("Random", 0.30, 0.31, 0.32),
        *maker.seeds("MoCo.v2", 0.40), *maker.seeds("MoCo.v2+SS", 0.45),
    ]  # fmt: skip


@pytest.mark.usefixtures("no_figures")
def test_the_ledger_lists_every_claim_with_a_verdict(maker: Maker, tmp_path: Path) -> None:
    page = Page(tmp_path)
    ledger.draw(page, sources(tmp_path, several(maker)))
    every = table(tmp_path, "ledger")
    shown = {name.partition("<br>")[0]: cells for name, cells in every.items()}
    assert [name.split()[0] for name in shown] == [f"**C{number}**" for number in range(1, 9)]
    assert {cells["verdict"].split("**")[1] for cells in shown.values()} <= set(VERDICTS)
    assert next(iter(every)).endswith("<small>this build (`tiny`)</small>")
    first = shown["**C1** Saliency Swap beats random crops"]
    assert (
        first["reported"] == "+0.66" and first["ours"].startswith("**+2.2**<br>[") and "(t)" in first["ours"]
    )
    notes = ("2 of 2 parts:", "1 reproduced", "1 inconclusive")
    assert first["verdict"] == "**inconclusive**" + "".join(f"<br><small>{note}</small>" for note in notes)
    assert shown["**C7** CVSA looks at the object"]["verdict"].startswith("**not tested**")
    parts = (tmp_path / "tables" / "ledger_c1.md").read_text().splitlines()[2:]
    assert "| reproduced |" in parts[0] and "| inconclusive |" in parts[1] and "one seed" in parts[1]
    assert page.numbers["ledger.C1.verdict"]["text"] == "inconclusive"
    assert sum(int(page.numbers[f"ledger.count.{verdict}"]["text"]) for verdict in VERDICTS) == 8
    for key in ("tables/ledger_c1.md", "figures/ledger_c1.svg", "text/ledger_c1.md"):
        assert len(page.drawn[key].runs) == 8, "both rows of both parts, in all their seeds"
    assert page.drawn["tables/ledger_c7.md"].runs == ()


def test_sentences_tell_what_a_verdict_hides(maker: Maker, tmp_path: Path) -> None:
    live = [*maker.seeds("BYOL", 0.50, 0.52), *maker.seeds("BYOL+SS", 0.40, 0.51)]
    live += [*maker.seeds("MoCo.v2", 0.4), *maker.seeds("MoCo.v2+SS", 0.3)]
    found = judge_all(sources(tmp_path, live), claims())
    every = [tested for of_claim in found.values() for tested in of_claim]
    claimed, verdict, contrary, single, needed = ledger.sentences(claims()[0], found["C1"], every)
    assert claimed.startswith("Claimed [A]: Views made by Saliency Swap")
    assert (
        verdict.startswith("**Inconclusive**, by this build (`tiny`): SynthBirds")
        and "1 to 2 seeds" in verdict
    )
    assert "2 tested: 2 inconclusive" in verdict
    assert (
        contrary == "Against the claim, separated or in every one of several seeds: "
        "BYOL+SS − BYOL (-10.0, -1.0; inconclusive)."
    )
    assert "1 of the parts, of which 0 fell on the side of the claim and 1 did not" in single
    assert "0.66 to 1.17 points" in needed and "pooled over one difference" in needed
    assert "spread by 6.4 points" in needed  # the standard deviation of -10 and -1
    shown = ledger.parts_table(claims()[0], found["C1"])
    assert shown["verdict"].tolist() == [
        "inconclusive<br><small>every seed<br>against it</small>",
        "inconclusive",
    ]
    nothing = ledger.sentences(claims()[6], [], every)
    assert nothing[1:] == ["**Not tested**: no set of runs has both rows of any part."]


def test_stale_runs_and_repeated_ones_are_marked(maker: Maker, tmp_path: Path) -> None:
    live, again = several(maker), several(maker)
    given = sources(tmp_path, live, pilot=again)
    given.fresh.update({record.run_id: Freshness("stale", ["x"]) for _, record in again})
    tested = judge_all(given, claims())["C1"]
    runs = ledger.parts_table(claims()[0], tested)["difference,<br>by which runs"]
    assert runs[0] == "BYOL+SS<br>− BYOL<br><small>this build (`tiny`)</small>"
    assert runs[1] == (
        "BYOL+SS<br>− BYOL<br><small>committed<br>`pilot`<br>older code<br>"
        "same numbers as this build (`tiny`)</small>"
    )
    every = [each for each in tested if each.runs.live]
    assert "the same numbers as this build" in ledger.sentences(claims()[0], tested, every)[-1]


def test_forest_plots_stay_narrow_and_show_what_is_missing(maker: Maker, tmp_path: Path) -> None:
    tested = judge_all(sources(tmp_path, several(maker)), claims())
    for claim in claims():
        figure = forest(claim, tested[claim.key][0] if tested[claim.key] else None)
        assert figure.get_figwidth() <= 5.5
        axis = figure.axes[0]
        assert len(axis.get_yticklabels()) == len(claim.parts)
        untested = sum(text.get_text().strip() == "not tested" for text in axis.texts)
        having = len(tested[claim.key][0].tested) if tested[claim.key] else 0
        assert untested == len(claim.parts) - having


def test_table_1_puts_ours_beside_theirs(maker: Maker, tmp_path: Path) -> None:
    live = several(maker)
    more = [*maker.seeds("BYOL", 0.9, epochs=100), *maker.seeds("Random", 0.8), *maker.seeds("BYOL+SS", 0.7),
            *maker.seeds("SimCLR", 0.6, epochs=100)]  # fmt: skip
    more[0][1].config["epochs"] = 100
    ledger_tables.draw(Page(tmp_path), sources(tmp_path, live, more=more, few=maker.seeds("BYOL", 0.1)))
    found = table(tmp_path, "table_1")
    assert list(found) == [*(row for _, row in TABLES["second_stage_only"]), "MoCo.v2+SS", "BYOL+SS"]
    line = found["BYOL"]
    assert line[CUB] == "64.85<br><small>+6.34</small>" and found["Random"][CUB] == "58.51"
    assert found["BYOL+SS"][CUB] == "64.20\\*<br><small>+0.66</small>" and found["BYOL+SS"][CARS] == "–"
    assert line[OURS].startswith("**52.0**<br>[") and "50.0, 52.0,<br>54.0" in line[OURS]
    assert "<small>+21.0<br>[" in line[OURS], "against no pre-training"
    assert line["verdict"].startswith("reproduced") and found["Random"]["verdict"] == "–"
    assert found["LooC"][OURS] == "–" and found["LooC"]["verdict"] == "not tested"
    assert any("committed<br>`more`" in heading for heading in line)
    assert not any("`few`" in heading for heading in line), "too few of the rows for a column"
    again = {name: maker.seeds("BYOL", 0.9) + maker.seeds("Random", 0.8) + maker.seeds("SimCLR", 0.7)
             + maker.seeds("LooC", 0.6) for name in ("more", "small_cpu")}  # fmt: skip
    ledger_tables.draw(Page(tmp_path), sources(tmp_path, live, **again))
    ours = [heading for heading in table(tmp_path, "table_1")["BYOL"] if "SynthBirds" in heading]
    assert len(ours) == 1 and "`small_cpu`" in ours[0], "the main set alone, where there is one"


def test_table_2_keeps_the_stages_apart(maker: Maker, tmp_path: Path) -> None:
    live = [
        *maker.seeds("BYOL", 0.1),  # second stage only: no part of this table
        *maker.seeds("BYOL", 0.3, first="BYOL", second=False), *maker.seeds("BYOL", 0.2, first="BYOL"),
        *maker.seeds("BYOL+CVSA", 0.7, first="BYOL"), *maker.seeds("BYOL+DiLo", 0.6, first="BYOL"),
    ]  # fmt: skip
    ledger_tables.draw(Page(tmp_path), sources(tmp_path, live))
    found = table(tmp_path, "table_2", 2)
    assert list(found) == [f"{first} → {second or '–'}" for first, second in TABLES["dual_stage"]]
    ours = next(heading for heading in found["BYOL → –"] if "this build" in heading)
    shown = {line: found[line][ours][2:6] for line in ("BYOL → –", "BYOL → BYOL", "BYOL → BYOL+CVSA")}
    assert shown == {"BYOL → –": "30.0", "BYOL → BYOL": "20.0", "BYOL → BYOL+CVSA": "70.0"}
    assert found["BYOL → BYOL"][ours].endswith("<small>-10.0</small>")
    assert found["BYOL → –"][CUB] == "68.55" and found["BYOL → BYOL"][CUB] == "68.01<br><small>-0.54</small>"
    assert found["MoCo.v2 → –"][CUB] == "68.47" and found["MoCo.v2 → MoCo.v2"]["verdict"] == "not tested"
    assert found["BYOL → BYOL"]["verdict"].startswith("inconclusive")
    assert found["Rel-Loc → Rel-Loc"]["verdict"] == "–", "no first stage alone was reported"


def test_every_line_has_the_base_that_the_authors_compare_with() -> None:
    base = {
        ledger_tables.row_name(line): ledger_tables.base_of(line)
        for lines in TABLES.values()
        for line in lines
    }
    assert base["BYOL+CVSA"] == base["BYOL+SS"] == base["BYOL+DiLo"] == (None, "BYOL")
    assert (
        base["MoCo.v2+SS"] == (None, "MoCo.v2")
        and base["BYOL"] == (None, "Random")
        and base["Random"] is None
    )
    assert base["BYOL → BYOL+CVSA"] == ("BYOL", None) and base["BYOL → none"] is None


def scales(maker: Maker, **shares: tuple[float, ...]) -> Runs:
    """BYOL+SS at scales named s8 (0.08), s50 and s80, a share a seed."""
    runs = maker.seeds("BYOL", 0.60, 0.62)
    for name, values in shares.items():
        runs += maker.seeds("BYOL+SS", *values, swap_scale=int(name[1:]) / 100)
    return runs


def test_the_scale_ablation_uses_the_seeds_that_all_scales_have(maker: Maker, tmp_path: Path) -> None:
    runs = scales(maker, s8=(0.5,), s50=(0.7, 0.1), s80=(0.6,))
    given = sources(tmp_path, runs)
    part = ledger_scale.measured(run_sets(given)[0])
    assert sorted(part.loc[part["row"] == "BYOL+SS", "percent"]) == pytest.approx([50, 60, 70])
    assert part.loc[part["row"] == "BYOL", "percent"].tolist() == pytest.approx([60])
    ledger_scale.draw(Page(tmp_path), given)
    written = (tmp_path / "tables" / "scale_ablation.md").read_text().splitlines()[2:]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in written]
    ours = {line[1]: line[3] for line in lines if line[0] == "BYOL+SS"}
    assert {scale: cell for scale, cell in ours.items() if cell != "–"} == {
        scale: f"**{value}**<br><small>one seed</small>"
        for scale, value in {"no swap": "60.0", "0.08": "50.0", "0.5": "70.0", "0.8": "60.0"}.items()
    }
    assert {line[3] for line in lines if line[0] in ("BYOL+CVSA", "MoCo.v2+SS")} == {"–"}
    assert ["BYOL+SS", "no swap", "63.54"] in [line[:3] for line in lines]
    text = (tmp_path / "text" / "scale.md").read_text()
    assert "highest at 0.5 of 0.08, 0.5 and 0.8; the means span 20.0 points, with one seed" in text
    assert "The authors' line is highest at 0.5 of the same scales and spans 0.67." in text
    assert "**C3**, a middle scale is best: inconclusive, by this build" in text


def test_two_seeds_show_how_far_chance_moves_a_point(maker: Maker, tmp_path: Path) -> None:
    given = sources(tmp_path, [], ablations=scales(maker, s8=(0.5, 0.52), s50=(0.7, 0.6)))
    (runs,) = run_sets(given)
    sets = {runs: ledger_scale.measured(runs)}
    untested: dict[str, Any] = {claim.key: [] for claim in claims()}
    first = ledger_scale.sentences(sets, untested)[0]
    assert "where two seeds at one scale lie up to 10.0 points apart" in first
    figure = ledger_scale.panels(sets)
    assert [axis.get_title() for axis in figure.axes] == [
        "reported, CUB-200-2011", "committed ablations, SynthBirds, 2 seeds",
    ]  # fmt: skip


@pytest.mark.usefixtures("no_figures")
def test_without_any_runs_everything_is_reported_only(tmp_path: Path) -> None:
    page, given = Page(tmp_path), sources(tmp_path, [])
    for module in (ledger, ledger_tables, ledger_scale):
        module.draw(page, given)
    assert page.numbers["ledger.count.not tested"]["text"] == "8"
    assert "No set of runs has a row at two scales." in (tmp_path / "text" / "scale.md").read_text()
    assert table(tmp_path, "table_1")["BYOL"][CUB].startswith("64.85")


def test_the_book_shows_all_that_is_drawn() -> None:
    book = Path(__file__).parents[2] / "book"
    text = "".join((book / name).read_text() for name in ("ledger.md", "tables.md", "scale.md"))
    for claim in claims():
        for kind, suffix in (("tables", "md"), ("text", "md"), ("figures", "svg")):
            assert f"_generated/{kind}/ledger_{claim.key.lower()}.{suffix}" in text
        assert f"## {claim.key}: {claim.short}".lower() in text.lower()


def test_spread_is_pooled_over_differences_counted_once(maker: Maker, tmp_path: Path) -> None:
    found = judge_all(sources(tmp_path, several(maker)), claims())
    every = [tested for of_claim in found.values() for tested in of_claim]
    metric = TOP1
    spread, count = ledger.pooled_spread(every, metric)
    differences = {
        (p.row, p.against): e.differences
        for t in every
        for p, e in t.tested
        if len(e.seeds) > 1 and p.metric == metric
    }
    assert count == len(differences) == 4
    assert spread**2 == pytest.approx(sum(pd.Series(each).var() for each in differences.values()) / 4)
    assert ledger.pooled_spread([replace(each) for each in every] + every, metric) == (spread, count)
