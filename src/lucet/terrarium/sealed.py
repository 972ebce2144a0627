"""Secrets at rest: AES-256-GCM under one key, which the operator or a file of the data directory has."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lucet.errors import LucetError
from lucet.terrarium.blobs import sync_directory

KEY_VARIABLE: Final = "LUCET_TERRARIUM_KEY"
"""32 bytes in base64."""
KEY_SIZE: Final = 32
_NONCE_SIZE: Final = 12


class SealBroken(LucetError):
    """What was sealed has changed, or was sealed with another key or for another place."""


class Seal:
    """Seals bytes for a place: what is moved to another row of the database cannot be opened there."""

    def __init__(self, key: bytes) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise LucetError("secrets need the package cryptography: pip install 'lucet[terrarium]'") from error
        self._cipher = AESGCM(key)

    def seal(self, data: bytes, place: str) -> bytes:
        # Random nonces of 96 bits under one key: safe for 2**32 of them (NIST SP 800-38D, 8.3).
        nonce = os.urandom(_NONCE_SIZE)
        return nonce + self._cipher.encrypt(nonce, data, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes:
        """SealBroken."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:], place.encode())
        except (InvalidTag, ValueError):
            raise SealBroken(f"{place}: changed, or sealed with another key") from None


def open_seal(directory: Path) -> Seal:
    """With the key of the environment, else of the file secrets.key, which is made if there is none. LucetError."""
    if given := os.environ.get(KEY_VARIABLE):
        return Seal(_decoded(given, KEY_VARIABLE))
    path = directory / "secrets.key"
    text = private_file(path, lambda: base64.b64encode(os.urandom(KEY_SIZE)).decode())
    return Seal(_decoded(text, str(path)))


def private_file(path: Path, new: Callable[[], str]) -> str:
    """A file that only its owner can read; with a new text if there is none. LucetError: others can read it, or
    it is empty.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        text = new()
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # unlike rename, not over one that another process has just made
        except FileExistsError:
            return private_file(path, new)
        finally:
            temporary.unlink()
        sync_directory(path.parent)
        return text
    with os.fdopen(descriptor) as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise LucetError(f"{path}: must belong to this user and be closed to others (mode 0600)")
        text = file.read(4096).strip()
    if not text:  # or anybody would know it
        raise LucetError(f"{path}: is empty: remove it, and it is made anew")
    return text


def _decoded(text: str, name: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_SIZE:
        raise LucetError(f"{name}: must be {KEY_SIZE} bytes in base64")
    return key
