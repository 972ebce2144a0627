"""Signatures of files in minisign's formats: Ed25519, by the package `cryptography` (pip install 'lucet[sign]').

The formats are those of minisign's manual page, https://jedisct1.github.io/minisign/: a key or a signature is a line
"untrusted comment: ...", then base64; docs/signing.md has them to the byte.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lucet.errors import LucetError, SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SUFFIX: Final = ".minisig"
MAX_FILE_SIZE: Final = 16 << 10
"""Of a key or a signature: more is neither."""

_UNTRUSTED: Final = "untrusted comment: "
_TRUSTED: Final = "trusted comment: "
_ED25519: Final = b"Ed"
_PREHASHED: Final = b"ED"
_SCRYPT: Final = b"Sc"
_NO_KDF: Final = b"\0\0"
_BLAKE2B: Final = b"B2"

_PUBLIC: Final = struct.Struct("<2s8s32s")
_SIGNATURE: Final = struct.Struct("<2s8s64s")
_SECRET: Final = struct.Struct("<2s2s2s32sQQ104s")
_SECRET_PART: Final = struct.Struct("<8s64s32s")
"""Key id, secret and public key, checksum: what the password hides."""
_OPSLIMIT: Final = 1 << 25
_MEMLIMIT: Final = 1 << 30
"""libsodium's "sensitive" limits, which minisign uses."""
_MAX_MEMLIMIT: Final = (1 << 31) - 1
"""What OpenSSL takes: a key file that asks for more is refused."""


@dataclass(frozen=True, kw_only=True)
class PublicKey:
    key_id: bytes
    """8 bytes, by which a signature names the key that made it."""
    key: bytes

    def __str__(self) -> str:
        return base64.b64encode(_PUBLIC.pack(_ED25519, self.key_id, self.key)).decode()

    def text(self) -> str:
        """The contents of a public key file."""
        return f"{_UNTRUSTED}minisign public key {_shown(self.key_id)}\n{self}\n"


@dataclass(frozen=True, kw_only=True)
class SecretKey:
    key_id: bytes
    secret: bytes
    """The 32 bytes of Ed25519's private key."""
    public: bytes

    @property
    def public_key(self) -> PublicKey:
        return PublicKey(key_id=self.key_id, key=self.public)

    def __repr__(self) -> str:
        return f"SecretKey({_shown(self.key_id)})"

    def text(self, password: str = "") -> str:
        """The contents of a secret key file; with an empty password it is not encrypted."""
        checksum = _checksum(self.key_id, self.secret + self.public)
        part = _SECRET_PART.pack(self.key_id, self.secret + self.public, checksum)
        kdf, salt, opslimit, memlimit = _NO_KDF, bytes(32), 0, 0
        if password:
            kdf, salt, opslimit, memlimit = _SCRYPT, os.urandom(32), _OPSLIMIT, _MEMLIMIT
            part = _xor(part, _stream(password, salt, opslimit, memlimit))
        packed = _SECRET.pack(_ED25519, kdf, _BLAKE2B, salt, opslimit, memlimit, part)
        return f"{_UNTRUSTED}minisign encrypted secret key\n{base64.b64encode(packed).decode()}\n"


def generate() -> SecretKey:
    """A new key, of the system's randomness."""
    private_keys, _ = _ed25519()
    key = private_keys.generate()
    return SecretKey(key_id=os.urandom(8), secret=key.private_bytes_raw(), public=key.public_key().public_bytes_raw())


def read_public_key(text: str | bytes) -> PublicKey:
    """A public key file's contents, or just the base64 in it. SignatureError if it is none."""
    lines = _lines(text, "public key")
    algorithm, key_id, key = _unpack(_PUBLIC, lines[-1] if len(lines) < 3 else "", "public key")
    if algorithm != _ED25519:
        raise SignatureError("not a public key of minisign: unknown algorithm")
    return PublicKey(key_id=key_id, key=key)


def is_encrypted(text: str | bytes) -> bool:
    """Whether a secret key file's contents need a password."""
    return bool(_secret_fields(text)[1] != _NO_KDF)


def read_secret_key(text: str | bytes, password: str = "") -> SecretKey:
    """A secret key file's contents. SignatureError if it is none, or the password is wrong."""
    algorithm, kdf, checksum_algorithm, salt, opslimit, memlimit, part = _secret_fields(text)
    if algorithm != _ED25519 or checksum_algorithm != _BLAKE2B or kdf not in (_SCRYPT, _NO_KDF):
        raise SignatureError("not a secret key of minisign: unknown algorithm")
    if kdf == _SCRYPT:
        part = _xor(part, _stream(password, salt, opslimit, memlimit))
    key_id, key, checksum = _SECRET_PART.unpack(part)
    # Minisign leaves the checksum of a key that is not encrypted empty.
    if checksum != _checksum(key_id, key) and (kdf == _SCRYPT or any(checksum)):
        raise SignatureError("wrong password" if kdf == _SCRYPT else "the secret key is damaged")
    return SecretKey(key_id=key_id, secret=key[:32], public=key[32:])


