"""Model cards of runs, in the form of the Hugging Face Hub, and cards of the data sets. [O]

Nothing is released by this project: a card says what a checkpoint of one's own is, on which terms it may be
passed on, and how to make it again.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

import cvsa
from cvsa.config import DRAWN, PRESETS, WHERE, DataConfig
from cvsa.costs import share_of_labels
from cvsa.data.sets import SETS, find_set
from cvsa.duration import duration
from cvsa.errors import CVSAError
from cvsa.freshness import freshness
from cvsa.records import HISTORY, WEIGHTS, Record, Runs, atomic_write, collect, read_record
from cvsa.report.page import Page, markdown, percent
from cvsa.report.sources import Sources
from cvsa.report.tables import METRICS, metrics_of
from cvsa.report.where import counted, hardware_words, run_commands

SHOWN_ROW = "BYOL+CVSA"  # whose fine-tuned network the book shows a card of
TASKS = {"pretrain": "image-feature-extraction", "finetune": "image-classification"}
TITLES = {"synthbirds": "SynthBirds", "synthscenes": "SynthScenes", "folder": "a folder of photographs"}
_OF_SIBLINGS = WHERE | {"seed", "parent"}  # what runs that differ by their seed differ in
# Drawn sets: what they are, and what anyone who trains on them should know.
DRAWN_CARDS: dict[str, dict[str, Any]] = {
    "synthbirds": {
        "how": "Drawn by `cvsa.data.birds` from a seed, on demand; nothing is downloaded or stored but the "
        "parameters. Every bird has one body plan; classes differ in six attributes (crown, wing bars, beak, "
        "breast, streaks, tail). Pose, scale, place, light and side vary independently of the class.",
        "splits": "`train` and `val` show a class's own habitat with probability `habitat_bias`; `test` a "
        "plain backdrop; `test_swapped` always another class's habitat. Splits are drawn independently.",
        "truth": "exact masks, boxes, five parts, six attributes and the habitat of every image",
        "parameters": ("num_classes", "train_images", "val_images", "test_images", "bank_size", "object_size",
                       "habitat_bias", "difficulty", "data_seed"),
        "biases": (
            "The background is a shortcut by design: `habitat_bias` says how often it gives the class away.",
            "Every picture holds exactly one bird, whole, not hidden, seen from the side.",
            "Classes are equally frequent; they differ in colours, lengths and patterns, not in body shape.",
            "Textures, light and habitats are procedural: nothing says that a result holds for photographs.",
            "Masks are exact. Real saliency is not; `saliency_error` makes them worse on purpose.",
        ),
    },
    "synthscenes": {
        "how": "Drawn by `cvsa.data.scenes` with the same renderer: sixteen kinds of everyday things, no "
        "birds, on the habitats of SynthBirds. It stands in for the generic images of a first stage.",
        "splits": "`train`, `val` and `test`, drawn independently.",
        "truth": "exact masks and boxes, the kind of thing and the habitat of every image",
        "parameters": ("train_images", "val_images", "test_images", "bank_size", "object_size", "data_seed"),
        "biases": (
            "The background is drawn at random and tells nothing about the kind of thing.",
            "One thing a picture, whole and not hidden; photographs of a generic set hold many.",
            "It shares its backgrounds with SynthBirds: a first stage on it has seen the second's habitats.",
            "Sixteen kinds are far from the variety of COCO or ImageNet-1K, whose place it takes.",
        ),
    },
}  # fmt: skip


def draw(page: Page, sources: Sources) -> None:
    """The cards the book shows: of every data set, and of one live run.

    Args:
        page: gets ``cards/card_data_drawn.md``, ``cards/card_data_published.md`` and ``cards/card_model.md``.
        sources: whose live runs hold a fine-tuned network of the method's row.

    Raises:
        CVSAError: there is no such run.
    """
    with page.source([]):
        page.file("cards/card_data_drawn.md", "\n".join(map(drawn_card, DRAWN_CARDS)))
        names = [name for name in SETS if find_set(name).card.splits]
        page.file("cards/card_data_published.md", "\n".join(map(published_card, names)))
    chosen = [
        (folder, record)
        for folder, record in sources.live
        if (record.kind, record.row, record.stage1) == ("finetune", SHOWN_ROW, None)
    ]
    if not chosen:
        raise CVSAError(f"No live fine-tuning of {SHOWN_ROW} to make a model card of: run the preset first.")
    folder, record = min(chosen, key=lambda pair: (pair[1].seed, len(pair[0].name)))
    family = [(folder, record), *siblings(record, sources.live)]
    page.file("cards/card_model.md", model_card(folder, sources.root, sources.live), family)


def write_card(run: Path, out: Path | None, root: Path) -> list[str]:
    """A run's card as lines, or written to a file.

    Args:
        run: folder of a pre-training or fine-tuning run.
        out: a Markdown file, such as README.md beside the weights; None: none.
        root: a checkout of the companion, or any folder.

    Raises:
        CVSAError: no such run, or one without weights of its own; the file is there already.
    """
    if out is not None and out.exists():
        raise CVSAError(f"{out} is there already. Choose another out, or delete it.")
    card = model_card(run, root)
    if out is None:
        return card.splitlines()
    atomic_write(out, card)
    return [f"Card of {run} in {out}"]


def model_card(run: Path, root: Path, runs: Runs | None = None) -> str:
    """Markdown with the front matter of a Hugging Face model card.

    Args:
        run: folder of a pre-training or fine-tuning run.
        root: a checkout of the companion.
        runs: where runs that differ by their seed, or start from this one, are looked for; None: the runs
            beside it.

    Raises:
        CVSAError: see :func:`write_card`.
    """
    record = read_record(run)
    if record.kind not in TASKS:
        raise CVSAError(
            f"{run} holds a {record.kind} run, which has no weights of its own to make a card of."
        )
    if runs is None:
        beside = run.parent.parent if run.parent.name == record.kind else run.parent
        runs = collect(beside).runs
    measured = results(record, runs)
    front = yaml.safe_dump(front_matter(record, measured), sort_keys=False, allow_unicode=True, width=110)
    known = {each.run_id: (folder, each) for folder, each in [*runs, (run, record)]}
    commands = run_commands(run, record, known, root)
    sections = {
        "Configuration": _configuration(record),
        "Data": _data(record),
        "Training": _training(run, record),
        "Results": _results(record, measured),
        "Limits": _bullets(limits(record, measured)),
        "Compute": _compute(record),
        "How to load it": _code("python", snippet(run, record, root)) + _weights_note(run),
        "How to make it again": _code("bash", _again(record, commands)),
        "Citation": _code("bibtex", citation(root)),
    }
    body = "".join(f"\n## {title}\n\n{text.strip()}\n" for title, text in sections.items())
    return f"---\n{front}---\n\n# {_title(record)}\n\n{_wrap(_about(record))}\n{body}"


def front_matter(record: Record, measured: pd.DataFrame) -> dict[str, Any]:
    """The metadata block of the card."""
    title = _data_title(record)
    free = made_of_drawings(record)
    front: dict[str, Any] = {
        "license": "mit" if free else "other",
        **({} if free else {"license_name": "terms-of-the-photographs"}),
        "library_name": "cvsa",
        "pipeline_tag": TASKS[record.kind],
        "tags": ["self-supervised-learning", "contrastive-learning", "fine-grained", record.row],
        "datasets": [record.config.get("dataset", "unknown")],
        "metrics": ["accuracy"],
    }
    if len(measured):
        front["model-index"] = [{
            "name": _title(record),
            "results": [{
                "task": {"type": "image-classification"},
                "dataset": {"name": title, "type": record.config.get("dataset", "unknown")},
                "metrics": [
                    {"type": "accuracy", "name": line["measure"], "value": round(float(line["here"]), 4)}
                    for _, line in measured.iterrows()
                ],
            }],
        }]  # fmt: skip
    return front


def siblings(record: Record, runs: Runs) -> Runs:
    """Runs of the same configuration with other seeds, in the order of their seeds."""

    def same(config: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in config.items() if name not in _OF_SIBLINGS}

    found = [
        (folder, other)
        for folder, other in runs
        if (other.kind, other.stage1, other.stage2) == (record.kind, record.stage1, record.stage2)
        and other.seed != record.seed and same(other.config) == same(record.config)
    ]  # fmt: skip
    return sorted(found, key=lambda pair: pair[1].seed)


def results(record: Record, runs: Runs) -> pd.DataFrame:
    """What was measured of a run and of its siblings.

    Of a pre-training these are the fine-tunings and probes that start from it, with all labels.

    Returns:
        Columns measure, here (value of this run), seeds (list of (seed, value), this run first).
    """
    values: dict[str, list[tuple[int, float]]] = {}
    for _, each in [(Path(), record), *siblings(record, runs)]:
        asked = [each] if record.kind == "finetune" else _children(each, runs)
        for other in asked:
            for metric, value in metrics_of(other).items():
                if (measure := METRICS.get(metric)) is not None:
                    values.setdefault(measure, []).append((each.seed, value))
    lines = [
        {"measure": measure, "here": found[0][1], "seeds": found}
        for measure, found in values.items()
        if found[0][0] == record.seed
    ]
    return pd.DataFrame(lines, columns=["measure", "here", "seeds"])


def _children(record: Record, runs: Runs) -> list[Record]:
    """Fine-tuning and probe of a pre-training with all labels; of several, those with the shortest name."""
    found: dict[str, Record] = {}
    for _, other in sorted(runs, key=lambda pair: len(pair[0].name)):
        starts = record.run_id in other.parents and other.kind in ("finetune", "probe")
        if starts and share_of_labels(other) == 1:
            found.setdefault(other.kind, other)
    return list(found.values())


def made_of_drawings(record: Record) -> bool:
    """Whether nothing but drawn pictures shaped the weights, first stage included."""
    first = record.stage1
    return record.config.get("dataset") in DRAWN and (first is None or first.split(" on ")[-1] in DRAWN)


def limits(record: Record, measured: pd.DataFrame) -> list[str]:
    """What the reader must not conclude, as far as the record tells."""
    config, told = record.config, []
    seeds = max((len(each) for each in measured["seeds"]), default=0)
    if seeds < 3:
        told.append(f"Measured with {counted(seeds, 'seed')}: differences of a few points may be chance.")
    if config.get("dataset") == "synthbirds":
        told.append("Trained on drawn birds: nothing here shows that it is of use on photographs.")
        told.append(
            f"In {percent(config['habitat_bias'], 0)} % of the training images the background gives the "
            "class away, by design, and in as many of those that the fine-tuned accuracy is measured on."
        )
    if config.get("backbone") in ("resnet_slim", "vit_slim"):
        told.append("A slim network for small images, to show a method in minutes: no general backbone.")
    told.append("A re-implementation from the paper's poster; the authors' code was never published.")
    state = freshness(record)
    if state.state == "stale":
        told.append(f"Today's code may give other numbers: {'; '.join(state.reasons[:2])}.")
    if record.code.get("dirty"):
        told.append("Made with changes to the code that were not committed.")
    return told


def terms(record: Record) -> str:
    """On which terms the weights may be passed on."""
    if made_of_drawings(record):
        return "The pictures are drawn by the package (MIT licence); so are these weights."
    dataset = record.config.get("dataset")
    if record.stage1 and record.stage1.startswith("published weights"):
        first = f" The {record.stage1} shaped it as well: their licence holds too."
    else:
        first = (
            f" Its first stage was {record.stage1}: the terms of that data hold too." if record.stage1 else ""
        )
    if dataset in SETS and dataset not in DRAWN:
        known = find_set(dataset).card
        said = f"Terms of the photographs of {known.title}: {known.terms}."
    else:
        said = "Drawn pictures."
    return f"{said}{first} Do not pass the weights on unless those terms allow it."


def drawn_card(dataset: str) -> str:
    """The card of a drawn set, as a section of a page."""
    told = DRAWN_CARDS[dataset]
    fields = DataConfig.model_fields
    parameters = [
        f"`{name}` (default {fields[name].default}): {fields[name].description}"
        for name in told["parameters"]
    ]
    parts = {
        "Made": told["how"],
        "Splits": told["splits"],
        "Annotated": f"{told['truth']}.",
        "Licence": "MIT, as the package. There are no people, places or photographs in it.",
        "Get it": f"nothing to get: `-p dataset {dataset}`; the first run draws it.",
    }
    lines = [f"- **{title}:** {text}" for title, text in parts.items()]
    known = _bullets(told["biases"])
    return (
        f"### {TITLES[dataset]}\n\n" + "\n".join(map(_wrap, lines))
        + f"\n\nParameters (a preset may set others; `cvsa params pretrain`):\n\n{_bullets(parameters)}\n\n"
        + f"Known biases and limits:\n\n{known}\n"
    )  # fmt: skip


def published_card(name: str) -> str:
    """The card of a published set, from ``cvsa.data.sets``, as a section of a page."""
    source = find_set(name)
    card = source.card
    counts = ", ".join(f"{count:,} {split}" for split, count in card.splits.items())
    classes = f"{card.classes:,} classes" if card.labelled else "labels are not used"
    parts = {
        "Origin": f"<{card.url}>",
        "Cite": card.citation,
        "Terms": f"{card.terms}. It is not part of this project and is not copied by it.",
        "Size": f"{counts} images; {classes}.",
        "Splits": f"{card.about_splits}.",
        "Annotated": f"{card.truth}. Saliency read here: {', '.join(source.kinds) or 'none of its own'}.",
        "Get it": f"`cvsa data card {name}`, then `cvsa data prepare {name}`.",
    }
    lines = [_wrap(f"- **{title}:** {text}") for title, text in parts.items()]
    archives = pd.DataFrame([
        {"archive": f"`{each.file}`", "MD5 as published": f"`{each.md5}`" if each.md5 else "none published"}
        for each in card.archives
    ])  # fmt: skip
    return f"### {card.title}\n\n" + "\n".join(lines) + f"\n\n{markdown(archives)}\n"


def snippet(run: Path, record: Record, root: Path) -> str:
    """Python that loads the weights and uses them."""
    folder = (
        run.resolve().relative_to(root.resolve()) if run.resolve().is_relative_to(root.resolve()) else run
    )
    size = record.config["image_size"]
    shared = [
        "from pathlib import Path", "", "import torch", "",
        *(["from cvsa.evaluation.finetune import Classifier"] if record.kind == "finetune" else []),
        "from cvsa.methods import build_backbone",
        "from cvsa.training.checkpoint import load_weights", "",
        f'folder = Path("{folder.as_posix()}")',
        f'backbone = build_backbone("{record.config["backbone"]}", image_size={size})',
    ]  # fmt: skip
    images = f"images = torch.rand(2, 3, {size}, {size})  # yours: RGB in [0, 1]"
    if record.kind == "finetune":
        own = [
            f"model = Classifier(backbone, classes={record.counts['classes']}).eval()",
            "load_weights(folder, model)", images, "with torch.no_grad():",
            "    logits = model.head(backbone.pool(backbone(images)))", "print(logits.argmax(1))",
        ]  # fmt: skip
    else:
        own = [
            'load_weights(folder, backbone, prefix="encoder.")', images, "with torch.no_grad():",
            "    features = backbone.eval().pool(backbone(images))", "print(features.shape)",
        ]  # fmt: skip
    return "\n".join([*shared, *own])


def citation(root: Path) -> str:
    """``CITATION.bib`` of a checkout; elsewhere, where it is."""
    for place in (root, Path(cvsa.__file__).parents[1]):
        if (place / "CITATION.bib").is_file():
            return (place / "CITATION.bib").read_text(encoding="utf-8").strip()
    addresses = dict(line.split(", ", 1) for line in metadata.metadata("cvsa").get_all("Project-URL") or [])
    return f"% see CITATION.bib in {addresses.get('Repository', 'the repository of the companion')}"


def _title(record: Record) -> str:
    return f"{record.row} on {_data_title(record)}, {record.kind}, preset {record.preset}, seed {record.seed}"


def _data_title(record: Record) -> str:
    dataset = record.config.get("dataset", "unknown")
    if dataset == "folder" and record.config.get("root"):
        return Path(str(record.config["root"])).name
    return TITLES.get(dataset) or find_set(dataset).card.title if dataset in (*TITLES, *SETS) else dataset


def _about(record: Record) -> str:
    what = {
        "pretrain": "A backbone and its heads after self-supervised pre-training without labels",
        "finetune": "A classifier, a backbone fine-tuned with labels",
    }[record.kind]
    before = f", after a first stage ({record.stage1})" if record.stage1 else ""
    return (
        f"{what}: row {record.row} of a companion to CVSA, {record.config['backbone']} at "
        f"{record.config['image_size']} px, on {_data_title(record)}{before}. Run `{record.run_id}` of "
        f"{record.started:%Y-%m-%d}. The companion is not by the authors of the paper."
    )


def _configuration(record: Record) -> str:
    names = (
        "backbone", "image_size", "base", "view", "align_weight", "swap_scale", "epochs", "batch_size",
        "optimizer", "lr", "weight_decay", "seed", "crop_scale", "label_fraction",
    )  # fmt: skip
    about = PRESETS.get(record.preset, {}).get("about", "a preset of one's own")
    lines = [(name, record.config[name]) for name in names if name in record.config]
    table = markdown(pd.DataFrame(lines, columns=["parameter", "value"]))
    return f"{_wrap(f'Preset `{record.preset}`: {about}. The record holds every parameter.')}\n\n{table}"


def _data(record: Record) -> str:
    lines = [f"`{split}`: fingerprint `{digest[:16]}`" for split, digest in record.data_fingerprints.items()]
    saliency = [
        f"`{split}`: saliency `{digest[:16]}`" for split, digest in record.saliency_fingerprints.items()
    ]
    counts = ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in record.counts.items())
    head = f"{_data_title(record)}: {counts}. {terms(record)}"
    return f"{_wrap(head)}\n\n{_bullets([*lines, *saliency])}"


def _training(run: Path, record: Record) -> str:
    path = run / HISTORY
    if not path.is_file():
        return "No history lies beside the record."
    history = pd.read_csv(path)
    chosen = history.iloc[sorted({0, len(history) // 2, len(history) - 1})]
    columns = [name for name in history if name not in ("seconds", "learning_rate")]
    table = chosen[columns].map(lambda value: f"{value:.4g}")
    return markdown(table)


def _results(record: Record, measured: pd.DataFrame) -> str:
    if measured.empty:
        return "Nothing was measured of it yet: `cvsa evaluate` or the notebooks `finetune` and `probe` do."
    lines = []
    for _, line in measured.iterrows():
        values = [value for _, value in line["seeds"]]
        lines.append({
            "measure": line["measure"], "this run, %": percent(line["here"]),
            "mean, %": percent(sum(values) / len(values)),
            "every seed": ", ".join(f"{percent(v)} (seed {seed})" for seed, v in sorted(line["seeds"])),
        })  # fmt: skip
    how = "Accuracies on held-out images, of this run and of its siblings with other seeds."
    if record.kind == "pretrain":
        how = "Accuracies of the networks that start from these weights and from those of its siblings."
    return f"{how}\n\n{markdown(pd.DataFrame(lines))}"


def _compute(record: Record) -> str:
    joules = record.energy_joules
    energy = (
        "Energy: not reported by the device, so no emissions are stated."
        if joules is None
        else f"Energy: {joules / 3600:.1f} Wh as the device reports it. Emissions depend on where it stood."
    )
    peak = f"peak memory {record.peak_memory_mib:,.0f} MiB"
    return _wrap(f"{duration(record.seconds)} on {hardware_words(record.hardware)}, {peak}. {energy}")


def _weights_note(run: Path) -> str:
    if (run / WEIGHTS).is_file():
        return ""
    return "\nThe weights are not beside this record: make them again first.\n"


def _again(record: Record, commands: Iterable[str]) -> str:
    code = record.code
    commit = code.get("commit")
    first = [f"git checkout {commit}"] if commit else []
    found = list(commands) or ["# today's code has no such preset, row or parameter any more"]
    return "\n".join([*first, "make setup", *found])


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(_wrap(f"- {line}") for line in lines)


def _code(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```\n"


def _wrap(text: str) -> str:
    return textwrap.fill(
        text, 110, subsequent_indent="  " if text.startswith("- ") else "", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
