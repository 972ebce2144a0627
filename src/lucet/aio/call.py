"""Calling a guest's function from a coroutine."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final

from lucet.aio.turns import NO_TURNS, Turns, turns
from lucet.errors import InstanceError
from lucet.runtime import Func, Instance, Suspended

DEFAULT_TIME_SLICE: Final = 0.005
"""Seconds that a guest computes before others on the loop have their turn."""


async def call(
    instance: Instance,
    function: str | Func,
    /,
    *args: Any,
    time_slice: float | None = None,
    executor: Executor | None = None,
) -> Any:
    """Call an exported function, by name or as a Func of the instance: its result, as Instance.run gives it.

    Host functions may be coroutine functions, or return lucet.Suspend(awaitable): the guest waits on its own stack
    while they do, and the loop goes on. An exception of theirs ends the call and is raised here; a WasmException is
    thrown at the guest. A guest that computes for longer than time_slice seconds (default: instance.time_slice, or
    DEFAULT_TIME_SLICE) is suspended until it is its turn again. With an executor it computes in one of that's threads
    instead, and host functions that are not coroutines run there, too; asyncio only.

    When the task is cancelled, the guest's frames are dropped and the instance can be used again.
    """
    run = function if isinstance(function, Func) else instance.export(function)
    if not isinstance(run, Func):
        raise TypeError(f"the export {function!r} is not a function")
    mine = turns() if executor is None else NO_TURNS
    before = instance.time_slice
    if executor is None:
        instance.time_slice = time_slice or before or DEFAULT_TIME_SLICE
    try:
        await mine.begin()
        return await _until_it_ends(instance, executor, run, args, mine)
    finally:
        mine.finish()
        if executor is None and instance.state != "closed":
            instance.time_slice = before


async def _until_it_ends(
    instance: Instance, executor: Executor | None, run: Func, args: tuple[Any, ...], mine: Turns
) -> Any:
    result = run(*args) if executor is None else await _in_thread(instance, executor, run, *args)
    while isinstance(result, Suspended):
        suspended = result
        try:
            go_on = await _what_it_waits_for(suspended, mine)
            result = go_on() if executor is None else await _in_thread(instance, executor, go_on)
        except BaseException:
            suspended.close()  # unless it has gone on: it may have waited for a thread when the task was cancelled
            raise
    return result


async def _what_it_waits_for(run: Suspended, mine: Turns) -> Callable[[], Any]:
    """Waits, and gives what lets the run go on."""
    if run.reason == "time":
        await mine.end_slice()
        return run.resume
    if run.reason == "fuel":
        raise run.value
    mine.finish()
    outcome = await host_outcome(run)
    await mine.begin()
    return outcome


async def host_outcome(run: Suspended) -> Callable[[], Any]:
    """Await what a host function suspended its guest for, and give what lets the guest go on with it."""
    if not inspect.isawaitable(run.value):
        raise InstanceError("the guest was suspended with a value that nobody here waits for: not an awaitable")
    try:
        result = await run.value
    except Exception as error:
        raised = error
        return lambda: run.throw(raised)
    return lambda: run.resume(result)


async def _in_thread(instance: Instance, executor: Executor, work: Callable[..., Any], *args: Any) -> Any:
    """In a thread of the executor. If the task is cancelled, the guest is interrupted, and its end awaited."""
    future = executor.submit(work, *args)
    waiting = asyncio.wrap_future(future)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        waiting.add_done_callback(_retrieved)
        while not future.cancel() and not future.done():
            instance.interrupt()
            await _a_moment()
        if not future.cancelled() and future.exception() is None and isinstance(future.result(), Suspended):
            future.result().close()
        raise


def _retrieved(waiting: asyncio.Future[Any]) -> None:
    """How it ended is looked at elsewhere; without this asyncio would report that nobody did."""
    if not waiting.cancelled():
        waiting.exception()


async def _a_moment() -> None:
    """Not to be cancelled again: the thread still uses the instance."""
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0.001)
