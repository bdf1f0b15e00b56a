"""The log of points on which the source is silent or inconsistent, and whether each of them matters here.

``reported/discrepancies.yaml`` holds the points; what was measured of them comes from the ablations of
committed sets of runs.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

import cvsa
from cvsa.config import KINDS
from cvsa.errors import CVSAError, one_line
from cvsa.grid import load_grid
from cvsa.report.ablations_study import (
    FINETUNED,
    METRICS,
    OBJECTIVES,
    PRESET,
    PROBED,
    Line,
    Study,
    compare,
    of,
    studies,
)
from cvsa.report.ablations_text import capital, show_difference, unit
from cvsa.report.page import Page, interval
from cvsa.report.sources import Sources

LOG = "discrepancies.yaml"
FUNCTION = re.compile(r"(cvsa[\w.]*)\.(\w+)\((\w+)\)")
MODELS = {kind: model for model, kind in KINDS.items()}
OF = {"finetune": "fine-tuning", "probe": "probes", "evaluate": "evaluations", "pretrain": "pre-training"}


class Point(BaseModel):
    """One point.

    Attributes:
        id: short name, once in the log.
        question, reading: what is not told, and what we take.
        why: one sentence.
        mark: "[A]" shown, "[I]" inferred, "[O]" ours; several with commas between.
        parameters: fields of a configuration ("swap_area", "finetune.crop_scale"), or parameters of functions
            ("cvsa.views.swap.saliency_swap(ratio)"), that change it.
        ablation: "mask" of the preset "ablations", "objectives" of its first table, or "PRESET/NAME"; None
            where ``not_ablated`` says why there is none.
    """

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    question: str = Field(min_length=3)
    reading: str = Field(min_length=1)
    why: str = Field(pattern=r"\.$")
    mark: str = Field(pattern=r"^\[[AIO]\](, \[[AIO]\])*$")
    parameters: list[str] = Field(default_factory=list)
    ablation: str | None = None
    not_ablated: str | None = None

    @field_validator("parameters")
    @classmethod
    def _known(cls, parameters: list[str]) -> list[str]:
        for name in parameters:
            shown_parameter(name)
        return parameters

    @model_validator(mode="after")
    def _either(self) -> Point:
        if (self.ablation is None) == (self.not_ablated is None):
            raise ValueError("give either ablation or not_ablated, the reason why there is none")
        return self

    @property
    def runs(self) -> tuple[str, str]:
        """Preset and name of its ablation."""
        preset, _, name = str(self.ablation).rpartition("/")
        return preset or PRESET, name


@dataclass(frozen=True)
class Outcome:
    """What was measured of a point: in words, whether something separated, and the runs."""

    text: str
    tested: bool
    separated: bool
    runs: tuple[str, ...] = ()


def shown_parameter(name: str) -> str:
    """A parameter for the page; refuses what does not exist.

    Raises:
        ValueError: no such field of a configuration, or no such parameter of a function.
    """
    if match := FUNCTION.fullmatch(name):
        module, function, parameter = match.groups()
        if parameter not in _arguments(module, function):
            raise ValueError(f"parameter {name!r}: no such function or no such parameter of it")
        return f"`{parameter}` of `{function}`"
    kind, _, field = name.rpartition(".")
    models = [MODELS[kind]] if kind in MODELS else list(MODELS.values()) if not kind else []
    if not any(field in model.model_fields for model in models):
        raise ValueError(f"parameter {name!r}: no such field of a configuration")
    return f"`{field}` of {OF[kind]}" if kind else f"`{field}`"


@cache
def _arguments(module: str, function: str) -> tuple[str, ...]:
    """Names of a function's parameters, read from its file: nothing is imported."""
    file = Path(cvsa.__file__).parents[1].joinpath(*module.split(".")).with_suffix(".py")
    if not file.is_file():
        return ()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return tuple(argument.arg for argument in (*node.args.args, *node.args.kwonlyargs))
    return ()


