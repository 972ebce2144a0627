"""A service: guests of many customers on one event loop, which talk to a slow host all the time.

    python examples/asyncio_service.py [customers]

Each customer's guest asks the host for prices, one after the other, with `await` on the host's side and an ordinary
call on the guest's. One customer's guest never ends, and one asks for what there is not: neither disturbs the others.
"""

from __future__ import annotations

import asyncio
import sys
import time

import lucet

GUEST = """(module
  (import "shop" "price" (func $price (param i32) (result i32)))
  (func (export "total") (param $items i32) (result i32) (local $sum i32)
    (loop $next
      (local.set $sum (i32.add (local.get $sum) (call $price (local.get $items))))
      (br_if $next (local.tee $items (i32.sub (local.get $items) (i32.const 1)))))
    (local.get $sum))
  (func (export "hang") (param i32) (result i32) (loop $again (br $again)) (i32.const 0)))"""


@lucet.host_function
async def price(item: lucet.i32) -> lucet.i32:
    """Another service, 5 ms away."""
    await asyncio.sleep(0.005)
    if item > 1000:
        raise LookupError(f"no item {item}")
    return 100 + item


class Service:
    """Instances wait in a pool; each request has one for itself."""

    def __init__(self, slots: int) -> None:
        region = lucet.Region(slots)
        linkage = region.link(lucet.Module.from_bytes(lucet.compile(GUEST)), {"shop": {"price": price}})
        self.free = [region.new_instance(linkage) for _ in range(slots)]

    async def request(self, function: str, argument: int) -> int:
        instance = self.free.pop()
        try:
            async with asyncio.timeout(1):
                total: int = await instance.call(function, argument)
                return total
        finally:
            instance.reset()  # whatever happened: as new for the next customer
            self.free.append(instance)


async def serve(customers: int) -> None:
    service = Service(customers + 2)
    start = time.perf_counter()
    requests = [service.request("total", 10) for _ in range(customers)]
    requests += [service.request("hang", 0), service.request("total", 1001)]
    *totals, hung, failed = await asyncio.gather(*requests, return_exceptions=True)
    assert totals == [sum(100 + item for item in range(1, 11))] * customers
    print(f"{customers} customers asked for {10 * customers} prices")
    print(f"the one that never ends: {type(hung).__name__}")
    print(f"the one that asks for too much: {failed}")
    print(f"free again: {len(service.free)}; one after the other, that would take {customers * 10 * 0.005:.0f} s")
    assert time.perf_counter() - start < customers * 10 * 0.005


def main() -> None:
    asyncio.run(serve(int(sys.argv[1]) if len(sys.argv) > 1 else 200))


if __name__ == "__main__":
    main()
