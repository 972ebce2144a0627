"""Signatures in the formats of minisign: published vectors, that program where it is installed, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import lucet
from lucet import signing
from lucet.errors import SignatureError

# From the tests of minisign-verify, by minisign's author: both kinds of signature of the four bytes "test".
KEY = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
LEGACY = """untrusted comment: signature from minisign secret key
RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=
trusted comment: timestamp:1555779966\tfile:test
QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA=="""
PREHASHED = """untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1556193335\tfile:test
y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg=="""

SECRET = signing.generate()


@pytest.mark.parametrize(("signature", "time"), [(LEGACY, 1555779966), (PREHASHED, 1556193335)])
def test_published_vectors(signature: str, time: int) -> None:
    key = signing.read_public_key(KEY)
    assert signing.verify(b"test", signature, key) == f"timestamp:{time}\tfile:test"
    assert signing.verify(b"test", signature.replace("\n", "\r\n").encode() + b"\r\n", key)
    assert str(key) == KEY
    assert signing.read_public_key(key.text()) == key
    for data in (b"", b"tesu", b"test\0"):
        with pytest.raises(SignatureError, match="is not one of this file"):
            signing.verify(data, signature, key)


def test_any_changed_byte_of_a_signature_is_refused() -> None:
    key = signing.read_public_key(KEY)
    for at in range(len("untrusted comment: "), len(PREHASHED)):
        if PREHASHED[at] == "\n" or at < PREHASHED.index("\n"):
            continue  # the first line is not trusted
        changed = PREHASHED[:at] + ("A" if PREHASHED[at] != "A" else "B") + PREHASHED[at + 1 :]
        with pytest.raises(SignatureError):
            signing.verify(b"test", changed, key)


@pytest.mark.parametrize(
    ("signature", "why"),
    [
        ("", "not a signature"),
        (b"\xff", "not text"),
        (PREHASHED + "\n\n", "not a signature"),
        (PREHASHED.replace("trusted comment: ", "comment: "), "not a signature"),
        (PREHASHED.replace("RUQf", "RUQ"), "not base64"),
        (PREHASHED.replace("RUQf", "RVQf"), "unknown algorithm"),
        (PREHASHED.replace("RUQf6LRC", "RUQf6LRD"), "signed with the key"),
        (PREHASHED.replace("file:test", "file:tesu"), "the trusted comment"),
        (LEGACY.replace("RWQf", "RUQf", 1), "is not one of this file"),
        ("\n".join([*PREHASHED.split("\n")[:3], "AAAA"]), "the trusted comment"),
    ],
)
def test_what_is_no_signature(signature: str | bytes, why: str) -> None:
    with pytest.raises(SignatureError, match=why):
        signing.verify(b"test", signature, signing.read_public_key(KEY))


@pytest.mark.parametrize("text", ["", "\n", "x", KEY[:-4], f"{KEY}\n{KEY}\n{KEY}", f"a\n{KEY[:-1]}", "RWQ=", b"\xff"])
def test_what_is_no_public_key(text: str | bytes) -> None:
    with pytest.raises(SignatureError, match="not a public key"):
        signing.read_public_key(text)


def test_keys_and_signatures_of_our_own() -> None:
    key = signing.read_secret_key(SECRET.text())
    assert key == SECRET
    assert repr(key.secret)[2:-1] not in repr(key)
    signature = signing.sign(b"data", key, file="a.so")
    assert signing.verify(b"data", signature, key.public_key).endswith("\tfile:a.so\thashed")
    with pytest.raises(SignatureError, match="one printable line"):
        signing.sign(b"data", key, trusted_comment="a\nb")
    assert signing.generate() != signing.generate()


def test_encrypted_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "_OPSLIMIT", 1 << 15)
    monkeypatch.setattr(signing, "_MEMLIMIT", 1 << 20)
    text = SECRET.text("secret")
    assert signing.is_encrypted(text)
    assert not signing.is_encrypted(SECRET.text())
    assert signing.read_secret_key(text, "secret") == SECRET
    for wrong in ("", "Secret"):
        with pytest.raises(SignatureError, match="wrong password"):
            signing.read_secret_key(text, wrong)
    monkeypatch.setattr(signing, "_MEMLIMIT", 1 << 40)
    monkeypatch.setattr(signing, "_stream", lambda *_: bytes(104))
    hungry = SECRET.text("secret")
    monkeypatch.undo()
    with pytest.raises(SignatureError, match="too much memory"):
        signing.read_secret_key(hungry, "secret")
    with pytest.raises(SignatureError, match="damaged"):
        signing.read_secret_key(SECRET.text()[:150] + "AAAA" + SECRET.text()[154:])


# ---- artifacts


@pytest.fixture(scope="module")
def artifact() -> bytes:
    return lucet.compile('(func (export "f") (result i32) (i32.const 1))', workers=1)


@pytest.fixture
def signed(tmp_path: Path, artifact: bytes) -> Path:
    path = tmp_path / "signed.so"
    path.write_bytes(artifact)
    path.with_name("signed.so.minisig").write_text(signing.sign(artifact, SECRET))
    return path


def run(module: lucet.Module) -> object:
    return lucet.Region(slots=1).new_instance(module).run("f")


def test_a_signed_artifact_is_loaded(signed: Path) -> None:
    public = signed.with_name("key.pub")
    public.write_text(SECRET.public_key.text())
    for key in (public, SECRET.public_key, str(SECRET.public_key), SECRET.public_key.text()):
        assert run(lucet.Module.load(signed, public_key=key)) == 1
    assert isinstance(lucet.Module.load(str(signed).encode(), public_key=public), lucet.Module)


def test_others_are_not(signed: Path, tmp_path: Path) -> None:
    with pytest.raises(SignatureError, match="signed with the key"):
        lucet.Module.load(signed, public_key=signing.generate().public_key)
    with pytest.raises(SignatureError, match="there is no public key"):
        lucet.Module.load(signed, public_key=tmp_path / "none.pub")
    with signed.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(SignatureError, match="is not one of this file"):
        lucet.Module.load(signed, public_key=SECRET.public_key)
    signature = signed.with_name("signed.so.minisig")
    signature.write_bytes(bytes(1 << 20))
    with pytest.raises(SignatureError, match="too large"):
        lucet.Module.load(signed, public_key=SECRET.public_key)
    signature.unlink()
    with pytest.raises(SignatureError, match="there is no signature"):
        lucet.Module.load(signed, public_key=SECRET.public_key)


def test_what_was_verified_is_what_is_loaded(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is replaced as soon as its signature has been checked."""
    other = lucet.compile('(func (export "f") (result i32) (i32.const 2))', workers=1)
    check = signing.verify_file

    def check_and_replace(data: bytes, path: Path, key: signing.PublicKey) -> str:
        comment = check(data, path, key)
        path.write_bytes(other)
        return comment

    monkeypatch.setattr(signing, "verify_file", check_and_replace)
    assert run(lucet.Module.load(signed, public_key=SECRET.public_key)) == 1


