"""The compile half: a WebAssembly module's bytes to the bytes of a shared object.

This package is what users call as `lucet.compile(wasm, ...)`: driver.compile, which type checkers see there. The
package itself is callable because importing any of its modules binds the name `lucet.compile` to it, whatever stood
there before.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> bytes:
        from lucet.compile.driver import compile

        return compile(*arguments, **options)


sys.modules[__name__].__class__ = _CallablePackage
