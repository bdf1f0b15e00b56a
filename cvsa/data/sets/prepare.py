"""From what the user has of a data set to banks: download if wanted, unpack, build."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvsa.data.sets import locate
from cvsa.data.sets.archives import check, unpack
from cvsa.data.sets.base import DataSet
from cvsa.data.sets.card import Archive
from cvsa.data.sets.imagenet import ImageNet
from cvsa.errors import CVSAError, one_line

if TYPE_CHECKING:
    from cvsa.config import DataConfig


def prepare(
    name: str,
    root: Path | None = None,
    *,
    download: bool = False,
    banks: dict[str, Any] | None = None,
) -> Iterator[str]:
    """Make a data set ready for training.

    Args:
        name: a data set, or the path of a folder of photographs.
        root: the set's folder; None: $CVSA_DATA/NAME. The published archives may lie in it.
        download: fetch missing archives from their publisher, where that needs no agreement and a checksum is
            published.
        banks: fields of `DataConfig` (bank_size, saliency, ...) for which to build the banks; None: only see
            to the files.

    Yields:
        What was done, line by line.

    Raises:
        CVSAError: files are missing (says where to get them and where to put them), damaged, or refused; what
            `load_splits` raises.
    """
    source, root = locate(name, root)
    base = source.base(root)
    yield from _unpack(source, base, download)
    home = source.home(base)
    yield f"{source.card.title} is in {home}"
    if banks is not None:
        from cvsa.data.datasets import load_splits

        for split, bank in load_splits(_configure(source.card.name, base, banks)).items():
            yield (
                f"bank {split}: {len(bank):,} images at {bank.resolution} px, "
                f"{bank.no_object:,} without an object, fingerprint {bank.fingerprint[:12]}"
            )


def _configure(name: str, base: Path, fields: dict[str, Any]) -> DataConfig:
    from pydantic import ValidationError

    from cvsa.config import DataConfig

    try:
        return DataConfig(**{"dataset": name, "root": base, **fields})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        what = f"Parameter {field} = {first['input']!r}: " if field else ""
        raise CVSAError(one_line(f"{what}{first['msg'].removeprefix('Value error, ')}.")) from None


def _unpack(source: DataSet, base: Path, download: bool) -> Iterator[str]:
    """Unpack what is not there yet."""
    missing: list[Archive] = []
    for archive in source.card.archives:
        if _is_there(source, base, archive):
            continue
        file = next((p for p in (base / archive.file, base.parent / archive.file) if p.is_file()), None)
        if file is None and download and archive.open:
            file = _fetch(archive, base)
            yield f"downloaded {file}"
        if file is None:
            missing.append(archive)
            continue
        if isinstance(source, ImageNet):
            continue  # checked and sorted below
        if archive.md5:
            check(file, archive.md5)
        if archive.gives != archive.file:
            yield f"unpacked {file}: {', '.join(unpack(file, base))}"
    needed = [archive.file for archive in missing if not archive.optional]
    if needed and source.find(base) is None:
        raise CVSAError(f"{source.card.title} is not in {base}. {source.card.instruction(base, needed)}")
    if isinstance(source, ImageNet):
        yield from source.arrange(base)
    for archive in missing:
        if archive.optional:
            yield (
                f"without {archive.file}, which is optional. {source.card.instruction(base, [archive.file])}"
            )


def _is_there(source: DataSet, base: Path, archive: Archive) -> bool:
    home = source.find(base)
    if home and archive.gives == source.card.inner:
        return True
    places = [base, base / source.card.inner, *([home.parent] if home else [])]
    return any((place / archive.gives).exists() for place in places)


def _fetch(archive: Archive, base: Path) -> Path:
    from torchvision.datasets.utils import download_url

    try:
        base.mkdir(parents=True, exist_ok=True)
        download_url(archive.url, str(base), archive.file, archive.md5)  # checks the md5
    except (OSError, RuntimeError) as error:
        raise CVSAError(
            one_line(f"Cannot download {archive.url}: {error}. Put {archive.file} into {base} yourself.")
        ) from error
    return base / archive.file
