"""Where things are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Where banks are kept: the environment variable CVSA_CACHE, or ~/.cache/cvsa."""
    return Path(os.environ.get("CVSA_CACHE") or "~/.cache/cvsa").expanduser()
