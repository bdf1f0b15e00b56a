"""``python -m benchmarks``: measure how fast a step is on this machine, beside peers, and record it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from benchmarks.settings import SETTINGS, find_setting
from cvsa.errors import CVSAError
from cvsa.report.speed_records import FOLDER, SECTIONS, read_speeds

BUSY = 0.5  # load average above which somebody else uses the machine
INTERRUPTED = 130  # exit status of what was stopped by Ctrl-C


def _sections(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    asked = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
    if unknown := [part for part in asked if part not in SECTIONS] or ([] if asked else [value]):
        raise click.BadParameter(f"{unknown[0]!r}; there are {', '.join(SECTIONS)}")
    return asked


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--setting", "settings", multiple=True, help=f"{', '.join(SETTINGS)}; may be repeated.  [all]")
@click.option(
    "--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Of every contender."
)
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), default=4.0, show_default=True,
    help="Of each timed phase.",
)  # fmt: skip
@click.option(
    "--only", "asked", default=",".join(SECTIONS), show_default=True, callback=_sections,
    help="What is measured, with commas between.",
)  # fmt: skip
@click.option(
    "--device", default="auto", show_default=True,
    help="auto, cuda or cuda:N for the settings of a GPU; cpu leaves these out.",
)  # fmt: skip
@click.option("--readme", is_flag=True, help="Measure nothing: renew the README's table from the records.")
@click.option("--name", help="What follows the setting in the file's name.  [the machine]")
def main(
    settings: tuple[str, ...],
    rounds: int,
    seconds: float,
    asked: tuple[str, ...],
    device: str,
    readme: bool,
    name: str | None,
) -> None:
    """Measure training steps, peers' and our own, in turn on a quiet machine; to results/benchmarks.

    Ctrl-C stops it: what was measured so far is written and says that it is partial.
    """
    from benchmarks.measure import Options, measure, place, runs_here

    if readme:
        from cvsa.report.speed import in_order
        from cvsa.report.speed_readme import update

        update(Path("README.md"), in_order(read_speeds(FOLDER)))
        return
    options = Options(rounds, seconds, asked, device, name)
    if os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive":
        click.echo("OMP_WAIT_POLICY is passive: several threads hand over slowly then. Unset it to measure.")
    try:
        wanted = [find_setting(each) for each in settings or SETTINGS]
        here = []
        for setting in wanted:
            if runs_here(setting, device):
                place(setting, options)  # a file in the way is told before anything is measured
                here.append(setting)
            else:
                click.echo(f"{setting.name}: skipped, it needs a GPU and there is none to use")
        if here and hasattr(os, "getloadavg") and os.getloadavg()[0] > BUSY:
            click.echo(
                f"Others use this machine (load {os.getloadavg()[0]:.1f}): what is measured now tells little."
            )
        for setting in here:
            path, speed = measure(setting, options, say=click.echo)
            for line in [*speed.lines(), f"written to {path}"]:
                click.echo(line)
            if not speed.complete:
                sys.exit(INTERRUPTED)
    except CVSAError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