def sign(data: bytes, key: SecretKey, *, trusted_comment: str | None = None, file: str = "") -> str:
    """The contents of a signature file for the data. The trusted comment is signed too; None: time and file's name."""
    comment = f"timestamp:{int(time.time())}\tfile:{file}\thashed" if trusted_comment is None else trusted_comment
    if not comment.isprintable() and not comment.replace("\t", "").isprintable():
        raise SignatureError("the trusted comment must be one printable line")
    private_keys, _ = _ed25519()
    private = private_keys.from_private_bytes(key.secret)
    signature = private.sign(hashlib.blake2b(data).digest())
    packed = base64.b64encode(_SIGNATURE.pack(_PREHASHED, key.key_id, signature)).decode()
    both = base64.b64encode(private.sign(signature + comment.encode())).decode()
    return f"{_UNTRUSTED}signature from lucetc\n{packed}\n{_TRUSTED}{comment}\n{both}\n"


def verify(data: bytes, signature: str | bytes, key: PublicKey) -> str:
    """The trusted comment of a signature of the data by the key. SignatureError if it is anything else."""
    lines = _lines(signature, "signature")
    if len(lines) != 4 or not lines[0].startswith(_UNTRUSTED) or not lines[2].startswith(_TRUSTED):
        raise SignatureError("not a signature of minisign")
    algorithm, key_id, signed = _unpack(_SIGNATURE, lines[1], "signature")
    if algorithm not in (_ED25519, _PREHASHED):
        raise SignatureError("not a signature of minisign: unknown algorithm")
    if key_id != key.key_id:
        raise SignatureError(f"signed with the key {_shown(key_id)}, not with {_shown(key.key_id)}")
    comment = lines[2].removeprefix(_TRUSTED)
    message = hashlib.blake2b(data).digest() if algorithm == _PREHASHED else data
    _check(key, signed, message, "the signature is not one of this file")
    _check(key, _base64(lines[3], "signature"), signed + comment.encode(), "the trusted comment is not the signed one")
    return comment


def read_file(path: Path, what: str) -> bytes:
    """A key or a signature. SignatureError if it is missing or too large to be one."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_SIZE + 1)
    except FileNotFoundError:
        raise SignatureError(f"there is no {what} {path}") from None
    if len(data) > MAX_FILE_SIZE:
        raise SignatureError(f"{path} is too large for a {what}")
    return data


def verify_file(data: bytes, path: Path, key: PublicKey) -> str:
    """The trusted comment of the signature beside a file, path + ".minisig", for the bytes that were read of it."""
    return verify(data, read_file(path.with_name(path.name + SUFFIX), "signature"), key)


def _check(key: PublicKey, signature: bytes, message: bytes, otherwise: str) -> None:
    from cryptography.exceptions import InvalidSignature

    _, public_keys = _ed25519()
    try:
        public_keys.from_public_bytes(key.key).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise SignatureError(otherwise) from None


def _ed25519() -> tuple[type[Ed25519PrivateKey], type[Ed25519PublicKey]]:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    except ImportError as error:
        raise LucetError("signatures need the package cryptography: pip install 'lucet[sign]'") from error
    return Ed25519PrivateKey, Ed25519PublicKey


def _lines(text: str | bytes, what: str) -> Sequence[str]:
    try:
        decoded = text if isinstance(text, str) else text.decode()
    except UnicodeDecodeError:
        raise SignatureError(f"not a {what} of minisign: it is not text") from None
    return decoded.removesuffix("\n").replace("\r\n", "\n").split("\n")


def _base64(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise SignatureError(f"not a {what} of minisign: it is not base64") from None


def _unpack(form: struct.Struct, text: str, what: str) -> tuple[bytes, ...]:
    packed = _base64(text, what)
    if len(packed) != form.size:
        raise SignatureError(f"not a {what} of minisign: {len(packed)} bytes, not {form.size}")
    return form.unpack(packed)


def _secret_fields(text: str | bytes) -> tuple[bytes, bytes, bytes, bytes, int, int, bytes]:
    lines = _lines(text, "secret key")
    packed = _base64(lines[1] if len(lines) == 2 else "", "secret key")
    if len(packed) != _SECRET.size:
        raise SignatureError(f"not a secret key of minisign: {len(packed)} bytes, not {_SECRET.size}")
    algorithm, kdf, checksum_algorithm, salt, opslimit, memlimit, part = _SECRET.unpack(packed)
    return algorithm, kdf, checksum_algorithm, salt, opslimit, memlimit, part


def _checksum(key_id: bytes, key: bytes) -> bytes:
    return hashlib.blake2b(_ED25519 + key_id + key, digest_size=32).digest()


def _xor(data: bytes, stream: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(data, stream, strict=True))


def _stream(password: str, salt: bytes, opslimit: int, memlimit: int) -> bytes:
    """104 bytes of scrypt, with the parameters that libsodium derives from the two limits."""
    if memlimit > _MAX_MEMLIMIT or opslimit > 1 << 32:
        raise SignatureError("the secret key asks for too much memory or time to be decrypted")
    opslimit = max(opslimit, 32768)
    r, p = 8, 1
    if opslimit < memlimit // 32:
        n_log2 = _log2_below(opslimit // (r * 4))
    else:
        n_log2 = _log2_below(memlimit // (r * 128))
        p = max(1, min((opslimit // 4) >> n_log2, 0x3FFFFFFF) // r)
    n = 1 << n_log2
    maxmem = 128 * r * (n + p) + (1 << 20)
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=maxmem, dklen=_SECRET_PART.size)


def _log2_below(most: int) -> int:
    """As libsodium's pickparams has it: the first power of two, from 2 on, that is more than half of `most`."""
    return next(k for k in range(1, 64) if 1 << k > most // 2)


def _shown(key_id: bytes) -> str:
    return f"{int.from_bytes(key_id, 'little'):016X}"
