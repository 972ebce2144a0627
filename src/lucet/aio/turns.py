"""Whose turn it is: of the guests that compute on an event loop, one has a time slice in each of the loop's rounds.

So whatever else is due waits for one slice, however many guests are busy. Calls that end within their first slice are
not made to wait unless somebody has used a whole slice in the same round.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary, ref


class Turns(Protocol):
    """For one call: begin, then end_slice after every slice that was used up, and finish at the end."""

    async def begin(self) -> None: ...

    async def end_slice(self) -> None: ...

    def finish(self) -> None: ...


class _NoTurns:
    """Of a call that computes in threads: the loop goes on anyway."""

    async def begin(self) -> None:
        pass

    async def end_slice(self) -> None:
        pass

    def finish(self) -> None:
        pass


NO_TURNS: Final[Turns] = _NoTurns()


class _Round:
    """Of one asyncio loop: who has used its round, and who waits for the next ones, in their order."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = ref(loop)  # which keeps the round: see _rounds
        self.used = False
        self.waiting: deque[asyncio.Future[None]] = deque()

    def use(self) -> None:
        loop = self._loop()
        if loop is not None and not loop.is_closed():  # else a coroutine that nobody finished is collected
            self.used = True
            # One round more: timers that became due meanwhile wake their tasks in this one, ahead of the next slice.
            loop.call_soon(loop.call_soon, self._next)

    def _next(self) -> None:
        self.used = False
        while self.waiting:
            future = self.waiting.popleft()
            if not future.done():
                self.used = True
                future.set_result(None)
                return

    async def wait(self) -> None:
        """Comes back with the round; whoever has one gives it on with use()."""
        future = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        try:
            await future
        except BaseException:
            if future.done() and not future.cancelled():
                self.use()
            raise


_rounds: WeakKeyDictionary[asyncio.AbstractEventLoop, _Round] = WeakKeyDictionary()


class _AsyncioTurns:
    def __init__(self, round_: _Round) -> None:
        self._round = round_
        self._has_round = False

    async def begin(self) -> None:
        if self._round.used:
            await self._round.wait()
            self._has_round = True

    async def end_slice(self) -> None:
        if self._has_round or not self._round.used:
            self._has_round = False
            self._round.use()
        await self._round.wait()
        self._has_round = True

    def finish(self) -> None:
        if self._has_round:
            self._has_round = False
            self._round.use()


class _TrioTurns:
    """trio's own scheduler decides; a lock, held over a checkpoint, leaves one slice to each of its rounds."""

    def __init__(self, trio: Any, lock: Any) -> None:
        self._trio = trio
        self._lock = lock

    async def begin(self) -> None:
        await self._trio.lowlevel.checkpoint()

    async def end_slice(self) -> None:
        async with self._lock:
            await self._trio.lowlevel.checkpoint()

    def finish(self) -> None:
        pass


def turns() -> Turns:
    """Of a call in the present task. RuntimeError if there is neither an asyncio nor a trio loop."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        trio = sys.modules.get("trio")
        if trio is None or not _in_trio(trio):
            raise
        return _trio_turns(trio)
    round_ = _rounds.get(loop)
    if round_ is None:
        round_ = _rounds[loop] = _Round(loop)
    return _AsyncioTurns(round_)


def _in_trio(trio: Any) -> bool:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


_trio_lock: Any = None


def _trio_turns(trio: Any) -> _TrioTurns:
    global _trio_lock  # noqa: PLW0603 - a run variable can be made only once, when trio is there
    if _trio_lock is None:
        _trio_lock = trio.lowlevel.RunVar("lucet.aio.turns")
    try:
        lock = _trio_lock.get()
    except LookupError:
        lock = trio.StrictFIFOLock()
        _trio_lock.set(lock)
    return _TrioTurns(trio, lock)
