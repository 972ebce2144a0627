"""An engine for the tests of the runner: wasmtime, but for exports that kill or stop the process when called."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import wasmtime

from tests.spec.peer import Wasmtime
from tests.spec.values import Value


class Fragile(Wasmtime):
    def exports(self, instance: wasmtime.Instance) -> Mapping[str, Any]:
        exports = super().exports(instance)
        for name, item in exports.items():
            item.export_name = name
        return exports

    def call(self, func: Any, arguments: Sequence[Value]) -> list[Value]:
        if func.export_name == "crash":
            os.abort()
        if func.export_name == "hang":
            time.sleep(1000)
        return super().call(func, arguments)
