"""Every call with every parameter at its worst: always an errno, no other exception, no effect outside."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from pathlib import Path

import pytest

from lucet.errors import Exit
from lucet.wasi import WasiContext
from lucet.wasi.tables import ABIS, MASK32, MASK64, Abi, Call, Errno, Param
from tests.wasi.fake import SIZE, Guest

POINTERS = (0, 1, SIZE - 1, SIZE, SIZE + 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF8, MASK32)
NUMBERS = {
    MASK32: (0, 1, 3, 5, 1024, 1025, SIZE, 0x7FFFFFFF, 0x80000000, MASK32),
    MASK64: (0, 1, SIZE, 1 << 50, (1 << 63) - 1, 1 << 63, MASK64),
}
FD_NAMES = {"fd", "to", "old_fd", "new_fd"}
BATCH = 100
DESCRIPTORS = (0, 1, 2, 3, 4, 5, 6, MASK32)
QUIET = {"proc_exit", "proc_raise"}  # their end is an Exit; test_process.py
CALLS = [(abi, call) for abi in ABIS for call in abi.calls.values() if call.name not in QUIET]
"""poll_oneoff would wait for good where the subscriptions say so: here they are '?', which is no kind of event."""


def descriptors(call: Call) -> set[int]:
    return {i for i, param in enumerate(call.params) if param.name in FD_NAMES}


def world(folder: Path) -> WasiContext:
    """Descriptors 0 to 5: streams, a preopen, a file, a directory."""
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "dir").mkdir()
    (folder / "file").write_bytes(b"content")
    context = WasiContext(args=["prog"], env={"A": "1"}, preopens=[(folder, "/")], stdin=b"input")
    guest = Guest(context)
    guest.open("file")
    guest.open_directory("dir")
    return context


@pytest.mark.parametrize(("abi", "call"), CALLS, ids=lambda value: getattr(value, "name", None) or value.module)
def test_pointers_out_of_range_are_faults_before_anything_happens(folder: Path, abi: Abi, call: Call) -> None:
    guest = Guest(world(folder), abi=abi)
    before = sorted(os.listdir("/proc/self/fd"))
    for pointer, element, length in call.spans:
        for address in POINTERS:
            for count in (1,) if length is None else (1, 2, SIZE, MASK32):
                if address + element * count <= SIZE:
                    continue
                for fd in DESCRIPTORS:
                    arguments = [0x100] * len(call.params)
                    for i in descriptors(call):
                        arguments[i] = fd
                    arguments[pointer] = address
                    if length is not None:
                        arguments[length] = count
                    guest.check(Errno.FAULT, {}, call.name, *arguments)
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert sorted(os.listdir(folder)) == ["dir", "file"]
    guest.context.close()


@pytest.mark.parametrize(("abi", "call"), CALLS, ids=lambda value: getattr(value, "name", None) or value.module)
def test_any_numbers_get_an_errno(folder: Path, abi: Abi, call: Call) -> None:
    """Pairs of extreme arguments exhaustively, and many of all at once."""
    values = [
        DESCRIPTORS if i in descriptors(call) else POINTERS if param.is_pointer else NUMBERS[param.mask]
        for i, param in enumerate(call.params)
    ]
    dice = random.Random(call.name)
    tries = [tuple(dice.choice(choices) for choices in values) for _ in range(100)]
    for i, j in itertools.combinations(range(len(values)), 2):
        for one, other in itertools.product(values[i], values[j]):
            usual = [0x40] * len(values)
            usual[i], usual[j] = one, other
            tries.append(tuple(usual))
    for start in range(0, len(tries), BATCH):
        # A new world now and then: descriptors get closed, and opened.
        with world(folder) as context:
            guest = Guest(context, abi=abi)
            for arguments in tries[start : start + BATCH]:
                assert isinstance(guest.call(call.name, *arguments), Errno)
    assert sorted(os.listdir(folder.parent)) == ["folder", "secret"]


@pytest.mark.parametrize("abi", ABIS, ids=lambda abi: abi.module)
def test_random_programs(folder: Path, abi: Abi) -> None:
    """Random calls on random memory, as a program gone wild makes them."""
    dice = random.Random(abi.module)
    names = [name for name in abi.calls if name != "poll_oneoff"]
    paths = [b"file", b"dir", b"..", b"dir/../x", b"/", b"x", b"\xff", b"a/b", b"dir/", b"\0"]
    answers = set()
    for _ in range(50):
        with world(folder) as context:
            guest = Guest(context, abi=abi)
            for _ in range(100):
                path = dice.choice(paths)
                guest.memory.data[0x100:0x140] = path + dice.randbytes(0x40 - len(path))
                call = abi.calls[dice.choice(names)]
                try:
                    answers.add(guest.call(call.name, *(_wild(param, len(path), dice) for param in call.params)))
                except Exit:
                    assert call.name in QUIET
        assert sorted(os.listdir(folder.parent)) == ["folder", "secret"]
        assert (folder.parent / "secret").read_bytes() == b"secret"
    assert {Errno.SUCCESS, Errno.FAULT, Errno.BADF, Errno.INVAL, Errno.NOTCAPABLE} <= answers, "wild, but not wildly"


def _wild(param: Param, length: int, dice: random.Random) -> int:
    if param.is_pointer:
        return dice.choice((0x100, 0x100, 0x2000, *POINTERS))
    if param.name.endswith("len"):
        return dice.choice((length, length, *NUMBERS[param.mask]))
    if param.name in FD_NAMES:
        return dice.choice(DESCRIPTORS)
    return dice.choice((0, 1, 2, 4, *NUMBERS[param.mask], dice.randrange(param.mask)))
