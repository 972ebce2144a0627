"""Confined path resolution: the kernel resolves every path of a guest, beneath a directory that the guest was given.

No path is taken apart here but for its last component: calls that act on a directory entry (unlink, rename, ...) open
the parent with `openat2` and name the entry relative to it. An entry's name is a single component, never "..", and is
never followed if it is a symbolic link, so that swapping directories for links while we look gains nothing.
"""

from __future__ import annotations

import errno as host
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from lucet import runtime
from lucet.errors import LucetError
from lucet.wasi.errors import WasiError
from lucet.wasi.tables import Errno

RESOLVE_NO_MAGICLINKS: Final = 0x02  # linux/openat2.h
RESOLVE_BENEATH: Final = 0x08
CONFINED: Final = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
ENTRY_FLAGS: Final = os.O_PATH | os.O_CLOEXEC
PARENT_FLAGS: Final = ENTRY_FLAGS | os.O_DIRECTORY
MAX_SYMLINKS: Final = 40  # Linux's MAXSYMLINKS
MAX_RETRIES: Final = 100

_NO_OPENAT2: Final = {
    host.ENOSYS: "needs Linux 5.6 or later",
    # Old container runtimes answer so for every system call that their filter does not know.
    host.EPERM: "a system call filter forbids here",
}


class ConfinementUnavailable(LucetError):
    """The kernel cannot confine paths, so no directory can be given to a guest."""


def open_beneath(directory: int, path: bytes, flags: int, mode: int = 0) -> int:
    """Open what the path leads to. A path that leads out of the directory is NOTCAPABLE."""
    retries = 0
    while True:
        try:
            return runtime.openat2(directory, path, flags, mode, CONFINED)
        except BlockingIOError:
            # Something was renamed while the kernel followed a "..", and it asks to try again. A device opened
            # without blocking can say the same for good, so this has to end.
            retries += 1
            if retries == MAX_RETRIES:
                raise
        except OSError as error:
            if error.errno == host.EXDEV:
                raise WasiError(Errno.NOTCAPABLE) from None
            raise


def require_confinement(directory: int) -> None:
    """Raise ConfinementUnavailable unless paths can be confined to the directory."""
    try:
        os.close(open_beneath(directory, b".", PARENT_FLAGS))
    except OSError as error:
        reason = _NO_OPENAT2.get(error.errno or 0)
        if reason is None:
            raise
        message = f"a guest can be given directories only with the system call openat2, which {reason}"
        raise ConfinementUnavailable(message) from error


@contextmanager
def parent_of(directory: int, path: bytes) -> Iterator[tuple[int, bytes]]:
    """The directory in which a path's last component is an entry, and the entry's name.

    The name keeps one trailing slash if the path has any: the kernel then wants a directory there, or says why not.
    For calls that never follow the entry, whatever it is: mkdirat, unlinkat, renameat, symlinkat, linkat's new name.
    """
    parent, name = _split(path)
    if name.rstrip(b"/") in {b".", b".."}:
        parent, name = path, b"."
    if not parent:
        yield directory, name
        return
    descriptor = open_beneath(directory, parent, PARENT_FLAGS)
    try:
        yield descriptor, name
    finally:
        os.close(descriptor)


@contextmanager
def entry_of(directory: int, path: bytes, *, follow: bool) -> Iterator[tuple[int, bytes]]:
    """Like parent_of, for calls that look the entry up: with AT_SYMLINK_NOFOLLOW they stay at (parent, name).

    A trailing slash would make them follow a link even so; what must be a directory is therefore its own entry ".".
    With `follow`, symbolic links are followed to an entry that is none.
    """
    for _ in range(MAX_SYMLINKS + 1):
        with parent_of(directory, path + b"." if path.endswith(b"/") else path) as (parent, name):
            link = _read_link(parent, name) if follow else None
            if link is None:
                yield parent, name
                return
        path = _split(path)[0] + link
        if link.startswith(b"/"):
            raise WasiError(Errno.NOTCAPABLE)
    raise WasiError(Errno.LOOP)


def _read_link(parent: int, name: bytes) -> bytes | None:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError as error:
        if error.errno == host.EINVAL:
            return None
        raise


def _split(path: bytes) -> tuple[bytes, bytes]:
    """(everything up to the last component, with its slash; the last component, with at most one trailing slash)."""
    if path.startswith(b"/"):
        raise WasiError(Errno.NOTCAPABLE)
    if not path:
        raise WasiError(Errno.NOENT)
    stripped = path.rstrip(b"/")
    start = stripped.rfind(b"/") + 1
    return stripped[:start], path[start : len(stripped) + 1]
