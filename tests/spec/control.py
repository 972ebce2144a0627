"""Lucet with every function compiled like those that effort.py takes for control: large ones, which the suite has none
of. `python -m tests.spec --engine control --opt-level default`.
"""

from __future__ import annotations

from functools import cache
from unittest.mock import patch

import lucet
from lucet.compile import artifact, chunks, llvm
from lucet.compile.driver import _provenance
from lucet.compile.effort import has_vectors
from lucet.compile.layout import make_plan
from lucet.compile.options import Options
from lucet.wasm.decode import decode_module
from lucet.wasm.valid import validate_module
from tests.spec.engines import Lucet


class ControlLucet(Lucet):
    """One optimisation level for each process, as a compiler process has."""

    def compile(self, wasm: bytes) -> lucet.Module:
        return lucet.Module.from_bytes(compile_as_control(wasm, Options(opt_level=self.opt_level)))


def compile_as_control(wasm: bytes, options: Options) -> bytes:
    """As compile_module, in this process."""
    _initialize(options.opt_level)
    module = decode_module(wasm)
    validate_module(module)
    plan = make_plan(module, options)
    with patch.object(chunks, "is_control", lambda code: not has_vectors(code)):
        texts = chunks.chunk_texts(module, plan, chunks.whole_module(module))
    return artifact.build(module, plan, [llvm.compile_texts(texts, options)], _provenance(wasm, options, module))


@cache
def _initialize(opt_level: str) -> None:
    llvm.initialize(opt_level)
