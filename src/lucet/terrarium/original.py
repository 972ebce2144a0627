"""The first Terrarium's own API: POST /deploy and GET /status/<id>, as its command-line client expects them.

An upload is a JSON object {"lang", "options", "tar"}, the tar in base64 without padding; each deployment is an
application with a host name of four words, and lives as long as is configured.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from lucet.terrarium.catalogue import Route
from lucet.terrarium.deploy import DEPLOYING, QueueFull, Upload
from lucet.terrarium.http import BodyTooLarge, Exchange, Headers, read_all
from lucet.terrarium.settings import AppSettings
from lucet.terrarium.untar import BadUpload, untar

if TYPE_CHECKING:
    from lucet.terrarium.config import Original
    from lucet.terrarium.deploy import Deployer

_LANGUAGES: Final = {
    "c": "c",
    "rust": "rust",
    "assemblyscript": "assemblyscript",
    "wasm": "wasm",
    "wat": "text",
}
_UPLOADS: Final = 8
"""Received at once, from all clients: each may be large."""
_JSON: Final[Headers] = [(b"content-type", b"application/json"), (b"access-control-allow-origin", b"*")]
_WORDS: Final = (
    "amber anchor apple april arrow aspen autumn badger bamboo barley basin beacon birch bishop bramble breeze "
    "bridge bronze brook butter cabin candle canyon carbon castle cedar cherry cinder clover cobalt copper coral "
    "cotton cradle crane crystal cypress daisy dawn delta desert diamond dolphin dragon eagle echo ember emerald "
    "falcon feather fern field finch flame flint forest fossil fox galaxy garden ginger glacier granite grove "
    "harbor hazel heron honey horizon indigo island ivory ivy jade jasmine juniper kettle lagoon lantern lapis "
    "lark laurel lemon lilac linen lotus lunar magnet maple marble marsh meadow mint mirror mist moss mountain "
    "nectar nest north nova oak oasis ocean olive onyx opal orchid otter owl oxide palm paper pearl pebble pepper "
    "pine planet plum polar pollen pond poppy prairie prism quarry quartz quill rain raven reef ribbon ridge "
    "river robin ruby saffron sage salmon sand sapphire seed shadow shell silver sky slate snow sparrow spring "
    "spruce star stone storm summer sun swallow swan thistle thunder tiger timber topaz torch tulip tundra valley "
    "velvet violet walnut water wave willow wind winter wolf wren yarrow zinc"
).split()


class OriginalApi:
    """catalogue.Service for /deploy, /status/<id> and /__health."""

    def __init__(self, deployer: Deployer, settings: Original, port: int | None = None) -> None:
        self.deployer = deployer
        self.settings = settings
        self.port = settings.port if settings.port is not None else port
        """Of URLs; None: the scheme's own."""
        self._uploads = 0

    @staticmethod
    def is_for(path: str) -> bool:
        return path in ("/deploy", "/__health") or path.startswith("/status/")

    async def handle(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.path == "/__health":
            exchange.respond(200, [(b"content-type", b"text/plain")], b"OK\n")
        elif request.path == "/deploy" and request.method == "POST":
            await self._deploy(exchange)
        elif request.path.startswith("/status/") and request.method in ("GET", "HEAD"):
            self._status(exchange, request.path.removeprefix("/status/"))
        else:
            _answer(exchange, 405, {"id": "", "success": False, "message": f"{request.method} is not for this"})

    async def _deploy(self, exchange: Exchange) -> None:
        limit = self.deployer.limits.source
        try:
            data = await read_all(exchange.request.body, 2 * limit)
            kind, files = await asyncio.to_thread(read_upload, data, limit)
        except BodyTooLarge as error:
            _answer(exchange, 413, {"id": "", "success": False, "message": str(error)})
            return
        except BadUpload as error:
            _answer(exchange, 400, {"id": "", "success": False, "message": str(error)})
            return
        finally:
            self._uploads -= 1
        name = "-".join(secrets.choice(_WORDS) for _ in range(4))
        upload = Upload(
            tenant=self.settings.tenant,
            application=name,
            kind=kind,
            files=files,
            settings=AppSettings(health=True, development=True),
            routes=(Route(host=f"{name}.{self.settings.domain}"),),
            new=True,
            expires=time.time() + self.settings.ttl,
        )
        try:
            job = self.deployer.submit(upload)
        except QueueFull as error:
            _answer(exchange, 429, {"id": "", "success": False, "message": str(error)})
            return
        _answer(exchange, 200, {"id": job.id, "success": True, "message": "Upload complete"})

    def _status(self, exchange: Exchange, name: str) -> None:
        job = self.deployer.job(name)
        if job is None:
            told = {"status": "unknown", "message": "there is no such deployment", "success": False, "done": True}
            _answer(exchange, 404, told)
            return
        message = job.status
        if job.success:
            message = f"Deploy complete: {self.url(job.application)}"
        elif job.done:
            message = f"{job.status}\n{job.log}".strip()
        state = "done" if job.done else "deploying" if job.status == DEPLOYING else "building"
        told = {"status": state, "message": message, "success": job.success or not job.done, "done": job.done}
        _answer(exchange, 200, told)

    def url(self, application: str) -> str:
        usual = {"http": 80, "https": 443}[self.settings.scheme]
        port = "" if self.port in (None, usual) else f":{self.port}"
        return f"{self.settings.scheme}://{application}.{self.settings.domain}{port}/"


def read_upload(data: bytes, limit: int) -> tuple[str, dict[str, bytes]]:
    """The language, and files by path, at most `limit` bytes of them. BadUpload, BodyTooLarge."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise BadUpload("the body is no JSON") from None
    if not isinstance(body, dict) or not isinstance(body.get("tar"), str):
        raise BadUpload('the body must be {"lang", "options", "tar"}')
    kind = _LANGUAGES.get(str(body.get("lang")))
    if kind is None:
        raise BadUpload(f"the language is not one of {', '.join(_LANGUAGES)}")
    text = body["tar"].rstrip("=")
    try:
        tar = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadUpload(f"the tar is not base64: {error}") from None
    return kind, untar(tar, limit)


def _answer(exchange: Exchange, status: int, body: dict[str, Any]) -> None:
    exchange.respond(status, _JSON, json.dumps(body).encode())
