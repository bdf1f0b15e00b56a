"""From a configuration to its banks."""

from __future__ import annotations

from cvsa.config import DRAWN, DataConfig
from cvsa.data.bank import ImageBank


def load_splits(config: DataConfig) -> dict[str, ImageBank]:
    """The banks of a data set, built at first use and kept in the cache (see `cvsa.io.paths.cache_root`).

    Args:
        config: which data set, size and saliency.

    Returns:
        Disjoint banks "train", "val" and "test", and "test_swapped" for SynthBirds; no "test" for a set
        without labels. Extras: `habitat`, `attributes`, `parts` of drawn birds, `path` of photographs.

    Raises:
        CVSAError: files are missing or not laid out as expected, images are unreadable, the disk is full.
    """
    # Only what is imported here shapes a run of such data (see `cvsa.provenance`).
    if config.dataset in DRAWN:
        from cvsa.data.drawn import load_drawn

        return load_drawn(config)
    from cvsa.data.photographs import load_photographs

    return load_photographs(config)
