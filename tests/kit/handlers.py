"""http-wasm handlers in the text format, and chains of them: what tests of filters share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from lucet.terrarium import filters
from lucet.terrarium.handler import Handler
from lucet.terrarium.http import Headers
from lucet.terrarium.limits import Limits
from lucet.terrarium.record import Record
from tests.kit.terrarium import Answer, App, MemoryExchange, request_of

PATIENT = Limits(cpu_time=20.0)
TYPES = {
    "get_config": "(param i32 i32) (result i32)",
    "enable_features": "(param i32) (result i32)",
    "log": "(param i32 i32 i32)",
    "log_enabled": "(param i32) (result i32)",
    "get_header_names": "(param i32 i32 i32) (result i64)",
    "get_header_values": "(param i32 i32 i32 i32 i32) (result i64)",
    "set_header_value": "(param i32 i32 i32 i32 i32)",
    "add_header_value": "(param i32 i32 i32 i32 i32)",
    "remove_header": "(param i32 i32 i32)",
    "read_body": "(param i32 i32 i32) (result i64)",
    "write_body": "(param i32 i32 i32)",
    "get_method": "(param i32 i32) (result i32)",
    "set_method": "(param i32 i32)",
    "get_uri": "(param i32 i32) (result i32)",
    "set_uri": "(param i32 i32)",
    "get_protocol_version": "(param i32 i32) (result i32)",
    "get_source_addr": "(param i32 i32) (result i32)",
    "get_status_code": "(result i32)",
    "set_status_code": "(param i32)",
}
RESULT = """
  ;; a result that tells a length in its lower half: the text of that length at 4096
  (func $say (param $size i32) (call $write_body (i32.const 1) (i32.const 4096) (local.get $size)))
  ;; a number from 0 to 9
  (func $digit (param $value i32)
    (i32.store8 (i32.const 64) (i32.add (i32.const 48) (local.get $value)))
    (call $write_body (i32.const 1) (i32.const 64) (i32.const 1)))
"""
PASS = "(i64.const 1)"
ANSWER = "(i64.const 0)"


class Texts:
    """Puts texts into a module's memory: `texts("abc")` is where, and how long, as two operands."""

    def __init__(self) -> None:
        self.data = b""

    def __call__(self, text: str | bytes) -> str:
        data = text.encode() if isinstance(text, str) else text
        position = 1024 + len(self.data)
        self.data += data
        assert 1024 + len(self.data) <= 4096, "there begins what guests are given"
        return f"(i32.const {position}) (i32.const {len(data)})"


T = Texts()
"""All modules here have all texts."""


def literal(data: bytes) -> str:
    return "".join(f"\\{byte:02x}" for byte in data)


def handler(request: str, response: str = "", more: str = "") -> str:
    """A handler with these two bodies. $context and $error are handle_response's parameters."""
    imports = "".join(f'(import "http_handler" "{name}" (func ${name} {type_}))' for name, type_ in TYPES.items())
    return f"""(module {imports} (memory (export "memory") 4)
      (data (i32.const 1024) "{literal(T.data)}") {RESULT} {more}
      (func (export "handle_request") (result i64) {request})
      (func (export "handle_response") (param $context i32) (param $error i32) {response}))"""


def app(wasm: Any, interface: str = "http-handler", **options: Any) -> App:
    return App(wasm, interface, **{"limits": PATIENT, **options})


def get(operation: str) -> str:
    """Has the text that an operation with a buffer gives as the body."""
    return f"(call $say (i32.wrap_i64 {operation})) {ANSWER}"


def get_i32(name: str) -> str:
    return get(f"(i64.extend_i32_u (call ${name} (i32.const 4096) (i32.const 4096)))")


def body_of(request: str, **options: Any) -> bytes:
    answer = app(handler(request), **{key: options.pop(key) for key in ("configuration",) if key in options}).request(
        options.pop("method", "GET"), options.pop("target", "/"), **options
    )
    assert answer.status == 200, answer.body
    return answer.body


@dataclass
class Chain:
    """Filters in front of an application."""

    filters: list[App]
    application: App

    def __post_init__(self) -> None:
        for number, one in enumerate(self.filters):
            one.served.environment.application = f"filter{number}"

    def request(self, method: str, target: str, body: Any = b"", headers: Headers | None = None) -> Answer:
        return asyncio.run(self.answer(method, target, body, headers))

    def get(self, target: str, headers: Headers | None = None) -> Answer:
        return self.request("GET", target, headers=headers)

    async def answer(self, method: str, target: str, body: Any = b"", headers: Headers | None = None) -> Answer:
        exchange = MemoryExchange(request_of(method, target, body, headers))
        record = Record(0.0, PATIENT)
        chain = [one.served for one in self.filters if isinstance(one.served, Handler)]
        rest = filters.answer(chain, self.application.served, exchange, record)
        self.was_at_once = rest is None
        if rest is not None:
            await rest
        return Answer(exchange.status, exchange.headers, b"".join(exchange.parts), exchange.ended, record, exchange)