def load_log(path: Path | None = None, grid: Path | None = None) -> dict[str, list[Point]]:
    """Read the log.

    Args:
        path: of another file than the package's.
        grid: ``workflow/grid.yaml``; where given, ablations are looked up in it.

    Returns:
        Section -> its points, in the log's order.

    Raises:
        CVSAError: no valid log; names the point and what is wrong with it.
    """
    text = (path or files("cvsa.report") / "reported" / LOG).read_text(encoding="utf-8")
    name = path or LOG
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CVSAError(f"{name} is no valid YAML: {one_line(str(error))[:200]}.") from None
    if not isinstance(content, dict) or not all(isinstance(points, list) for points in content.values()):
        raise CVSAError(f"{name}: a mapping of sections to lists of points is wanted.")
    log = {section: [_point(name, each) for each in points] for section, points in content.items()}
    for found, times in Counter(point.id for points in log.values() for point in points).items():
        if times > 1:
            raise CVSAError(f"{name}: the id {found!r} is there {times} times; give each point its own.")
    for point in (point for points in log.values() for point in points if grid and point.ablation):
        _check_ablation(name, point, grid)  # type: ignore[arg-type]
    return log


def _point(name: object, content: Any) -> Point:
    known = content.get("id", "without id") if isinstance(content, dict) else str(content)[:40]
    try:
        return Point.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        said = one_line(f"{place + ': ' if place else ''}{first['msg'].removeprefix('Value error, ')}")
        raise CVSAError(f"{name}, point {known!r}: {said}.") from None


def _check_ablation(name: object, point: Point, grid: Path) -> None:
    preset, entry = point.runs
    known = load_grid(grid, preset).ablations
    if entry not in known and (preset, entry) != (PRESET, OBJECTIVES):
        there = ", ".join(known) or "none"
        raise CVSAError(
            f"{name}, point {point.id!r}: ablation {point.ablation!r} is not in {grid}, preset {preset!r}; "
            f"there: {there}."
        )


def outcome(point: Point, study: Study | None, contrasts: pd.DataFrame) -> Outcome:
    """What the runs say of a point.

    Args:
        point: of the log.
        study: its ablation, or None.
        contrasts: of all ablations of that set: differences are corrected for their number.
    """
    if study is None or point.ablation is None:
        return Outcome(f"not tested: {point.not_ablated or 'its runs are not at hand'}", False, False)
    metric = metric_of(study)
    part = contrasts[contrasts["study"] == study.name].to_dict("records")
    if not part:
        return Outcome("not tested: its runs are not at hand", False, False)
    seeds = max(len(line["each"]) for line in part)
    what = f"{METRICS[metric]}, {seeds} seed{'s' if seeds > 1 else ''}"
    clear = [line for line in part if line["verdict"] == "yes"]
    raw = [line for line in part if line["verdict"] == "uncorrected"]
    largest = max(part, key=lambda line: abs(line["difference"]))
    if clear:
        told = f"**separates** ({what}); {'; '.join(_told(line, study, metric) for line in clear)}"
    elif raw:
        told = (
            f"**not settled** ({what}); {'; '.join(_told(line, study, metric) for line in raw)}, which does "
        )
        told += f"not separate after correction for {raw[0]['family']} differences"
    elif all(line["verdict"] == "equal" for line in part):
        told = f"**equal** to the last digit ({what})"
    elif seeds == 1:
        told = f"**one seed** settles nothing ({METRICS[metric]}); largest: {_told(largest, study, metric)}"
    else:
        ways = "the difference" if len(part) == 1 else f"largest of {len(part)}"
        told = f"**no difference separates** ({what}); {ways}: {_told(largest, study, metric)}"
    told += "; not all of its runs are at hand" if study.missing else ""
    return Outcome(told, True, bool(clear), tuple(sorted(set(study.runs["run_id"]))))


