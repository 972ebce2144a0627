"""Keys and signatures for `lucetc`: --keygen, --sign."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import Final

from lucet import signing
from lucet.cli.common import Failure, about, write_output

PASSWORD_VARIABLE: Final = "LUCET_SIGN_PASSWORD"


def keygen(path: str, *, encrypted: bool) -> None:
    """Write a new secret key and, beside it, its public key: path and path.pub. Neither may be there yet."""
    secret, public = Path(path), Path(f"{path}.pub")
    for one in (secret, public):
        if one.exists():
            raise Failure(f"{one}: exists, and a key that is lost cannot be had again")
    password = _new_password() if encrypted else ""
    key = signing.generate()
    descriptor = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(key.text(password))
    write_output(str(public), key.public_key.text().encode())


def read_secret_key(path: str) -> signing.SecretKey:
    """The key in a file; its password is asked for, unless LUCET_SIGN_PASSWORD has it."""
    with about(path):
        text = signing.read_file(Path(path), "secret key")
        password = _password(f"password of {path}: ") if signing.is_encrypted(text) else ""
        return signing.read_secret_key(text, password)


def sign_file(path: str, data: bytes, key: signing.SecretKey) -> None:
    """Write path.minisig."""
    write_output(path + signing.SUFFIX, signing.sign(data, key, file=Path(path).name).encode())


def _new_password() -> str:
    password = _password("password for the new key: ")
    if not password:
        raise Failure("the password is empty; --no-password makes a key without one")
    if PASSWORD_VARIABLE not in os.environ and getpass.getpass("the same again: ") != password:
        raise Failure("the passwords differ")
    return password


def _password(prompt: str) -> str:
    password = os.environ.get(PASSWORD_VARIABLE)
    if password is not None:
        return password
    if not sys.stdin.isatty():
        raise Failure(f"a password is needed: there is no terminal to ask on, and no {PASSWORD_VARIABLE}")
    return getpass.getpass(prompt)
