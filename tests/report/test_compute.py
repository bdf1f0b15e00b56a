"""What ran where, and the compute form: sums by hand, and the form's JavaScript against Python."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
from tests_support import example_record

from cvsa.config import PretrainConfig, resolve
from cvsa.errors import CVSAError
from cvsa.grid import Grid
from cvsa.methods.catalogue import TABLES
from cvsa.records import Runs
from cvsa.report import compute, compute_form
from cvsa.report.compute_form import FINE, GENERIC, Plan, form, hours, plan, shown, totals
from cvsa.report.page import Page
from cvsa.report.sources import Sources
from cvsa.throughput import FOLDER, Throughput, read_all

ROOT = Path(__file__).parents[2]
NODE = shutil.which("node")
DAY = datetime(2026, 1, 2, tzinfo=UTC)
CPU = {"device": "cpu", "precision": "fp32", "system": "Linux", "cpu": "a CPU", "cores": 4, "threads": 2}
GPU = {**CPU, "device": "cuda:0", "gpu": "a GPU"}


@pytest.fixture(scope="module")
def needed() -> Plan:
    return plan()


@pytest.fixture(scope="module")
def measured() -> list[Throughput]:
    return read_all(ROOT / FOLDER)


@pytest.fixture
def sets() -> dict[str, Runs]:
    live = [
        example_record(kind="pretrain", run_id="0" * 12, seconds=90, hardware=CPU, images_per_second=100),
        example_record(kind="pretrain", run_id="1" * 12, seconds=30, hardware=CPU, images_per_second=300),
        example_record(kind="finetune", run_id="2" * 12, seconds=60, hardware=CPU, started=DAY, row="Random"),
    ]
    other = [
        example_record(run_id="3" * 12, seconds=60, hardware=GPU, energy_joules=5e3, libraries={"torch": "3"})
    ]
    return {
        name: [(Path(f"{name}/{record.kind}/r{n}"), record) for n, record in enumerate(records)]
        for name, records in {"tiny": live, "other": other}.items()
    }


def test_core_minutes_count_threads_and_device_minutes_do_not(sets: dict[str, Runs]) -> None:
    table = compute.costs(sets)
    assert table["minutes"].tolist() == [3.0, 1.0, 2.0, 1.0]
    lines = compute.sets_table(table).set_index("set")
    assert lines.loc["tiny", ["runs", "pre-training", "probe", "core-minutes"]].tolist() == [3, 2, "–", "6.0"]
    assert lines.loc["tiny", ["when", "on"]].tolist() == ["2026-01-01 to 2026-01-02", "a CPU"]
    assert lines.loc["other", "on"] == "a GPU"


def test_tables_by_kind_row_machine_and_library(sets: dict[str, Runs]) -> None:
    table = compute.costs(sets)
    kinds = compute.kinds_table(table)
    assert kinds["seconds of a run"].tolist() == ["60 (30 to 90)", "60", "60"]
    assert kinds["energy"].tolist() == [compute.UNKNOWN, compute.UNKNOWN, "5.0 kJ"]
    rows = compute.rows_table(table)
    assert rows.to_dict("records") == [{"row": "BYOL", "tiny": "200"}]
    assert compute.machines_table(table)["machine"].tolist() == ["a CPU", "a GPU"]
    assert compute.libraries_table(sets).to_dict("records") == [
        {"library": "torch", "tiny": "2", "other": "3"}
    ]
    assert list(compute.libraries_table({"tiny": sets["tiny"]})) == ["library", "all sets"]


def test_energy_and_gpus_are_stated_only_where_known(
    sets: dict[str, Runs], measured: list[Throughput]
) -> None:
    cpu = compute.costs({"tiny": sets["tiny"]})
    told = compute.devices(cpu, measured)
    assert told[0] == "No GPU was measured: all 3 runs ran on CPUs."
    assert any("not reported by the device" in line for line in told)
    assert "energy" not in compute.kinds_table(cpu)
    told = compute.devices(compute.costs(sets), [])
    assert told == ["1 of 4 runs used a GPU: a GPU.", "Energy of 1 of 4 runs: 5.0 kJ."]


def test_draw_names_its_sources(sets: dict[str, Runs], tmp_path: Path) -> None:
    page = Page(tmp_path)
    sources = Sources(ROOT, "tiny", Grid("tiny"), sets["tiny"], {"other": sets["other"]})
    compute.draw(page, sources)
    for key, drawn in page.drawn.items():
        assert (tmp_path / key).is_file()
        expected = {
            "figures/compute_seconds.svg": 3,
            "tables/compute_steps.md": 0,
            "html/compute_form.html": 0,
        }
        assert len(drawn.runs) == expected.get(key, 4), key
    assert page.numbers["compute.runs"]["text"] == "4"


def test_without_a_measurement_the_command_is_named(sets: dict[str, Runs], tmp_path: Path) -> None:
    with pytest.raises(CVSAError, match="Run `cvsa throughput --preset paper`"):
        compute.draw(Page(tmp_path), Sources(tmp_path, "tiny", Grid("tiny"), sets["tiny"]))
    with pytest.raises(CVSAError, match="No runs"):
        compute.draw(Page(tmp_path), Sources(tmp_path, "tiny", Grid("tiny"), []))


def test_plan_by_hand(needed: Plan) -> None:
    epochs = resolve(PretrainConfig, row="BYOL", preset="paper").epochs
    assert needed.images["cub200"] == round(5994 * 0.9)
    assert needed.rows["BYOL"][0] == 8 * needed.images["cub200"] * epochs
    assert needed.rows["BYOL"][0] == 2 * needed.rows["MoCo.v2"][0]
    assert needed.rows["Random"] == [0.0] * len(FINE)
    assert needed.finetune[1] == 3 * needed.images["nabirds"] * 200
    assert needed.first["BYOL"][0] == 8 * needed.images["coco"] * epochs
    assert needed.scales == 8
    assert set(needed.first) == {first for first, _ in TABLES["dual_stage"]}
    assert hours(3 * 3600 * 50, 50) == 1  # 3 passes an image and 50 images/s


def test_totals_are_sums_of_lines(needed: Plan, measured: list[Throughput]) -> None:
    whole, rate = totals(needed, measured[0]), measured[0].rate()

    def cost(row: str, where: int) -> float:
        passed = needed.rows[row][where] * compute_form.overhead(measured[0], row)
        return hours(passed + needed.finetune[where], rate)

    rows = [row for _, row in TABLES["second_stage_only"] if row]
    assert whole["table 1"] == pytest.approx(sum(cost(row, where) for row in rows for where in range(4)))
    swept = ("MoCo.v2+SS", "BYOL+SS", "BYOL+CVSA")
    assert whole["scale ablation"] == pytest.approx(8 * sum(cost(row, 0) for row in swept))
    assert whole["table 2, imagenet"] > whole["table 2, coco"]


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.parametrize("rate", [0.7, 250.0])
def test_javascript_gives_what_python_gives(rate: float, needed: Plan, measured: list[Throughput]) -> None:
    page = form(measured, needed)
    data = re.search(r'class="cvsa-data">(.*?)</script>', page, re.DOTALL)
    assert data
    factor = {row: measured[0].overhead(row) for row in measured[0].rows}
    script = (files("cvsa.report") / "templates" / "compute_hours.js").read_text("utf-8")
    script += f"\nconst data = {data[1]}; const cost = bill(data, {rate}, {json.dumps(factor)});"
    script += "\nconsole.log(JSON.stringify([cost, [0.012, 0.123, 1.26, 9.96, 12.4, 1234567].map(shown)]));"
    result = subprocess.run([str(NODE), "-e", script], capture_output=True, text=True, check=True)
    cost, numbers = json.loads(result.stdout)
    assert numbers == [shown(value) for value in (0.012, 0.123, 1.26, 9.96, 12.4, 1234567)]
    scaled = measured[0].rate() / rate
    for name, value in totals(needed, measured[0]).items():
        assert cost["totals"][name] == pytest.approx(value * scaled)
    for row, counts in needed.rows.items():
        assert cost["rows"][row] == pytest.approx([hours(n, rate, factor.get(row, 1.0)) for n in counts])
    assert list(cost["first"]) == list(needed.first)
    assert [len(values) for values in cost["first"].values()] == [len(GENERIC)] * len(needed.first)


class Reader(HTMLParser):
    """Cells of the tables by line, and attributes of all elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.lines: dict[str, list[str]] = {}
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self._line, self._cell = "", False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.seen.append((tag, found))
        if tag == "tr":
            self._line = found.get("data-key") or ""
        self._cell = tag == "td"

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.lines.setdefault(self._line, []).append(data)
            self._cell = False


def test_form_works_without_javascript_and_without_a_network(
    needed: Plan, measured: list[Throughput]
) -> None:
    page = form(measured, needed)
    reader = Reader(page)
    whole = totals(needed, measured[0])
    assert reader.lines["table 1"] == [shown(whole["table 1"]), shown(3 * whole["table 1"])]
    assert reader.lines["BYOL+DiLo"] == [
        shown(hours(n, measured[0].rate())) for n in needed.rows["BYOL+DiLo"]
    ]
    assert not re.findall(r'(?:src|href)="', page)
    assert "{{" not in page
    labelled = {found.get("for") for tag, found in reader.seen if tag == "label"}
    fields = {found.get("id") for tag, found in reader.seen if tag in ("input", "select")}
    assert fields and fields <= labelled


def test_form_of_another_preset_is_refused(needed: Plan) -> None:
    with pytest.raises(CVSAError, match="No throughput of the preset 'paper'"):
        form([], needed)
