"""The command line: thin, every command calls one function elsewhere. Experiments are notebooks."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import click

from cvsa import __version__
from cvsa.cli_records import records
from cvsa.data.sets.commands import data
from cvsa.errors import CVSAError


class _OneLineErrors(click.Group):
    """Turns a user's mistake into one line and exit status 2, and a warning into one line."""

    def invoke(self, ctx: click.Context) -> object:
        def warn(message: Warning | str, *_: object, **__: object) -> None:
            click.echo(f"warning: {message}", err=True)

        with warnings.catch_warnings():
            warnings.showwarning = warn
            try:
                return super().invoke(ctx)
            except CVSAError as error:
                click.echo(f"error: {error}", err=True)
                ctx.exit(2)


@click.group(
    cls=_OneLineErrors, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="cvsa")
def main() -> None:
    """Companion to "Exploring Localization for Self-supervised Fine-grained Contrastive Learning" (CVSA).

    Experiments are notebooks, run with papermill:

    \b
      papermill notebooks/pretrain.ipynb out.ipynb -p row "BYOL+CVSA" -p epochs 5
      papermill --help-notebook notebooks/pretrain.ipynb

    These commands list what there is and run whole presets.
    """


@main.command()
@click.option(
    "--table",
    type=click.Choice(["second_stage_only", "dual_stage", "scale_ablation"]),
    help="Only what this table of the paper needs, with its cost.",
)
@click.option("--preset", default="tiny", show_default=True, help="Preset the cost is estimated for.")
def rows(table: str | None, preset: str) -> None:
    """List the catalogue, or what one of the paper's tables needs and what it costs per seed."""
    if table:
        from cvsa.costs import table_lines

        for line in table_lines(table, preset):
            click.echo(line)
        return
    from cvsa.methods.catalogue import ALIASES, ROWS, TABLES

    click.echo(f"{'row':<13} {'base':<10} {'views':<21} {'L_Align':>7}  about")
    for name, row in ROWS.items():
        click.echo(
            f"{name:<13} {row.base:<10} {row.view:<21} {row.align_weight:>7g}  {row.about}; {row.source}"
        )
    for alias, name in ALIASES.items():
        click.echo(f"{alias} is another name for {name}.")
    lines = ", ".join(f"{first} → {second or 'none'}" for first, second in TABLES["dual_stage"])
    click.echo(f"Dual stage (stage 1 → stage 2): {lines}.")


@main.command()
@click.argument("kind", type=click.Choice(["pretrain", "finetune", "probe", "evaluate"]))
def params(kind: str) -> None:
    """Print a notebook's parameters cell: name, type and help of each parameter."""
    from cvsa.config import KINDS, parameter_cell

    click.echo(parameter_cell(next(model for model, name in KINDS.items() if name == kind)))


@main.command()
def presets() -> None:
    """List the presets: the same experiments at different sizes."""
    from cvsa.config import PRESETS

    for name, preset in PRESETS.items():
        click.echo(f"{name:<15} {preset['about']}")


@main.command()
@click.option(
    "--preset", default="tiny", show_default=True, help="Size of the experiments, see `cvsa presets`."
)
@click.option(
    "--jobs",
    default=None,
    type=click.IntRange(min=1),
    help="Runs at a time; each uses one thread.  [default: all cores]",
)
@click.option("--dry-run", is_flag=True, help="Only list what would run.")
@click.option(
    "--report/--no-report",
    default=None,
    help="Draw the book's tables and figures at the end.  [default: for tiny, which the book needs]",
)
@click.option(
    "--notebooks/--no-notebooks",
    default=True,
    show_default=True,
    help="Without, runs are plain processes: no papermill, no Snakemake, no report.",
)
@click.option("--budget", help="Time to spend on the most valuable runs, such as 25m or 1h30m; no notebooks.")
@click.option("--device", default="auto", show_default=True, help="Of runs without notebooks.")
def reproduce(
    preset: str,
    jobs: int | None,
    dry_run: bool,
    report: bool | None,
    notebooks: bool,
    budget: str | None,
    device: str,
) -> None:
    """Run every experiment of a preset and its parts that is missing or has changed, then draw the report.

    Interrupt it at any time: the same command goes on where it stopped.
    """
    if notebooks and budget is None:
        from cvsa.reproduce import reproduce as run

        sys.exit(run(preset, jobs=jobs, dry_run=dry_run, report=report))
    from cvsa.direct import reproduce_directly
    from cvsa.duration import read_seconds

    seconds = None if budget is None else read_seconds(budget)
    sys.exit(reproduce_directly(preset, Path(), jobs=jobs, budget=seconds, device=device, dry_run=dry_run))


