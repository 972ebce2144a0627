"""The server's state: what it keeps, what it refuses, and that nothing which was acknowledged is lost."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lucet.errors import LucetError
from lucet.terrarium.blobs import Blobs, Damaged
from lucet.terrarium.catalogue import AppKey, NotDeployed, Route
from lucet.terrarium.database import StoreFailed
from lucet.terrarium.limits import Limits
from lucet.terrarium.sealed import SealBroken
from lucet.terrarium.settings import AppSettings
from lucet.terrarium.store import Absent, Store, Taken
from tests.kit.stores import add_version, filled

pytest.importorskip("cryptography")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = filled(tmp_path / "data")
    yield store
    store.close()


def reopened(store: Store) -> Store:
    store.close()
    return Store(store.directory)


def test_what_is_stored_is_there_after_a_restart(store: Store) -> None:
    store.put_application("acme", "shop", settings=AppSettings(limits={"cpu_time": 0.5}, backends={"b": "http://b"}))
    store.put_configuration("acme", "shop", "", {"GREETING": "hello", "GONE": "x"})
    store.put_configuration("acme", "shop", "", {"GONE": None})
    store.put_secrets("acme", "shop", "keys", {"token": b"\xff secret"})
    store.activate("acme", "shop", [("1", 90), ("2", 10)], sticky="cookie:id")
    before = store.applications(), store.deployment("acme", "shop", "2")
    again = reopened(store)
    assert (again.applications(), again.deployment("acme", "shop", "2")) == before
    application, deployment = before[0]["acme", "shop"], before[1]
    assert application.routes == (Route(host="shop.example.test", path="/"),)
    assert application.shares == (("1", 90), ("2", 10))
    assert application.sticky == "cookie:id"
    assert deployment.limits == Limits(cpu_time=0.5)
    assert deployment.configuration == {"": {"GREETING": "hello"}}
    assert deployment.secrets == {"keys": {"token": b"\xff secret"}}
    assert deployment.assets["/style.css"].file.read_bytes() == b"p {}"
    assert again.deployment("acme", "shop", "1").assets == {}
    again.close()


def test_secrets_are_not_readable_at_rest_or_shown(store: Store) -> None:
    store.put_secrets("acme", "shop", "keys", {"token": b"hunter2-hunter2"})
    assert "hunter2" not in repr(store.deployment("acme", "shop", "1"))
    store.close()
    for path in store.directory.rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes(), path
    assert (store.directory / "secrets.key").stat().st_mode & 0o777 == 0o600
    assert store.directory.stat().st_mode & 0o777 == 0o700


def test_a_secret_that_was_moved_to_another_key_or_changed_is_refused(store: Store) -> None:
    store.put_secrets("acme", "shop", "keys", {"token": b"x"})
    with store.change() as change:
        change.run("UPDATE secrets SET key = 'other'")
    with pytest.raises(SealBroken, match="changed, or sealed with another key"):
        store.deployment("acme", "shop", "1")


def test_a_key_that_others_can_read_is_refused(store: Store) -> None:
    store.put_secrets("acme", "shop", "keys", {"token": b"x"})
    (store.directory / "secrets.key").chmod(0o644)
    again = reopened(store)
    with pytest.raises(LucetError, match=r"secrets\.key: must belong to this user and be closed to others"):
        again.deployment("acme", "shop", "1")
    again.close()


def test_the_key_may_be_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUCET_TERRARIUM_KEY", "A" * 43 + "=")
    store = filled(tmp_path / "data")
    store.put_secrets("acme", "shop", "", {"a": b"x"})
    assert not (tmp_path / "data" / "secrets.key").exists()
    monkeypatch.setenv("LUCET_TERRARIUM_KEY", "too short")
    again = reopened(store)
    with pytest.raises(LucetError, match="LUCET_TERRARIUM_KEY: must be 32 bytes in base64"):
        again.deployment("acme", "shop", "1")
    again.close()


def test_what_there_is_not_is_named(store: Store) -> None:
    with pytest.raises(Absent, match="no tenant 'nobody'"):
        store.put_application("nobody", "app")
    with pytest.raises(Absent, match="no application acme/none"):
        store.set_routes("acme", "none", [])
    with pytest.raises(Absent, match="acme/shop has no version '3'"):
        store.activate("acme", "shop", [("3", 1)])
    with pytest.raises(Absent, match="acme/shop has no version '1 '"):
        store.activate("acme", "shop", [("1 ", 1)])
    with pytest.raises(NotDeployed, match="acme/shop has no version '7'"):
        store.deployment("acme", "shop", "7")
    assert store.applications()["acme", "shop"].shares == (("1", 1),)


def test_a_route_belongs_to_one_application(store: Store) -> None:
    store.put_application("acme", "blog", routes=[Route(host="blog.example.test")])
    with pytest.raises(Taken, match=r"shop\.example\.test/ is routed to acme/shop"):
        store.set_routes("acme", "blog", [Route(host="other.example.test"), Route(host="shop.example.test")])
    assert store.applications()["acme", "blog"].routes == (Route(host="blog.example.test"),)
    store.set_routes("acme", "shop", [])
    store.set_routes("acme", "blog", [Route(host="shop.example.test")])


def test_versions_are_numbered_once(store: Store) -> None:
    store.delete_version("acme", "shop", "2")
    assert add_version(store, "acme", "shop", b"\0asm\1\0\0\0") == "3"
    with pytest.raises(Taken, match="version 1 of acme/shop is active"):
        store.delete_version("acme", "shop", "1")


def test_rolling_back(store: Store) -> None:
    with pytest.raises(Absent, match="no other version before"):
        store.previous("acme", "shop")
    store.activate("acme", "shop", [("2", 1)])
    store.activate("acme", "shop", [("2", 1)])
    assert store.previous("acme", "shop") == [("1", 1)]


def test_generations_change_with_what_a_deployment_is_made_from(store: Store) -> None:
    store.put_tenant("other")
    store.put_application("other", "app")
    changes: list[Callable[[], None]] = [
        lambda: store.put_configuration("acme", "shop", "", {"A": "b"}),
        lambda: store.put_secrets("acme", "shop", "", {"A": b"b"}),
        lambda: store.put_application("acme", "shop", settings=AppSettings(development=True)),
        lambda: store.activate("acme", "shop", [("2", 1)]),
        lambda: store.put_tenant("acme", {"concurrency": 3}),
        lambda: store.put_artifact(store.versions("acme", "shop")[0].digest, "default", "c", "d", better=True),
    ]
    noticed: list[frozenset[AppKey]] = []
    store.on_change = noticed.append
    for change in changes:
        before = store.applications()
        change()
        after = store.applications()
        assert after["acme", "shop"].generation > before["acme", "shop"].generation
        assert after["other", "app"] == before["other", "app"]
        assert after["acme", "shop"].generation == store.deployment("acme", "shop", "1").generation
    assert noticed == [frozenset([("acme", "shop")])] * len(changes)
    assert store.deployment("acme", "shop", "1").limits.concurrency == 3


def test_deleting(store: Store) -> None:
    store.put_secrets("acme", "shop", "", {"a": b"x"})
    files = {path for path in store.directory.rglob("*") if path.is_file()}
    assert store.collect_garbage() == 0
    store.delete_tenant("acme")
    assert store.applications() == {}
    assert store.tenants() == []
    assert store.collect_garbage() == 3  # two modules and an asset
    assert all("modules" not in path.parts or not path.exists() for path in files)
    with pytest.raises(Absent, match="no tenant 'acme'"):
        store.delete_tenant("acme")


def test_expired_applications_go(store: Store) -> None:
    store.put_application("acme", "brief", expires=time.time() - 1)
    store.put_application("acme", "long", expires=time.time() + 1000)
    assert store.delete_expired() == [("acme", "brief")]
    assert store.delete_expired() == []
    assert set(store.applications()) == {("acme", "shop"), ("acme", "long")}


def test_what_is_being_deployed_is_no_garbage(store: Store) -> None:
    digest = store.modules.put(b"\0asm\1\0\0\0\0\2\1y")
    with store.holding(digest):
        assert store.collect_garbage() == 0
    assert store.collect_garbage() == 1


def test_many_changes_in_one_transaction(store: Store) -> None:
    def fail() -> None:
        with store.change():
            for number in range(10):
                store.put_application("acme", f"app-{number}")
            raise RuntimeError("after all")

    with pytest.raises(RuntimeError, match="after all"):
        fail()
    assert set(store.applications()) == {("acme", "shop")}
    with store.change():
        for number in range(10):
            store.put_application("acme", f"app-{number}")
    assert len(store.applications()) == 11


def test_ten_thousand_applications_are_rows(tmp_path: Path) -> None:
    store = filled(tmp_path)
    digest = store.versions("acme", "shop")[0].digest
    with store.change() as change:
        for number in range(10_000):
            store.put_application("acme", f"app-{number}", routes=[Route(host=f"a{number}.example.test")])
            row = ("acme", f"app-{number}", 1, digest, "hostcalls", 8, "wasm", "", 0.0)
            change.run("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", *row)
            store.activate("acme", f"app-{number}", [("1", 1)])
    again = reopened(store)
    assert len(again.applications()) == 10_001
    assert again.deployment("acme", "app-9999", "1").digest == digest
    again.close()


def test_a_file_that_has_changed_is_found(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    digest = blobs.put(b"content")
    assert blobs.get(digest) == b"content"
    blobs.path(digest).write_bytes(b"contend")
    with pytest.raises(Damaged, match="the content has changed"):
        blobs.get(digest)
    with pytest.raises(Damaged):
        blobs.intact(digest)
    assert blobs.put(b"content") == digest  # is written again
    assert blobs.get(digest) == b"content"
    blobs.remove(digest)
    with pytest.raises(Damaged, match="No such file"):
        blobs.get(digest)


WRITER = """
import sys
from lucet.terrarium.catalogue import Route
from lucet.terrarium.store import Store
from tests.kit.stores import add_version
from pathlib import Path
store = Store(Path(sys.argv[1]))
store.put_tenant("acme")
number = int(sys.argv[2])
while True:
    name = f"app-{number}"
    store.put_application("acme", name, routes=[Route(host=f"{name}.example.test")])
    version = add_version(store, "acme", name, b"\\0asm\\1\\0\\0\\0\\0\\5\\4" + number.to_bytes(4, "little"))
    store.activate("acme", name, [(version, 1)])
    store.put_secrets("acme", name, "", {"number": str(number).encode()})
    print(number, flush=True)
    number += 1
