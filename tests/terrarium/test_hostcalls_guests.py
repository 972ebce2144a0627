"""The interface hostcalls with programs from real compilers, each with its binding: C, Rust, AssemblyScript."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

import pytest

import lucet
from lucet import terrarium
from lucet.terrarium.limits import Limits
from tests.kit import toolchains
from tests.kit.hostcalls import answer_there
from tests.kit.terrarium import App, DictKeys, NoOutgoing

BINDINGS: Final = Path(terrarium.__file__).parent / "guests"
GUESTS: Final = Path(__file__).parent / "guests" / "hostcalls"


@pytest.fixture(scope="module", params=["c", "rust", "assemblyscript"])
def tour(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, lucet.Module]:
    language: str = request.param
    folder = tmp_path_factory.mktemp(language)
    suffix = {"c": "c", "rust": "rs", "assemblyscript": "ts"}[language]
    for name in (GUESTS / f"tour.{suffix}", *BINDINGS.glob("*.*")):
        shutil.copy(name, folder)
    source = folder / f"tour.{suffix}"
    match language:
        case "c":
            wasm = toolchains.c(source, folder, "-mexec-model=reactor", "-I", str(BINDINGS))
        case "rust":
            wasm = toolchains.rust(source, folder, "--crate-type=cdylib", "--edition=2021")
        case _:
            wasm = toolchains.assemblyscript(GUESTS / source.name, folder, wasi=False)
    return language, lucet.Module.from_bytes(lucet.compile(wasm))


def app(module: lucet.Module, **changes: Any) -> App:
    limits = Limits(cpu_time=2)
    return App(module, outgoing=lambda: NoOutgoing(answer_there), limits=limits, **changes)


def test_what_the_client_asks_and_gets(tour: tuple[str, lucet.Module]) -> None:
    answer = app(tour[1]).request("PUT", "/echo?q", b"body", [(b"x-name", b"me"), (b"x-name", b"not me")])
    assert (answer.record.fault, answer.status) == (None, 201)
    assert answer.body == b"PUT /echo?q body me 3"  # names: host, x-name, fastly-client-ip
    assert answer.headers == [(b"x-kind", b"echo")]
    assert app(tour[1]).get("/").body == b"GET /  nobody 2"


def test_a_counter(tour: tuple[str, lucet.Module]) -> None:
    keys = DictKeys()
    answers = [app(tour[1], keys=keys).get("/count").body for _ in range(3)]
    assert answers == [b"1 first", b"2 again", b"3 again"]


def test_requests_to_others(tour: tuple[str, lucet.Module]) -> None:
    answer = app(tour[1]).get("/fetch")
    assert (answer.record.fault, answer.body) == (None, b"406 20 -1")
    assert answer.record.outgoing == 3
    assert "refused" in (answer.record.log_lines or [""])[0]


def test_the_end(tour: tuple[str, lucet.Module]) -> None:
    answer = app(tour[1]).get("/fail")
    assert (answer.record.fault, answer.status, answer.body) == (None, 500, b"this is wrong")
    assert answer.record.log_lines == ["this is wrong"]
    trapped = app(tour[1]).get("/trap")
    assert trapped.status == 500
    assert (trapped.record.fault or "").startswith("UNREACHABLE in ")
    if tour[0] == "rust":
        assert "a panic" in (trapped.record.log_lines or [""])[0]


def test_the_bindings_have_every_function() -> None:
    """And with the types that the server has them with, as far as C says them."""
    from tests.kit.hostcalls import SIGNATURES

    for name in SIGNATURES:
        if name.startswith("utf"):
            continue
        for binding in ("lucet_http.h", "lucet_http.rs"):
            assert f"hostcall_{name}" in (BINDINGS / binding).read_text(), f"{binding}: {name}"
