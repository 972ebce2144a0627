"""The server as an ASGI application, and behind granian with TLS and HTTP/2."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx", reason="needs the developers' packages")
pytest.importorskip("granian", reason="serving needs the extra lucet[serve]")
pytest.importorskip("cryptography", reason="needs the extra lucet[sign]")

import httpx

from lucet.terrarium.asgi import application
from lucet.terrarium.frontend import Bounds
from lucet.terrarium.http import Exchange, read_all
from lucet.terrarium.tls import TlsFrontEnd


def handle(exchange: Exchange) -> Coroutine[Any, Any, None] | None:
    request = exchange.request
    if request.target == "/at-once":
        exchange.added = [(b"set-cookie", b"a=b")]
        exchange.respond(201, [(b"X-Host", request.host.encode()), (b"connection", b"close")], b"at once")
        return None

    async def later() -> None:
        if request.target == "/nothing":
            return
        body = await read_all(request.body, 1 << 24)
        text = f"{request.method} {request.scheme} {request.version} {request.target} {len(body)} "
        await exchange.start(200, [(b"content-type", b"text/plain")])
        await exchange.write(text.encode())
        await exchange.write(body[:5])
        if request.target != "/cut":
            await exchange.end()

    return later()


async def parts() -> AsyncIterator[bytes]:
    for _ in range(100):
        yield b"0123456789"


async def ask(client: Any) -> None:
    answer = await client.get("/at-once")
    assert (answer.status_code, answer.content, answer.headers["x-host"]) == (201, b"at once", "edge.test")
    assert answer.headers["set-cookie"] == "a=b" and "close" not in answer.headers.get("connection", "")
    answer = await client.post("/a%20b%2Fc?d=%20", content=parts())
    assert answer.content.split()[0] == b"POST" and answer.content.endswith(b" /a%20b%2Fc?d=%20 1000 01234")
    assert (await client.head("/at-once")).content == b""
    assert (await client.get("/nothing")).status_code == 500


def test_in_process() -> None:
    async def main() -> None:
        transport = httpx.ASGITransport(application(handle))
        async with httpx.AsyncClient(transport=transport, base_url="http://edge.test:80") as client:
            await ask(client)
            assert (await client.get("/x", headers={"Host": "a/b"})).status_code == 400
            with pytest.raises(ConnectionAbortedError):
                await client.get("/cut")

    asyncio.run(main())


def test_lifespan_and_what_is_not_http() -> None:
    async def main() -> None:
        app = application(handle)
        messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        sent = []

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await app({"type": "lifespan"}, receive, send)
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        with pytest.raises(ValueError, match="websocket"):
            await app({"type": "websocket"}, receive, send)

    asyncio.run(main())


def certificate(folder: Path) -> tuple[Path, Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edge.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("edge.test")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


@pytest.mark.parametrize("http2", [True, False])
def test_tls(tmp_path: Path, http2: bool) -> None:
    certificate_file, key_file = certificate(tmp_path)

    async def main() -> None:
        front = TlsFrontEnd(handle, Bounds())
        _, port = await front.listen("127.0.0.1", 0, certificate=certificate_file, key=key_file)
        context = ssl.create_default_context(cafile=str(certificate_file))
        context.check_hostname = False
        try:
            async with httpx.AsyncClient(
                http2=http2, verify=context, base_url=f"https://127.0.0.1:{port}", timeout=60.0
            ) as client:
                client.headers["host"] = f"edge.test:{port}"
                await ask(client)
                answer = await client.get("/version")
                assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
                assert answer.text.startswith(f"GET https {'2' if http2 else '1.1'} /version")
                both = await asyncio.gather(*(client.get(f"/{i}") for i in range(50)))
                assert [f" /{i} " in one.text for i, one in enumerate(both)] == [True] * 50
                with pytest.raises(httpx.HTTPError):
                    await client.get("/cut")
        finally:
            await front.close(5.0)

    asyncio.run(main())
