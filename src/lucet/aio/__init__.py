"""Guests under asyncio, and trio: calls that can be awaited, host functions that may be coroutines."""

from __future__ import annotations

from lucet.aio.call import DEFAULT_TIME_SLICE, call

__all__ = ["DEFAULT_TIME_SLICE", "call"]
