"""The checks in their order, each told as it is made.

So one that hangs or kills the process can be seen. A broken torch is among the things that are looked for:
nothing imports it before it was checked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from cvsa.data.sets import SETS, find_set
from cvsa.doctor.finding import Check, Finding, Looks, Report
from cvsa.doctor.installation import Installation
from cvsa.doctor.machine import Machine
from cvsa.errors import one_line

NAME_WIDTH = 18


def examine(seconds: float | None, say: Callable[[str], None], root: Path = Path()) -> Report:
    """Make every check.

    Args:
        seconds: counted time of the measurements of speed; None: none is made.
        say: is given the report piece by piece: a check's name before it is made, the rest after.
        root: folder the commands are meant to be called in, a checkout for `cvsa reproduce`.
    """
    checks: list[Check] = []
    for section, looks in _sections(seconds, root):
        say(f"{section}\n")
        for name, look in looks:
            say(f"  {name:<{NAME_WIDTH}} ")
            try:
                finding = look()
            except Exception as error:  # whatever it is, the next check may still tell something
                finding = Finding("fail", one_line(f"{type(error).__name__}: {error}"))
            checks.append(Check(section, name, finding))
            say(f"{finding.mark:<4}  {finding.text}\n")
            if finding.advice:
                say(f"  {'':<{NAME_WIDTH}}       -> {finding.advice}\n")
    report = Report(checks)
    say(f"{report.summary()}\n")
    return report


def _sections(seconds: float | None, root: Path) -> Iterator[tuple[str, Looks]]:
    installation = Installation()
    yield "Installation", installation.looks()
    machine = Machine(installation.works)
    yield "Machine", machine.looks(root)
    yield "Data", iter([("photographs", lambda: photographs(os.environ.get("CVSA_DATA")))])
    if not installation.works:
        told = Finding("warn", "what needs torch was left out", "mend the installation, then call this again")
        yield "Speed, proposals, time", iter([("torch", lambda: told)])
        return
    from cvsa.doctor.speed import Speed  # imports torch
    from cvsa.doctor.times import Times

    speed = Speed(machine, root)
    if seconds is not None:
        yield "Speed", speed.looks(seconds)
    yield "Proposals", speed.proposals()
    yield "Time, estimated", Times(speed).looks()


def photographs(place: str | None) -> Finding:
    """What the folder of data sets holds.

    Args:
        place: value of the environment variable CVSA_DATA.
    """
    if not place:
        told = "CVSA_DATA is not set; drawn pictures do without"
        return Finding("ok", told, facts={"folder": None, "published": [], "folders": []})
    folder = Path(place).expanduser()
    if not folder.is_dir():
        return Finding("warn", f"CVSA_DATA = {place} is no folder", "set it to the folder of your data sets")
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    published = [n for n in names if n in SETS and n != "folder" and find_set(n).find(folder / n)]
    others = [name for name in names if name not in published]
    told = f"published: {', '.join(published) or 'none'}; other folders: {', '.join(others) or 'none'}"
    return Finding(
        "ok", f"{folder}: {told}", facts={"folder": str(folder), "published": published, "folders": others}
    )
