"""RO-Crates: references lead somewhere, files are there with their checksums, what is mandatory is told.

The rules are those of RO-Crate 1.1 and of Process Run Crate 0.5, written out by hand.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from tests_support import example_record

from cvsa.errors import CVSAError
from cvsa.records import RECORD, collect, write_record
from cvsa.report.crate import METADATA, PROFILE, build, export, people, read_citation

ROOT = Path(__file__).parents[2]
Graph = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set: a pre-training, a fine-tuning of it with predictions, one whose parent is elsewhere."""
    folder = tmp_path_factory.mktemp("results") / "mine"
    config = {"dataset": "synthbirds"}
    runs = {
        "pretrain/byol-s0": example_record(kind="pretrain", run_id="a" * 12, config=config),
        "finetune/byol-s0": example_record(run_id="b" * 12, config=config, parents=["a" * 12]),
        "finetune/other one": example_record(run_id="c" * 12, config={"dataset": "cars"}, parents=["d" * 12]),
    }
    for name, record in runs.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "history.csv").write_text("epoch,loss\n1,2\n")
        if record.kind == "finetune":
            (folder / name / "predictions.csv").write_text("split,image,label,predicted\ntest,0,1,1\n")
        for extra in ("weights.safetensors", "log.txt", f"{record.kind}.ipynb"):
            (folder / name / extra).write_text("{}")
        write_record(record, folder / name)
    (folder / "sheet.png").write_bytes(b"png")
    (folder / ".hidden").write_text("no")
    return folder


