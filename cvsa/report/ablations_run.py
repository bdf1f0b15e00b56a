"""One's own ablation: which runs it has, what they should cost, and making them; for the notebook. [O]"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cvsa
from cvsa.config import DataConfig, FinetuneConfig, PretrainConfig, ProbeConfig, RunConfig, resolve
from cvsa.costs import estimate
from cvsa.errors import CVSAError
from cvsa.evaluation.finetune import finetune
from cvsa.evaluation.probe import probe
from cvsa.grid import Ablation, line_name, varied_name
from cvsa.methods.catalogue import find_row
from cvsa.records import RECORD, Record, Runs, read_record
from cvsa.report.ablations_study import Study, baseline, check_vary, label, study
from cvsa.training.pretrain import pretrain

SHARED = (*DataConfig.model_fields, "row", "preset", "seed", "backbone", "image_size")
KINDS: dict[str, type[RunConfig]] = {"finetune": FinetuneConfig, "probe": ProbeConfig}


@dataclass
class Plan:
    """An ablation as somebody asked for it; checked before anything runs.

    Attributes:
        vary, values: parameter of pre-training and what it takes.
        row, seeds: of the runs.
        reference: row that is trained too, with nothing varied; "" for none.
        evaluate: "finetune", "probe".
        fields: other parameters of pre-training, the preset among them; None means the preset's value.
        tuning: parameters of fine-tuning.
        out: folder of all runs.
        pretrained: name of a run -> its configuration; filled in.

    Raises:
        CVSAError: an unknown parameter, row or evaluation, a value out of range, values that are the same.
    """

    vary: str
    values: list[Any]
    row: str
    seeds: list[int]
    reference: str
    evaluate: list[str]
    fields: dict[str, Any]
    tuning: dict[str, Any]
    out: Path
    pretrained: dict[str, PretrainConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("values", "seeds", "evaluate"):
            if not isinstance(getattr(self, name), list) or not getattr(self, name):
                raise CVSAError(
                    f"Parameter {name} = {getattr(self, name)!r}: give a list with at least one entry."
                )
        if unknown := [name for name in self.evaluate if name not in KINDS]:
            raise CVSAError(f"Parameter evaluate: unknown {unknown[0]!r}; there are {', '.join(KINDS)}.")
        check_vary(self.vary)
        if self.fields.get(self.vary) is not None:
            raise CVSAError(
                f"Parameter {self.vary!r} is varied, and was also given one value; leave that out."
            )
        self.row = find_row(self.row)[0]
        resolve(FinetuneConfig, row=self.row, preset=self.fields.get("preset"), **self.tuning)
        labels = []
        for seed in self.seeds:
            usual = self.usual(self.row, seed)
            for value in self.values:
                config = self.usual(self.row, seed, **{self.vary: value})
                same = getattr(config, self.vary) == getattr(usual, self.vary)
                name = line_name((None, self.row), seed)
                self.pretrained[name if same else varied_name(name, self.vary, value)] = config
                labels.append(label(self.vary, getattr(config, self.vary)))
            if self.reference:
                row = find_row(self.reference)[0]
                self.pretrained.setdefault(line_name((None, row), seed), self.usual(row, seed))
        if len(set(labels)) * len(self.seeds) < len(labels):
            raise CVSAError(f"Parameter values = {self.values!r}: some of them are the same.")

    def usual(self, row: str, seed: int = 0, **given: Any) -> PretrainConfig:
        """A row's configuration where nothing (else) is varied."""
        return resolve(PretrainConfig, row=row, seed=seed, **self.fields, **given)

    def steps(self) -> Iterator[tuple[str, Callable[[], Record]]]:
        """Name and call of every run, in order; a call returns at once where the folder holds that run."""
        for name, config in self.pretrained.items():
            start = self.out / "pretrain" / name
            yield f"pretrain/{name}", partial(pretrain, config, start)
            if "finetune" in self.evaluate:
                yield (
                    f"finetune/{name}",
                    partial(finetune, self.out / "finetune" / name, pretrained=start, **self.tuning),
                )
            if "probe" in self.evaluate:
                yield f"probe/{name}", partial(probe, self.out / "probe" / name, pretrained=start)

    def cost(self) -> str:
        """How many runs are there already, and about how long the rest will take, in a sentence."""
        names = [name for name, _ in self.steps()]
        rest = [name for name in names if not (self.out / name / RECORD).is_file()]
        configs: list[RunConfig] = []
        for kind, name in (each.split("/") for each in rest):
            config = self.pretrained[name]
            data = {field: getattr(config, field) for field in SHARED}
            own = self.tuning if kind == "finetune" else {}
            configs.append(config if kind == "pretrain" else resolve(KINDS[kind], **(data | own)))
        seconds = estimate(configs, Path(cvsa.__file__).parents[1] / "results") if configs else 0.0
        took = "no record tells how long the rest takes"
        if seconds is not None:
            took = f"about {seconds / 60:.1f} min to go"
        return f"{len(names)} runs, {len(names) - len(rest)} of them there already; {took}"

    def records(self) -> Runs:
        """All runs that are finished."""
        folders = [self.out / name for name, _ in self.steps()]
        return [(folder, read_record(folder)) for folder in folders if (folder / RECORD).is_file()]

    def study(self) -> Study:
        """The ablation with what was measured of it."""
        values = [getattr(self.usual(self.row, **{self.vary: value}), self.vary) for value in self.values]
        asked = Ablation(self.vary, values, [self.row], self.seeds, self.evaluate)
        return study(self.vary, asked, self.records(), self.usual)

    def plain(self) -> Any:
        """The reference row's runs; without a reference none of its lines."""
        found = baseline(self.records(), self.usual, self.reference or self.row)
        return found if self.reference else found.iloc[:0]
