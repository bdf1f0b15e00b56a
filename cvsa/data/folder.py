"""Your photographs: a folder of images in one folder per class, with stored saliency beside them.

    root/{train,test}/CLASS/x.jpg  and root/valid/CLASS/x.jpg where there is one; or
    root/CLASS/x.jpg               of which a fifth of each class becomes the test split

    root/masks/train/CLASS/x.png   saliency masks, white = object, the same paths as the images
    root/boxes.csv                 path,x,y,w,h in pixels of the image, one row per object
    root/*.npz                     predicted masks: paths, bits = packbits of (h * w), shape = (h, w)

Masks and boxes refer to the whole image as it is displayed, that is after its EXIF orientation. Which image
belongs to which split is found in datasets.py; here is how an image and its map are read.
"""

from __future__ import annotations

import csv
import os
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from cvsa.data.bank import BankWriter
from cvsa.errors import CVSAError, one_line

UNREADABLE_SHARE, UNREADABLE_LIMIT = 0.01, 100  # more unreadable images than either stop the build

Size = tuple[int, int]
# (path of an image, its size) -> "L" map of the whole image, of any size; None where there is none
MapReader = Callable[[str, Size], Image.Image | None]


@dataclass
class Saliency:
    """Stored saliency of a folder: its kind, how to read one map, and which file it comes from."""

    kind: str
    read: MapReader
    source: Callable[[str], str]  # the file an image's map comes from; empty where there is none
    clipped: set[str] = field(default_factory=set)  # images with a box that had to be clipped


def find_saliency(root: Path, kind: str = "auto") -> Saliency:
    """Stored saliency of a folder.

    Args:
        root: the folder.
        kind: "masks", "boxes", "predicted", "none", or "auto" for the first of these that is there.

    Raises:
        CVSAError: the files of that kind are missing, ambiguous or malformed.
    """
    predicted = sorted(root.glob("*.npz"))
    if kind == "auto":
        there = {
            "masks": (root / "masks").is_dir(),
            "boxes": (root / "boxes.csv").is_file(),
            "predicted": bool(predicted),
        }
        kind = next((name for name, present in there.items() if present), "none")
    if kind == "masks":
        if not (root / "masks").is_dir():
            raise CVSAError(
                f"saliency 'masks' needs the folder {root / 'masks'} with masks/PATH.png for each image PATH."
            )
        return _masks(root)
    if kind == "boxes":
        return _boxes(root / "boxes.csv")
    if kind == "predicted":
        if len(predicted) != 1:
            found = ", ".join(p.name for p in predicted) or "none"
            raise CVSAError(
                f"saliency 'predicted' needs exactly one .npz of predicted masks in {root}, found: {found}."
            )
        return _predicted(predicted[0])
    return Saliency("none", lambda path, size: None, lambda path: "")


def _masks(root: Path) -> Saliency:
    def place(path: str) -> str:
        return f"{root}/masks/{os.path.splitext(path)[0]}.png"

    def read(path: str, size: Size) -> Image.Image | None:
        if not os.path.isfile(place(path)):
            return None
        with Image.open(place(path)) as image:
            if image.mode == "P":  # a palette of labels: 0 is background, whatever its colour
                return Image.fromarray(np.uint8(255) * (np.asarray(image) > 0))
            grey = _grey(image)
        # Masks stored as 0 and 1 would look black.
        return grey.point(lambda value: 255 * value) if grey.getextrema()[1] == 1 else grey

    return Saliency("masks", read, place)


