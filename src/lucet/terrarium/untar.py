"""Files of a tar that somebody sent, in memory: the formats ustar, pax and GNU, of which only plain files are taken.

Python's own tarfile restores whatever a tar can describe, and some of that is endless: it follows chains of headers by
recursion and trusts their sizes. This reads forwards once; POSIX.1-2017, pax, "ustar Interchange Format".
"""

from __future__ import annotations

from typing import Final

from lucet.terrarium.http import BodyTooLarge

_BLOCK: Final = 512
MOST_FILES: Final = 1000
_HEADERS: Final = 64 << 10
"""Bytes of a name or a set of pax records."""
MAX_PATH: Final = 255
_FILE, _FOLDER, _LONG_NAME, _PAX, _PAX_GLOBAL = (b"0", b"\0", b"7"), b"5", b"L", b"x", b"g"


class BadUpload(ValueError):
    """What is wrong with it."""


def untar(data: bytes, limit: int) -> dict[str, bytes]:
    """By path, together at most `limit` bytes. Nothing is written anywhere. BadUpload, BodyTooLarge."""
    files: dict[str, bytes] = {}
    members, at = 0, 0
    name: str | None = None
    while at < len(data) and (header := data[at : at + _BLOCK]).count(0) < len(header):
        at += _BLOCK
        if len(header) < _BLOCK:
            raise BadUpload("not a tar: it is cut off")
        _check_sum(header)
        size = _number(header[124:136])
        content = data[at : at + size]
        if len(content) < size:
            raise BadUpload("not a tar: it is cut off")
        at += -(-size // _BLOCK) * _BLOCK
        members += 1
        if members > MOST_FILES:
            raise BadUpload(f"the tar has more than {MOST_FILES} members")
        kind = header[156:157]
        if kind in (_LONG_NAME, _PAX, _PAX_GLOBAL):
            if size > _HEADERS:
                raise BadUpload(f"a header of the tar has more than {_HEADERS} bytes")
            if kind == _LONG_NAME:
                name = _text(content.partition(b"\0")[0])
            elif kind == _PAX:
                name = _pax_path(content) or name
            continue
        path = (name if name is not None else _name(header)).removeprefix("./")
        name = None
        if kind == _FOLDER or (kind in _FILE and path.endswith("/")):
            continue
        if kind not in _FILE:
            raise BadUpload(f"{path[:80]!r} is no file")
        check_path(path)
        limit -= size
        if limit < 0:
            raise BodyTooLarge("the files of the tar are too large")
        files[path] = content
    if not files:
        raise BadUpload("the tar has no files")
    return files


def check_path(path: str) -> None:
    """A relative path that leads nowhere else, in any system. BadUpload."""
    parts = path.split("/")
    if not 0 < len(path) <= MAX_PATH or not path.isprintable() or "\\" in path or not {"", ".", ".."}.isdisjoint(parts):
        raise BadUpload(f"not a relative path: {path[:80]!r}")


def _check_sum(header: bytes) -> None:
    """Of the header's bytes, where that of the sum itself counts as blanks."""
    given = _number(header[148:156])
    if sum(header[:148]) + 8 * 0x20 + sum(header[156:]) != given:
        raise BadUpload("not a tar: a header's sum is wrong")


def _number(field: bytes) -> int:
    """Octal digits. GNU's numbers in binary are for more than what can be sent."""
    digits = field.strip(b" \0")
    if not all(0x30 <= digit <= 0x37 for digit in digits):
        raise BadUpload("not a tar: a header's number is none")
    return int(digits or b"0", 8)


def _name(header: bytes) -> str:
    name, prefix = header[:100].partition(b"\0")[0], header[345:500].partition(b"\0")[0]
    is_posix = header[257:263] == b"ustar\0"
    return _text(prefix + b"/" + name if prefix and is_posix else name)


def _pax_path(records: bytes) -> str | None:
    """Of "LENGTH KEY=VALUE\\n" records."""
    found = None
    while records:
        digits = records.partition(b" ")[0]
        if not digits.isdigit() or len(digits) > 6 or not len(digits) + 2 < int(digits) <= len(records):
            raise BadUpload("not a tar: a pax record has no length")
        key, _, value = records[len(digits) + 1 : int(digits) - 1].partition(b"=")
        records = records[int(digits) :]
        if key == b"path":
            found = _text(value)
        elif key == b"size" or key.startswith(b"GNU.sparse"):
            raise BadUpload("not a tar of plain files")
    return found


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise BadUpload(f"a name is not UTF-8: {name[:80]!r}") from None
