"""The Python examples of README.md are run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


def test_python_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 2
    exec(compile("".join(blocks), "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out == "b'hello'\n"


def test_the_readme_is_one_screen_or_two() -> None:
    assert len(README.read_text().splitlines()) < 100
