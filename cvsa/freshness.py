"""Whether a record is still what today's code would make, told by the files that shaped it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cvsa.errors import CVSAError
from cvsa.provenance import code_hash, file_hashes
from cvsa.records import Record, config_of


@dataclass(frozen=True)
class Freshness:
    """State of a record.

    Attributes:
        state: "fresh", or "stale": made by other code than today's, so that running it again may give other
            numbers.
        reasons: why it is stale, a phrase each: "cvsa/views/swap.py was changed".
    """

    state: Literal["fresh", "stale"]
    reasons: list[str] = field(default_factory=list)


def freshness(record: Record) -> Freshness:
    """Compare the files that shaped a run with those that would shape it now.

    Comments and docstrings do not count, see :func:`cvsa.provenance.file_hashes`; neither do libraries,
    which `cvsa compare` shows.
    """
    try:
        config = config_of(record)
        now = file_hashes(config)
    except CVSAError as error:
        return Freshness("stale", [f"its configuration is not valid any more: {error}"])
    then = record.code.get("files")
    if not then:
        same = record.code.get("hash") == code_hash(config)
        return Freshness("fresh") if same else Freshness("stale", ["made by an earlier state of the code"])
    reasons = [f"{name} was changed" for name in now if name in then and then[name] != now[name]]
    reasons += [f"{name} was added" for name in now if name not in then]
    reasons += [f"{name} is no longer used" for name in then if name not in now]
    if config.identity() != record.run_id:
        reasons.append("parameters were added or their meaning changed")
    return Freshness("stale", reasons) if reasons else Freshness("fresh")
