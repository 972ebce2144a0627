"""Letting a guest answer a request: a fresh instance, within its limits, dropped in any case."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from time import perf_counter, thread_time
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from lucet.aio.call import host_outcome
from lucet.aio.turns import turns
from lucet.errors import Exit, InstanceError, LimitsExceeded, MemoryAccessError, RegionFull, Trap, WasmException
from lucet.runtime import Instance, Suspended
from lucet.terrarium.environment import StoreFull, StoreUnavailable
from lucet.terrarium.http import BodyTooLarge, ClientGone
from lucet.terrarium.interface import SLICE, GuestError

if TYPE_CHECKING:
    from lucet.terrarium.http import Exchange
    from lucet.terrarium.interface import Interface, Visit
    from lucet.terrarium.record import Record


_RUNNERS: Final = frozenset({__name__, "lucet.aio.call", "lucet.terrarium.filters", "lucet.terrarium.eager"})


class LimitReached(Exception):
    """By the name of a field of Limits."""


def answer(
    interface: Interface, exchange: Exchange, record: Record, *, is_prepared: bool = False
) -> Coroutine[Any, Any, None] | None:
    """Let a fresh instance answer. None if it has done so; else what is to be awaited until it has.

    A guest that neither waits nor computes for longer than a slice costs no task and no system call. Nothing is
    raised for what the guest does: its client gets an error, and the record tells.

    is_prepared: an interface that answers itself has done its part.
    """
    if interface.answers_itself and not is_prepared:
        return interface.answer(exchange, record)
    visit = interface.visit(exchange, record)
    instance = None
    start = ended = perf_counter()
    try:
        instance = visit.new_instance()
        instance.context = visit
        instance.time_slice = interface.first_slice
        begun = perf_counter()
        record.instantiate_time = begun - start
        steps = iter(interface.steps)
        run: Any = None
        try:
            for step in steps:
                run = instance.run(step) if step else instance._start()
                if run is not None:
                    break
        finally:
            ended = perf_counter()
            record.run_time = taken = ended - begun
            # What is beyond a slice it has not computed: others had the CPU.
            record.cpu_time = taken if taken < interface.first_slice else interface.first_slice
        if run is not None and isinstance(run, Suspended):
            going_on = _go_on(interface, visit, record, instance, run, steps)
            instance = None  # which is its own then
            return going_on
        rest = visit.returned(0)
    except Exit as end:
        rest = _exited(interface, visit, record, end.status)
    except Exception as error:
        failed(interface, exchange, record, error)
        rest = None
    if rest is not None:
        return _rest(interface, visit, record, instance, rest)
    _drop(visit, record, instance, ended)
    return None


def _exited(interface: Interface, visit: Visit, record: Record, status: int) -> Coroutine[Any, Any, None] | None:
    try:
        return visit.returned(status)
    except Exception as error:
        failed(interface, visit.exchange, record, error)
        return None


@asynccontextmanager
async def _ending(interface: Interface, visit: Visit, record: Record, instance: Instance | None) -> AsyncIterator[None]:
    """Within the wall time; what goes wrong is answered, and the instance dropped."""
    try:
        try:
            async with asyncio.timeout(interface.environment.limits.wall_time):
                yield
        except TimeoutError:
            raise LimitReached("wall_time") from None
    except Exception as error:
        failed(interface, visit.exchange, record, error)
    finally:
        _drop(visit, record, instance, perf_counter())


async def _rest(
    interface: Interface, visit: Visit, record: Record, instance: Instance | None, rest: Coroutine[Any, Any, None]
) -> None:
    """The guest is done, its response is not."""
    async with _ending(interface, visit, record, instance):
        await rest


async def _go_on(
    interface: Interface, visit: Visit, record: Record, instance: Instance, run: Any, steps: Iterator[str]
) -> None:
    """A guest that was suspended: computing, or waiting for a host function. steps: what is to be run next."""
    cpu_limit = interface.environment.limits.cpu_time
    begun = perf_counter() - record.run_time
    async with _ending(interface, visit, record, instance):
        try:
            await finish(run, record, cpu_limit, instance)
            for step in steps:
                start = thread_time()
                try:
                    run = instance.run(step)
                finally:
                    record.cpu_time += thread_time() - start
                await finish(run, record, cpu_limit, instance)
            status = 0
        except Exit as end:
            status = end.status
        finally:
            record.run_time = perf_counter() - begun
        rest = visit.returned(status)
        if rest is not None:
            await rest


async def finish(run: Any, record: Record, cpu_limit: float, instance: Instance) -> Any:
    """The result of a run, one slice after the other. LimitReached."""
    mine = turns()
    go_on: Callable[[], Any]
    try:
        while isinstance(run, Suspended):
            try:
                if run.reason == "time":
                    if record.cpu_time >= cpu_limit:
                        raise LimitReached("cpu_time")
                    await mine.end_slice()
                    go_on = run.resume
                else:
                    mine.finish()
                    go_on = await host_outcome(run)
                    await mine.begin()
            except BaseException:
                run.close()
                raise
            instance.time_slice = max(min(SLICE, cpu_limit - record.cpu_time), 0.0005)
            start = thread_time()
            try:
                run = go_on()
            finally:
                record.cpu_time += thread_time() - start
        return run
    finally:
        mine.finish()


def _drop(visit: Visit, record: Record, instance: Instance | None, begun: float) -> None:
    if instance is not None:
        record.memory = instance._memory_used
        instance.close()
    visit.close()
    record.ended = ended = perf_counter()
    record.destroy_time = ended - begun


def _host_function(error: Exception) -> str:
    """In which it was raised: the first function behind those that run guests."""
    names = (frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__) if _is_elsewhere(frame))
    return next(names, "the host")


def _is_elsewhere(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__") not in _RUNNERS


def failed(interface: Interface, exchange: Exchange, record: Record, error: Exception) -> None:
    """Note what went wrong, and tell the client as much as it may know."""
    status = 500
    match error:
        case ClientGone():
            record.fault = "client gone"
            return
        case BodyTooLarge():
            status, record.limit = 413, "request_body"
        case LimitReached() if str(error) == "wall_time":
            status, record.limit = 504, "wall_time"
        case LimitReached():
            status, record.limit = 503, str(error)
        case StoreFull():
            status, record.limit = 503, "kv_bytes"
        case StoreUnavailable():
            status, record.fault = 503, str(error)
        case RegionFull():
            status, record.limit = 503, "instances"
        case LimitsExceeded():
            status, record.limit = 503, "memory"
        case Trap():
            place = "" if error.offset is None else f" (0x{error.offset:x})"
            record.fault = f"{error.code} in {error.function or 'the guest'}{place}"
        case WasmException():
            record.fault = "an exception that the guest does not catch"
        case GuestError():
            status, record.fault = error.status, str(error)
        case InstanceError():
            record.fault = str(error)
        case MemoryAccessError():
            record.fault = f"{_host_function(error)}: {error}"
        case _:
            record.fault = "".join(traceback.format_exception(error))
    reason = record.fault or f"limit: {record.limit}"
    if not interface.environment.development:
        reason = "the application failed" if record.fault is not None else f"limit: {record.limit}"
    if exchange.status == 0:
        text = f"{reason}\nrequest {exchange.request.id}\n"
        exchange.respond(status, [(b"content-type", b"text/plain; charset=utf-8")], text.encode())