@main.command()
@click.argument("kind", type=click.Choice(["pretrain", "finetune", "probe", "evaluate"]))
@click.option(
    "-p", "pairs", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter, as papermill takes it."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the run.  [default: its own in runs/]"
)
def run(kind: str, pairs: tuple[tuple[str, str], ...], out: Path | None) -> None:
    """Make one run without its notebook: the same record, no figures.

    \b
      cvsa run pretrain -p row "BYOL+CVSA" -p epochs 5
      cvsa run finetune -p pretrained runs/pretrain/FOLDER
    """
    from cvsa.single import read_parameters, single, told

    for line in told(*single(kind, read_parameters(pairs), out)):
        click.echo(line)


@main.command()
@click.option(
    "--preset", default="tiny", show_default=True, help="Preset whose records are drawn as the live ones."
)
@click.option("--only", metavar="NAME", help="Only what has this name: finetune.svg, tables/table_1.md.")
@click.option(
    "--strict",
    is_flag=True,
    envvar="CVSA_STRICT",
    help="Refuse records that are damaged or older than the code that shapes them.",
)
def report(preset: str, only: str | None, strict: bool) -> None:
    """Draw the book's tables, figures and numbers from records (no experiment runs)."""
    from cvsa.report.pages import draw

    draw(preset, Path.cwd(), only, strict)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--all", "everything", is_flag=True, help="Every part, the slow ones too.")
@click.option("--parts", help="What is measured, with commas between.  [default: all but the slow ones]")
@click.option("--pretrained", type=click.Path(path_type=Path), help="Where the run that RUN started from is.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the record.  [default: below runs/]")
def evaluate(
    run: Path, everything: bool, parts: str | None, pretrained: Path | None, out: Path | None
) -> None:
    """Measure where a finished run looks, what it leans on and what its features are good for.

    RUN is the folder of a fine-tuning or of a pre-training run; all that its data allows is measured and
    written as one record.
    """
    from cvsa.evaluation.command import evaluate_run

    if everything and parts:
        raise click.UsageError("--all and --parts exclude each other.")
    for line in evaluate_run(run, "all" if everything else parts, pretrained, out):
        click.echo(line)


@main.command()
@click.option("--preset", default="tiny", show_default=True, help="Size, see `cvsa presets`.")
@click.option("--row", default="BYOL+CVSA", show_default=True, help="A row with alignment, see `cvsa rows`.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Its seed.")
@click.option("--out", default="results/attention", show_default=True, type=click.Path(path_type=Path))
def watch(preset: str, row: str, seed: int, out: Path) -> None:
    """Train once and keep the alignment's attention after every epoch, for the book's interactive figure."""
    from cvsa.config import PretrainConfig, resolve
    from cvsa.evaluation.snapshots import FILE, attention_over_training

    config = resolve(PretrainConfig, row=row, preset=preset, seed=seed)
    frames = attention_over_training(config, out, range(config.epochs + 1))
    click.echo(f"{frames.row}: attention after {len(frames.epochs)} epochs in {out / FILE}")


main.add_command(data)


@main.command()
@click.option("--preset", required=True, help="Preset whose finished runs are kept, see `cvsa presets`.")
@click.option("--partial", is_flag=True, help="Those that are finished; what was kept of others stays.")
def keep(preset: str, partial: bool) -> None:
    """Copy the records of a preset and its parts (no weights) to results/, to be committed."""
    from cvsa.report.keep import keep as run

    for name, count in run(preset, Path.cwd(), partial).items():
        click.echo(f"Kept {count} runs in results/{name}.")


