"""The guest interfaces there are, and which of them a module speaks."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lucet.runtime import Module
    from lucet.terrarium.interface import Interface

_INTERFACES: Final = {
    # Asked in this order: the first three import something that nothing else does.
    "hostcalls": "lucet.terrarium.hostcalls:Hostcalls",
    "compute": "lucet.terrarium.compute:Compute",
    "http-handler": "lucet.terrarium.handler:Handler",
    "cgi": "lucet.terrarium.cgi:Cgi",
}


class UnknownInterface(Exception):
    """A module speaks none of the guest interfaces."""


def named(name: str) -> type[Interface]:
    """UnknownInterface if there is none of this name."""
    try:
        module, _, attribute = _INTERFACES[name].partition(":")
    except KeyError:
        raise UnknownInterface(f"no guest interface {name!r}: there are {', '.join(_INTERFACES)}") from None
    found: type[Interface] = getattr(import_module(module), attribute)
    return found


def detect(module: Module) -> type[Interface]:
    """The interface that a module speaks, by its imports and exports. UnknownInterface."""
    imports = frozenset((one.module, one.name) for one in module.imports)
    exports = frozenset(one.name for one in module.exports)
    for name in _INTERFACES:
        interface = named(name)
        if interface.speaks(imports, exports):
            return interface
    modules = ", ".join(sorted({module for module, _ in imports})) or "nothing"
    raise UnknownInterface(
        f"the module imports from {modules} and exports {', '.join(sorted(exports)) or 'nothing'}: "
        f"that is none of the guest interfaces {', '.join(_INTERFACES)}"
    )
