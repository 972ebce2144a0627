"""The type of what translates one instruction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lucet.compile.ir import FunctionWriter

Handler = Callable[[FunctionWriter, int, Any], None]
"""(writer, the instruction's file offset, immediate): pops its operands off the writer's stack, pushes its results."""
