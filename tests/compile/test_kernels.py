"""The benchmark's kernels compute at every level what native code computes."""

from __future__ import annotations

import ctypes
import importlib.util

import pytest

import lucet

# Only to build the kernels: it is no dependency of the tests.
pytestmark = pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="needs ziglang")

KERNELS = "base64 bignum closures fft gemm image life lz queens sieve words".split()
"""Those with the most kinds of loops; `python -m bench.code_quality` compares the checksums of all."""


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_checksum(name: str) -> None:
    from bench.code_quality import own_kernels

    (kernel,) = own_kernels([name])
    function = ctypes.CDLL(kernel.files["clang-base"]).run
    function.restype = ctypes.c_uint64
    wasm = kernel.wasm.read_bytes()
    for level, cpu in (("fast", "x86-64-v3"), ("default", "x86-64"), ("best", "x86-64"), ("best", "native")):
        code = lucet.compile(wasm, opt_level=level, target_cpu=cpu)
        instance = lucet.Region(1).new_instance(lucet.Module.from_bytes(code))
        assert instance.run("run") & 0xFFFFFFFFFFFFFFFF == function(), (level, cpu)
