"""Unwind information: the search table (.eh_frame_hdr) over a merged .eh_frame, for debuggers, profilers, libgcc,
and for the exceptions of guests, which native/unwind.c unwinds with it."""

from __future__ import annotations

import re
import struct
from typing import Final

from lucet.errors import CompilerFailed

TERMINATOR: Final = bytes(4)
"""Ends .eh_frame: a record of length 0."""
PERSONALITY_POINTER: Final = b"DW.ref.lucet_personality"
"""A writable pointer to the personality routine of functions with landing pads: LLVM makes it, artifacts drop it."""

# Version 1, augmentation "zR", code and data alignment factors 1 and -8, return address in column 16, addresses
# pc-relative in 32 bits: how every CIE of LLVM's for x86-64 code without personality routines begins.
_CIE_START: Final = b"\x01zR\0\x01\x78\x10\x01\x1b"
# With a personality routine (an indirect pc-relative pointer) and a language-specific data area: "zPLR". It becomes
# "zLR" in place: a longer form of the code alignment factor takes the letter's place, and the pointer goes behind the
# encodings, where nothing is read any more.
_CIE_WITH_PERSONALITY: Final = b"\x01zPLR\0\x01\x78\x10\x07\x9b"
_CIE_WITH_HANDLERS: Final = b"\x01zLR\0\x81\0\x78\x10\x07\x1b\x1b" + bytes(5)

_LEB: Final = rb"[\x80-\xff]*+[\x00-\x7f]"
_PROGRAM: Final = re.compile(
    # nop, remember and restore state, advance, restore; advance by more; offset; CFA; its register, its offset,
    # GNU_args_size: what native/unwind.c understands.
    rb"(?:[\x00\x0a\x0b\x40-\x7f\xc0-\xff]|\x02.|\x03..|\x04....|[\x80-\xbf]%b|\x0c%b%b|[\x0d\x0e\x2e]%b)*+"
    % (_LEB, _LEB, _LEB, _LEB),
    re.DOTALL,
)
_PCREL_SDATA4, _UDATA4, _DATAREL_SDATA4 = 0x1B, 0x03, 0x3B


def eh_frame_hdr(eh_frame: bytearray, eh_frame_address: int, address: int) -> bytes:
    """The .eh_frame_hdr that stands at address, for relocated .eh_frame contents with their terminator."""
    entries = sorted(_functions(eh_frame, eh_frame_address))
    header = struct.pack(
        "<BBBBiI", 1, _PCREL_SDATA4, _UDATA4, _DATAREL_SDATA4, eh_frame_address - address - 4, len(entries)
    )
    return header + b"".join(struct.pack("<ii", code - address, record - address) for code, record in entries)


def _functions(eh_frame: bytearray, eh_frame_address: int) -> list[tuple[int, int]]:
    """(start of the code, address of its record) for every function record (FDE)."""
    found = []
    position, end = 0, len(eh_frame) - len(TERMINATOR)
    while position < end:
        length, cie = struct.unpack_from("<II", eh_frame, position)
        following = position + 4 + length
        if length == 0 or following > end:
            raise CompilerFailed(f"malformed unwind information at {position:#x}: a record of {length} bytes")
        if cie == 0:
            if eh_frame.startswith(_CIE_WITH_PERSONALITY, position + 8):
                eh_frame[position + 8 : position + 8 + len(_CIE_WITH_HANDLERS)] = _CIE_WITH_HANDLERS
            elif not eh_frame.startswith(_CIE_START, position + 8):
                raise CompilerFailed(f"unwind information of an unknown form at {position:#x}")
        else:
            (code,) = struct.unpack_from("<i", eh_frame, position + 8)
            program = position + 17 + eh_frame[position + 16]  # behind the augmentation data
            if not _PROGRAM.fullmatch(eh_frame, program, following):
                raise CompilerFailed(f"unwind information with an unknown instruction at {position:#x}")
            found.append((eh_frame_address + position + 8 + code, eh_frame_address + position))
        position = following
    return found
