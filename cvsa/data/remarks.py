"""What a user should know about a folder's photographs, though they can be read as they are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from cvsa.data.bank import ImageBank

ASPECT = 0.02  # a mask whose aspect ratio is off by more may belong to another image


def some(names: Iterable[str], shown: int = 3) -> str:
    """The first few names, and how many more there are."""
    chosen = list(names)
    rest = f" and {len(chosen) - shown} more" if len(chosen) > shown else ""
    return "; ".join(chosen[:shown]) + rest


def links_out(root: Path, paths: Iterable[str]) -> list[str]:
    """Images that a link, of the file or of a folder, takes out of the root; with their targets."""
    inside = os.path.join(os.path.realpath(root), "")
    targets = ((path, os.path.realpath(f"{root}/{path}")) for path in paths)
    return [f"{path} -> {target}" for path, target in targets if not target.startswith(inside)]


def misfit(path: str, size: tuple[int, int], mask: tuple[int, int]) -> str | None:
    """What is said of a mask that has another shape than its image; None where it has the same.

    Args:
        path: of the image.
        size, mask: width and height of both, pixels.
    """
    if abs(mask[0] * size[1] / (mask[1] * size[0]) - 1) <= ASPECT:
        return None
    return f"{path} ({mask[0]} x {mask[1]} for {size[0]} x {size[1]})"


def equal_images(banks: Mapping[str, ImageBank]) -> dict[str, list[str]]:
    """Images with the very same pixels in two places where they should not be.

    They are compared as they stand in the bank: a copy with other metadata or a lossless one in another
    format is equal, another photograph of the same thing is not.

    Args:
        banks: by split, with the extras `path` and `digest` (see `cvsa.data.photographs`).

    Returns:
        "val", "test": images that are also in "train", as "train/x = test/y"; "labels": images that are in
        "train" with another label.
    """
    train = banks["train"].extras
    order = np.argsort(train["digest"], kind="stable")
    known = train["digest"][order]
    labels = banks["train"].labels.cpu().numpy()[order]
    first = np.searchsorted(known, known)  # of equal images the first
    found = {"labels": [(int(order[first[i]]), train["path"][order[i]])
                        for i in np.flatnonzero(labels != labels[first])]}  # fmt: skip
    for split, bank in banks.items():
        if split != "train":
            digest = bank.extras["digest"]
            at = np.searchsorted(known, digest).clip(max=len(known) - 1)
            same = np.flatnonzero(known[at] == digest)
            found[split] = [(int(order[at[i]]), bank.extras["path"][i]) for i in same]
    return {name: [f"{train['path'][i]} = {path}" for i, path in pairs] for name, pairs in found.items()}
