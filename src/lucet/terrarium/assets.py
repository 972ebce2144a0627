"""Answering what needs no guest: a deployment's static files, and its health."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lucet.terrarium.catalogue import Asset, Deployment
    from lucet.terrarium.http import Exchange, Headers

HEALTH_PATH: Final = "/__health"
_AT_ONCE: Final = 65536


async def answer(deployment: Deployment, exchange: Exchange) -> bool:
    """Whether the request is answered; if not, it is for the guest. ClientGone."""
    request = exchange.request
    if request.method not in ("GET", "HEAD"):
        return False
    path = request.path
    if deployment.health and path == HEALTH_PATH:
        exchange.respond(200, [(b"content-type", b"text/plain; charset=utf-8")], b"OK\n")
        return True
    asset = deployment.assets.get(path)
    if asset is None:
        return False
    await _send(asset, exchange)
    return True


def may_answer(deployment: Deployment) -> bool:
    """Whether answer() ever does: to be asked once, so that most requests need no call."""
    return deployment.health or bool(deployment.assets)


async def _send(asset: Asset, exchange: Exchange) -> None:
    tag = f'"{asset.digest}"'.encode()
    headers: Headers = [(b"content-type", asset.content_type.encode()), (b"etag", tag)]
    given = exchange.request.header(b"if-none-match")
    if given is not None and (given.strip() == b"*" or tag in [one.strip() for one in given.split(b",")]):
        exchange.respond(304, [(b"etag", tag)])
        return
    if exchange.request.method == "HEAD":
        exchange.respond(200, [*headers, (b"content-length", str(asset.size).encode())])
        return
    if asset.size <= _AT_ONCE:
        exchange.respond(200, headers, asset.file.read_bytes())
        return
    with asset.file.open("rb") as file:
        await exchange.start(200, [*headers, (b"content-length", str(asset.size).encode())])
        while part := await asyncio.to_thread(file.read, _AT_ONCE):
            await exchange.write(part)
    await exchange.end()
