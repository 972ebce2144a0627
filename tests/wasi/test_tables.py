"""The tables against each other and against what real programs import."""

from __future__ import annotations

import errno as host
import inspect
import re
from pathlib import Path

import pytest

from lucet.errors import Unsupported
from lucet.wasi import tables
from lucet.wasi.calls import Calls
from lucet.wasi.tables import ABIS, FROM_HOST, PREVIEW0, PREVIEW1, Abi, Errno, Right
from lucet.wasm.decode import decode_module
from tests.shared import shared_path

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("abi", ABIS, ids=lambda abi: abi.module)
def test_every_call_has_a_method_with_the_row_s_parameters(abi: Abi) -> None:
    for call in abi.calls.values():
        parameters = inspect.signature(getattr(Calls, call.name)).parameters
        assert len(parameters) == len(call.params) + 2, call.name  # self, memory


def test_every_method_is_a_call() -> None:
    methods = {name for name, value in inspect.getmembers(Calls, inspect.isfunction) if not name.startswith("_")}
    assert methods == set(PREVIEW1.calls)


def test_preview_0_lacks_only_sock_accept() -> None:
    assert set(PREVIEW1.calls) - set(PREVIEW0.calls) == {"sock_accept"}
    assert not set(PREVIEW0.calls) - set(PREVIEW1.calls)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("PRESTAT", 8),
        ("FDSTAT", 24),
        ("FILESTAT", 64),
        ("DIRENT", 24),
        ("IOVEC", 8),
        ("SUBSCRIPTION", 48),
        ("EVENT", 32),
        ("FILESTAT0", 56),
        ("SUBSCRIPTION0", 56),
    ],
)
def test_sizes_of_structures_are_those_of_the_witx_layout(name: str, size: int) -> None:
    assert getattr(tables, name).size == size


def test_a_row_becomes_a_call() -> None:
    call = PREVIEW1.calls["fd_pread"]
    assert [param.name for param in call.params] == ["fd", "iovs", "iovs_len", "offset", "nread"]
    assert [param.type for param in call.params] == ["i32", "i32", "i32", "i64", "i32"]
    assert call.results == ("i32",)
    assert call.spans == ((1, 8, 2), (4, 4, None))
    assert PREVIEW1.calls["proc_exit"].results == ()
    assert PREVIEW1.calls["sched_yield"].params == ()


def test_errors_of_the_host_have_names_of_their_own() -> None:
    assert FROM_HOST[host.ENOENT] == Errno.NOENT
    assert FROM_HOST[host.E2BIG] == Errno.TOOBIG
    assert FROM_HOST[host.EOPNOTSUPP] == Errno.NOTSUP
    assert FROM_HOST[host.EWOULDBLOCK] == Errno.AGAIN
    # All but SUCCESS, and NOTCAPABLE, which no host has.
    assert set(FROM_HOST.values()) == set(Errno) - {Errno.SUCCESS, Errno.NOTCAPABLE}


def test_rights_are_the_30_bits_in_order() -> None:
    bits = [value for name, value in vars(Right).items() if name.isupper()]
    assert bits == [1 << i for i in range(30)]


def test_real_programs_import_these_functions_with_these_types() -> None:
    tested = set()
    for path in sorted(p for folder in ("apps", "guests", "wasi") for p in shared_path(folder).rglob("*.wasm")):
        try:
            module = decode_module(path.read_bytes())
        except Unsupported:
            continue
        for item in module.imports:
            for abi in ABIS:
                if item.module == abi.module and isinstance(item.desc, int):
                    functype = module.types[item.desc]
                    call = abi.calls[item.field]
                    assert functype.params == tuple(param.type for param in call.params), item.field
                    assert functype.results == call.results, item.field
                    tested.add(item.field)
    assert len(tested) > 40


@pytest.mark.python_only
def test_the_core_has_the_same_numbers() -> None:
    text = (ROOT / "src/lucet/abi/wasi.def").read_text()
    errnos = {name: int(code) for name, code in re.findall(r"^(?:OWN_)?ERRNO\((\w+), (\d+)\)", text, re.MULTILINE)}
    assert errnos == {errno.name: errno.value for errno in Errno}
    bits = {name: 1 << int(bit) for name, bit in re.findall(r"^RIGHT\((\w+), (\d+)\)", text, re.MULTILINE)}
    assert bits == {name: value for name, value in vars(Right).items() if not name.startswith("_")}


@pytest.mark.python_only
def test_the_page_has_every_call() -> None:
    page = (ROOT / "docs/wasi.md").read_text().partition("## The calls")[2].partition("## Reactors")[0]
    rows = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert sorted(rows) == sorted(PREVIEW1.calls)
    in_core = set(re.findall(r"^\| `(\w+)` \| core", page, re.MULTILINE))
    source = (ROOT / "native/wasi_calls.c").read_text()
    assert in_core == set(re.findall(r'^    \{"(\w+)", "[iI]*:i?", \w+, (?:true|false)\}', source, re.MULTILINE))