def _boxes(table: Path) -> Saliency:
    boxes: dict[str, list[tuple[int, tuple[float, float, float, float]]]] = defaultdict(list)
    for line, record in read_table(table, ("path", "x", "y", "w", "h")):
        try:
            x, y, w, h = (float(record[name]) for name in ("x", "y", "w", "h"))
        except ValueError:
            raise CVSAError(f"{table}, line {line}: x, y, w, h must be numbers.") from None
        if not (w > 0 and h > 0 and np.isfinite([x, y, w, h]).all()):
            raise CVSAError(
                f"{table}, line {line}: the box of {record['path']!r} has the size {w:g} x {h:g}."
            )
        boxes[_key(record["path"])].append((line, (x, y, x + w, y + h)))

    def read(path: str, size: Size) -> Image.Image | None:
        if _key(path) not in boxes:
            return None
        width, height = size
        canvas = Image.new("L", size)
        for line, (x1, y1, x2, y2) in boxes[_key(path)]:
            if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
                raise CVSAError(
                    f"{table}, line {line}: the box of {path!r} lies outside its {width} x {height} image."
                )
            if min(x1, y1) <= -1 or x2 >= width + 1 or y2 >= height + 1:
                saliency.clipped.add(path)
            left, top = (min(max(round(low), 0), end - 1) for low, end in ((x1, width), (y1, height)))
            right, bottom = (
                max(min(round(high), end), low + 1)
                for high, end, low in ((x2, width, left), (y2, height, top))
            )
            ImageDraw.Draw(canvas).rectangle((left, top, right - 1, bottom - 1), fill=255)
        return canvas

    saliency = Saliency("boxes", read, lambda path: str(table))
    return saliency


