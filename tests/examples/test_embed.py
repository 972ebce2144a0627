"""examples/embed.c builds and runs as examples/README.md says, and does what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from tests.conftest import ROOT, CBuild

EXPECTED = r"""imports shop\.price
10000 instances, 50000 host calls, all baskets together: 10135000
trap: integer divide by zero in average, byte 0x[0-9a-f]+ of the \.wasm
afterwards it is ready: the average is 6
trap: interrupted in never_ends.*
trap: timed out in never_ends.*
"""


def test_it_prints_what_it_should(c_build: CBuild) -> None:
    assert re.fullmatch(EXPECTED, c_build.output)


def test_the_basket_is_added_up(c_build: CBuild) -> None:
    """The total of embed.c's customers, calculated here: articles 7, 1, 1, 4, and one that has no price."""
    total = sum(round_ + customer + customer + 10 for round_ in range(10) for customer in range(1000))
    assert f"together: {total}\n" in c_build.output


def test_it_compiles_without_warnings(c_build: CBuild) -> None:
    for standard in ("c11", "gnu17"):
        command = ["cc", f"-std={standard}", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
        subprocess.run([*command, *c_build.compile_flags, ROOT / "examples" / "embed.c"], check=True)


def test_the_header_is_c_plus_plus_too(c_build: CBuild) -> None:
    if not shutil.which("c++"):
        pytest.skip("no C++ compiler: c++")
    source = (
        '#include "lucet.h"\nint main() { lucet_region_config c = lucet_region_defaults(); return c.slots == 0; }\n'
    )
    program = c_build.folder / "cxx"
    command = ["c++", "-Wall", "-Wextra", "-Werror", "-x", "c++", "-", *c_build.compile_flags, "-o", str(program)]
    subprocess.run([*command, *c_build.link_flags], input=source, text=True, check=True)
    subprocess.run([program], check=True)


def test_pkg_config_says_the_same(c_build: CBuild) -> None:
    if not shutil.which("pkg-config"):
        pytest.skip("no pkg-config")
    folder = c_build.folder / "installed" / "lib" / "pkgconfig"
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "lucet"],
        env={**os.environ, "PKG_CONFIG_PATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert {*flags} == {*c_build.compile_flags, *c_build.link_flags}


def test_the_program_needs_no_python(c_build: CBuild) -> None:
    needed = subprocess.run(
        ["readelf", "-d", c_build.folder / "embed"], capture_output=True, text=True, check=True
    ).stdout
    libraries = re.findall(r"NEEDED.*\[(.*?)\]", needed)
    assert libraries
    assert {name.split(".")[0] for name in libraries} <= {"libc", "libpthread", "libdl", "ld-linux-x86-64"}
