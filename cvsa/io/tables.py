"""Reading text, CSV, JSON and MATLAB tables; every error names the file and the place."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from cvsa.errors import CVSAError, one_line


def read_rows(file: Path, fields: int) -> list[tuple[str, list[str]]]:
    """Rows of a table whose fields are separated by blanks; the last field may hold blanks itself.

    Args:
        file: UTF-8 text; empty lines and lines that start with # are left out.
        fields: how many each row has.

    Returns:
        Pairs of "file, line n" and the fields.

    Raises:
        CVSAError: the file cannot be read, or a row is short.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CVSAError(one_line(f"Cannot read {file}: {error}.")) from error
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        where, row = f"{file}, line {number}", line.strip().split(maxsplit=fields - 1)
        if len(row) != fields:
            raise CVSAError(f"{where}: {len(row)} fields, expected {fields}.")
        rows.append((where, row))
    return rows


def read_columns(file: Path, fields: int = 2) -> dict[str, tuple[str, list[str]]]:
    """A table by its first field.

    Returns:
        First field -> "file, line n" and the other fields.

    Raises:
        CVSAError: as `read_rows`; or two rows with the same first field.
    """
    table: dict[str, tuple[str, list[str]]] = {}
    for where, (key, *rest) in read_rows(file, fields):
        if key in table:
            raise CVSAError(f"{where}: {key!r} is listed twice.")
        table[key] = (where, rest)
    return table


def numbers(where: str, *values: Any) -> list[float]:
    """Finite numbers.

    Raises:
        CVSAError: something else; begins with `where`.
    """
    try:
        found = [float(value) for value in values]
    except (TypeError, ValueError):
        found = [math.nan]
    if not all(map(math.isfinite, found)):
        raise CVSAError(f"{where}: {', '.join(map(str, values))} should be numbers.")
    return found


def inside(where: str, path: str) -> str:
    """A path that stays in the set's folder.

    Raises:
        CVSAError: it is absolute or goes up.
    """
    if PurePosixPath(path).is_absolute() or ".." in path.split("/"):
        raise CVSAError(f"{where}: {path!r} leads out of the folder.")
    return path


def read_json(file: Path, *keys: str) -> list[list[dict[str, Any]]]:
    """Lists of records in a JSON file.

    Args:
        file: an object with these keys.
        *keys: each names a list of objects.

    Raises:
        CVSAError: unreadable, no JSON, or a key is missing or no list.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        lists = [content[key] for key in keys]
        if not all(isinstance(records, list) for records in lists):
            raise ValueError(f"{' and '.join(keys)} should be lists")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CVSAError(one_line(f"Cannot read {file}: {error!r}; expected {', '.join(keys)}.")) from error
    return lists


def read_mat(file: Path, key: str) -> Any:
    """An array of a MATLAB file, its singleton axes squeezed.

    Raises:
        CVSAError: unreadable or without this variable.
    """
    import numpy as np
    from scipy.io import loadmat

    try:
        return np.atleast_1d(loadmat(str(file), squeeze_me=True)[key])
    except Exception as error:  # damaged files raise almost anything
        raise CVSAError(one_line(f"Cannot read {key} from {file}: {error!r}.")) from error


def read_csv(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
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
