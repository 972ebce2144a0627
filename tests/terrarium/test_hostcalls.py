"""The interface hostcalls: env.hostcall_*."""

from __future__ import annotations

from tests.kit.terrarium import App

HELLO = """(module
  (import "env" "hostcall_init_mm" (func $init_mm (param i32 i32)))
  (import "env" "hostcall_req_get_path" (func $path (param i32 i32 i32)))
  (import "env" "hostcall_resp_set_header" (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "hostcall_resp_set_body" (func $body (param i32 i32 i32) (result i32)))
  (import "env" "hostcall_resp_set_response_code" (func $code (param i32 i32) (result i32)))
  (memory 17) (table 3 funcref) (elem (i32.const 1) $malloc $free)
  (data (i32.const 16) "Content-Type" "text/plain")
  (data (i32.const 64) "\\1c\\00\\00\\00\\0a\\00\\00\\00")
  (global $top (mut i32) (i32.const 65536))
  (func $malloc (param i32) (result i32)
    (global.get $top) (global.set $top (i32.add (global.get $top) (local.get 0))))
  (func $free (param i32))
  (func (export "run")
    (call $init_mm (i32.const 1) (i32.const 2))
    (call $path (i32.const 128) (i32.const 132) (i32.const 0))
    (drop (call $header (i32.const 0) (i32.const 16) (i32.const 12) (i32.const 64) (i32.const 1)))
    (drop (call $code (i32.const 0) (i32.const 201)))
    (drop (call $body (i32.const 0) (i32.load (i32.const 128)) (i32.load (i32.const 132))))))"""


def test_hello() -> None:
    """Neither the memory nor the table is exported, and the path comes to where the guest's malloc says."""
    answer = App(HELLO).get("/hello?world")
    assert (answer.record.fault, answer.status, answer.body) == (None, 201, b"/hello?world")
    assert answer.headers == [(b"content-type", b"text/plain")]
