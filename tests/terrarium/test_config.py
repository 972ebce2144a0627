"""The configuration file, and settings as the admin API takes them: what is accepted, and how the rest is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lucet.terrarium.catalogue import FilterUse, Route
from lucet.terrarium.config import ConfigError, SecretSource, parse_config, read_config, secret_of, split_address
from lucet.terrarium.settings import AppSettings, BadSetting, app_settings_of, changed, route_of, sticky_of, to_json

WHOLE = """
listen = ["0.0.0.0:80", "unix:/run/terrarium"]
grace = "5 s"
[tls]
certificate = "cert.pem"
key = "/etc/key.pem"
[limits]
cpu_time = "20 ms"
memory = "64 MiB"
queue = 0
[original]
domain = "apps.example.test"
[tenants.acme]
limits = { concurrency = 4 }
[tenants.acme.apps.shop]
module = "shop.wasm"
routes = ["Shop.Example.test./a/", "*.example.test", "*", { host = "h", path = "/p" }]
limits = { cpu_time = "1 s", memory = 1000 }
secrets = { keys = { token = { env = "TOKEN" } } }
filters = [{ application = "login", version = "3", configuration = '{"a": 1}' }]
"""


def test_everything_is_converted() -> None:
    found = parse_config(WHOLE.encode(), base=Path("/etc/terrarium"))
    assert found.listen == ("0.0.0.0:80", "unix:/run/terrarium")
    assert found.grace == 5.0
    assert found.data == Path("/etc/terrarium/terrarium-data")
    assert found.tls is not None
    assert (found.tls.certificate, found.tls.key) == (Path("/etc/terrarium/cert.pem"), Path("/etc/key.pem"))
    assert (found.limits.cpu_time, found.limits.memory, found.limits.queue) == (0.02, 64 << 20, 0)
    assert found.original is not None
    assert found.original.ttl == 900
    app = found.tenants["acme"].apps["shop"]
    assert app.module == Path("/etc/terrarium/shop.wasm")
    assert app.routes == (
        Route(host="shop.example.test", path="/a"),
        Route(host="*.example.test", path="/"),
        Route(host="*", path="/"),
        Route(host="h", path="/p"),
    )
    assert app.limits == {"cpu_time": 1.0, "memory": 1000}
    assert app.filters == (FilterUse(application="login", version="3", configuration=b'{"a": 1}'),)
    assert app.settings().limits == app.limits


APP = '[tenants.acme.apps.shop]\nmodule = "a.wasm"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb = ?\n", "terrarium.toml:2:5: Invalid value"),
        ("a = 1\nb =", "terrarium.toml:2: "),
        ("lisen = []", "lisen: unknown; there are listen, "),
        ("listen = 'a:1'", "listen: must be a list, not 'a:1'"),
        ("listen = ['a']", r"listen\[0\]: must be \"host:port\" or \"unix:path\", not 'a'"),
        ("listen = ['a:65536']", r"listen\[0\]: must be"),
        ("listen = ['unix:']", r"listen\[0\]: the path of a unix socket has 1 to 107 bytes"),
        ("development = 1", "development: must be true or false, not 1"),
        ("grace = true", "grace: must be seconds above 0, or a time like 50 ms, not True"),
        ("grace = nan", "grace: must be seconds above 0"),
        ("grace = -1", "grace: must be seconds above 0"),
        ("[limits]\nmemory = 1.5", r"limits\.memory: must be a whole number from 1, or a size like 8 MiB, not 1.5"),
        ("[limits]\nmemory = '8 parsec'", r"limits\.memory: must be a whole number"),
        ("[limits]\nqueue = -1", r"limits\.queue: must be a whole number from 0"),
        ("[tls]\nkey = 'k'", r"tls\.certificate: is missing"),
        ("[original]\ndomain = 'd'\nscheme = 'ftp'", r"original\.scheme: must be one of 'http', 'https', not 'ftp'"),
        ("[tenants.Acme]", "tenants: must be 1 to 63 lower-case letters"),
        ("[tenants.acme]\napps = 3", r"tenants\.acme\.apps: must be a table, not 3"),
        ("[tenants.acme.apps.shop]", r"tenants\.acme\.apps\.shop\.module: is missing"),
        (APP + "limits = { queue = 1 }", r"shop\.limits\.queue: is for all of a tenant's applications"),
        (APP + "limits = { time = 1 }", r"shop\.limits\.time: unknown; there are cpu_time"),
        (APP + "routes = ['a:80']", r"shop\.routes\[0\]\.host: must be a host's name"),
        (APP + "routes = ['a/b%2Fc']", r"shop\.routes\[0\]\.path: must be /"),
        (APP + "routes = ['a/b/...']", r"shop\.routes\[0\]\.path: must be /"),
        (APP + "routes = ['a/../b']", r"shop\.routes\[0\]\.path: must be /"),
        (APP + "routes = [{ host = 'a', port = 1 }]", r"shop\.routes\[0\]\.port: unknown"),
        (APP + "backends = { a = 'ftp://x' }", r"shop\.backends\.a: must be an http or https URL"),
        (APP + "filters = [{}]", r"shop\.filters\[0\]\.application: is missing"),
        (APP + "filters = [{ application = 'A' }]", r"shop\.filters\[0\]\.application: must be 1 to 63"),
        (APP + "secrets = { s = { k = 'plain' } }", r"shop\.secrets\.s\.k: must be a table, not 'plain'"),
        (APP + "secrets = { s = { k = {} } }", r"shop\.secrets\.s\.k: must have one of"),
        (APP + "module = 2", "terrarium.toml:3:"),
        (
            APP + "routes = ['h/a']\n[tenants.b.apps.c]\nmodule = 'x'\nroutes = ['H/a/']",
            r"tenants\.b\.apps\.c\.routes\[0\]: h/a is that of tenants\.acme\.apps\.shop",
        ),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_config(text.encode(), "terrarium.toml")
    assert str(caught.value).startswith("terrarium.toml:")


def test_bytes_that_are_no_text_have_a_line(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_bytes(b"# fine\n# \xff\n")
    with pytest.raises(ConfigError, match=r"t\.toml:2: is not UTF-8"):
        read_config(tmp_path / "t.toml")


def test_addresses() -> None:
    assert split_address("[::1]:80", "x") == ("::1", 80)
    assert split_address("unix:/run/s", "x") == Path("/run/s")
    with pytest.raises(BadSetting, match="107 bytes"):
        split_address("unix:/" + "x" * 107, "x")


def test_secrets_come_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "t\udcff")
    assert secret_of(SecretSource(env="TOKEN"), "s") == b"t\xff"
    (tmp_path / "secret").write_bytes(b"line\nlast\r\n")
    assert secret_of(SecretSource(file=tmp_path / "secret"), "s") == b"line\nlast"
    monkeypatch.delenv("TOKEN")
    with pytest.raises(BadSetting, match="s: there is no environment variable TOKEN"):
        secret_of(SecretSource(env="TOKEN"), "s")
    with pytest.raises(BadSetting, match=r"s: .*: No such file or directory"):
        secret_of(SecretSource(file=tmp_path / "none"), "s")


def test_settings_are_the_same_after_json() -> None:
    settings = AppSettings(
        limits={"cpu_time": 0.5},
        backends={"b": "https://b.example"},
        allowed_outbound_hosts=("https://b.example:443",),
        filters=(FilterUse(application="login", configuration=b"\xff{"),),
        development=True,
    )
    assert app_settings_of(to_json(settings)) == settings
    assert changed(settings, {"development": False}, app_settings_of).limits == {"cpu_time": 0.5}
    with pytest.raises(BadSetting, match="developmnt: unknown"):
        changed(settings, {"developmnt": False}, app_settings_of)


@pytest.mark.parametrize("text", ["cookie:", "cookie:a b", "query:x", "Client", 3])
def test_what_a_split_cannot_stick_to(text: object) -> None:
    with pytest.raises(BadSetting, match="sticky: must be"):
        sticky_of(text, "sticky")


def test_a_route_has_one_way_to_be_written() -> None:
    assert route_of("[::0:1]", "r") == Route(host="[::1]")
    assert route_of("*.EXAMPLE.test/a//b/", "r").host == "*.example.test"
    with pytest.raises(BadSetting, match="host"):
        route_of("*.*.test", "r")
    with pytest.raises(BadSetting, match="host"):
        route_of("*.", "r")
