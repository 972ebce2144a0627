"""Compute: the section [local_server] of a fastly.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from lucet.terrarium.compute_config import MAX_FILE, Seed, files_beneath, local_server, read_manifest
from lucet.terrarium.settings import BadSetting, app_settings_of
from tests.kit.compute import Caller

MANIFEST = b"""
manifest_version = 3
name = "app"

[local_server]
viceroy_version = "0.9"

[local_server.backends.origin]
url = "http://127.0.0.1:8000/base"
override_host = "origin.example"
cert_host = "other.example"

[local_server.backends.other]
url = "https://other.example"

[local_server.config_stores.inline]
format = "inline-toml"
[local_server.config_stores.inline.contents]
greeting = "hello"

[local_server.dictionaries.old]
file = "old.json"
format = "json"

[local_server.kv_stores]
things = [
  { key = "one", data = "1", metadata = "about" },
  { key = "two", file = "two.bin" },
  { key = "three", path = "two.bin" },
]
many = { file = "many.json", format = "json" }

[[local_server.secret_stores.vault]]
key = "data"
data = "s3cret"
[[local_server.secret_stores.vault]]
key = "file"
file = "two.bin"
[[local_server.secret_stores.vault]]
key = "env"
env = "SECRET"

[local_server.geolocation]
use_default_loopback = true
format = "inline-toml"
[local_server.geolocation.addresses."2001:DB8::0:1"]
city = "there"
latitude = 1.5

[local_server.device_detection]
format = "json"
file = "devices.json"

