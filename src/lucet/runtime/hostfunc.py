"""Host functions: Python callables with a WebAssembly type, which comes from their annotations."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Generic, ParamSpec, TypeVar

from lucet.errors import WasmException
from lucet.runtime._core import Func, Instance, WasiFunction
from lucet.wasm.types import is_valtype

i32 = Annotated[int, "i32"]
i64 = Annotated[int, "i64"]
f32 = Annotated[float, "f32"]
f64 = Annotated[float, "f64"]
v128 = Annotated[bytes, "v128"]
externref = Annotated[Any, "externref"]
funcref = Annotated[Func | None, "funcref"]
exnref = Annotated[WasmException | None, "exnref"]


@dataclass(frozen=True)
class Suspend:
    """What a host function returns to suspend its guest: the run then gives a Suspended with this value."""

    value: Any = None


P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class HostFunction(Generic[P, R]):
    """A callable with a WebAssembly type, for the imports of Region.new_instance.

    params, results: names of value types: "i32", "i64", "f32", "f64", "v128", "externref", "funcref", "exnref" or
    what FuncType.ref() gives; "int" and "float" stand for the width that the module imports. With wants_caller the
    calling Instance is the first argument. native: a function of the core that is called instead, and calls this one
    for what it does not do itself.
    """

    callable: Callable[P, R]
    params: tuple[str, ...]
    results: tuple[str, ...]
    wants_caller: bool = True
    native: WasiFunction | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function itself, as before it was decorated."""
        return getattr(self.callable, "coroutine_function", self.callable)(*args, **kwargs)


class Awaited:
    """A call of a coroutine function, which begins when somebody awaits it."""

    def __init__(self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        self._function = function
        self._args = args

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._function(*self._args).__await__()


class _Suspending:
    """A coroutine function as the core calls it: the guest is suspended, and whoever runs it awaits the rest."""

    def __init__(self, coroutine_function: Callable[..., Awaitable[Any]]) -> None:
        self.coroutine_function = coroutine_function

    def __call__(self, *args: Any) -> Suspend:
        return Suspend(Awaited(self.coroutine_function, args))


def host_function(function: Callable[P, R]) -> HostFunction[P, R]:
    """Give a function the WebAssembly type that its annotations say.

        @lucet.host_function
        def add(a: lucet.i32, b: lucet.i32) -> lucet.i32: ...

    int is an i32 or i64, float an f32 or f64, as the module imports it. Without a return annotation, or with None,
    there is no result; a tuple annotation gives several; "| lucet.Suspend" says that the function may suspend. A first
    parameter annotated lucet.Instance gets the instance that calls. A coroutine function suspends the guest until it is
    done: for guests that run in Instance.call. TypeError says which annotation is missing or has
    no WebAssembly type.
    """
    name = getattr(function, "__qualname__", repr(function))
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(f"{name}: the annotations cannot be resolved: {error}") from None
    parameters = list(inspect.signature(function).parameters.values())
    wants_caller = bool(parameters) and hints.get(parameters[0].name) is Instance
    params = []
    for parameter in parameters[wants_caller:]:
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise TypeError(f"{name}: parameter {parameter.name!r} is not positional")
        if parameter.name not in hints:
            raise TypeError(f"{name}: parameter {parameter.name!r} has no annotation")
        params.append(_valtype(hints[parameter.name], partial(_no_type, name, f"parameter {parameter.name!r}")))
    called: Any = _Suspending(function) if inspect.iscoroutinefunction(function) else function
    return HostFunction(called, tuple(params), _results(name, _unsuspended(hints.get("return"))), wants_caller)


def _unsuspended(hint: Any) -> Any:
    """The annotation without "| lucet.Suspend", which is no result of the guest's call."""
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else ()
    left = [member for member in members if member is not Suspend]
    return left[0] if len(left) == 1 else hint


def _results(name: str, hint: Any) -> tuple[str, ...]:
    if hint is None or hint is type(None):
        return ()
    refuse = partial(_no_type, name, "the result")
    if typing.get_origin(hint) is tuple:
        return tuple(_valtype(one, refuse) for one in typing.get_args(hint))
    return (_valtype(hint, refuse),)


def _valtype(hint: Any, refuse: Callable[[Any], TypeError]) -> str:
    if typing.get_origin(hint) is Annotated:
        valtype = typing.get_args(hint)[1]
        if isinstance(valtype, str) and is_valtype(valtype):
            return valtype
    if hint is int or hint is float:
        return str(hint.__name__)
    raise refuse(hint)


def _no_type(name: str, what: str, hint: Any) -> TypeError:
    return TypeError(f"{name}: {what} is annotated {hint!r}, which is no WebAssembly type")
