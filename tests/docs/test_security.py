"""The tests that SECURITY.md names exist, and run."""

from __future__ import annotations

import re

import pytest

from tests.docs.blocks import ROOT

PAGE = (ROOT / "SECURITY.md").read_text()
NAMED = [
    (file, name)
    for file, names in re.findall(r"`(tests/\w+/test_\w+\.(?:c|py))`: ((?:`\w+`(?:, )?)+)", PAGE)
    for name in re.findall(r"\w+", names)
]


def test_every_mention_is_understood() -> None:
    assert len(NAMED) > 60
    mentions = re.findall(r"`(tests/\w+/test_\w+\.\w+)`: `", PAGE)
    assert len(mentions) == len(re.findall(r"tests/\w+/test_\w+\.(?:c|py)", PAGE)) - 1  # all but that of this file


@pytest.mark.parametrize(("file", "name"), NAMED, ids=str)
def test_it_exists(file: str, name: str) -> None:
    text = (ROOT / file).read_text()
    if file.endswith(".py"):
        assert re.search(rf"^def {name}\(", text, re.MULTILINE)
    else:
        assert f"TEST({name})" in text  # in the list of what is run


@pytest.mark.parametrize("file", re.findall(r"`((?:fuzz|native)/\w+\.\w+)`", PAGE))
def test_other_files_exist(file: str) -> None:
    assert (ROOT / file).is_file()


@pytest.mark.parametrize(("name", "file"), re.findall(r"`(\w+)` in `(native/\w+\.c)`", PAGE))
def test_functions_exist(name: str, file: str) -> None:
    assert re.search(rf"\b{name}\(", (ROOT / file).read_text())


def test_every_class_has_a_test_or_a_reason() -> None:
    rows = [line.split(" | ", 1) for line in PAGE.split("## What is tested")[1].splitlines() if line.startswith("| ")]
    assert len(rows) > 25
    without = [row[0] for row in rows if row[0] != "| class" and not re.search(r"`|\*cannot happen\*|\*open\*", row[1])]
    assert without == []
