"""The filters of examples/terrarium, in front of an application: in C, Rust, AssemblyScript and Go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import lucet
from lucet.terrarium.http import Headers
from lucet.terrarium.limits import Limits
from tests.docs.blocks import only
from tests.kit import toolchains
from tests.kit.handlers import Chain, T, app, get, handler
from tests.kit.terrarium import App

EXAMPLES = Path(__file__).parents[2] / "examples" / "terrarium"

SITE = """(module
  (import "env" "hostcall_init_mm" (func $init (param i32 i32)))
  (import "env" "hostcall_req_get_path" (func $path (param i32 i32 i32)))
  (import "env" "hostcall_req_get_header" (func $header (param i32 i32 i32 i32 i32)))
  (import "env" "hostcall_resp_set_header" (func $set (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "hostcall_resp_set_body" (func $body (param i32 i32 i32) (result i32)))
  (memory 2) (table funcref (elem $malloc $free)) (global $next (mut i32) (i32.const 8192))
  (data (i32.const 1024) "x-userx-variantx-pathcontent-typetext/htmlGreetings, W\\c3\\b6rld.")
  (data (i32.const 2048) "\\21\\04\\00\\00\\09\\00\\00\\00")
  (func $malloc (param i32) (result i32)
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (i32.and (i32.add (local.get 0) (i32.const 15)) (i32.const -16)))))
  (func $free (param i32))
  ;; what the request has under a header goes to the same one of the response
  (func $copy (param $name i32) (param $size i32)
    (call $header (i32.const 0) (i32.const 4) (i32.const 0) (local.get $name) (local.get $size))
    (drop (call $set
      (i32.const 0) (local.get $name) (local.get $size) (i32.load (i32.const 0)) (i32.load (i32.const 4)))))
  (func (export "run")
    (call $init (i32.const 0) (i32.const 1))
    (call $path (i32.const 16) (i32.const 20) (i32.const 0))
    (drop (call $set (i32.const 0) (i32.const 1039) (i32.const 6) (i32.const 16) (i32.const 1)))
    (call $copy (i32.const 1024) (i32.const 6))
    (call $copy (i32.const 1030) (i32.const 9))
    (drop (call $set (i32.const 0) (i32.const 1045) (i32.const 12) (i32.const 2048) (i32.const 1)))
    (drop (call $body (i32.const 0) (i32.const 1066) (i32.const 18)))))"""
"""Greets in HTML; x-path says which path it was asked for, x-user and x-variant what it was told of."""


@pytest.fixture(scope="module")
def site() -> App:
    return app(SITE, "hostcalls")


def filter_of(wasm: bytes | lucet.Module, configuration: str, **limits: Any) -> App:
    limits = {"cpu_time": 20.0, **limits}
    return app(wasm, configuration={"": {"": configuration}}, limits=Limits(**limits))


def c_filter(name: str, folder: Path, configuration: str = "") -> App:
    return filter_of(toolchains.c(EXAMPLES / f"{name}.c", folder, "-mexec-model=reactor", "-Wall"), configuration)


def test_authentication(site: App, tmp_path: Path) -> None:
    chain = Chain([c_filter("filter_auth", tmp_path, "ada s3cret\ngrace h0pper\n")], site)

    def get(*headers: tuple[bytes, bytes]) -> tuple[int, bytes | None]:
        answer = chain.get("/", list(headers))
        return answer.status, answer.header(b"x-user")

    assert get((b"authorization", b"Bearer s3cret")) == (200, b"ada")
    assert get((b"authorization", b"Bearer h0pper"), (b"x-user", b"root")) == (200, b"grace")
    for wrong in (b"", b"Bearer", b"Bearer ", b"Bearer s3cre", b"Bearer s3crets", b"Bearer ada", b"Basic s3cret"):
        assert get((b"authorization", wrong)) == (401, None)
        assert get((b"authorization", wrong), (b"x-user", b"root")) == (401, None)
    denied = chain.get("/")
    assert (denied.status, denied.body) == (401, b"a token is needed\n")
    assert denied.headers == [(b"www-authenticate", b"Bearer")]


def test_nobody_enters_without_a_configuration(site: App, tmp_path: Path) -> None:
    for configuration in ("", "\n", "ada\n", "ada \n", " s3cret"):
        chain = Chain([c_filter("filter_auth", tmp_path, configuration)], site)
        for token in (b"", b" ", b"s3cret", b"ada"):
            assert chain.get("/", [(b"authorization", b"Bearer " + token)]).status == 401


def test_the_smallest_filter(tmp_path: Path) -> None:
    """As the documentation has it."""
    source = tmp_path / "edge.c"
    source.write_text(only(EXAMPLES.parents[1] / "docs" / "terrarium-filters.md", "c"))
    wasm = toolchains.c(source, tmp_path, "-mexec-model=reactor", f"-I{EXAMPLES}")
    shown = get(f"(call $get_header_values (i32.const 0) {T('x-edge')} (i32.const 4096) (i32.const 4096))")
    assert Chain([filter_of(wasm, "")], app(handler(shown))).get("/").body == b"terrarium\0"


def test_two_versions_of_a_site(site: App, tmp_path: Path) -> None:
    chain = Chain([c_filter("filter_ab", tmp_path)], site)
    for variant, path in ((b"a", b"/shop?x=y"), (b"b", b"/b/shop?x=y")):
        headers: Headers = [(b"cookie", b"variant=x; notvariant=q; variant=" + variant + b"; other=a")]
        answer = chain.get("/shop?x=y", headers)
        assert (answer.header(b"x-path"), answer.header(b"x-variant")) == (path, variant)
        assert answer.header(b"set-cookie") is None
    first = chain.get("/")
    cookie = first.header(b"set-cookie")
    assert cookie is not None
    assert cookie.startswith(b"variant=")
    again = chain.get("/", [(b"cookie", cookie.partition(b";")[0])])
    assert again.header(b"x-variant") == first.header(b"x-variant") == cookie[8:9]


def test_replacing_a_text(site: App, tmp_path: Path) -> None:
    wasm = toolchains.assemblyscript(EXAMPLES / "filter_replace.ts", tmp_path, wasi=False)
    answer = Chain([filter_of(wasm, "Greetings\nHällo")], site).get("/")
    assert answer.body.decode() == "Hällo, Wörld."
    assert Chain([filter_of(wasm, "")], site).get("/").body.decode() == "Greetings, Wörld."


def test_headers_for_all_responses(site: App, tmp_path: Path) -> None:
    wasm = toolchains.rust(EXAMPLES / "filter_headers.rs", tmp_path, "--crate-type", "cdylib")
    configuration = "X-Frame-Options: DENY\nContent-Security-Policy: default-src 'self'\n"
    chain = Chain([filter_of(wasm, configuration)], site)
    answer = chain.get("/")
    assert answer.header(b"x-frame-options") == b"DENY"
    assert answer.header(b"content-security-policy") == b"default-src 'self'"
    assert answer.record.log_lines is None
    broken = Chain(chain.filters, app('(module (func (export "_start") (unreachable)))', "cgi")).get("/")
    assert (broken.status, broken.header(b"x-frame-options")) == (500, b"DENY")
    assert broken.record.log_lines == ["filter0: warning: the application answered with 500"]


@pytest.mark.slow
def test_a_filter_in_go(site: App, tmp_path: Path) -> None:
    wasm = toolchains.go(EXAMPLES / "filter_hours.go", tmp_path, "-buildmode=c-shared")
    module = lucet.Module.from_bytes(lucet.compile(wasm, opt_level="none"))
    for hours, status in (("0 24", 200), ("0 0", 503)):
        answer = Chain([filter_of(module, hours, cpu_time=60.0, memory=1 << 30)], site).get("/")
        assert answer.status == status, answer.record.fault
        assert (answer.body == b"closed\n") is (status == 503)
    failed = Chain([filter_of(module, "soon", cpu_time=60.0, memory=1 << 30)], site).get("/")
    assert failed.status == 500
    assert b"Greetings" not in failed.body
