"""Coroutines that begin at once: who never has to wait costs no task."""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any


def eagerly(coroutine: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None] | None:
    """Run it until it has to wait. None if it has ended; else what is to be awaited, in a task, until it has.

    Before it uses what needs a task (asyncio.timeout), it awaits a_task().
    """
    try:
        waits_for = coroutine.send(None)
    except StopIteration:
        return None
    return _go_on(coroutine, waits_for)


async def _go_on(coroutine: Coroutine[Any, Any, None], waits_for: Any) -> None:
    await _rest(coroutine, waits_for)


@types.coroutine
def _rest(coroutine: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """As "yield from" does it, from the second step on."""
    while True:
        try:
            sent = yield waits_for
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as error:
            step = partial(coroutine.throw, error)
        else:
            step = partial(coroutine.send, sent)
        try:
            waits_for = step()
        except StopIteration:
            return


@types.coroutine
def a_task() -> Generator[None, None, None]:
    """Comes back in the task that awaits it."""
    yield
