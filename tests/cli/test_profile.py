"""A profile, from `lucet run --profile-out` to `lucetc --profile`."""

from __future__ import annotations

from pathlib import Path

from tests.cli.programs import HELLO, Lucet


def test_from_run_to_build(lucet: Lucet, tmp_path: Path) -> None:
    profile, artifact = f"{tmp_path}/hello.profile", f"{tmp_path}/hello.so"
    counted = lucet("run", "--profile-out", profile, HELLO, "an argument")
    assert counted.returncode == 0, counted.stderr
    built = lucet("compile", HELLO, "--opt-level", "best", "--profile", profile, "-o", artifact)
    assert built.returncode == 0, built.stderr
    assert lucet("run", artifact, "an argument").stdout.splitlines()[1:] == counted.stdout.splitlines()[1:]
    other = lucet("compile", "--profile", artifact, HELLO, "-o", artifact)
    assert other.returncode != 0
    assert b"not a profile" in other.stderr