@main.command()
@click.option(
    "--seconds", default=10.0, show_default=True, type=click.FloatRange(min=0), help="For timing steps."
)
@click.option("--no-probe", is_flag=True, help="Leave the timing out; times are then as on other machines.")
@click.option("--json", "as_json", is_flag=True, help="All of it as JSON, at the end.")
def doctor(seconds: float, no_probe: bool, as_json: bool) -> None:
    """Check the installation and this machine, time training steps, and estimate what each preset will take.

    Ends with status 1 if a check fails; a warning is no failure.
    """
    from cvsa.doctor import examine

    def say(text: str) -> None:
        if not as_json:
            click.echo(text, nl=False)

    report = examine(None if no_probe else seconds, say)
    if as_json:
        click.echo(report.to_json())
    sys.exit(report.status)


@main.command()
@click.option("--preset", default="tiny", show_default=True, help="Preset looked at, see `cvsa presets`.")
@click.option(
    "--only", multiple=True, help="Only experiments in this state (fresh, stale, missing …); may be repeated."
)
@click.option("--json", "as_json", is_flag=True, help="All of it as JSON, the reasons in full.")
def status(preset: str, only: tuple[str, ...], as_json: bool) -> None:
    """Say which experiments of a preset and its parts are there and still hold, and what the rest will take.

    \b
      fresh     made by today's configuration and code
      imported  fresh, and made on another machine
      stale     made by another configuration or other code, or starts from such a run
      damaged   its record is not valid, and left out of the book
      failed    was started and ended in an error
      missing   was not made, or is not finished
    """
    from cvsa.status import status_json, status_lines

    for line in [status_json(preset, Path())] if as_json else status_lines(preset, Path(), only):
        click.echo(line)


@main.command()
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="B", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Also write a page (.html), complete in itself.")
@click.option(
    "--metric", "metrics", multiple=True, help="Of two sets: a pattern such as 'evaluate.*'; may be repeated."
)
def compare(first: Path, second: Path, out: Path | None, metrics: tuple[str, ...]) -> None:
    """Compare two runs, or two sets of runs: configuration, code, results. Differences are B - A.

    A and B are folders: of one run each, or of many each, such as results/pilot and book/results/pilot.
    """
    from cvsa.report.compare import run_comparison

    for line in run_comparison(first, second, out, metrics):
        click.echo(line)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="A Markdown file.  [default: print it]")
def card(run: Path, out: Path | None) -> None:
    """Write the model card of a pre-training or fine-tuning run, in the form of the Hugging Face Hub."""
    from cvsa.report.cards import write_card

    for line in write_card(run, out, Path.cwd()):
        click.echo(line)


@main.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new folder, or a .zip file.")
@click.option("--by", help="Who ran it.  [default: the authors in CITATION.cff]")
def crate(results: Path, out: Path, by: str | None) -> None:
    """Export a set of runs, such as results/pilot, as an RO-Crate (no weights)."""
    from cvsa.report.crate import export

    for line in export(results, out, Path.cwd(), by):
        click.echo(line)


@main.command()
@click.option("--preset", default="paper", show_default=True, help="Size, see `cvsa presets`.")
@click.option("--row", "rows", multiple=True, default=("BYOL",), show_default=True, help="May be repeated.")
@click.option(
    "--steps", default=5, show_default=True, type=click.IntRange(min=1), help="Counted steps of each."
)
@click.option("--batch", type=click.IntRange(min=2), help="Images per step.  [default: the preset's]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--name", help="Of the file in results/compute.  [default: from preset, machine and batch]")
def throughput(
    preset: str, rows: tuple[str, ...], steps: int, batch: int | None, device: str, name: str | None
) -> None:
    """Time training steps at a preset's size, on images of noise, and write them to results/compute."""
    from cvsa.throughput import measure

    path, measured = measure(preset, rows, steps=steps, batch_size=batch, device=device, name=name)
    for line in [*measured.lines(), f"written to {path}"]:
        click.echo(line)


main.add_command(records)