def test_nothing_is_loaded_that_is_not_signed(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signed.write_bytes(signed.read_bytes()[:-1])
    monkeypatch.setattr(lucet.Module, "from_bytes", pytest.fail)
    with pytest.raises(SignatureError):
        lucet.Module.load(signed, public_key=SECRET.public_key)


# ---- minisign itself


def minisign(*arguments: str | Path, cwd: Path, answers: str = "") -> int:
    command = shutil.which("minisign")
    if command is None:
        pytest.skip("minisign is not installed")
    done = subprocess.run(
        [command, *map(str, arguments)], cwd=cwd, input=answers, capture_output=True, text=True, check=False
    )
    return done.returncode


def test_minisign_verifies_what_is_signed_here(signed: Path, tmp_path: Path) -> None:
    assert minisign("-Vm", "signed.so", "-P", str(SECRET.public_key), cwd=tmp_path) == 0
    signed.write_bytes(signed.read_bytes() + b"\0")
    assert minisign("-Vm", "signed.so", "-P", str(SECRET.public_key), cwd=tmp_path) != 0


def test_what_minisign_signs_is_verified_here(signed: Path, tmp_path: Path) -> None:
    assert minisign("-G", "-W", "-p", "m.pub", "-s", "m.key", cwd=tmp_path) == 0
    assert minisign("-S", "-s", "m.key", "-m", "signed.so", cwd=tmp_path) == 0
    assert run(lucet.Module.load(signed, public_key=tmp_path / "m.pub")) == 1
    key = signing.read_secret_key((tmp_path / "m.key").read_bytes())
    assert key.public_key == signing.read_public_key((tmp_path / "m.pub").read_text())


def test_minisign_takes_a_key_of_ours(signed: Path, tmp_path: Path) -> None:
    (tmp_path / "own.key").write_text(SECRET.text("secret"))
    assert minisign("-S", "-s", "own.key", "-m", "signed.so", cwd=tmp_path, answers="secret\n") == 0
    assert run(lucet.Module.load(signed, public_key=SECRET.public_key)) == 1
