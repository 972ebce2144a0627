"""Files by their content: modules, artifacts, assets. What put() has returned for survives a crash of the machine."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from lucet.errors import LucetError

_TEMPORARY: Final = ".new-"
_ABANDONED_SECONDS: Final = 3600


class Damaged(LucetError):
    """A file is not what its name or its row says, or is gone."""


class Blobs:
    """A directory of files, each under its SHA-256 in hexadecimal, in 256 folders."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        return self.directory / digest[:2] / digest

    def put(self, data: bytes) -> str:
        """Its digest. OSError: there is no room."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest)
        if path.exists() and self._is_intact(path, digest):
            return digest
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            sync_directory(self.directory)
        write_durably(path, data)
        return digest

    def get(self, digest: str) -> bytes:
        """Damaged."""
        try:
            data = self.path(digest).read_bytes()
        except OSError as error:
            raise Damaged(f"{self.path(digest)}: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise Damaged(f"{self.path(digest)}: the content has changed")
        return data

    def intact(self, digest: str) -> Path:
        """The file, after it was read and compared. Damaged."""
        path = self.path(digest)
        if not self._is_intact(path, digest):
            raise Damaged(f"{path}: is gone, or the content has changed")
        return path

    def remove(self, digest: str) -> None:
        self.path(digest).unlink(missing_ok=True)

    def all(self) -> Iterator[str]:
        """Of all files; those that a process which died has begun are removed."""
        for folder in os.scandir(self.directory):
            if not folder.is_dir():
                continue
            for one in os.scandir(folder.path):
                if not one.name.startswith(_TEMPORARY):
                    yield one.name
                    continue
                with suppress(FileNotFoundError):
                    if one.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                        Path(one.path).unlink()

    @staticmethod
    def _is_intact(path: Path, digest: str) -> bool:
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == digest
        except OSError:
            return False


def write_durably(path: Path, data: bytes) -> None:
    """A file that is there whole or not at all, even if the machine loses its power."""
    descriptor, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
