"""`cvsa data`: the command line of the data sets; thin, every command calls one function elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import click

ROOT = click.option(
    "--root",
    type=click.Path(path_type=Path),
    help="The data set's folder.  [default: $CVSA_DATA/NAME]",
)


@click.group()
def data() -> None:
    """Data sets of photographs: what there is, is it all there, make it ready.

    NAME is one of `cvsa data list`, or the path of a folder of photographs.
    """


@data.command("list")
def overview() -> None:
    """List the data sets, with the truth each one brings."""
    from cvsa.data import sets

    for line in sets.overview():
        click.echo(line)


@data.command()
@click.argument("name")
@ROOT
def card(name: str, root: Path | None) -> None:
    """Print a data set's card: origin, citation, terms, splits, checksums; and what of it is here."""
    from cvsa.data.sets.verify import describe

    for line in describe(name, root):
        click.echo(line)


@data.command()
@click.argument("name")
@ROOT
@click.option("--decode", is_flag=True, help="Also decode every image, which finds truncated ones.")
def verify(name: str, root: Path | None, decode: bool) -> None:
    """Check a data set's files, tables and saliency; exit status 1 if something has to be mended."""
    from cvsa.data.sets.verify import verify as run

    report = run(name, root, decode=decode)
    for line in report.lines():
        click.echo(line)
    sys.exit(1 if report.problems else 0)


@data.command()
@click.argument("name")
@ROOT
@click.option("--download", is_flag=True, help="Fetch missing archives from their publisher, if possible.")
@click.option(
    "--size", default=64, show_default=True, type=click.IntRange(32, 1024), help="Bank size, pixels."
)
@click.option("--saliency", default="auto", show_default=True, help="Where the banks' saliency comes from.")
@click.option("--banks/--no-banks", default=True, show_default=True, help="Build the banks, or only unpack.")
def prepare(name: str, root: Path | None, download: bool, size: int, saliency: str, banks: bool) -> None:
    """Unpack (or download) a data set and build its banks."""
    from cvsa.data.sets.prepare import prepare as run

    for line in run(
        name, root, download=download, banks={"bank_size": size, "saliency": saliency} if banks else None
    ):
        click.echo(line)
