"""How a call fails: WasiError carries the errno that the guest gets; the host's errors are translated."""

from __future__ import annotations

from lucet.wasi.tables import FROM_HOST, Errno


class WasiError(Exception):
    """Ends a call with this errno. Never leaves lucet.wasi."""

    def __init__(self, errno: Errno) -> None:
        super().__init__(errno)
        self.errno = errno


def from_host(error: OSError) -> Errno:
    """The errno of a failed system call."""
    return FROM_HOST.get(error.errno or 0, Errno.IO)
