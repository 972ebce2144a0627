"""The interface of the original Terrarium: the functions env.hostcall_*, to the byte (docs/terrarium-hostcalls.md)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from lucet.runtime import HostFunction
from lucet.terrarium import hostcalls_http, hostcalls_world
from lucet.terrarium.hostcalls_visit import HostcallsVisit
from lucet.terrarium.interface import Interface
from lucet.terrarium.wasi import SharedWasi

if TYPE_CHECKING:
    from lucet.runtime import Module
    from lucet.terrarium.environment import Environment
    from lucet.terrarium.http import Exchange
    from lucet.terrarium.record import Record

FUNCTIONS: Final[dict[str, HostFunction[..., Any]]] = {
    name: function
    for module in (hostcalls_http, hostcalls_world)
    for name, function in vars(module).items()
    if name.startswith("hostcall_")
}


class Hostcalls(Interface):
    """Modules that import env.hostcall_*, and export run."""

    name: ClassVar[str] = "hostcalls"
    entry: ClassVar[str] = "run"

    def __init__(self, module: Module, environment: Environment) -> None:
        super().__init__(module, environment)
        wasi = SharedWasi(lambda caller: caller.context.wasi(), lambda caller: caller.context.interface.variables)
        self.linkage = environment.region.link(module, {"env": FUNCTIONS, **wasi.imports_for(module.imports)})
        self.new_instance = environment.region.new_instance
        self.memory_limit = environment.limits.memory
        self.response_body = environment.limits.response_body
        variables = environment.configuration.get("", {})
        self.variables = tuple(
            f"{name}={value}\0".encode(errors="surrogateescape") for name, value in variables.items()
        )
        """The guest's environment, as WASI has it."""
        if any(one.name == "_initialize" for one in module.exports):
            self.steps = (*self.steps[:-1], "_initialize", self.entry)
        self.mallocs: set[int] = set()
        """Elements of table 0 that have turned out to be a malloc."""
        # A call less for each request.
        self.visit = partial(HostcallsVisit, self)  # type: ignore[method-assign]
        self.headers: dict[tuple[bytes, bytes], tuple[bytes, bytes]] = {}
        """Short headers that guests have set, as they are sent: most are always the same, and so checked once."""

    @staticmethod
    def speaks(imports: frozenset[tuple[str, str]], exports: frozenset[str]) -> bool:
        return any(module == "env" and name.startswith("hostcall_") for module, name in imports)

    def visit(self, exchange: Exchange, record: Record) -> HostcallsVisit:
        return HostcallsVisit(self, exchange, record)  # __init__ has put what does the same in its place