def metric_of(study: Study) -> str:
    """What a study is judged by: fine-tuning where its runs are fine-tuned, else the linear probe."""
    return FINETUNED if "finetune" in study.ablation.evaluate else PROBED


def _told(line: Line, study: Study, metric: str) -> str:
    differs = show_difference(metric)
    if study.between_rows:
        where = f"{line['row']} against {line['against_row']}"
        where += "" if study.ablation.vary == "base" else f" on {line['at']}"
    else:
        where = f"{line['at']} against {line['against_at']}"
        where += f", {line['row']}" if len(study.ablation.rows) > 1 else ""
    known = not pd.isna(line["low"])
    span = f", {interval(line['low'], line['high'], differs)}" if known else ""
    return f"{where}: {differs(line['difference'])}{unit(metric)}{span}"


def draw(page: Page, sources: Sources) -> None:
    """The page: ``tables/discrepancies_SECTION.md`` for each section, and ``text/discrepancies.md``.

    Raises:
        CVSAError: the log is not valid.
    """
    log = load_log(grid=sources.root / "workflow" / "grid.yaml")
    points = [point for section in log.values() for point in section]
    asked = list(dict.fromkeys(point.runs[0] for point in points if point.ablation))
    found = {preset: studies(sources.root, preset, sources.sets.get(preset, [])) for preset in asked}
    compared = {preset: _family(list(each.values())) for preset, each in found.items()}
    outcomes = {}
    for point in points:
        preset, name = point.runs
        study = found[preset].get(name) if point.ablation else None
        outcomes[point.id] = outcome(point, study, compared.get(preset, pd.DataFrame()))
    for section, part in log.items():
        told = [outcomes[point.id] for point in part]
        runs = {run for each in told for run in each.runs}
        page.file(f"tables/discrepancies_{section}.md", table(part, told), runs)
    page.text("discrepancies", summary(points, outcomes), {r for o in outcomes.values() for r in o.runs})


def _family(chosen: list[Study]) -> pd.DataFrame:
    """All differences of a set, each study by its own metric, corrected for their number within a metric."""
    parts = [of(compare(chosen, m), [s for s in chosen if metric_of(s) == m]) for m in (FINETUNED, PROBED)]
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)


def table(points: list[Point], outcomes: list[Outcome]) -> str:
    """A section as Markdown, text on the left."""
    heads = ("Question", "Our reading, and why", "Parameter", "Does it matter?")
    lines = ["| " + " | ".join(heads) + " |", "|:---|:---|:---|:---|"]
    for point, told in zip(points, outcomes, strict=True):
        shown = "<br>".join(map(shown_parameter, point.parameters)) or "–"
        reading = f"{capital(point.reading)}. {point.mark}<br><small>{point.why}</small>"
        cells = (point.question, reading, shown, told.text)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def summary(points: list[Point], outcomes: dict[str, Outcome]) -> list[str]:
    """How many points there are, of which kind, and how many of them were tested."""
    marks = Counter(mark for point in points for mark in point.mark.split(", "))
    tested = [point for point in points if outcomes[point.id].tested]
    clear = [point for point in tested if outcomes[point.id].separated]
    waiting = [point for point in points if point.ablation and not outcomes[point.id].tested]
    told = [
        f"{len(points)} points: {marks['[O]']} our own choice [O], {marks['[I]']} inferred [I], "
        f"{marks['[A]']} shown by the authors [A] and listed all the same (a point may have two marks).",
        f"{len(tested)} of them were varied in committed runs. In {len(clear) or 'none'} a difference "
        "separates over seeds"
        + (f": {', '.join(point.id.replace('_', ' ') for point in clear)}." if clear else ".")
        + " That a difference does not separate does not mean that there is none.",
    ]
    if waiting:
        named = ", ".join(point.id.replace("_", " ") for point in waiting)
        told.append(f"Meant to be varied, and not at hand: {named}.")
    return told
