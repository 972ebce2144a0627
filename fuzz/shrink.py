"""Makes a failing module smaller: fewer calls, fewer functions with a body, fewer instructions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from fuzz.engines import Call
from fuzz.module_bytes import bodies, with_bodies
from lucet.wasm.decode import decode_module
from lucet.wasm.leb128 import unsigned_leb128
from lucet.wasm.opcodes import BY_NAME

Fails = Callable[[bytes, Sequence[Call]], bool]

_UNREACHABLE: Final = bytes([BY_NAME["unreachable"].code])
_DROP: Final = bytes([BY_NAME["drop"].code])
_NOP: Final = bytes([BY_NAME["nop"].code])
_STUB: Final = unsigned_leb128(0) + _UNREACHABLE + bytes([BY_NAME["end"].code])


class Shrinker:
    def __init__(self, fails: Fails, is_valid: Callable[[bytes], bool], seconds: float) -> None:
        self.fails = fails
        self.is_valid = is_valid
        self.deadline = time.monotonic() + seconds

    def shrink(self, wasm: bytes, calls: Sequence[Call]) -> tuple[bytes, Sequence[Call]]:
        calls = self._fewer(list(calls), lambda kept: self.fails(wasm, kept))
        wasm = self._stubs(wasm, calls)
        for _ in range(2):
            wasm = self._instructions(wasm, calls)
        return wasm, calls

    @property
    def _late(self) -> bool:
        return time.monotonic() > self.deadline

    def _fewer(self, items: list[Call], fails: Callable[[list[Call]], bool]) -> list[Call]:
        size = max(1, len(items) // 2)
        while size:
            at = 0
            while at < len(items) and not self._late:
                kept = items[:at] + items[at + size :]
                if fails(kept):
                    items = kept
                else:
                    at += size
            size //= 2
        return items

    def _try(self, wasm: bytes, calls: Sequence[Call]) -> bool:
        return self.is_valid(wasm) and self.fails(wasm, calls)

    def _stubs(self, wasm: bytes, calls: Sequence[Call]) -> bytes:
        encoded = [body.encoded() for body in bodies(decode_module(wasm))]
        for index in range(len(encoded)):
            if self._late:
                break
            changed = [*encoded[:index], _STUB, *encoded[index + 1 :]]
            if self._try(candidate := with_bodies(wasm, changed), calls):
                encoded, wasm = changed, candidate
        return wasm

    def _instructions(self, wasm: bytes, calls: Sequence[Call]) -> bytes:
        for index in range(len(decode_module(wasm).bodies)):
            all_bodies = bodies(decode_module(wasm))
            encoded = [body.encoded() for body in all_bodies]
            if encoded[index] == _STUB:
                continue
            instrs = list(all_bodies[index].instrs)
            size = len(instrs) // 2
            while size:
                at = 0
                while at < len(instrs) - 1 and not self._late:
                    gone = instrs[at : at + size]
                    for instead in ([], [_NOP], [_DROP], [_DROP, _DROP], [_UNREACHABLE]):
                        if instead == gone:
                            continue
                        kept = instrs[:at] + instead + instrs[at + size :]
                        encoded[index] = all_bodies[index].encoded(kept)
                        if self._try(candidate := with_bodies(wasm, encoded), calls):
                            instrs, wasm = kept, candidate
                            break
                    else:
                        at += size
                        continue
                    at += 0 if not instead else size
                size //= 2
        return wasm
