"""Run records: one JSON file per run, validated and sealed on write, checked on read, written atomically.

The book reads nothing else. A record says what ran (configuration, seed, data), what came out (metrics; the
per-epoch history and what was found per image lie beside it as CSV), and where it ran (code, libraries,
hardware, seconds, memory, energy).
"""

from cvsa.records.schema import SCHEMA_VERSION, Record, config_of
from cvsa.records.store import (
    DAMAGED,
    HISTORY,
    PREDICTIONS,
    RECORD,
    WEIGHTS,
    Collection,
    Excluded,
    Runs,
    atomic_write,
    collect,
    find_records,
    finished,
    make_record,
    migrate,
    read_record,
    write_record,
)

__all__ = [
    "DAMAGED", "HISTORY", "PREDICTIONS", "RECORD", "SCHEMA_VERSION", "WEIGHTS",
    "Collection", "Excluded", "Record", "Runs",
    "atomic_write", "collect", "config_of", "find_records", "finished", "make_record", "migrate",
    "read_record", "write_record",
]  # fmt: skip
