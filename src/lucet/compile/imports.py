"""What is said about a module's imports when it is compiled: under which names they are asked for, what there is.

Every import that is wrong is named, not only the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from lucet.compile.options import Binding
from lucet.errors import LinkError
from lucet.wasm.module import Import, Module
from lucet.wasm.types import FuncType

Description = Mapping[str, Mapping[str, FuncType]]
"""module -> field -> type: the functions that a host offers."""

_SEPARATOR: Final = "::"
_MOST_SHOWN: Final = 20


def read_bindings(texts: Sequence[str | bytes]) -> tuple[Binding, ...]:
    """The bindings in the texts of JSON files, {"module": {"field": "name" or "host module::name"}}.

    A name alone stays in the module that it was imported from. ValueError if it is not that, or if two of them
    disagree.
    """
    bound: dict[tuple[str, str], tuple[str, str]] = {}
    for text in texts:
        try:
            tree = json.loads(text)
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"bindings must be JSON: {error}") from error
        for (module, field), target in _entries(tree):
            host_module, separator, host_field = target.partition(_SEPARATOR)
            name = (host_module, host_field) if separator else (module, target)
            if bound.setdefault((module, field), name) != name:
                raise ValueError(f"{module}.{field} is bound to two names")
    return tuple(sorted((*key, *name) for key, name in bound.items()))


def _entries(tree: object) -> Iterator[tuple[tuple[str, str], str]]:
    form = 'bindings must be {"module": {"field": "name"}}'
    if not isinstance(tree, dict):
        raise ValueError(form)
    for module, fields in tree.items():
        if not isinstance(fields, dict):
            raise ValueError(form)
        for field, target in fields.items():
            if not isinstance(target, str):
                raise ValueError(f"{form}; {module}.{field} is bound to something else")
            yield (module, field), target


def bind(module: Module, bindings: Sequence[Binding]) -> Module:
    """The module with its function imports under the names that the host has for them. LinkError: some have none."""
    if not bindings:
        return module
    names = {(given, field): (host_module, host_field) for given, field, host_module, host_field in bindings}
    functions = [one for one in module.imports if isinstance(one.desc, int)]
    _refuse([f"{one.module}.{one.field} is not bound" for one in functions if (one.module, one.field) not in names])
    return replace(module, imports=tuple(_renamed(one, names) for one in module.imports))


def _renamed(one: Import, names: Mapping[tuple[str, str], tuple[str, str]]) -> Import:
    if not isinstance(one.desc, int):
        return one
    host_module, host_field = names[one.module, one.field]
    return replace(one, module=host_module, field=host_field)


def validate_imports(module: Module, description: Description | None, *, command: bool = False) -> None:
    """LinkError unless the host that is described, if one is, offers all imports, with these types.

    command: the module must also export the function _start: [] -> [].
    """
    imports = () if description is None else module.imports
    problems = [problem for one in imports if (problem := _problem(module, one, description or {}))]
    if command:
        start = next((one for one in module.exports if one.name == "_start" and one.kind == "func"), None)
        if start is None:
            problems.append("there is no exported function _start")
        elif module.func_type(start.index) != FuncType():
            problems.append(f"_start is {module.func_type(start.index)}, not {FuncType()}")
    _refuse(problems)


def _problem(module: Module, one: Import, description: Description) -> str | None:
    name = f"{one.module}.{one.field}"
    if not isinstance(one.desc, int):
        return f"{name} is no function"
    offered = description.get(one.module, {}).get(one.field)
    if offered is None:
        return f"there is no {name}"
    wanted = module.types[one.desc]
    return None if wanted == offered else f"{name} is {offered}, not {wanted}"


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        more = f"; and {len(problems) - _MOST_SHOWN} more" if len(problems) > _MOST_SHOWN else ""
        raise LinkError("imports: " + "; ".join(problems[:_MOST_SHOWN]) + more)
