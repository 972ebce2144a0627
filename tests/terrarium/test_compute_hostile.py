"""Compute: any calls with any arguments, as a hostile guest makes them: each has a status, and nothing leaks."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from lucet.runtime import Suspend
from lucet.terrarium.compute_table import CALLS, Call, Status
from lucet.terrarium.http import BytesBody, OutgoingFailed, OutgoingRefused, OutgoingRequest, OutgoingResponse
from lucet.terrarium.limits import Limits
from tests.kit.compute import Arriving, Caller, SlowKeys, host_function_of
from tests.kit.terrarium import DictKeys, NoOutgoing

STATUSES = {value for name, value in vars(Status).items() if name.isupper()}
TEXTS = [b"", b"x", b"origin", b"settings", b"vault", b"http://a.test/b", b"x\r\ny", b"\xff", b"k" * 300, b"a.test:80"]
NUMBERS = [0, 1, 2, 3, 5, 10, 60, 200, 204, 404, 1000, 65535, 65536, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF]


class Backend:
    """Answers, or fails, by chance."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    async def __call__(self, request: OutgoingRequest) -> OutgoingResponse:
        if not isinstance(request.body, bytes):
            await request.body.read(10)
        match self.chance.randrange(4):
            case 0:
                raise OutgoingFailed("by chance")
            case 1:
                raise OutgoingRefused("by chance")
            case 2:
                return OutgoingResponse(status=200, headers=[(b"x", b"y")], body=BytesBody(b"answer"))
            case _:
                body = Arriving(b"one", b"two", OutgoingFailed("cut off"))
                return OutgoingResponse(status=500, headers=[(b"content-encoding", b"gzip")], body=body)


def argument(guest: Caller, chance: random.Random, kind: str) -> list[int]:
    plain = kind.removeprefix("-")
    pointer = chance.choice([guest.at, guest.at + 1, 0, guest.memory.size - 3, 0xFFFFFFF0])
    if plain in {"bytes", "text", "span"}:
        text = chance.choice(TEXTS)
        return chance.choice([[guest.put(text), len(text)]] * 9 + [[pointer, chance.choice(NUMBERS)]])
    if plain == "handles":
        handles = [chance.choice([*guest.visit.handles, 7]) for _ in range(chance.randrange(4))]
        return [guest.put(b"".join(one.to_bytes(4, "little") for one in handles)), len(handles)]
    if plain in {"u32", "u64"}:
        return [chance.choice(NUMBERS)]
    if plain == "pointer":
        return [chance.choice([guest.put(chance.randbytes(100)), guest.put(bytes(100)), pointer])]
    return [chance.choice([*guest.visit.handles, *guest.visit.handles, 0, 0xFFFFFFFE])]


def numbers(guest: Caller, chance: random.Random, call: Call) -> list[int]:
    found: list[int] = []
    for kind in call.takes:
        found += argument(guest, chance, kind)
    while len(found) < len(call.params):
        room = guest.room(64)
        found.append(chance.choice([room] * 20 + [room + 1, 0, 30, 0xFFFFFFFC]))
    return found


async def run(guest: Caller, chance: random.Random, calls: int) -> dict[int, int]:
    seen: dict[int, int] = {}
    table = list(CALLS.values())
    start = guest.at
    for _ in range(calls):
        call = chance.choice(table)
        if call.name == "select":  # which may rightly wait for a long time
            continue
        guest.at = start
        given = numbers(guest, chance, call)
        result = host_function_of(call.module, call.name).callable(guest.instance, *given)
        if isinstance(result, Suspend):
            result = await asyncio.wait_for(result.value, 30)
        assert result in STATUSES, (call, given, result)
        seen[result] = seen.get(result, 0) + 1
        if not guest.visit.tasks:
            # All that is held is held for something that the guest has a handle of.
            items = guest.visit.handles.values()
            assert guest.visit.store.held == guest.visit.kept + sum(item.held for item in items), call
    return seen


@pytest.mark.parametrize("seed", range(8))
def test_any_calls(seed: int) -> None:
    chance = random.Random(seed)
    with Caller(
        "POST",
        body=Arriving(b"some", b"text"),
        limits=Limits(response_body=200_000),
        backends={"origin": "http://origin.test"},
        configuration={"settings": {"x": "y"}, "fastly:acl:x": {"0.0.0.0/0": "BLOCK"}},
        secrets={"vault": {"x": b"y"}},
        keys=chance.choice([DictKeys, SlowKeys])(),
        outgoing=lambda: NoOutgoing(Backend(chance)),
    ) as guest:
        guest.at = 4096
        seen = guest.loop.run_until_complete(run(guest, chance, 4000))
        visit: Any = guest.visit
    assert seen[Status.OK] > 400
    assert len(seen) >= 8
    assert not visit.tasks
    assert not visit.handles
