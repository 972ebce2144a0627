"""Module: a loaded artifact, with what it imports and exports."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lucet.runtime import _core
from lucet.wasm.types import FuncType, GlobalType, Limits, MemoryType, TableType, TagType, ValType

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from lucet.signing import PublicKey

ExternType = FuncType | TableType | MemoryType | GlobalType | TagType


@dataclass(frozen=True)
class ImportType:
    """One import: its two names and its type."""

    module: str
    name: str
    type: ExternType


@dataclass(frozen=True)
class ExportType:
    """One export: its name and its type."""

    name: str
    type: ExternType


class Module(_core.Module):
    """A loaded artifact: Module.load(path) or Module.from_bytes(data).

    It can be pickled: as the path, or as the bytes, that it was loaded from.
    """

    _origin: tuple[str, str | bytes]

    def __reduce__(self) -> tuple[Callable[[str | bytes], Module], tuple[str | bytes]]:
        how, what = self._origin
        return getattr(Module, how), (what,)

    @classmethod
    def from_bytes(cls, data: Buffer, /) -> Self:
        """Load an artifact from memory. Raises ArtifactError."""
        module = super().from_bytes(data)
        module._origin = ("from_bytes", data if isinstance(data, bytes) else bytes(data))
        return module

    @classmethod
    def load(
        cls, path: str | bytes | os.PathLike[str], /, *, public_key: str | os.PathLike[str] | PublicKey | None = None
    ) -> Self:
        """Load an artifact, which must stay unchanged while it is in use.

        public_key: the contents of a public key file of minisign, or the path object of one. The file is then read
        once, and what was read is loaded, if the signature beside the file, path + ".minisig", is one of these bytes
        by this key. Raises ArtifactError; SignatureError, before anything of the file is mapped.
        """
        if public_key is None:
            module = super().load(path)
            module._origin = ("load", str(Path(os.fsdecode(path)).absolute()))
            return module
        from lucet import signing

        key = public_key
        if isinstance(key, os.PathLike):
            key = signing.read_file(Path(key), "public key").decode(errors="replace")
        if isinstance(key, str):
            key = signing.read_public_key(key)
        file = Path(os.fsdecode(path))
        data = file.read_bytes()
        signing.verify_file(data, file, key)
        return cls.from_bytes(data)

    @property
    def imports(self) -> tuple[ImportType, ...]:
        """What Region.new_instance must be given, in the module's order."""
        return tuple(ImportType(module, name, _externtype(*raw)) for module, name, raw in self._raw_imports())

    @property
    def exports(self) -> tuple[ExportType, ...]:
        """What its instances offer, in the module's order."""
        return tuple(ExportType(name, _externtype(*raw)) for name, raw in self._raw_exports())


def _externtype(kind: str, details: Any) -> ExternType:
    match kind:
        case "func":
            return FuncType(*details)
        case "table":
            return TableType(reftype=ValType(details[0]), limits=_limits(details[1]))
        case "memory":
            return MemoryType(limits=_limits(details[0]), shared=details[1], page_size_log2=details[2])
        case "tag":
            return TagType(functype=FuncType(*details))
        case _:
            return GlobalType(valtype=ValType(details[0]), mutable=details[1])


def _limits(raw: tuple[int, int | None, str]) -> Limits:
    return Limits(minimum=raw[0], maximum=raw[1], index_type=ValType(raw[2]))
