"""Unpacking archives that come from somewhere: nothing lands outside the folder, nothing is overwritten."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from cvsa.errors import CVSAError, one_line


def check(archive: Path, md5: str) -> None:
    """Compare a file's checksum with the one its publisher states.

    Raises:
        CVSAError: they differ.
    """
    with open(archive, "rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != md5:
        raise CVSAError(f"{archive} is damaged or not what it should be: md5 {found}, published {md5}.")


def unpack(archive: Path, folder: Path) -> list[str]:
    """Unpack a zip or tar archive, all of it or nothing.

    It is unpacked beside its place and moved there at the end. Refused are members with absolute paths, with
    paths that go up, links that lead out of the folder, and devices (`tarfile.data_filter`).

    Args:
        archive: .zip, or .tar in any compression.
        folder: created if need be.

    Returns:
        Names in `folder` that are new.

    Raises:
        CVSAError: no such archive, damaged, a member that is refused, something is there already, disk full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".unpacking-"))
        try:
            if zipfile.is_zipfile(archive):
                _unzip(archive, temporary)
            else:
                _untar(archive, temporary)
            names = sorted(os.listdir(temporary))
            for name in names:
                if (folder / name).exists():
                    raise CVSAError(
                        f"{archive} holds {name}, which is in {folder} already: remove it to unpack."
                    )
            for name in names:
                os.replace(temporary / name, folder / name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except tarfile.FilterError as error:
        raise CVSAError(one_line(f"{archive} is refused, nothing was unpacked: {error}.")) from error
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise CVSAError(one_line(f"{archive} is damaged or no zip or tar archive: {error}.")) from error
    except OSError as error:
        raise CVSAError(one_line(f"Cannot unpack {archive} into {folder}: {error}.")) from error
    return names


def _untar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:

        def members() -> Iterator[tarfile.TarInfo]:
            for member in tar:
                _check_name(archive, member.name)  # the filter would quietly make absolute paths relative
                yield member

        tar.extractall(folder, members=members(), filter="data")
        while tar.fileobj and tar.fileobj.read(2**20):
            pass  # what follows the last member holds the checksum of a compressed archive


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as zipped:
        for member in zipped.infolist():
            _check_name(archive, member.filename)
            if stat.S_ISLNK(member.external_attr >> 16):
                raise CVSAError(f"{archive} is refused, nothing was unpacked: {member.filename!r} is a link.")
        zipped.extractall(folder)


def _check_name(archive: Path, name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match("[A-Za-z]:", name):
        raise CVSAError(f"{archive} is refused, nothing was unpacked: {name!r} leads out of the folder.")
