"""Implementation limits, each with its source. A module beyond one gets LimitExceeded, which names it."""

from __future__ import annotations

from typing import Final

# The WebAssembly JavaScript API's "Limits" appendix, which browsers share, unless another source is named.
MAX_MODULE_SIZE: Final = 1 << 30
MAX_TYPES: Final = 1_000_000
MAX_FUNCTIONS: Final = 1_000_000
MAX_IMPORTS: Final = 1_000_000
MAX_EXPORTS: Final = 1_000_000
MAX_GLOBALS: Final = 1_000_000
MAX_TAGS: Final = 1_000_000
MAX_DATA_SEGMENTS: Final = 100_000
MAX_ELEM_SEGMENTS: Final = 10_000_000
MAX_TABLES: Final = 100_000
MAX_MEMORIES: Final = 100
MAX_TABLE_SIZE: Final = 10_000_000
MAX_PARAMS: Final = 1_000
MAX_RESULTS: Final = 1_000
MAX_LOCALS: Final = 50_000
MAX_FUNCTION_SIZE: Final = 7_654_321
MAX_BR_TABLE_SIZE: Final = 7_654_321
MAX_TEXT_TOKENS: Final = 1 << 24
"""Of a module in the text format: some 150 bytes of memory each while it is parsed. Lucet's own."""

WASM_PAGE_SIZE_LOG2: Final = 16
WASM_PAGE_SIZE: Final = 1 << WASM_PAGE_SIZE_LOG2
HOST_PAGE_SIZE: Final = 4_096
MEMORY_GUARD_SIZE: Final = 32 << 20
"""Bytes after a 4 GiB reservation that fault: an access whose static offset stays below needs no check."""
