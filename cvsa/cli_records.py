"""The commands `cvsa records ...`: thin, each calls one function of `cvsa.records`."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.group()
def records() -> None:
    """Records of finished runs: take them in from another machine, pack them for one, check them."""


@records.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--into", type=click.Path(path_type=Path), help="Folder they go to.  [default: results/PRESET]")
@click.option("--weights", is_flag=True, help="Take the weights beside them too.")
def import_(files: tuple[Path, ...], into: Path | None, weights: bool) -> None:
    """Take in records made elsewhere: a record.json, a folder of runs, a .zip or .tar.gz of such folders.

    All are checked before the first is copied; one that contradicts a run that is here is refused.
    """
    from cvsa.records.transfer import import_records

    for line in import_records(files, Path(), into, weights):
        click.echo(line)


@records.command("export")
@click.argument("what", metavar="PRESET|FOLDER")
@click.argument("file", metavar="FILE.zip", type=click.Path(path_type=Path))
@click.option("--weights", is_flag=True, help="Pack the weights too.")
def export(what: str, file: Path, weights: bool) -> None:
    """Pack records with their histories and predictions, for `cvsa records import` elsewhere."""
    from cvsa.records.packing import export_records

    for line in export_records(what, file, Path(), weights):
        click.echo(line)


@records.command("migrate")
@click.argument("root", metavar="FOLDER", type=click.Path(path_type=Path, exists=True, file_okay=False))
def migrate_(root: Path) -> None:
    """Write records of earlier schemas below FOLDER anew, in today's schema and sealed."""
    from cvsa.records import migrate

    click.echo(f"{migrate(root)} records below {root} were written anew.")


@records.command("check")
@click.argument("roots", metavar="[FOLDER]...", nargs=-1, type=click.Path(path_type=Path))
def check(roots: tuple[Path, ...]) -> None:
    """Read every record: lists damaged and stale ones; exit status 1 if any is damaged.

    Without folders: results and book/results.
    """
    from cvsa.records.packing import check_records

    lines, damaged = check_records(roots or (Path("results"), Path("book/results")))
    for line in lines:
        click.echo(line)
    sys.exit(1 if damaged else 0)
