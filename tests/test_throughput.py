"""Throughput: what is timed, what is written, and that a changed file is noticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cvsa import throughput
from cvsa.config import PretrainConfig, resolve
from cvsa.costs import passes
from cvsa.errors import CVSAError
from cvsa.throughput import FOLDER, measure, read_all, read_throughput

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compute")
    path, _ = measure("tiny", ["BYOL", "MoCo.v2"], steps=3, batch_size=4, device="cpu", folder=folder)
    return path


def test_every_row_and_the_network_alone_are_timed(measured: Path) -> None:
    found = read_throughput(measured)
    assert list(found.rows) == ["BYOL", "MoCo.v2"]
    for timing in (found.network, *found.rows.values()):
        assert len(timing.seconds) == len(timing.processor) == 3
        assert min(timing.seconds) > 0
    assert (found.batch_size, found.image_size, found.backbone) == (4, 48, "resnet_slim")
    assert {"cpu", "threads", "device"} <= set(found.hardware)
    assert {"hashes", "commit", "dirty", "version"} == set(found.code)
    assert [path.name for path in measured.parent.iterdir()] == [f"{found.name}.json"]


def test_passes_are_those_that_costs_are_told_by(measured: Path) -> None:
    found = read_throughput(measured)
    for row, timing in found.rows.items():
        config = resolve(PretrainConfig, row=row, preset="tiny")
        assert timing.passes * config.train_images * config.epochs == passes(config)


def test_rate_and_overhead_by_hand(measured: Path) -> None:
    content = json.loads(measured.read_text())
    content["network"] |= {"seconds": [9.0, 9.0, 9.0], "processor": [1.0, 2.0, 3.0]}
    content["rows"]["BYOL"] |= {"seconds": [9.0, 9.0, 9.0], "processor": [8.0, 8.0, 8.0]}
    content["rows"].pop("MoCo.v2")
    content["hardware"] |= {"device": "cpu", "threads": 1}
    found = throughput.Throughput(**content)
    assert found.rate() == 4 / 2.0  # a CPU's steps are its processor's seconds
    assert found.rate("BYOL") == 4 / 8.0
    assert found.overhead("BYOL") == pytest.approx(8.0 / (2.0 * 8 / 3))
    assert found.share == pytest.approx((6 + 24) / (27 + 27))
    assert "Others used this machine" in found.lines()[-1]
    content["hardware"] |= {"device": "cuda:0"}
    assert throughput.Throughput(**content).rate() == 4 / 9.0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rows": ["Random"]}, "nothing to pre-train"),
        ({"rows": ["BOYL"]}, "Did you mean 'BYOL'"),
        ({"rows": []}, "No row to measure"),
        ({"preset": "huge"}, "Unknown preset"),
        ({"name": "../Mine"}, "small letters, digits and hyphens"),
        ({"device": "quantum"}, "device = 'quantum'"),
        ({"preset": "paper", "rows": ["BYOL", "Rel-Loc"]}, "different batches"),
    ],
)
def test_bad_input_is_one_line(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(CVSAError, match=said) as caught:
        measure(**{"preset": "tiny", "rows": ["BYOL"], "folder": tmp_path, **given})
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(measured: Path) -> None:
    before = measured.read_bytes()
    with pytest.raises(CVSAError, match="is there already"):
        measure("tiny", ["BYOL"], batch_size=4, device="cpu", folder=measured.parent)
    assert measured.read_bytes() == before


@pytest.mark.parametrize("damage", ["truncated", "edited", "of another schema", "missing"])
def test_damage_is_noticed(damage: str, measured: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    text = measured.read_text()
    content = json.loads(text)
    if damage == "truncated":
        path.write_text(text[:-40])
    elif damage == "edited":
        content["network"]["processor"][0] /= 2
        path.write_text(json.dumps(content))
    elif damage == "of another schema":
        path.write_text(json.dumps(content | {"schema_version": 9}))
    with pytest.raises(CVSAError, match="a.json") as caught:
        read_throughput(path)
    assert "\n" not in str(caught.value)


def test_the_committed_measurement_is_of_the_paper_preset() -> None:
    found = read_all(ROOT / FOLDER)
    assert [each for each in found if each.preset == "paper"]
    for each in found:
        assert all(0.5 < each.overhead(row) < 3 for row in each.rows)