[local_server.acls]
first = "acl.json"
second = { file = "acl.json" }
third = { entries = [ { op = "create", prefix = "192.0.2.7/24", action = "BLOCK" } ] }
"""
FILES = {
    "old.json": b'{"a": "b"}',
    "two.bin": b"\0\1\2",
    "many.json": b'{"plain": "text", "more": {"data": "x", "metadata": "m"}, "file": {"file": "two.bin"}}',
    "devices.json": b'{"Browser/1": {"device": {"name": "it"}}}',
    "acl.json": b'{"entries": [{"prefix": "2001:db8::/32", "action": "ALLOW"}]}',
}


def test_a_manifest() -> None:
    found = read_manifest(MANIFEST, FILES.__getitem__, {"SECRET": "variable"})
    assert found.backends == {"origin": "http://127.0.0.1:8000/base", "other": "https://other.example"}
    assert found.origins == ("http://127.0.0.1:8000", "https://other.example:443")
    assert found.configuration == {
        "inline": {"greeting": "hello"},
        "old": {"a": "b"},
        "fastly:override_host": {"origin": "origin.example"},
        "fastly:geolocation": {"2001:db8::1": '{"city":"there","latitude":1.5}'},
        "fastly:device_detection": {"Browser/1": '{"device":{"name":"it"}}'},
        "fastly:acl:first": {"2001:db8::/32": "ALLOW"},
        "fastly:acl:second": {"2001:db8::/32": "ALLOW"},
        "fastly:acl:third": {"192.0.2.0/24": "BLOCK"},
    }
    assert found.secrets == {"vault": {"data": b"s3cret", "file": b"\0\1\2", "env": b"variable"}}
    assert found.seeds == (
        Seed(store="things", key="one", value=b"1", metadata=b"about"),
        Seed(store="things", key="two", value=b"\0\1\2"),
        Seed(store="things", key="three", value=b"\0\1\2"),
        Seed(store="many", key="plain", value=b"text"),
        Seed(store="many", key="more", value=b"x", metadata=b"m"),
        Seed(store="many", key="file", value=b"\0\1\2"),
    )
    assert found.ignored == (
        "local_server.viceroy_version",
        "local_server.backends.origin.cert_host",
        "local_server.geolocation.use_default_loopback",
    )
    assert "s3cret" not in repr(found)


def test_guests_find_what_the_manifest_says() -> None:
    found = read_manifest(MANIFEST, FILES.__getitem__, {"SECRET": "variable"})
    assert app_settings_of({"backends": dict(found.backends)}).backends == found.backends
    with Caller(configuration=found.configuration, secrets=found.secrets, backends=found.backends) as guest:
        for seed in found.seeds:
            guest.app.keys.put(seed.store, seed.key.encode(), seed.value, metadata=seed.metadata)
        store = guest.good("fastly_config_store.open", "inline")
        assert guest.good("fastly_config_store.get", store, "greeting") == b"hello"
        address = bytes.fromhex("20010db8000000000000000000000001")
        assert guest.good("fastly_geo.lookup", address) == b'{"city":"there","latitude":1.5}'
        assert guest.good("fastly_backend.get_override_host", "origin") == b"origin.example"
        assert guest.good("fastly_acl.lookup", guest.good("fastly_acl.open", "first"), address)[1] == 1
        many = guest.good("fastly_kv_store.open", "many")
        pending = guest.good("fastly_kv_store.lookup", many, "more", 0, 0)
        assert guest.good("fastly_kv_store.lookup_wait_v2", pending)[1] == b"m"


@pytest.mark.parametrize("manifest", [b"", b"name = 'x'", b"[local_server]"])
def test_nothing_to_say(manifest: bytes) -> None:
    found = read_manifest(manifest, FILES.__getitem__)
    assert (found.backends, found.configuration, found.secrets, found.seeds) == ({}, {}, {}, ())


@pytest.mark.parametrize(
    ("section", "where"),
    [
        (1, "local_server"),
        ({"backends": 1}, "local_server.backends"),
        ({"backends": {"a": {}}}, "local_server.backends.a.url"),
        ({"backends": {"a": {"url": 1}}}, "local_server.backends.a.url"),
        ({"backends": {"a": {"url": "ftp://a"}}}, "local_server.backends.a.url"),
        ({"backends": {"a": {"url": "http://[::1"}}}, "local_server.backends.a.url"),
        ({"backends": {"a": {"url": "http://a", "override_host": "a\r\nb"}}}, "local_server.backends.a.override_host"),
        ({"config_stores": {"a": {}}}, "local_server.config_stores.a.format"),
        ({"config_stores": {"a": {"format": "xml"}}}, "local_server.config_stores.a.format"),
        ({"config_stores": {"a": {"format": "inline-toml"}}}, "local_server.config_stores.a.contents"),
        ({"config_stores": {"a": {"format": "json"}}}, "local_server.config_stores.a.file"),
        ({"config_stores": {"a": {"format": "json", "file": "two.bin"}}}, "local_server.config_stores.a.file"),
        ({"config_stores": {"a": {"format": "json", "file": "absent"}}}, "local_server.config_stores.a"),
        (
            {"config_stores": {"a": {"format": "inline-toml", "contents": {"k": 1}}}},
            "local_server.config_stores.a.k",
        ),
        ({"config_stores": {"fastly:x": {}}}, "local_server.config_stores.fastly:x"),
        ({"kv_stores": {"a": 1}}, "local_server.kv_stores.a"),
        ({"kv_stores": {"a": [{}]}}, "local_server.kv_stores.a[0].key"),
        ({"kv_stores": {"a": [{"key": "k"}]}}, "local_server.kv_stores.a[0]"),
        ({"kv_stores": {"a": [{"key": "k", "data": "x", "file": "y"}]}}, "local_server.kv_stores.a[0]"),
        ({"kv_stores": {"a": [{"key": "k", "env": "SECRET"}]}}, "local_server.kv_stores.a[0]"),
        ({"secret_stores": {"a b": []}}, "local_server.secret_stores.a b"),
        ({"secret_stores": {"a": [{"key": "k", "env": "ABSENT"}]}}, "local_server.secret_stores.a[0].env"),
        ({"geolocation": {"format": "inline-toml", "addresses": {"x": {}}}}, "local_server.geolocation.x"),
        ({"acls": {"a": {}}}, "local_server.acls.a"),
        ({"acls": {"a": {"entries": [{"prefix": "x"}]}}}, "local_server.acls.a.entries[0].prefix"),
        ({"acls": {"a": {"entries": [{"prefix": "::/0"}]}}}, "local_server.acls.a.entries[0].action"),
    ],
)
def test_what_is_wrong_is_named(section: object, where: str) -> None:
    def files(name: str) -> bytes:
        if name not in FILES:
            raise FileNotFoundError(name)
        return FILES[name]

    with pytest.raises(BadSetting) as caught:
        local_server(section, files)
    assert caught.value.field == where


def test_what_is_no_toml() -> None:
    for data in (b"a = ", b"\xff"):
        with pytest.raises(BadSetting, match="is no TOML"):
            read_manifest(data, FILES.__getitem__)


def test_secrets_come_from_no_variable_unless_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "the server's own")
    with pytest.raises(BadSetting, match="there is no variable"):
        local_server({"secret_stores": {"a": [{"key": "k", "env": "SECRET"}]}}, FILES.__getitem__)


def test_files_are_those_of_the_project(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    (project / "data/file").write_bytes(b"inside")
    (tmp_path / "secret").write_bytes(b"outside")
    (project / "link").symlink_to(tmp_path / "secret")
    files = files_beneath(project)
    assert files("data/file") == files("data/../data/file") == b"inside"
    for name in ("../secret", "link", str(tmp_path / "secret"), "data/../../secret"):
        with pytest.raises(PermissionError):
            files(name)
        with pytest.raises(BadSetting, match="is not beneath"):
            local_server({"kv_stores": {"a": [{"key": "k", "file": name}]}}, files)
    with pytest.raises(BadSetting, match="cannot be read"):
        local_server({"kv_stores": {"a": [{"key": "k", "file": "data\0"}]}}, files)
    with (project / "large").open("wb") as file:
        file.truncate(MAX_FILE + 1)
    with pytest.raises(OSError, match="more than"):
        files("large")
