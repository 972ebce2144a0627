"""Keys and signatures on the command line."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.programs import Lucet

Refuses = Callable[..., str]


@pytest.fixture
def key(lucet: Lucet, tmp_path: Path) -> Path:
    assert lucet("compile", "--keygen", "key", "--no-password").returncode == 0
    (tmp_path / "program.wat").write_text('(func (export "_start"))')
    return tmp_path / "key.pub"


def test_sign_and_verify(lucet: Lucet, refuses: Refuses, key: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert lucet("compile", "program.wat", "--sign", "key").returncode == 0
    assert lucet("run", "--verify", key, "program.so").returncode == 0
    assert lucet("inspect", "--verify", key, "program.so").returncode == 0
    assert lucet("compile", "--keygen", "other", "--no-password").returncode == 0
    assert "program.so: signed with the key" in refuses("run", "--verify", "other.pub", "program.so")
    # What is compiled already is signed as it is, by another key now.
    before = (tmp_path / "program.so").read_bytes()
    assert lucet("compile", "program.so", "--sign", "other").returncode == 0
    assert (tmp_path / "program.so").read_bytes() == before
    assert lucet("run", "--verify", "other.pub", "program.so").returncode == 0
    assert "signed with the key" in refuses("inspect", "--verify", key, "program.so")


def test_a_changed_file_is_refused(lucet: Lucet, refuses: Refuses, key: Path, tmp_path: Path) -> None:
    assert lucet("compile", "program.wat", "--sign", "key").returncode == 0
    artifact = bytearray((tmp_path / "program.so").read_bytes())
    artifact[-1] ^= 1
    (tmp_path / "program.so").write_bytes(artifact)
    assert "the signature is not one of this file" in refuses("run", "--verify", key, "program.so")
    assert "the artifact is damaged" in refuses("run", "program.so")
    assert "program.so: the artifact is damaged" in refuses("compile", "program.so", "--sign", "key")


def test_sources_are_verified(lucet: Lucet, refuses: Refuses, key: Path, tmp_path: Path) -> None:
    assert "there is no signature program.wat.minisig" in refuses("compile", "--verify", key, "program.wat")
    assert "there is no signature program.wat.minisig" in refuses("run", "--verify", key, "program.wat")
    from lucet import signing

    secret = signing.read_secret_key((tmp_path / "key").read_text())
    data = (tmp_path / "program.wat").read_bytes()
    (tmp_path / "program.wat.minisig").write_text(signing.sign(data, secret))
    assert lucet("run", "--verify", key, "program.wat").returncode == 0


def test_passwords(lucet: Lucet, refuses: Refuses, key: Path, environment: dict[str, str]) -> None:
    assert "a password is needed" in refuses("compile", "--keygen", "locked")
    environment["LUCET_SIGN_PASSWORD"] = ""
    assert "the password is empty" in refuses("compile", "--keygen", "locked")
    assert "key: exists" in refuses("compile", "--keygen", "key", "--no-password")
    assert "key.pub: not a secret key" in refuses("compile", "program.wat", "--sign", key.name)
    assert "key: not a public key" in refuses("run", "--verify", "key", "program.wat")


def test_usage(refuses: Refuses, key: Path) -> None:
    assert "MODULE.wasm" in refuses("compile", "--sign", "key", status=2)
    assert "beside a shared object" in refuses("compile", "program.wat", "--sign", "key", "-o", "-", status=2)
    assert "beside a shared object" in refuses("compile", "program.wat", "--sign", "key", "--emit", "ir", status=2)
