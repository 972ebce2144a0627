"""A guest interface: how modules of one kind are given a request, and how they answer.

Each is a subclass of Interface, found by what the module imports and exports (interfaces.detect). Its object belongs to
one version of an application; for each request it makes an Exchange's Visit, the state that the host functions find as
their caller's context.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from lucet.runtime import Instance, Module
    from lucet.terrarium.environment import Environment
    from lucet.terrarium.http import Exchange
    from lucet.terrarium.record import Record


SLICE: Final = 0.002
"""Seconds that a guest computes before others have their turn."""


class GuestError(Exception):
    """The guest has done something that its interface does not allow, or has not answered: a fault of its own."""

    status = 500
    """Of the response."""


class Visit(ABC):
    """One request at one instance. The instance's `context` is this object."""

    __slots__ = ("exchange", "record")

    def __init__(self, exchange: Exchange, record: Record) -> None:
        self.exchange = exchange
        self.record = record
        """Where the request's log and figures go: record.log(text) for what the guest prints."""

    @abstractmethod
    def new_instance(self) -> Instance:
        """A fresh instance, with the memory limit of the environment. What else it needs close() gives back.

        It is not started: a start function has time slices as all other code of guests.
        """

    @abstractmethod
    def returned(self, status: int) -> Coroutine[Any, Any, None] | None:
        """The entry function returned (status 0), or the guest ended by proc_exit(status): give the response that it
        has made, if it was not given already. May go on in a coroutine. A GuestError is answered like a trap.
        """

    @abstractmethod
    def close(self) -> None:
        """In any case, last: give back what the visit holds besides the instance."""


class Interface(ABC):
    name: ClassVar[str]
    """What configuration and logs call it."""
    entry: ClassVar[str] = "_start"
    """The exported function that answers a request."""
    whole_body: ClassVar[bool] = True
    """Whether the guest has the request's body whole, so that it is received before the guest begins."""
    answers_itself: ClassVar[bool] = False
    """Whether guest.answer leaves it to `answer`."""

    def __init__(self, module: Module, environment: Environment) -> None:
        """Links what can be linked once. LinkError if the module imports what there is not."""
        self.module = module
        self.environment = environment
        self.first_slice = min(SLICE, environment.limits.cpu_time)
        self.steps: tuple[str, ...] = (*(("",) if module._starts else ()), self.entry)
        """What is run in a new instance: functions by their names, "" is the module's start function."""

    @staticmethod
    @abstractmethod
    def speaks(imports: frozenset[tuple[str, str]], exports: frozenset[str]) -> bool:
        """Whether a module with these imports (module, name) and exports is of this kind."""

    @abstractmethod
    def visit(self, exchange: Exchange, record: Record) -> Visit: ...

    def answer(self, exchange: Exchange, record: Record) -> Coroutine[Any, Any, None] | None:
        """As guest.answer, which it may use in the end."""
        raise NotImplementedError
