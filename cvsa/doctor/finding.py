"""What a check finds, and all findings as a report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        mark: "fail" where something will not work, "warn" where it will work badly or in part.
        text: what is the case, in a line.
        advice: what to do about it, or empty.
        facts: the same for programs.
    """

    mark: Literal["ok", "warn", "fail"]
    text: str
    advice: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


Looks = Iterator[tuple[str, Callable[[], Finding]]]
"""Checks to be made, by name; the next one may depend on what the last one found."""


@dataclass(frozen=True)
class Check:
    """A finding with its place in the report."""

    section: str
    name: str
    finding: Finding


@dataclass(frozen=True)
class Report:
    """All checks, in the order they were made."""

    checks: list[Check]

    @property
    def status(self) -> int:
        """Exit status: 1 if a check failed; warnings are none."""
        return int(any(check.finding.mark == "fail" for check in self.checks))

    def summary(self) -> str:
        """One sentence."""
        marks = Counter(check.finding.mark for check in self.checks)
        if marks["fail"]:
            return f"{marks['fail']} of {len(self.checks)} checks failed; mend these first."
        if marks["warn"]:
            return f"Nothing failed; {marks['warn']} of {len(self.checks)} checks warn."
        return f"All {len(self.checks)} checks are ok."

    def to_json(self) -> str:
        """All of it for programs."""
        checks = [{"section": c.section, "name": c.name, **asdict(c.finding)} for c in self.checks]
        return json.dumps({"status": self.status, "summary": self.summary(), "checks": checks}, indent=1)


def gib(count: float) -> str:
    """Bytes as people read them: "22.4 GiB"."""
    return f"{count / GIB:.1f} GiB"
