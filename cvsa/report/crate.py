"""A set of runs as an RO-Crate: its files, and a JSON-LD account of what made each of them.

RO-Crate 1.1 (https://w3id.org/ro/crate/1.1) with the profile Process Run Crate 0.5: every run is a
CreateAction whose instrument is its notebook, whose objects are data and the run it started from, and whose
results are its record and the files beside it. Weights are left out: they are large, and the terms of
photographs may forbid to pass them on.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import yaml

import cvsa
from cvsa.config import DRAWN
from cvsa.data.sets import SETS, find_set
from cvsa.errors import CVSAError, one_line
from cvsa.records import HISTORY, PREDICTIONS, RECORD, Record, Runs, atomic_write, collect

METADATA = "ro-crate-metadata.json"
CITATION = "CITATION.cff"
CONTEXT = ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"]
CRATE = "https://w3id.org/ro/crate/1.1"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
COMPLETED = "http://schema.org/CompletedActionStatus"
# Of a checkout, beside the notebooks: what is needed to run it again.
SHARED = {
    "LICENSE": "Licence of the code and of the records",
    CITATION: "How to cite this companion and the paper",
    "requirements.lock": "Exact versions of every library, at the time of the export",
    "workflow/Snakefile": "Workflow that runs the notebooks",
    "workflow/grid.yaml": "Which runs each preset has",
}
FORMATS = {
    ".json": "application/json", ".csv": "text/csv", ".ipynb": "application/x-ipynb+json",
    ".png": "image/png", ".svg": "image/svg+xml", ".npz": "application/zip", ".yaml": "application/yaml",
    ".md": "text/markdown",
}  # fmt: skip
PICTURES = (".png", ".svg", ".jpg", ".webp")
LEFT_OUT = (".safetensors", ".pt", ".log")

Entity = dict[str, Any]


@dataclass
class Crate:
    """Files and the entities that describe them.

    Attributes:
        files: place in the crate -> file on disk.
        graph: @id -> entity, in the order they were added.
    """

    files: dict[str, Path] = field(default_factory=dict)
    graph: dict[str, Entity] = field(default_factory=dict)

    def add(self, entity: Entity) -> dict[str, str]:
        """Add an entity unless it is there already.

        Returns:
            A reference to it.
        """
        self.graph.setdefault(entity["@id"], entity)
        return {"@id": entity["@id"]}

    def file(self, place: str, path: Path, **told: Any) -> dict[str, str]:
        """Add a file with its size and SHA-256."""
        self.files[place] = path
        content = path.read_bytes()
        kind = told.pop("kind", "File")
        return self.add({
            "@id": quote(place), "@type": kind, "name": told.pop("name", PurePosixPath(place).name),
            "contentSize": str(len(content)), "sha256": hashlib.sha256(content).hexdigest(),
            "encodingFormat": FORMATS.get(path.suffix, "text/plain"), **told,
        })  # fmt: skip

    def metadata(self) -> str:
        """The content of ``ro-crate-metadata.json``; of a list of one only the one, as RO-Crate advises."""

        def plain(value: Any) -> Any:
            return value[0] if isinstance(value, list) and len(value) == 1 else value

        graph = [
            {key: plain(value) for key, value in each.items() if value != []} for each in self.graph.values()
        ]
        return json.dumps({"@context": CONTEXT, "@graph": graph}, indent=1) + "\n"


def export(results: Path, out: Path, root: Path, by: str | None = None) -> list[str]:
    """Write a set of runs as a crate.

    Args:
        results: a folder of runs, such as ``results/pilot``.
        out: a new folder, or a file that ends in .zip.
        root: the checkout that has the notebooks, the workflow and ``CITATION.cff``.
        by: who ran it; None: the authors of this companion.

    Returns:
        What was written, for people.

    Raises:
        CVSAError: no runs, or damaged ones; no checkout; something is in the way.
    """
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise CVSAError(f"{out} is there already. Choose another out, or delete it.")
    crate = build(results, root, by)
    content = {METADATA: crate.metadata().encode()}
    content |= {place: path.read_bytes() for place, path in crate.files.items()}
    if out.suffix == ".zip":
        out.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for place, each in content.items():
                # A date of its own, so that the same crate gives the same file.
                archive.writestr(zipfile.ZipInfo(place, (1980, 1, 1, 0, 0, 0)), each, zipfile.ZIP_DEFLATED)
    else:
        for place, each in content.items():
            atomic_write(out / place, each)
    runs = sum(entity["@type"] == "CreateAction" for entity in crate.graph.values())
    size = sum(map(len, content.values())) / 2**20
    return [f"{runs} runs of {results}, {len(content)} files, {size:.1f} MiB, in {out}"]


def build(results: Path, root: Path, by: str | None = None) -> Crate:
    """Collect the files of a crate and describe them; see :func:`export`."""
    found = collect(results) if results.is_dir() else None
    if found is None or not (found.runs or found.excluded):
        raise CVSAError(f"No finished runs in {results}: give a folder such as results/pilot.")
    if found.excluded:
        raise CVSAError(f"{results} has {len(found.excluded)} damaged record(s): {found.excluded[0].reason}")
    citation = read_citation(root)
    crate, name = Crate(), results.resolve().name
    repository = citation["repository-code"]
    team = people(citation["authors"], repository)
    authors = [{"@id": person["@id"]} for person in team]
    publisher = [{"@id": person["@id"]} for person in team if person["@type"] == "Organization"]
    ended = max(_end(record) for _, record in found.runs)
    crate.add({
        "@id": METADATA, "@type": "CreativeWork", "conformsTo": {"@id": CRATE}, "about": {"@id": "./"},
    })  # fmt: skip
    licence = f"https://spdx.org/licenses/{citation['license']}"
    top = {
        "@id": "./", "@type": "Dataset", "name": f"{name}: runs of the CVSA companion",
        "description": _about(name, found.runs), "datePublished": f"{ended:%Y-%m-%d}",
        "license": {"@id": licence}, "author": authors, "publisher": publisher,
        "conformsTo": {"@id": PROFILE}, "url": repository, "citation": [], "hasPart": [], "mentions": [],
    }  # fmt: skip
    crate.add(top)
    for person in team:
        crate.add(person)
    crate.add({"@id": licence, "@type": "CreativeWork", "name": citation["license"]})
    crate.add({"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"})
    top["citation"] = [_article(crate, work) for work in citation.get("references", [])]
    agent = crate.add({"@id": "#ran-by", "@type": "Person", "name": by}) if by else authors[0]
    _shared(crate, root, sorted({record.kind for _, record in found.runs}), repository)
    places = _run_files(crate, results, name, found.runs)
    _others(crate, results, name, found.runs)
    for folder, record in found.runs:
        action = _action(crate, folder, record, found.runs, places, repository)
        top["mentions"].append(crate.add({**action, "agent": agent}))
    top["hasPart"] = [{"@id": quote(place)} for place in crate.files]
    return crate


def read_citation(root: Path) -> dict[str, Any]:
    """``CITATION.cff`` of a checkout.

    Raises:
        CVSAError: it is not there or not readable, or lacks authors, licence or address.
    """
    path = root / CITATION
    try:
        citation = yaml.safe_load(path.read_text(encoding="utf-8"))
        missing = [key for key in ("authors", "license", "repository-code") if not citation.get(key)]
    except (OSError, yaml.YAMLError, AttributeError) as error:
        said = one_line(str(error))[:200]
        raise CVSAError(f"{path} cannot be read: {said}. Run this in a checkout of the companion.") from None
    if missing:
        raise CVSAError(f"{path} has no {missing[0]}. Restore it from version control.")
    return dict(citation)


def people(authors: Iterable[dict[str, Any]], address: str = "") -> list[Entity]:
    """Authors of a CITATION.cff as entities; a group of people has an address."""
    found = []
    for author in authors:
        names = (author.get("given-names"), author.get("name-particle"), author.get("family-names"))
        full = author.get("name") or " ".join(part for part in names if part)
        kind = "Organization" if "name" in author else "Person"
        place = author.get("orcid") or f"#{quote(full.lower().replace(' ', '-'))}"
        url = {"url": address} if kind == "Organization" and address else {}
        found.append({"@id": place, "@type": kind, "name": full, **url})
    return found


def _article(crate: Crate, work: dict[str, Any]) -> dict[str, str]:
    authors = [crate.add(person) for person in people(work["authors"])]
    return crate.add({
        "@id": work["url"], "@type": "ScholarlyArticle", "name": work["title"], "author": authors,
        "datePublished": str(work["year"]),
    })  # fmt: skip


def _about(name: str, runs: Runs) -> str:
    rows = ", ".join(dict.fromkeys(record.row for _, record in runs))
    return (
        f"{len(runs)} runs of the set {name}, with configuration, measured numbers, code, libraries and "
        f"machine of each, and its history and predictions where it has them. Rows: {rows}."
    )


def _shared(crate: Crate, root: Path, kinds: Iterable[str], repository: str) -> None:
    """Licence, citation, lock and workflow of the checkout, and the notebooks of the kinds of runs."""
    for place, about in SHARED.items():
        if not (root / place).is_file():
            raise CVSAError(f"{root / place} is missing. Run this in a checkout of the companion.")
        told: Entity = {"description": about}
        if place == "workflow/Snakefile":
            told |= {"kind": ["File", "SoftwareSourceCode"], "version": cvsa.__version__, "url": repository}
        crate.file(place, root / place, **told)
    for kind in kinds:
        place = f"notebooks/{kind}.ipynb"
        if not (root / place).is_file():
            raise CVSAError(f"{root / place} is missing. Run this in a checkout of the companion.")
        crate.file(
            place, root / place, kind=["File", "SoftwareSourceCode"], name=f"Notebook {kind}",
            description="A notebook with parameters, run by papermill; as it is at the time of the export",
            programmingLanguage="Python", runtimePlatform="Jupyter", version=cvsa.__version__,
            url=repository,
        )  # fmt: skip


def _run_files(crate: Crate, results: Path, name: str, runs: Runs) -> dict[Path, list[dict[str, str]]]:
    """The files of every run; folder -> references, the record first."""
    return {
        folder: [
            crate.file(f"results/{name}/{file.relative_to(results).as_posix()}", file)
            for file in files_of(folder, record)
        ]
        for folder, record in runs
    }


def files_of(folder: Path, record: Record) -> Iterator[Path]:
    """What of a run is passed on: record, the files it names, and of drawn images the executed notebook."""
    yield folder / RECORD
    for file in sorted({*record.files, HISTORY, PREDICTIONS}):
        if (folder / file).is_file():
            yield folder / file
    executed = folder / f"{record.kind}.ipynb"
    if executed.is_file() and record.config.get("dataset") in DRAWN:
        yield executed


def _others(crate: Crate, results: Path, name: str, runs: Runs) -> None:
    """What lies beside the runs: counts, checks, pictures."""
    folders = {folder for folder, _ in runs}
    drawn = all(record.config.get("dataset") in DRAWN for _, record in runs)
    for file in sorted(path for path in results.rglob("*") if path.is_file()):
        inside = file.relative_to(results)
        hidden = any(part.startswith(".") for part in inside.parts)
        if folders & set(file.parents) or hidden or file.suffix in LEFT_OUT:
            continue
        told = {}
        if not drawn and file.suffix in PICTURES:
            told["description"] = "May show photographs: their terms apply, not the licence of this crate."
        crate.file(f"results/{name}/{inside.as_posix()}", file, **told)


def _action(
    crate: Crate,
    folder: Path,
    record: Record,
    runs: Runs,
    places: dict[Path, list[dict[str, str]]],
    repository: str,
) -> Entity:
    """One run as a CreateAction."""
    objects = [_data(crate, record, split, digest) for split, digest in record.data_fingerprints.items()]
    for run_id in record.parents:
        known = [places[other][0] for other, parent in runs if parent.run_id == run_id]
        objects += known[:1] or [_value(crate, f"#parent-{run_id}", "run it started from", run_id)]
    for key in ("row", "preset", "seed"):
        value = record.config.get(key, getattr(record, key))
        objects.append(_value(crate, f"#{key}-{quote(str(value))}", key, value))
    place = f"#{record.kind}/{quote(folder.name)}"
    told = f"{record.kind} of {record.row}, seed {record.seed}"
    return {
        "@id": place, "@type": "CreateAction", "name": told, "identifier": record.run_id,
        "description": f"{told}, preset {record.preset}, on {_machine(record)}, in {record.seconds:.0f} s",
        "startTime": record.started.isoformat(timespec="seconds"),
        "endTime": _end(record).isoformat(timespec="seconds"), "actionStatus": COMPLETED,
        "instrument": [{"@id": f"notebooks/{record.kind}.ipynb"}, _software(crate, record, repository)],
        "object": objects, "result": places[folder],
    }  # fmt: skip


def _software(crate: Crate, record: Record, repository: str) -> dict[str, str]:
    """The package in the version, commit and state in which a run used it."""
    code = record.code
    commit, dirty = code.get("commit"), code.get("dirty")
    changed = ", with changes that were not committed" if dirty else ""
    address = f"{repository}/tree/{commit}" if commit else repository
    return crate.add({
        "@id": f"{address}#{code.get('hash')}{'-dirty' if dirty else ''}",
        "@type": "SoftwareApplication", "name": "cvsa",
        "softwareVersion": str(code.get("version", "unknown")),
        "url": address,
        "identifier": f"git:{commit}" if commit else f"code:{code.get('hash')}",
        "description": f"Hash of the files that shaped the run: {code.get('hash')}{changed}. "
        f"Lock file: {record.lock or 'not recorded'}.",
        "softwareRequirements": [
            crate.add(_library(name, version)) for name, version in record.libraries.items()
        ],
    })  # fmt: skip


def _library(name: str, version: str) -> Entity:
    url = "https://www.python.org/" if name == "python" else f"https://pypi.org/project/{name}/"
    place = f"{url}downloads/#{version}" if name == "python" else f"{url}{version}/"
    return {
        "@id": place,
        "@type": "SoftwareApplication",
        "name": name,
        "softwareVersion": version,
        "url": url,
    }


def _data(crate: Crate, record: Record, split: str, digest: str) -> dict[str, str]:
    """A split of the images a run used, by its fingerprint; the images themselves are not in the crate."""
    dataset = record.config.get("dataset", "data")
    told: Entity = {"description": f"{split} images of {dataset}; SHA-256 of images and labels"}
    if dataset in SETS and dataset not in DRAWN:
        told["description"] += f". Terms: {find_set(dataset).card.terms}"
    return _value(crate, f"#data-{digest[:16]}", f"fingerprint of {dataset}, {split}", digest, **told)


def _value(crate: Crate, place: str, name: str, value: Any, **told: Any) -> dict[str, str]:
    return crate.add({"@id": place, "@type": "PropertyValue", "name": name, "value": value, **told})


def _machine(record: Record) -> str:
    hardware = record.hardware
    return str(hardware.get("gpu") or hardware.get("cpu", "a machine that is not recorded"))


def _end(record: Record) -> Any:
    return record.started + timedelta(seconds=record.seconds)
