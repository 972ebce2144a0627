"""The Python examples of README.md are run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


def test_python_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 1
    exec(compile("".join(blocks), "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out == "b'hello'\n"


def test_the_readme_is_one_screen() -> None:
    assert len(README.read_text().splitlines()) < 60


def test_the_ratios_are_those_of_the_pages_that_they_lead_to() -> None:
    """A figure that is measured anew must change here, too."""
    readme = " ".join(README.read_text().split())
    measured = page("explanation/measuring")
    (kernels,) = re.findall(r"^\| best-base +\| clang-base +\| 36 +\| \*\*([\d.]+)", page("code-quality"), re.M)
    (programs,) = re.findall(r"^\| geometric mean .*\*\*([\d.]+)\*\* \|$", measured, re.M)
    fast_default_best = r"^\| geometric mean \| \| \| \*\*[\d.]+\*\* \| \*\*([\d.]+)\*\* \|"
    (compiling,) = re.findall(fast_default_best, page("compile-time"), re.M)
    ((lucet, peer),) = re.findall(r"takes ([\d.]+) microseconds from C .* wasmtime ([\d.]+) from C", measured)
    assert f"[{float(kernels):.2f} of its time](docs/code-quality.md)" in readme
    assert f"[{float(programs):.2f} of its time](docs/explanation/measuring.md#real-programs)" in readme
    assert f"[{float(lucet) / float(peer):.2f} of its time](docs/explanation/measuring.md#the-life" in readme
    assert f"{lucet} microseconds" in readme
    assert f"[compiling takes {float(compiling):.0f} times the CPU time](docs/compile-time.md)" in readme


def page(name: str) -> str:
    return (README.parent / "docs" / f"{name}.md").read_text()
