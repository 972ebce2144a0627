"""Guests under trio, and under anyio on both of its back ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
import trio

import lucet
from tests.aio.test_call import instance_of

SECONDS = 60


@lucet.host_function
async def wait(milliseconds: lucet.i32) -> lucet.i32:
    await anyio.sleep(milliseconds / 1000)
    return milliseconds


Run = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    def run(main: Callable[[], Awaitable[None]]) -> None:
        async def within_the_time() -> None:
            with anyio.fail_after(SECONDS):
                await main()

        anyio.run(within_the_time, backend=request.param)

    return run


def test_results_and_errors(region: lucet.Region, run: Run) -> None:
    async def main() -> None:
        instance = instance_of(region, wait)
        assert await instance.call("add", 2, 3) == 5
        assert await instance.call("wait", 5) == 6
        assert await instance.call("chatty", 3) == 6
        with pytest.raises(lucet.Trap, match="unreachable"):
            await instance.call("trap")
        instance.reset()
        assert await instance.call("wait", 1) == 2

    run(main)


def test_others_have_their_turn_while_guests_compute(region: lucet.Region, run: Run) -> None:
    async def main() -> None:
        instances = [instance_of(region, wait) for _ in range(3)]
        results = []

        async def chat(instance: lucet.Instance) -> None:
            results.append(await instance.call("chatty", 4))

        async with anyio.create_task_group() as group:
            group.start_soon(instances[0].call, "spin")
            async with anyio.create_task_group() as inner:
                inner.start_soon(chat, instances[1])
                inner.start_soon(chat, instances[2])
            group.cancel_scope.cancel()
        assert results == [10, 10]
        assert [instance.state for instance in instances] == ["ready"] * 3

    run(main)


@pytest.mark.parametrize(("name", "arguments"), [("spin", ()), ("wait", (SECONDS * 2000,)), ("wait_and_spin", (1,))])
def test_a_scope_that_is_cancelled_ends_the_run(
    region: lucet.Region, run: Run, name: str, arguments: tuple[int, ...]
) -> None:
    async def main() -> None:
        instance = instance_of(region, wait)
        with anyio.move_on_after(0.03) as scope:
            await instance.call(name, *arguments)
        assert scope.cancelled_caught
        assert instance.state == "ready"
        with pytest.raises(TimeoutError), anyio.fail_after(0.01):
            await instance.call(name, *arguments)
        assert await instance.call("wait", 1) == 2

    run(main)


def test_scopes_of_host_functions(region: lucet.Region, run: Run) -> None:
    """One that ends inside of the host function is none of the guest's business; a shielded one is waited for."""
    ended = []

    @lucet.host_function
    async def patient(milliseconds: lucet.i32) -> lucet.i32:
        with anyio.move_on_after(0.001):
            await anyio.sleep(SECONDS * 2)
        if milliseconds:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(milliseconds / 1000)
                ended.append(milliseconds)
        return 7

    async def main() -> None:
        instance = instance_of(region, patient)
        assert await instance.call("wait", 0) == 8
        with anyio.move_on_after(0.01):
            await instance.call("wait", 50)
            await anyio.sleep(SECONDS * 2)
        assert ended == [50]
        assert instance.state == "ready"

    run(main)


def test_in_threads_on_asyncio(region: lucet.Region) -> None:
    async def main() -> None:
        instance = instance_of(region, wait)
        with ThreadPoolExecutor(2) as pool:
            assert await instance.call("chatty", 3, executor=pool) == 6
            for name, arguments in (("spin", ()), ("wait_and_spin", (1,))):
                with anyio.move_on_after(0.03) as scope:
                    await instance.call(name, *arguments, executor=pool)
                assert scope.cancelled_caught
                assert instance.state == "ready"

    anyio.run(main, backend="asyncio")


def test_under_trio(region: lucet.Region) -> None:
    @lucet.host_function
    async def wait(n: lucet.i32) -> lucet.i32:
        await trio.sleep(n / 1000)
        return n

    async def main() -> None:
        instances = [instance_of(region, wait) for _ in range(3)]
        assert await instances[0].call("wait", 5) == 6
        with trio.move_on_after(0.05):
            async with trio.open_nursery() as nursery:
                for instance in instances:
                    nursery.start_soon(instance.call, "spin")
        assert [instance.state for instance in instances] == ["ready"] * 3

    trio.run(main)