@pytest.fixture(scope="module")
def crate(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("crate") / "out"
    (line,) = export(results, out, ROOT)
    assert line.startswith("3 runs of")
    return out


@pytest.fixture(scope="module")
def graph(crate: Path) -> Graph:
    content = json.loads((crate / METADATA).read_text())
    assert content["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    found = {entity["@id"]: entity for entity in content["@graph"]}
    assert len(found) == len(content["@graph"]), "an @id is used twice"
    return found


def many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def references(value: Any) -> Iterator[str]:
    """Every @id that an entity's properties refer to."""
    for each in many(value):
        if isinstance(each, dict):
            assert set(each) == {"@id"}, "entities are flat"
            yield each["@id"]


def of_type(graph: Graph, kind: str) -> list[dict[str, Any]]:
    return [entity for entity in graph.values() if kind in many(entity["@type"])]


def test_every_reference_leads_to_an_entity(graph: Graph) -> None:
    for entity in graph.values():
        assert entity["@type"]
        assert all("@id" not in str(key)[1:] for key in entity)
        for name, value in entity.items():
            if name in ("conformsTo",) and entity["@id"] == METADATA:
                continue  # the specification itself need not be described
            assert [place for place in references(value) if place not in graph] == [], (entity["@id"], name)


def test_metadata_and_root_say_what_is_mandatory(graph: Graph) -> None:
    about = graph[METADATA]
    assert (about["@type"], about["about"]["@id"]) == ("CreativeWork", "./")
    assert about["conformsTo"]["@id"] == "https://w3id.org/ro/crate/1.1"
    root = graph["./"]
    assert root["@type"] == "Dataset"
    assert root["name"] and root["description"] and root["conformsTo"]["@id"] == PROFILE
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", root["datePublished"])
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert root["license"]["@id"].endswith(citation["license"])
    authors = [graph[place]["name"] for place in references(root["author"])]
    assert authors == [person["name"] for person in people(citation["authors"])]


def test_files_are_there_with_their_size_and_checksum(graph: Graph, crate: Path) -> None:
    described = {unquote(entity["@id"]): entity for entity in of_type(graph, "File")}
    on_disk = {path.relative_to(crate).as_posix() for path in crate.rglob("*") if path.is_file()}
    assert set(described) == on_disk - {METADATA}
    assert {unquote(place) for place in references(graph["./"]["hasPart"])} == set(described)
    for place, entity in described.items():
        content = (crate / place).read_bytes()
        assert entity["sha256"] == hashlib.sha256(content).hexdigest()
        assert entity["contentSize"] == str(len(content))
        assert entity["encodingFormat"]


def test_weights_logs_and_notebooks_of_photographs_stay_behind(crate: Path) -> None:
    inside = {path.relative_to(crate / "results" / "mine").as_posix() for path in crate.rglob("mine/**/*.*")}
    assert not [name for name in inside if name.endswith((".safetensors", ".txt")) or "hidden" in name]
    assert "finetune/byol-s0/finetune.ipynb" in inside
    assert "finetune/other one/finetune.ipynb" not in inside  # of photographs
    assert {"sheet.png", "finetune/byol-s0/predictions.csv", f"pretrain/byol-s0/{RECORD}"} <= inside


def test_every_run_is_an_action(graph: Graph, results: Path) -> None:
    actions = {entity["identifier"]: entity for entity in of_type(graph, "CreateAction")}
    runs = {record.run_id: (folder, record) for folder, record in collect(results).runs}
    assert set(actions) == set(runs)
    assert set(references(graph["./"]["mentions"])) == {action["@id"] for action in actions.values()}
    for run, action in actions.items():
        folder, record = runs[run]
        assert datetime.fromisoformat(action["startTime"]) == record.started
        assert action["endTime"] > action["startTime"]
        assert action["actionStatus"] == "http://schema.org/CompletedActionStatus"
        assert graph[action["agent"]["@id"]]["@type"] in ("Person", "Organization")
        kinds = [set(many(graph[place]["@type"])) for place in references(action["instrument"])]
        assert any("SoftwareApplication" in kind for kind in kinds)
        assert any("SoftwareSourceCode" in kind for kind in kinds)
        made = {unquote(place) for place in references(action["result"])}
        assert f"results/mine/{folder.relative_to(results).as_posix()}/{RECORD}" in made
        told = [graph[place].get("value") for place in references(action["object"])]
        assert set(record.data_fingerprints.values()) <= set(told)


def test_parents_are_objects(graph: Graph) -> None:
    actions = {entity["identifier"]: entity for entity in of_type(graph, "CreateAction")}
    child = set(references(actions["b" * 12]["object"]))
    assert f"results/mine/pretrain/byol-s0/{RECORD}" in child
    elsewhere = [graph[place] for place in references(actions["c" * 12]["object"])]
    assert "d" * 12 in [entity.get("value") for entity in elsewhere]


def test_software_has_version_and_commit(graph: Graph) -> None:
    found = {entity["name"]: entity for entity in of_type(graph, "SoftwareApplication")}
    assert found["cvsa"]["softwareVersion"] == "0"
    assert found["cvsa"]["identifier"] == "git:" + "c" * 40
    assert found["torch"]["softwareVersion"] == "2"


def test_zip_holds_the_same_and_is_reproducible(results: Path, crate: Path, tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        export(results, tmp_path / name, ROOT)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        inside = {name: archive.read(name) for name in archive.namelist()}
    assert {crate / name for name in inside} == {path for path in crate.rglob("*") if path.is_file()}
    assert all((crate / name).read_bytes() == content for name, content in inside.items())


def test_another_agent(results: Path) -> None:
    graph = build(results, ROOT, by="Ada Lovelace").graph
    actions = [entity for entity in graph.values() if entity["@type"] == "CreateAction"]
    assert {graph[action["agent"]["@id"]]["name"] for action in actions} == {"Ada Lovelace"}


def test_bad_input_is_one_line(results: Path, crate: Path, tmp_path: Path) -> None:
    def refused(said: str, *arguments: Path) -> None:
        with pytest.raises(CVSAError, match=said) as caught:
            export(*arguments)
        assert "\n" not in str(caught.value)

    refused("No finished runs", tmp_path, tmp_path / "a", ROOT)
    refused("No finished runs", tmp_path / "absent", tmp_path / "a", ROOT)
    refused("is there already", results, crate, ROOT)
    refused("cannot be read", results, tmp_path / "a", tmp_path)
    (tmp_path / "CITATION.cff").write_text("license: MIT\n")
    refused("has no authors", results, tmp_path / "a", tmp_path)
    damaged = tmp_path / "set" / "run"
    damaged.mkdir(parents=True)
    (damaged / RECORD).write_text("{")
    refused("damaged record", tmp_path / "set", tmp_path / "a", ROOT)
    assert not (tmp_path / "a").exists()


def test_the_bibliography_agrees_with_the_citation_file() -> None:
    """CITATION.cff is the source: CITATION.bib and the book's bibliography say the same."""
    from pybtex.database import parse_file

    citation = read_citation(ROOT)
    entries = parse_file(str(ROOT / "CITATION.bib")).entries
    (paper,) = citation["references"]
    assert set(entries) == {"cvsa", "cvsa-companion"}

    def names(entry: Any) -> list[str]:
        return [" ".join([*p.first_names, *p.middle_names, *p.last_names]) for p in entry.persons["author"]]

    known = {person["name"] for person in people(paper["authors"])}
    assert set(names(entries["cvsa"])) == known
    assert entries["cvsa"].fields["title"] == paper["title"]
    assert entries["cvsa"].fields["year"] == str(paper["year"])
    assert entries["cvsa"].fields["url"] == paper["url"]
    assert entries["cvsa"].fields["booktitle"] == paper["conference"]["name"]
    book = parse_file(str(ROOT / "book" / "references.bib")).entries["cvsa"]
    assert dict(book.fields) == dict(entries["cvsa"].fields)
    assert names(book) == names(entries["cvsa"])
    own = entries["cvsa-companion"]
    assert own.fields["url"] == citation["repository-code"]
    assert re.sub(r"``|''", '"', own.fields["title"]) == citation["title"]
    assert own.fields["note"] == f"Software, {citation['license']} licence"
    (author,) = citation["authors"]
    assert names(own) == [f"{{{author['name']}}}"]


def test_citation_file_keeps_to_its_format() -> None:
    """What the schema of the Citation File Format 1.2.0 demands of the keys used here."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] in ("software", "dataset")
    allowed = {
        "abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi", "identifiers",
        "keywords", "license", "license-url", "message", "preferred-citation", "references", "repository",
        "repository-artifact", "repository-code", "title", "type", "url", "version",
    }  # fmt: skip
    assert set(citation) <= allowed
    assert len(citation["keywords"]) == len(set(citation["keywords"]))
    for work in [citation, *citation["references"]]:
        assert work["title"] and work["authors"]
        for author in work["authors"]:
            assert set(author) <= {"name"} or set(author) <= {"family-names", "given-names", "orcid"}
    (paper,) = citation["references"]
    assert paper["type"] in ("article", "conference-paper", "conference")
    assert isinstance(paper["year"], int)
    assert {each["type"] for each in paper["identifiers"]} <= {"doi", "url", "swh", "other"}
