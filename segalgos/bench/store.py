"""The rows of a run: whole or not there, whatever is killed and when."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

from segalgos.files import atomic_path, lock_file

__all__ = ["Store", "StoreBusyError", "read_rows", "safe_name"]


class StoreBusyError(RuntimeError):
    """Another benchmark is writing to the same folder."""


def safe_name(label: str) -> str:
    """Turn a label that a user chose into a plain file or folder name.

    Parameters
    ----------
    label : str

    Returns
    -------
    str
        Letters, digits and ``_ - . , = [ ]``; never hidden, never empty.
    """
    return re.sub(r"[^\w.,=\[\]-]", "_", label).lstrip(".") or "_"


def _plain(value: Any) -> Any:
    """JSON has no NaN: an undefined score is null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


def read_rows(path: str | os.PathLike) -> tuple[list[dict[str, Any]], int]:
    """Read the rows of a results file.

    Parameters
    ----------
    path : path-like
        A ``results.jsonl``.

    Returns
    -------
    rows : list of dict
    n_bad : int
        Lines that are no row (never written by `Store`; somebody edited the file).
    """
    rows, n_bad = [], 0
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict) and "key" in row:
                rows.append(row)
            elif line.strip():
                n_bad += 1
    return rows, n_bad


class Store:
    """Append-only rows in ``results.jsonl``, one process at a time.

    Parameters
    ----------
    folder : path-like
        Made if needed.

    Raises
    ------
    StoreBusyError
        If another live process holds the folder.

    Notes
    -----
    A kernel may stop a ``write`` half-way when the process is killed, so a row is added
    by writing the file anew beside the old one and renaming it: at every moment the file
    holds whole rows only. A run has hundreds of rows of some kilobytes, which makes that
    a matter of milliseconds.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "results.jsonl"
        self._lock = open(self.folder / ".lock", "a")  # noqa: SIM115 (held while we live)
        try:
            lock_file(self._lock)
        except OSError as error:
            self._lock.close()
            raise StoreBusyError(
                f"bench: another run is writing to {self.folder}: wait for it, or choose another "
                "--out."
            ) from error
        for leftover in self.folder.glob(".results-*.jsonl"):  # of a run killed while writing
            leftover.unlink()
        self._text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        if self._text and not self._text.endswith("\n"):
            self._text += "\n"
        self.rows = read_rows(self.path)[0] if self._text else []

    def append(self, row: dict[str, Any]) -> None:
        """Add a row; when this returns it is on disk.

        Parameters
        ----------
        row : dict
            NaN and inf become null.
        """
        row = _plain(row)
        self._text += json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
        with atomic_path(self.path) as temporary:
            temporary.write_text(self._text, encoding="utf-8")
        self.rows.append(row)

    def close(self) -> None:
        """Let others write."""
        self._lock.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
