"""The sections of the report: what each draws, from which sets of runs; one line for each.

A section imports what it needs when it is drawn, so that one figure alone comes quickly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path, PurePosixPath

from cvsa.config import PRESETS, PretrainConfig, resolve
from cvsa.errors import CVSAError
from cvsa.grid import line_name, load_grid
from cvsa.records import Runs, collect
from cvsa.report.page import Page
from cvsa.report.sources import EVIDENCE, Sources, load_sources

Draw = Callable[[Page, Sources], None]
LIVE = "live"
PHOTOGRAPHS = tuple(
    name for name, preset in PRESETS.items() if preset.get("all", {}).get("dataset") == "folder"
)
NOTED = ("confirm", "ablations", "pilot", "saliency", *PHOTOGRAPHS)
"""Committed sets, beside the main one, that a chapter rests on and says at which scale they stand."""


@dataclass(frozen=True)
class Section:
    """Part of the report.

    Attributes:
        name: of the section.
        draw: what draws it.
        names: patterns of what it draws ("pilot_*"), to find what draws a name.
        sets: the sets it draws from: "live", or folders in ``results/``; all of them if None.
    """

    name: str
    draw: Draw
    names: tuple[str, ...]
    sets: tuple[str, ...] | None = None

    def may_draw(self, name: str) -> bool:
        """Whether this may draw what has this name, "finetune.svg" or "tables/table_1.md"."""
        path = PurePosixPath(name)
        return any(fnmatchcase(each, pattern) for pattern in self.names for each in (path.name, path.stem))

    def runs(self, sources: Sources) -> Runs:
        """The runs of its sets."""
        if self.sets is None:
            return [pair for runs in sources.sets.values() for pair in runs]
        return [
            pair
            for name in self.sets
            for pair in (sources.live if name == LIVE else sources.committed.get(name, []))
        ]

    def sources(self, preset: str, root: Path) -> Sources:
        """The records it needs; without live ones it reads its own sets only.

        Raises:
            CVSAError: a live run it needs is missing or damaged.
        """
        if self.sets is None or LIVE in self.sets:
            return load_sources(preset, root)
        found = {name: collect(root / "results" / name) for name in self.sets}
        return Sources(
            root, preset, load_grid(root / "workflow" / "grid.yaml", preset), [],
            {name: part.runs for name, part in found.items() if part.runs},
            [excluded for part in found.values() for excluded in part.excluded],
        )  # fmt: skip


def later(module: str, function: str = "draw") -> Draw:
    """``cvsa.report.MODULE.FUNCTION(page, sources)``, imported when it is called."""

    def draw(page: Page, sources: Sources) -> None:
        getattr(import_module(f"cvsa.report.{module}"), function)(page, sources)

    return draw


def _main(page: Page, sources: Sources) -> None:
    from cvsa.report import results
    from cvsa.report.evidence import main_runs

    runs = main_runs(sources)
    results.measured(page, "main", runs)
    results.contrasts(page, "main", runs)


def _live(page: Page, sources: Sources) -> None:
    from cvsa.report import results

    results.measured(page, "live", sources.live)


def _scale_of(page: Page, sources: Sources) -> None:
    from cvsa.report import scale_of
    from cvsa.report.claims import claims
    from cvsa.report.evidence import ledger

    speaking = {tested[0].runs.name for tested in ledger(sources, claims()).values() if tested}
    swept = [name for name in (*EVIDENCE, *NOTED) if scale_of.varies_scale(sources.committed.get(name, []))]
    notes = {name: [name] for name in NOTED}
    notes |= {
        "main": [sources.main_set] if sources.main_set else [*EVIDENCE],
        "scale": swept or ["ablations"],
        "ledger": [name for name in sources.committed if name in speaking] or [*EVIDENCE],
    }
    scale_of.draw(page, sources, notes)


def _sweep(page: Page, sources: Sources) -> None:
    from cvsa.report import paper

    paper.sweep(page, sources.committed.get("sweep", []))


def _costs(page: Page, sources: Sources) -> None:
    from cvsa.report import paper

    with page.source(_of("pretrain", sources.live)):
        paper.costs(page, sources.live)


def _reported(page: Page, _: Sources) -> None:
    from cvsa.report import results

    results.reported(page)


def _pictures(page: Page, sources: Sources) -> None:
    from cvsa.report import pictures

    with page.section("pictures", []):
        pictures.draw(page, sources.folder, resolve(PretrainConfig, preset=sources.preset))
    page.comes_from("figures/attention.png", _first(sources, pictures.METHOD_ROW))


def _photographs(page: Page, sources: Sources) -> None:
    from cvsa.report.photographs import photographs

    for name in PHOTOGRAPHS:
        if name in sources.committed:
            with page.section("photographs", sources.committed[name]):
                photographs(page, sources.root / "results" / name)


def _saliency(page: Page, sources: Sources) -> None:
    from cvsa.report import saliency

    saliency.draw(page, sources.root / "results" / saliency.PRESET)
    for key in page.drawn:
        if PurePosixPath(key).name.startswith(("detectors_", "maps-", "saliency_birds")):
            page.comes_from(key, [])


def _pairs(page: Page, sources: Sources) -> None:
    from cvsa.report import pilot, pilot_views

    pilot_views.draw(page, sources.root / "results" / pilot.PRESET)


def _pilot(page: Page, sources: Sources) -> None:
    from cvsa.report import pilot

    pilot.draw_runs(page, sources.root / "results" / pilot.PRESET)


def _localization(page: Page, sources: Sources) -> None:
    from cvsa.report import localization
    from cvsa.report.evidence import main_runs

    runs = main_runs(sources)
    with page.section("localization", _of("evaluate", runs)):
        localization.draw(page, runs)


def _background(page: Page, sources: Sources) -> None:
    from cvsa.report import background
    from cvsa.report.evidence import main_runs

    runs = main_runs(sources)
    with page.section("background", _of("evaluate", runs)):
        background.draw(page, runs)


def _looks(page: Page, sources: Sources) -> None:
    from cvsa.report import looks

    config = resolve(PretrainConfig, preset=sources.preset)
    with page.section("looks", []):
        looks.draw(page, sources.folder, config, sources.root / "results" / looks.ATTENTION_FOLDER)
    for name, subjects in (("gallery", looks.METHODS), ("gallery_stages", looks.STAGES)):
        used = {line_name(line, 0) for line, _ in subjects.values()}
        runs = [pair for pair in _of("finetune", sources.live) if pair[0].name in used]
        page.comes_from(f"figures/{name}.png", runs)
    for name, row in looks.EMBEDDED.items():
        page.comes_from(f"figures/embedding_{name}.png", _first(sources, row))


def _labels(page: Page, sources: Sources) -> None:
    from cvsa.report import looks

    if "labels" not in sources.grid.ablations:
        raise CVSAError(
            f"The book needs the ablation 'labels', which {sources.preset!r} lacks in workflow/grid.yaml. "
            "Take tiny, or run the preset with --no-report."
        )
    ablation = sources.grid.ablations["labels"]
    with page.source([
        (folder, record)
        for folder, record in _of("finetune", sources.live)
        if record.row in ablation.rows and record.seed in ablation.seeds and record.stage1 is None
        and "swap_scale" not in folder.name
    ]):  # fmt: skip
        looks.labels(page, sources.live, ablation)


def _what_ran(page: Page, sources: Sources) -> None:
    from cvsa.report import results

    results.what_ran(page, sources.live)


def _of(kind: str, runs: Runs) -> Runs:
    return [(folder, record) for folder, record in runs if record.kind == kind]


def _first(sources: Sources, row: str) -> Runs:
    """The pre-training of a row of the first table, seed 0."""
    return [pair for pair in _of("pretrain", sources.live) if pair[0].name == line_name((None, row), 0)]


def _everything_of(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"*{name}*" for name in names)


_SHEETS, _DRAWN = ("birds_sheet.png", "habitats.png"), ("causes.png", "cues.png")
_DOTS = ("probes_main.svg", "finetune_main.svg")

# Drawn in this order; a name is looked for in this order too.
SECTIONS = (
    Section("main", _main, ("results_main", "contrasts_main", "findings_main", *_DOTS), EVIDENCE),
    Section("live", _live, ("results_live", "probes.svg", "finetune.svg"), (LIVE,)),
    Section("scale_of", _scale_of, ("evidence_*",), (*EVIDENCE, *NOTED)),
    Section("ledger", later("ledger"), ("ledger*",)),
    Section("measures", later("measures"), ("measures*",)),
    Section("confirmed", later("confirmed"), ("confirmed",)),
    Section("tables", later("ledger_tables"), ("table_1", "table_2")),
    Section("scale", later("ledger_scale"), ("scale", "scale_*")),
    Section("sweep", _sweep, ("sweep",), ("sweep",)),
    Section("costs", _costs, ("costs",), (LIVE,)),
    Section("reported", _reported, ("reported_*",), ()),
    Section("saliency", _saliency, ("saliency_*", "detectors_*", "maps-*"), ("saliency",)),
    Section("photographs", _photographs, _everything_of(PHOTOGRAPHS), PHOTOGRAPHS),
    Section("views", _pairs, ("pilot_views*", "pilot_sizes.svg", "pilot_pairs.png", "pilot_empty.png"), ()),
    Section("pilot", _pilot, ("pilot_*",), ("pilot",)),
    Section("localization", _localization, ("localization*",), EVIDENCE),
    Section("background", _background, ("background*",), EVIDENCE),
    Section("labels", _labels, ("labels*",), (LIVE,)),
    Section("what_ran", _what_ran, ("runs", "curves.svg"), (LIVE,)),
    Section("pictures", _pictures, ("attention.png", "view_pairs.png", "views_*", *_SHEETS), (LIVE,)),
    Section("looks", _looks, ("gallery*", "embedding_*", *_DRAWN, "saliency_swap", "attention"), (LIVE,)),
    Section("ablations", later("ablations"), ("ablations*",), ("ablations",)),
    Section("discrepancies", later("discrepancies"), ("discrepancies*",)),
    Section("compute", later("compute"), ("compute_*",)),
    Section("speed", later("speed"), ("speed*",), ()),
    Section("cards", later("cards"), ("card_*",), (LIVE,)),
)  # fmt: skip
