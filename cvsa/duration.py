"""Times as people write them."""

from __future__ import annotations

import re

from cvsa.errors import CVSAError

UNITS = {"s": 1, "m": 60, "h": 3600}


def read_seconds(text: str) -> float:
    """ "90s", "25m", "1h30m" -> seconds.

    Raises:
        CVSAError: anything else, or no time at all.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smh])", text)
    seconds = sum(float(number) * UNITS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or seconds <= 0:
        raise CVSAError(f"Budget {text!r} is no time: give hours, minutes or seconds, such as 25m or 1h30m.")
    return seconds


def duration(seconds: float) -> str:
    """Seconds as people say them: "48 s", "12 min", "3.4 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
