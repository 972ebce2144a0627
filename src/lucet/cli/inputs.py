"""Reading what the user names: a .wasm, a .wat or an artifact, told apart by what is in it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lucet.cli.common import Failure, about
from lucet.limits import MAX_MODULE_SIZE

if TYPE_CHECKING:
    from lucet.compile.options import Options
    from lucet.signing import PublicKey

WASM_MAGIC: Final = b"\0asm"
ELF_MAGIC: Final = b"\x7fELF"


_TEXT: Final = re.compile(rb"\s*+\(|\s*+;;")
"""How a text begins that is not called .wat."""


class Kind(Enum):
    WASM = "WebAssembly module"
    ARTIFACT = "shared object"
    TEXT = "WebAssembly text"


def kind_of(path: str) -> Kind:
    """What the file is; Failure if it is nothing that Lucet reads."""
    with Path(path).open("rb") as file:
        head = file.read(256)
    if head.startswith(WASM_MAGIC):
        return Kind.WASM
    if head.startswith(ELF_MAGIC):
        return Kind.ARTIFACT
    if path.endswith(".wat") or _TEXT.match(head):
        return Kind.TEXT
    if not head:
        raise Failure(f"{path}: the file is empty")
    raise Failure(f"{path}: neither a WebAssembly module nor an artifact (magic header not detected)")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A module that the user named."""

    wasm: bytes
    text: str | None
    """What wasm was assembled from, if it was."""

    @contextmanager
    def located(self) -> Iterator[None]:
        """Give errors about wasm their places in the text."""
        if self.text is None:
            yield
            return
        from lucet.wasm.text_map import located_in

        with located_in(self.text):
            yield


def read_source(path: str, kind: Kind, public_key: str | None = None) -> Source:
    """The module; text is assembled. public_key: the file of the key that must have signed it."""
    with Path(path).open("rb") as file:
        data = file.read(MAX_MODULE_SIZE + 1)
    if len(data) > MAX_MODULE_SIZE:
        raise Failure(f"{path}: the file is larger than {MAX_MODULE_SIZE} bytes")
    if public_key is not None:
        from lucet import signing

        signing.verify_file(data, Path(path), read_public_key(public_key))
    if kind is not Kind.TEXT:
        return Source(wasm=data, text=None)
    from lucet.wasm.text import decode_text, text_to_binary

    text = decode_text(data)
    return Source(wasm=text_to_binary(text), text=text)


def read_public_key(path: str) -> PublicKey:
    from lucet import signing

    with about(path):
        return signing.read_public_key(signing.read_file(Path(path), "public key"))


def add_verify_option(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--verify", metavar="PUBLIC_KEY", help="a file: refuse what has no signature beside it (.minisig) by this key"
    )


def add_compile_options(parser: argparse.ArgumentParser) -> None:
    """The options that decide what code is generated."""
    from lucet.compile.options import (
        BOUNDS,
        OPT_LEVEL_ALIASES,
        OPT_LEVELS,
        TARGET_CPU_ALIASES,
        TARGET_CPUS,
        TARGET_FEATURES,
        Options,
    )

    default = Options()
    group = parser.add_argument_group("compiling")
    group.add_argument(
        "--opt-level",
        choices=(*OPT_LEVELS, *OPT_LEVEL_ALIASES),
        default=default.opt_level,
        metavar="LEVEL",
        help=f"how much to optimise: {', '.join(OPT_LEVELS)} (or 0 to 3); default: {default.opt_level}",
    )
    group.add_argument(
        "--target-cpu",
        choices=(*TARGET_CPUS, *TARGET_CPU_ALIASES),
        default=default.target_cpu,
        metavar="CPU",
        help=f"what the code may use: {', '.join(TARGET_CPUS)}; default: {default.target_cpu}",
    )
    group.add_argument(
        "--target-feature",
        action="append",
        default=[],
        metavar="LIST",
        help=f"+NAME, -NAME: what it has beyond that, or not: {' '.join(TARGET_FEATURES)}; may be repeated",
    )
    group.add_argument(
        "--bounds",
        choices=BOUNDS,
        default=default.bounds,
        metavar="HOW",
        help="guard: the hardware checks accesses to memory; explicit: every access is compared; default: guard",
    )
    group.add_argument(
        "--count-instructions", action="store_true", help="count the instructions that are executed; code is slower"
    )
    group.add_argument(
        "-j", "--jobs", type=_positive, metavar="N", help="processes to compile in; default: one for each CPU"
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"must be a number from 1 up, not {text!r}")
    return int(text)


def compile_options(given: argparse.Namespace, **more: Any) -> Options:
    """The options that were given, and more of them. Failure: they contradict each other."""
    from lucet.compile.options import Options

    try:
        return Options(
            opt_level=given.opt_level,
            target_cpu=given.target_cpu,
            target_features=tuple(name for group in given.target_feature for name in group.split(",") if name),
            bounds=given.bounds,
            count_instructions=given.count_instructions,
            workers=given.jobs,
            **more,
        )
    except ValueError as error:
        raise Failure(str(error)) from error
