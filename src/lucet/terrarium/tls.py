"""The front end for TLS and HTTP/2: granian, in the same process and on the same event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lucet.terrarium.asgi import application

if TYPE_CHECKING:
    from lucet.terrarium.frontend import Bounds, Handle

_STARTED: Final = 10.0
"""Seconds that it may take to listen."""


class TlsFrontEnd:
    """Listens for HTTPS with HTTP/1.1 and HTTP/2, and gives every request to `handle`."""

    def __init__(self, handle: Handle, bounds: Bounds) -> None:
        self._application = application(handle)
        self._bounds = bounds
        self._server: Any = None
        self._serving: asyncio.Task[None] | None = None

    async def listen(self, host: str, port: int, *, certificate: Path, key: Path) -> tuple[str, int]:
        """Give the address, whose port is a free one for port 0. OSError, ssl.SSLError, ValueError."""
        from granian.constants import HTTPModes, Interfaces, SSLProtocols
        from granian.http import HTTP1Settings, HTTP2Settings
        from granian.server.embed import Server

        logging.getLogger("_granian").setLevel(logging.WARNING)
        logging.getLogger("granian").setLevel(logging.WARNING)
        bounds = self._bounds
        port = _free(host, port)
        self._server = Server(
            self._application,
            address=host,
            port=port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.auto,
            http1_settings=HTTP1Settings(
                header_read_timeout=int(bounds.head_time * 1000), max_buffer_size=max(bounds.head_bytes, 8192)
            ),
            http2_settings=HTTP2Settings(
                keep_alive_interval=int(bounds.idle_time * 1000),
                max_concurrent_streams=128,
                max_headers_size=bounds.head_bytes,
            ),
            websockets=False,
            backlog=2048,
            log_enabled=False,
            ssl_cert=certificate,
            ssl_key=key,
            ssl_protocol_min=SSLProtocols.tls12,
        )
        self._serving = asyncio.create_task(self._server.serve())
        await self._until_it_listens(host, port)
        return host, port

    async def _until_it_listens(self, host: str, port: int) -> None:
        async with asyncio.timeout(_STARTED):
            while True:
                assert self._serving is not None
                if self._serving.done():
                    self._serving.result()
                    raise OSError(f"nothing listens on {host}:{port}")
                try:
                    _, writer = await asyncio.open_connection(host, port)
                except OSError:
                    await asyncio.sleep(0.01)
                else:
                    writer.close()
                    return

    async def close(self, grace: float = 30.0) -> None:
        """Accept nothing more, let requests that run end within `grace` seconds."""
        if self._server is None or self._serving is None:
            return
        self._server.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._serving, grace)


def _free(host: str, port: int) -> int:
    """The port, if it can be had. OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])
