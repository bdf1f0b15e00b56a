"""What `verify` looks at: images and their headers, saliency against the images, equal files."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cvsa.data.remarks import links_out, misfit, some
from cvsa.data.sets.base import DataSet
from cvsa.errors import CVSAError, one_line

if TYPE_CHECKING:
    from cvsa.data.listing import Listing
    from cvsa.saliency.stored import Saliency, Size

ORIENTATION = 0x0112  # EXIF; 5 to 8 swap width and height


@dataclass
class Report:
    """Findings of `verify`.

    Attributes:
        title: what was checked, and where.
        facts: counts.
        notes: what a user should know; nothing to mend.
        problems: what has to be mended.
    """

    title: str
    facts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The findings as text, the verdict last."""
        verdict = f"{len(self.problems)} problem(s)" if self.problems else "no problems"
        noted = [f"  note     {note}" for note in self.notes]
        mend = [f"  problem  {problem}" for problem in self.problems]
        return [self.title, *(f"  {fact}" for fact in self.facts), *noted, *mend, f"  {verdict}"]


def check_images(
    report: Report, source: DataSet, home: Path, paths: list[str], decode: bool
) -> dict[str, Size]:
    """Whether every listed image is there and readable, and lies in the folder.

    Args:
        report: gets the findings.
        source, home: the set and where it lies.
        paths: of the images, relative to the home.
        decode: decode them, or only read their headers.

    Returns:
        Sizes (width, height) of the readable images, as displayed.
    """
    from tqdm import tqdm

    sizes: dict[str, Size] = {}
    missing, bad, disguised = [], [], []
    types = Image.registered_extensions()
    for path in tqdm(paths, desc="images", unit="img", disable=None):
        file = f"{home}/{path}"
        try:
            with Image.open(file) as image:
                sizes[path] = _displayed(image)
                kind = "JPEG" if image.format == "MPO" else image.format
                if types.get(os.path.splitext(path)[1].lower()) != kind:
                    disguised.append(f"{path} is {kind}")
                if decode:
                    image.load()
        except FileNotFoundError:
            missing.append(path)
        except Exception as error:  # on damaged files Pillow's plugins raise almost anything
            sizes.pop(path, None)
            why = "it is empty" if not bytes_of(file) else f"{type(error).__name__}: {error}"
            bad.append(one_line(f"{path} ({why.replace(file, 'it')})"))
    if missing:
        get = source.card.instruction(home) if source.card.archives else "They are listed; restore them."
        report.problems.append(f"{len(missing)} listed images are missing: {some(missing)}. {get}")
    if bad:
        report.problems.append(f"{len(bad)} images cannot be read: {some(bad)}.")
    if links := links_out(home, paths):
        report.notes.append(f"{len(links)} images are links out of the folder: {some(links)}.")
    if disguised:
        report.notes.append(f"{len(disguised)} images have another format than their name says: "
                            f"{some(disguised)}.")  # fmt: skip
    if sizes:
        short = [min(size) for size in sizes.values()]
        ends = f"{min(short)} to {max(short)} px (median {np.median(short):g})"
        read = "decoded" if decode else "headers read"
        report.facts.append(f"readable     {len(sizes):,} images ({read}), short side {ends}")
    return sizes


def _displayed(image: Image.Image) -> Size:
    """Size after the EXIF orientation; EXIF behind a PNG's pixels is left out, as it takes decoding them."""
    if image.format == "PNG" and "exif" not in image.info:
        return image.size
    turned = image.getexif().get(ORIENTATION, 1) >= 5
    return image.size[::-1] if turned else image.size


def check_saliency(report: Report, source: DataSet, home: Path, kind: str, sizes: dict[str, Size]) -> None:
    """Whether one kind of saliency can be read, and fits the images.

    Args:
        report: gets the findings.
        source, home: the set and where it lies.
        kind: of the saliency.
        sizes: of the readable images.
    """
    try:
        saliency = source.saliency(home, kind)
    except CVSAError as error:
        report.problems.append(str(error))
        return
    if saliency.kind == "none":
        report.facts.append("saliency     none stored")
        return
    covered = 0
    bad: list[str] = []
    stretched: list[str] = []
    blank: list[str] = []
    for path, size in sizes.items():
        try:
            found = _check_map(saliency, path, size, blank)
        except (CVSAError, ValueError) as error:
            bad.append(str(error))
            continue
        covered += found is not None
        if found and found != size:
            if odd := misfit(path, size, found):
                bad.append(odd)
            else:
                stretched.append(f"{path} ({found[0]} x {found[1]} for {size[0]} x {size[1]})")
    report.facts.append(f"saliency     {saliency.kind}: {covered:,} of {len(sizes):,} images")
    if bad:
        report.problems.append(f"{len(bad)} {saliency.kind} do not fit their images: {some(bad)}")
    if blank:
        report.notes.append(f"{len(blank)} {saliency.kind} maps show nothing salient: {some(blank)}.")
    if stretched and saliency.kind == "masks":
        report.notes.append(f"{len(stretched)} masks have another resolution: {some(stretched)}.")
    if saliency.clipped:
        clipped = sorted(saliency.clipped)
        report.notes.append(f"Boxes of {len(clipped)} images reach beyond them: {some(clipped)}.")


def _check_map(saliency: Saliency, path: str, size: Size, blank: list[str]) -> Size | None:
    """Size of an image's map, for a mask from its header; None where there is none; adds to `blank`."""
    source = saliency.source(path)
    if saliency.kind == "masks" and source.endswith(".png"):
        if not os.path.isfile(source):
            return None
        try:
            with Image.open(source) as mask:
                return mask.size
        except Exception as error:  # on damaged files Pillow's plugins raise almost anything
            raise ValueError(f"{source} cannot be read ({type(error).__name__})") from error
    found = saliency.read(path, size)
    if found is None:
        return None
    if not found.getextrema()[1]:
        blank.append(path)
    return size if saliency.kind == "predicted" else found.size  # predicted ones have one size for all


def check_duplicates(report: Report, home: Path, listing: Listing) -> None:
    """Equal files in training and test images; only files of equal size are read."""
    by_size: dict[int, list[tuple[str, bool]]] = defaultdict(list)
    for split, paths in listing.paths.items():
        for path in paths:
            by_size[bytes_of(f"{home}/{path}")].append((path, split == "test"))
    pairs = []
    for size, group in by_size.items():
        if not size or len({test for _, test in group}) < 2:
            continue
        digests: dict[bytes, str] = {}
        for path, test in sorted(group, key=lambda row: row[1]):
            digest = hashlib.sha256(Path(f"{home}/{path}").read_bytes()).digest()
            if not test:
                digests[digest] = path
            elif digest in digests:
                pairs.append(f"{digests[digest]} = {path}")
    if pairs:
        report.notes.append(f"{len(pairs)} test images are also training images: {some(pairs)}.")
    else:
        report.facts.append("duplicates   no test image is also a training image")


def bytes_of(file: str) -> int:
    """Size of a file, 0 if it is not there."""
    try:
        return os.stat(file).st_size
    except OSError:
        return 0
