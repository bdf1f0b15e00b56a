"""The chapter on what a step costs, from made-up measurements: tables by hand, sentences, what is missing."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from benchmarks_support import contender, example_speed

from cvsa.errors import CVSAError
from cvsa.grid import Grid
from cvsa.report import speed, speed_figures, speed_text
from cvsa.report.page import Page
from cvsa.report.sections import SECTIONS
from cvsa.report.sources import Sources
from cvsa.report.speed_readme import BEGIN, END, table, update
from cvsa.report.speed_records import FOLDER, Speed, read_speeds, write_speed

BOOK = Path(__file__).parents[2] / "book"
GPU = {"device": "cuda:0", "gpu": "a GPU", "cpu": "a CPU", "threads": 16, "precision": "bf16"}
DRAWN = {
    *(f"tables/speed_{name}.md" for name in ("rates", "views", "search", "machines")),
    *(f"text/speed_{name}.md" for name in ("state", "limits", "growth")),
    *(f"figures/speed_{name}.svg" for name in ("roof", "parts", "growth")),
}


def drawn(root: Path, *measured: Speed) -> Page:
    for each in measured:
        write_speed(each, root / FOLDER / f"{each.name}.json")
    page = Page(root / "generated")
    speed.draw(page, Sources(root, "tiny", Grid("tiny"), []))
    return page


def on_gpu(**changes: object) -> Speed:
    return example_speed(
        **{"name": "gpu-resnet18-128-a", "setting": "gpu-resnet18-128", "hardware": GPU, **changes}
    )


def test_everything_is_drawn_and_the_page_shows_it(tmp_path: Path) -> None:
    page = drawn(tmp_path, example_speed(), on_gpu())
    assert set(page.drawn) == DRAWN
    chapter = (BOOK / "speed.md").read_text(encoding="utf-8")
    for key in page.drawn:
        assert f"_generated/{key}" in chapter
        assert (tmp_path / "generated" / key).stat().st_size > 20
    (section,) = (section for section in SECTIONS if section.name == "speed")
    assert all(section.may_draw(key) for key in DRAWN) and section.sets == ()
    assert page.numbers["speed.rounds"]["text"] == "2" and page.numbers["speed.seconds"]["text"] == "1"


def test_nothing_measured_is_said_plainly(tmp_path: Path) -> None:
    page = drawn(tmp_path)
    assert set(page.drawn) == DRAWN
    for key in sorted(DRAWN):
        assert "not measured" in (tmp_path / "generated" / key).read_text() or key.endswith(".svg"), key
    assert page.numbers["speed.rounds"]["text"] == "not measured"
    texts = [text.get_text() for text in speed_figures.roofs([]).axes[0].texts]
    assert texts == ["not measured"]


def test_a_gpu_that_was_not_measured_is_named() -> None:
    assert "On a GPU: not measured." in speed_text.state([example_speed()])
    told = speed_text.state([example_speed(), on_gpu()])
    assert not any("not measured" in line for line in told)
    assert "On a GPU: gpu-resnet18-128, a small network; a GPU, bf16." in told


def test_rates_and_ratios_by_hand() -> None:
    table = speed.rates_table([example_speed()]).set_index(["row", "step"])
    ours, kornia = table.loc[("BYOL", "ours")], table.loc[("BYOL", "kornia, decoded in memory")]
    assert ours["images/s"] == "1,300 (800 to 1,800)"
    assert ours["of its ceiling"] == "85 %"  # 80 % and 90 %, not 1,300 of 1,500
    assert ours["ours, times as fast"] == "–" and ours["threads + workers"] == "1"
    assert kornia["ours, times as fast"] == "1.42 (1.33 to 1.50)"
    assert kornia["threads + workers"] == "1 + 2"
    assert table.loc[("BYOL+SS", "ours"), "of its ceiling"] == "85 %"


def test_what_has_no_partner_is_not_measured() -> None:
    alone = example_speed(contenders=[contender("peer", "lightly", "BYOL", "files", 100, feed=(200,))])
    (line,) = speed.rates_table([alone]).to_dict("records")
    assert line["of its ceiling"] == line["ours, times as fast"] == "not measured"
    assert speed_figures.roofs([alone]).axes[0].texts[0].get_text() == "not measured"


def test_views_and_search_tables() -> None:
    views = speed.views_table([example_speed()])
    assert views["views/s"].tolist() == ["9,000 (8,000 to 10,000)", "2,000"]  # two views of a reference
    assert views["ours, times as fast"].tolist() == ["–", "4.50 (4.00 to 5.00)"]
    tried = [{"threads": 1, "workers": 0, "rate": 90.4}, {"threads": 1, "workers": 2, "rate": 1234.0}]
    searched = contender("peer", "lightly", "BYOL", "files", 100, search=tried, workers=2)
    (line,) = speed.search_table([example_speed(contenders=[searched])]).to_dict("records")
    assert (line["1 + 0"], line["1 + 2"]) == ("90", "**1,234**")


def test_sentences_on_what_limits() -> None:
    told = "\n".join(speed_text.limits([example_speed()]))
    assert "cpu-tiny, BYOL: ours reaches 85 % (80 to 90) of its ceiling." in told
    assert "would make it 1.18 times as fast." in told
    assert "of a step's time 21 % make the views, 25 % is momentum, 21 % optimiser." in told
    assert "the views are the limit for lightly, PNG files (0.40)" in told
    assert "workers and network share the cores for kornia, decoded in memory (1.20)." in told
    assert (
        "1.42 (1.33 to 1.50) times the images of kornia, decoded in memory, and 8.50 (8.00 to 9.00) times "
        "those of torchvision, PNG files." in told
    )
    gpu = "\n".join(speed_text.limits([on_gpu()]))
    assert "the network is the limit for kornia" in gpu and "so their sum exceeds the step" in gpu


def test_sentences_on_growth_and_what_is_noise() -> None:
    told = speed_text.growth([example_speed()])
    assert told[0].endswith("images per step, from 4 to 16, to the power 1.00; its memory to the power 2.00.")
    assert "the seconds of the alignment alone" in told[-1]
    point = example_speed().growth[0].model_copy(update={"memory_mib": [0.1, 0.1]})
    assert speed_text.fitted([point])[1] == []
    assert speed_text.growth([example_speed(growth=[])]) == ["What a step's cost grows with: not measured."]


def test_a_partial_record_and_a_busy_machine_are_told() -> None:
    partial = example_speed(complete=False, left_out={"kornia": "not installed"}, growth=[], parts=[])
    told = speed_text.state([partial])
    assert any("`cpu-tiny-a-cpu` is partial" in line for line in told)
    assert any("it got 50 % of the processor's time" in line for line in told)
    assert "`cpu-tiny-a-cpu` lacks kornia: not installed." in told
    assert speed.machines_table([partial])["whole"].tolist() == ["partial"]


def test_figures_have_a_mark_for_everything() -> None:
    figure = speed_figures.roofs([example_speed()])
    assert [axis.get_title() for axis in figure.axes] == ["cpu-tiny: BYOL", "cpu-tiny: MoCo.v2"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:4] == ["ours", "lightly", "torchvision", "kornia"]
    bars = speed_figures.parts([example_speed()]).axes[0].patches
    assert [bar.get_width() for bar in bars] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    titles = [axis.get_title() for axis in speed_figures.growth([example_speed()]).subfigs[0].axes]
    assert titles == ["power 1.00"] * 4 + ["power 2.00"] * 4


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    write_speed(example_speed(), tmp_path / FOLDER / "a.json")
    content = json.loads((tmp_path / FOLDER / "a.json").read_text())
    content["asked_rounds"] = 50
    (tmp_path / FOLDER / "a.json").write_text(json.dumps(content))
    with pytest.raises(CVSAError, match="was edited after it was written"):
        drawn(tmp_path)


# --- the README's table ------------------------------------------------------------------------


def test_the_readme_says_what_the_records_say() -> None:
    text = (BOOK.parent / "README.md").read_text()
    inside = text.partition(BEGIN)[2].partition(END)[0].strip()
    assert inside == table(speed.in_order(read_speeds(BOOK.parent / FOLDER))), (
        "run `python -m benchmarks --readme`"
    )


def test_the_readme_names_the_quickest_peer_and_what_was_not_measured() -> None:
    measured = example_speed()
    line = next(line for line in table([measured]).splitlines() if line.startswith("| BYOL,"))
    best = max(
        (p for p in measured.measured("peer", "BYOL")), key=lambda p: statistics.median(p.rates().values())
    )
    ours = measured.ours("BYOL")
    assert ours is not None and best.library in line
    times = statistics.median(ours.rates()[n] / best.rates()[n] for n in best.rates())
    assert f"| {times:.2f}" in line
    assert table([measured]).endswith("| on a GPU | not measured | | | | |")
    assert table([]).count("not measured") == 2


def test_only_the_marked_part_of_the_readme_changes(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    update(file, [])
    text = file.read_text()
    assert text == f"before\n{BEGIN}\n{table([])}\n{END}\nafter\n"
    file.write_text("nothing")
    with pytest.raises(CVSAError, match="no table to renew"):
        update(file, [])
    assert file.read_text() == "nothing"
