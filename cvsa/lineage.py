"""What a run starts from: another run, published weights or nothing; and what it inherits by that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cvsa.config import (
    PUBLISHED,
    ChildConfig,
    Config,
    DataConfig,
    EvaluateConfig,
    PretrainConfig,
    resolve,
)
from cvsa.errors import CVSAError
from cvsa.records import Record, read_record

# The row of a network that this companion did not train.
PUBLISHED_ROW = "Published"


def resolve_run(model: type[Config], **given: Any) -> tuple[Config, Record | None]:
    """Resolve a run's configuration together with the run it starts from.

    Preset, seed and backbone are those of the run it starts from. An evaluation also inherits row, data and
    image size, except that a first stage on generic images is evaluated on the preset's fine-grained data
    ("stage 2: none" in the paper's table 2). A second stage chooses row and data itself.

    Args:
        model: one of ``cvsa.config.KINDS``.
        **given: fields of the model; ``pretrained`` names the folder of a pre-training run, or "timm" for the
            weights published for the backbone. An evaluation without it must be of row "Random".

    Returns:
        The configuration, and the record of the run it starts from (None if there is none).

    Raises:
        CVSAError: invalid fields; no finished run there; a field that contradicts the run it starts from; an
            evaluation of a row that has to be pre-trained first.
    """
    given = {k: v for k, v in given.items() if v is not None and v != ""}
    evaluates = model is not PretrainConfig
    start = given.get("pretrained")
    if start is None:
        if evaluates and given.get("row", "Random") != "Random":
            raise CVSAError(
                f"Row {given['row']!r} needs pretrained: the folder of its pre-training run "
                "(only 'Random' starts from nothing). Run the pretrain notebook first."
            )
        return resolve(model, **(given | {"row": "Random"} if evaluates else given)), None
    if Path(start) == PUBLISHED:
        row = {"row": PUBLISHED_ROW} if evaluates else {}
        given = _fixed(given, row, "the weights timm publishes")
        return resolve(model, **given, parent="published weights"), None
    parent = read_record(Path(start))
    if parent.kind != "pretrain":
        raise CVSAError(f"{start} holds a {parent.kind} run; pretrained must be a pre-training run's folder.")
    inherited = {"backbone": parent.config["backbone"]}
    if evaluates:
        inherited |= {"row": parent.row, "image_size": parent.config["image_size"]}
        if parent.stage2 is not None:
            inherited |= {name: parent.config[name] for name in DataConfig.model_fields}
    elif str(given.get("stage", 2)) == "1":
        raise CVSAError("stage 1 starts from nothing, or from published weights: leave pretrained out.")
    given = _fixed(given, inherited, f"the pre-trained run in {start}")
    return resolve(
        model, **{"preset": parent.preset, "seed": parent.seed, **given, "parent": parent.run_id}
    ), parent


def resolve_evaluation(**given: Any) -> tuple[EvaluateConfig, Record | None, Record | None]:
    """Resolve an evaluation together with the runs it looks at.

    Args:
        **given: fields of EvaluateConfig. With ``finetuned`` all but what is measured comes from that run,
            and ``pretrained`` is the run it started from unless given.

    Returns:
        The configuration, the record of the pre-training (None if there is none) and that of the fine-tuning
        (None without ``finetuned``).

    Raises:
        CVSAError: as :func:`resolve_run`; no fine-tuning run there; it did not start from ``pretrained``; the
            run that it started from is no longer where it was.
    """
    given = {k: v for k, v in given.items() if v is not None and v != ""}
    if "finetuned" not in given:
        config, parent = resolve_run(EvaluateConfig, **given)
        return config, parent, None
    folder = given["finetuned"]
    child = read_record(Path(folder))
    if child.kind != "finetune":
        raise CVSAError(f"{folder} holds a {child.kind} run; finetuned must be a fine-tuning run's folder.")
    start = child.config["pretrained"]
    if start is not None:
        given = {"pretrained": start, **given}
    missing = start is not None and Path(start) != PUBLISHED and not Path(given["pretrained"]).is_dir()
    if missing:
        raise CVSAError(
            f"The run in {folder} started from {given['pretrained']}, which is not there (from this folder). "
            "Give its place as pretrained."
        )
    inherited = {name: child.config[name] for name in DataConfig.model_fields}
    inherited |= {name: child.config[name] for name in ("row", "backbone", "image_size")}
    given = _fixed(given, inherited, f"the fine-tuned run in {folder}")
    given = {"preset": child.preset, "seed": child.seed, **given, "classifier": child.run_id}
    config, parent = resolve_run(EvaluateConfig, **given)
    if child.parents != ([parent.run_id] if parent else []):
        raise CVSAError(
            f"The run in {folder} did not start from {given.get('pretrained')}. Leave pretrained out."
        )
    return config, parent, child


def parent_of(config: ChildConfig) -> Record | None:
    """The record of the run that a resolved configuration starts from; None where it is no run."""
    return None if config.pretrained in (None, PUBLISHED) else read_record(Path(str(config.pretrained)))


def _fixed(given: dict[str, Any], inherited: dict[str, Any], origin: str) -> dict[str, Any]:
    for name, value in inherited.items():
        if name in given and str(given[name]) != str(value):
            raise CVSAError(
                f"Parameter {name} = {given[name]!r} contradicts {origin} ({value!r}). Leave it out."
            )
    return given | inherited
