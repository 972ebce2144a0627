"""Stores with something in them."""

from __future__ import annotations

from pathlib import Path

from lucet.terrarium.catalogue import Route
from lucet.terrarium.store import NewAsset, NewVersion, Store


def filled(directory: Path) -> Store:
    """One application, acme/shop, with the versions 1 and 2, of which 1 is active."""
    store = Store(directory)
    store.put_tenant("acme")
    store.put_application("acme", "shop", routes=[Route(host="shop.example.test")])
    add_version(store, "acme", "shop", b"\0asm\1\0\0\0")
    add_version(store, "acme", "shop", b"\0asm\1\0\0\0\0\2\1x", assets={"/style.css": b"p {}"})
    store.activate("acme", "shop", [("1", 1)])
    return store


def add_version(store: Store, tenant: str, name: str, wasm: bytes, assets: dict[str, bytes] | None = None) -> str:
    digest = store.modules.put(wasm)
    new = [
        NewAsset(path=path, digest=store.files.put(data), size=len(data), content_type="text/css")
        for path, data in (assets or {}).items()
    ]
    version = NewVersion(digest=digest, interface="hostcalls", size=len(wasm), kind="wasm", log="", assets=new)
    return store.add_version(tenant, name, version)
