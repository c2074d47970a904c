"""Fetch a file whose digest is known; unpack an archive without trusting it."""

from __future__ import annotations

import os
import re
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

__all__ = ["download", "download_file", "unpack"]

MAX_MEMBERS = 200_000
MAX_BYTES = 20 * 2**30


def download(url: str, sha256: str, root: str | os.PathLike) -> Path:
    """Download an archive, check its digest and unpack it.

    Parameters
    ----------
    url : str
        Of a .zip, .tar, .tar.gz or .tgz file.
    sha256 : str
        The 64 hex digits that its publisher, or whoever you trust, gives.
    root : path-like
        Folder to unpack into; made if needed.

    Returns
    -------
    pathlib.Path
        `root`.

    Raises
    ------
    ValueError
        If the digest is not as given, or the archive is not safe to unpack; nothing is
        left in `root` then.
    OSError
        If the address cannot be reached.
    """
    _check_digest(sha256)
    with tempfile.TemporaryDirectory(prefix="segalgos-download-") as folder:
        name = PurePosixPath(url.partition("?")[0]).name or "archive"
        return unpack(_fetch(url, sha256, Path(folder, name)), root)


def download_file(url: str, sha256: str, path: str | os.PathLike) -> Path:
    """Download one file, unless it is here, and check its digest.

    Parameters
    ----------
    url : str
    sha256 : str
        The 64 hex digits that its publisher, or whoever you trust, gives.
    path : path-like
        Where the file shall be; its folder is made if needed.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    ValueError
        If the digest is not as given: nothing is left at `path` then, and a file that was
        there before stays as it was.
    OSError
        If the address cannot be reached.
    """
    import pooch

    _check_digest(sha256)
    path = Path(path)
    if path.exists():
        found = pooch.file_hash(str(path))
        if found != sha256.lower():
            raise ValueError(
                f"download: {path} is here, but has SHA-256 {found}, expected {sha256.lower()}: "
                "remove it, or choose another folder."
            )
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place: large files need not fit into the folder for temporary ones.
    with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as folder:
        os.replace(_fetch(url, sha256, Path(folder, path.name)), path)
    return path


def _check_digest(sha256: str) -> None:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError(
            f"download: sha256 is {sha256!r}, expected 64 hex digits: the publisher of the "
            "file gives them, or sha256sum of a copy that you trust."
        )


def _fetch(url: str, sha256: str, path: Path) -> Path:
    """Download a file to a folder that is removed later, and check its digest."""
    import pooch

    pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent)
    found = pooch.file_hash(str(path))
    if found != sha256.lower():
        raise ValueError(
            f"download: {url} has SHA-256 {found}, expected {sha256.lower()}: the file is "
            "damaged, or another version than the one you trust; it was removed."
        )
    return path


def unpack(archive: str | os.PathLike, root: str | os.PathLike) -> Path:
    """Unpack an archive into a folder, all of it or nothing.

    Parameters
    ----------
    archive : path-like
        A .zip, .tar, .tar.gz or .tgz file.
    root : path-like
        Folder that its files go to; made if needed. Files there are not replaced.

    Returns
    -------
    pathlib.Path
        `root`.

    Raises
    ------
    ValueError
        If a member is a link or device, has an absolute path, leads out of the folder, or
        two share a name (also but for case); if there are too many or they are too large;
        if a file is there already; or if the archive is damaged.
    """
    archive, root = Path(archive), Path(root)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unpack-", dir=root) as folder:
        seen: set[str] = set()
        room = MAX_BYTES
        try:
            for name, file in _members(archive):
                path = _safe(name, archive)
                if str(path).lower() in seen:
                    raise _refused(archive, name, "occurs twice")
                seen.add(str(path).lower())
                if len(seen) > MAX_MEMBERS:
                    raise _refused(archive, name, f"is one of more than {MAX_MEMBERS:,} files")
                if (root / path).exists():
                    raise _refused(archive, name, f"is already in {root}")
                target = Path(folder, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                room -= _copy(file, target, room, archive, name)
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, NotImplementedError) as e:
            raise ValueError(f"unpack: {archive} is damaged or no archive: {e}") from e
        for path in sorted(Path(folder).rglob("*")):
            target = root / path.relative_to(folder)
            if path.is_dir():
                target.mkdir(exist_ok=True)
            else:
                os.replace(path, target)
    return root


def _refused(archive: Path, name: str, why: str) -> ValueError:
    return ValueError(
        f"unpack: {archive} was not unpacked, since {name!r} {why}: get the archive from its "
        "publisher, or unpack it elsewhere."
    )


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Regular files of an archive, opened one by one; anything odd is refused."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for member in zipped.infolist():
                mode = member.external_attr >> 16
                if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise _refused(archive, member.filename, "is a link or device")
                _safe(member.filename, archive)
                if not member.is_dir():
                    with zipped.open(member) as file:
                        yield member.filename, file
        return
    with tarfile.open(archive) as packed:
        for member in packed:
            _safe(member.name, archive)
            if member.isfile():
                yield member.name, packed.extractfile(member)
            elif not member.isdir():
                raise _refused(archive, member.name, "is a link or device")


def _safe(name: str, archive: Path) -> Path:
    """A member's path below the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name or "\0" in name:
        raise _refused(archive, name, "leads out of its folder")
    return Path(path)


def _copy(source: IO[bytes], target: Path, room: int, archive: Path, name: str) -> int:
    """Copy at most `room` bytes; what headers claim about sizes is not believed."""
    copied = 0
    with open(target, "xb") as file:
        while block := source.read(1 << 20):
            copied += len(block)
            if copied > room:
                raise _refused(archive, name, f"makes it larger than {MAX_BYTES / 2**30:.0f} GiB")
            file.write(block)
    return copied
