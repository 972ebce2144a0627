"""The whole front end on one module: for the tools and tests that want a verdict and nothing else."""

from __future__ import annotations

from lucet.wasm.code import decode_code
from lucet.wasm.decode import decode_module
from lucet.wasm.module import Module
from lucet.wasm.valid import validate_module
from lucet.wasm.valid_code import validate_code


def check_module(data: bytes) -> Module:
    """The decoded module; raises Malformed, Invalid, Unsupported or LimitExceeded.

    Every body is decoded before anything is validated: a malformed module is malformed, whatever else is wrong with it.
    """
    module = decode_module(data)
    defined = range(module.imported_func_count, len(module.all_funcs))
    for func_index in defined:
        decode_code(module, func_index)
    validate_module(module)
    for func_index in defined:
        validate_code(module, func_index, decode_code(module, func_index))
    return module
