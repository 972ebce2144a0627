"""The exports of an instance, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lucet.runtime._core import Func, Global, Instance, Memory, SharedMemory, Table, Tag


class Exports(Mapping[str, "Func | Memory | SharedMemory | Table | Global | Tag"]):
    """instance.exports: name -> Func, Memory, SharedMemory, Table, Global or Tag; also as attributes."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def __getitem__(self, name: str) -> Func | Memory | SharedMemory | Table | Global | Tag:
        return self._instance.export(name)

    def __getattr__(self, name: str) -> Func | Memory | SharedMemory | Table | Global | Tag:
        try:
            return self._instance.export(name)
        except KeyError as error:
            raise AttributeError(*error.args) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._instance._export_names())

    def __len__(self) -> int:
        return len(self._instance._export_names())

    def __repr__(self) -> str:
        return f"<exports {', '.join(self)}>"


class Globals(Mapping[str, "Global"]):
    """instance.globals: name -> exported Global."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def __getitem__(self, name: str) -> Global:
        from lucet.runtime._core import Global

        item = self._instance.export(name)
        if not isinstance(item, Global):
            raise KeyError(f"the export {name!r} is not a global")
        return item

    def __iter__(self) -> Iterator[str]:
        from lucet.runtime._core import Global

        return (name for name in self._instance._export_names() if isinstance(self._instance.export(name), Global))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<globals {', '.join(self)}>"