def _predicted(file: Path) -> Saliency:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            row = {_key(str(path)): i for i, path in enumerate(arrays["paths"])}
            height, width = (int(n) for n in arrays["shape"])
            bits = arrays["bits"]
        if bits.dtype != np.uint8 or bits.shape != (len(row), -(-height * width // 8)):
            raise ValueError(f"bits {bits.dtype} {bits.shape} for {len(row)} paths of {height} x {width}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CVSAError(
            one_line(f"Cannot read predicted masks from {file}: {error}; expected paths, bits, shape.")
        ) from error

    def read(path: str, size: Size) -> Image.Image | None:
        if _key(path) not in row:
            return None
        mask = np.unpackbits(bits[row[_key(path)]], count=height * width).reshape(height, width)
        return Image.fromarray(mask * np.uint8(255))

    return Saliency("predicted", read, lambda path: str(file))


def read_table(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Rows of a CSV with their line numbers.

    Raises:
        CVSAError: not there, not readable, or without these columns.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not set(columns) <= set(reader.fieldnames or ()):
                raise CVSAError(
                    f"{path} must have the columns {','.join(columns)}, it has {reader.fieldnames}."
                )
            rows = [(reader.line_num, record) for record in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CVSAError(one_line(f"Cannot read the table {path}: {error}.")) from error
    for line, record in rows:
        if any(record[name] is None for name in columns):
            raise CVSAError(f"{path}, line {line}: fewer than {len(columns)} fields.")
    return rows


def _key(path: str) -> str:
    # macOS may spell an accented letter as two characters where the table has one.
    return unicodedata.normalize("NFC", path)


def decode(root: Path, path: str, resolution: int, read_map: MapReader) -> tuple[np.ndarray, bool]:
    """Read one photograph and its map as a square of the bank.

    The central square is resized, with antialiasing, straight to R x R: the short side becomes R, the long
    side is cut. The map, of whatever size, covers the whole image and goes through the same geometry.

    Args:
        root, path: where the image is.
        resolution: R, pixels.
        read_map: gives the map, or None.

    Returns:
        (4, R, R) uint8, RGB and saliency (0 without a map), and whether there was a map.
    """
    with Image.open(root / path) as file:
        original = file.size
        # JPEG decodes a large photograph faster at a half, a quarter or an eighth of its size.
        file.draft(None, (2 * resolution, 2 * resolution))
        upright = ImageOps.exif_transpose(file)
        turned = upright.size != file.size
        rgb = _rgb(upright)
    size = original[::-1] if turned else original
    saliency = read_map(path, size)
    block = np.zeros((4, resolution, resolution), dtype=np.uint8)
    block[:3] = np.asarray(_square(rgb, resolution, Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    if saliency is not None:
        block[3] = np.asarray(_square(saliency, resolution, Image.Resampling.BILINEAR, size))
    return block, saliency is not None


def _square(
    image: Image.Image, resolution: int, filter: Image.Resampling, covers: Size | None = None
) -> Image.Image:
    """Resize the central square; `covers` is the size of the image that this one, a map, stands for."""
    width, height = covers or image.size
    side = min(width, height)
    x, y = image.width / width, image.height / height
    left, top = (width - side) / 2, (height - side) / 2
    box = (left * x, top * y, (left + side) * x, (top + side) * y)
    return image.resize((resolution, resolution), filter, box=box)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _grey(image).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point images have no agreed range; convert it to 8 or 16 bits")
    if image.has_transparency_data:  # what lies under transparent pixels is not meant to be seen
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _grey(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow's own conversion would clip at 255
        return Image.fromarray((np.clip(np.asarray(image), 0, 65535) // 257).astype(np.uint8))
    return image.convert("L")


def fill_from_folder(
    writer: BankWriter,
    root: Path,
    paths: list[str],
    labels: np.ndarray,
    resolution: int,
    saliency: Saliency,
    batch: int = 256,
) -> None:
    """Decode images in parallel into a bank; extras: `path`.

    Up to 1 % of the images, at most 100, may be unreadable: they are left out and named in the bank's
    description; one warning names the first.

    Raises:
        CVSAError: more unreadable images than that, or a whole class of them; a box outside its image.
    """
    from tqdm import tqdm

    def attempt(path: str) -> tuple[np.ndarray | str, bool]:
        try:
            return decode(root, path, resolution, saliency.read)
        except CVSAError:
            raise
        except Exception as error:  # on damaged files Pillow's plugins raise almost anything
            return one_line(f"{path} ({type(error).__name__}: {error})"), False

    failures: list[str] = []
    without_map = 0
    lost = set(labels.tolist())  # labels of which no image could be read so far
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(paths), desc="decoding", unit="img", disable=None) as bar,
    ):
        for start in range(0, len(paths), batch):
            results = list(pool.map(attempt, paths[start : start + batch]))
            good = [(start + i, block) for i, (block, _) in enumerate(results) if not isinstance(block, str)]
            failures += [block for block, _ in results if isinstance(block, str)]
            without_map += len(good) - sum(present for _, present in results)
            if good:
                rows = [i for i, _ in good]
                lost -= set(labels[rows].tolist())
                blocks = np.stack([block for _, block in good])
                writer.add(blocks[:, :3], blocks[:, 3], labels[rows], path=np.array([paths[i] for i in rows]))
            bar.update(len(results))
    if lost and failures:
        raise CVSAError(
            f"No image of a class in {root} can be read: {failures[0]}. Repair or remove such files."
        )
    _report(writer, root, len(paths), failures, without_map, saliency)


def _report(
    writer: BankWriter, root: Path, total: int, failures: list[str], without_map: int, saliency: Saliency
) -> None:
    def warn(message: str) -> None:
        warnings.warn(message, stacklevel=4)

    bad = f"{len(failures)} of {total} images in {root} cannot be read: " + "; ".join(failures[:3])
    if len(failures) > min(UNREADABLE_SHARE * total, UNREADABLE_LIMIT):
        raise CVSAError(f"{bad}. Repair or remove such files.")
    if failures:
        warn(f"{bad}. They are left out.")
    if without_map and saliency.kind != "none":
        lacking = f"{without_map} of {total} images in {root} have no entry in its {saliency.kind}"
        if without_map == total - len(failures):
            raise CVSAError(f"{lacking}; paths there must be those of the images, relative to the folder.")
        warn(f"{lacking}: the whole image counts as their object.")
    if saliency.clipped:
        first = min(saliency.clipped)
        warn(
            f"{len(saliency.clipped)} boxes reached beyond their images and were clipped, e.g. of {first!r}."
        )
    writer.description |= {"unreadable": failures, "without_map": without_map}