"""


def test_killed_at_any_moment_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    random_moments = random.Random(7)
    acknowledged: list[int] = []
    begin = 0
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "data"), str(begin)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))},
        )
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first, "the writer did not begin"
        time.sleep(random_moments.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        process.stdout.close()
        process.wait()
        acknowledged += [int(line) for line in (first + rest).split(b"\n") if line]
        begin = acknowledged[-1] + 2  # the one after may be half done
        store = Store(tmp_path / "data")
        applications = store.applications()
        for number in acknowledged:
            deployment = store.deployment("acme", f"app-{number}", "1")
            assert store.modules.get(deployment.digest).endswith(number.to_bytes(4, "little"))
            assert deployment.secrets == {"": {"number": str(number).encode()}}
            assert applications["acme", f"app-{number}"].shares == (("1", 1),)
        store.collect_garbage()
        store.close()


def test_a_full_disk_changes_nothing_and_is_said(store: Store) -> None:
    """The limit on the size of files is as good as a full disk: writes fail in the middle."""
    big = "x" * 1_000_000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = store.applications(), store.configuration("acme", "shop")
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with pytest.raises(StoreFailed, match="the database: "):
            store.put_configuration("acme", "shop", "", {"big": big})
        with pytest.raises(OSError, match="too large"):
            store.modules.put(big.encode())
        assert (store.applications(), store.configuration("acme", "shop")) == before
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    store.put_configuration("acme", "shop", "", {"big": big})
    assert store.collect_garbage() == 0
    assert reopened(store).configuration("acme", "shop") == {"": {"big": big}}


def test_a_database_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(LucetError, match=r"state\.db: file is not a database"):
        Store(tmp_path)


def test_closing_while_others_read(tmp_path: Path) -> None:
    """SQLite would crash, if closing did not wait for what is going on."""
    for number in range(20):
        store = filled(tmp_path / str(number))
        begun = threading.Event()

        def read(store: Store = store, begun: threading.Event = begun) -> None:
            with pytest.raises(StoreFailed, match="closed database"):
                while True:
                    store.applications()
                    store.versions("acme", "shop")
                    begun.set()

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        begun.wait()
        store.close()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
