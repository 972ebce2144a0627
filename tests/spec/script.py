"""One script of the official suite: its commands, executed one after the other on an engine."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lucet.errors import Invalid, LinkError, LucetError, Malformed, Trap, Unsupported, WasmException
from lucet.wasm.decode import decode_module
from lucet.wasm.text import text_to_binary
from tests.spec.engines import Engine, spectest
from tests.spec.values import Json, NotInLanguage, Value, constant, matches
from tests.spec.wast import load_wast

PASSED: Final = "passed"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a command."""

    line: int
    command: str
    status: str
    message: str = ""


@dataclass(frozen=True)
class _Missing:
    """Stands for an instance that needs a feature that is not implemented."""

    feature: str


class Failure(Exception):
    """A command did not do what the script says."""


def load(path: Path) -> dict[str, Any]:
    """A converted script, or one in the text format."""
    script: dict[str, Any] = load_wast(path) if path.suffix == ".wast" else json.loads(path.read_text(encoding="utf-8"))
    return script


def instances_count(script: Json) -> int:
    """How many instances a script makes at most, the host module included."""
    making = ("module", "module_instance", "assert_unlinkable", "assert_uninstantiable", "assert_trap")
    return 1 + sum(command["type"] in making and "action" not in command for command in script["commands"])


def run_script(engine: Engine, script: Json, *, may_skip: bool) -> Iterator[Result]:
    """The result of every command. may_skip: commands that need missing features are skipped, otherwise failed."""
    session = _Session(engine, script)
    for command in script["commands"]:
        status, message = PASSED, ""
        try:
            session.run(command)
        except NotInLanguage as error:
            status, message = SKIPPED if may_skip else FAILED, str(error)
        except Failure as error:
            status, message = FAILED, str(error)
        except Exception as error:
            # Whatever an engine throws is this command's failure, and not the end of the run.
            status, message = FAILED, f"{type(error).__name__}: {error}"
        yield Result(line=command["line"], command=command["type"], status=status, message=message)


class _Session:
    def __init__(self, engine: Engine, script: Json) -> None:
        self.engine = engine
        self.files: Mapping[str, Json] = script.get("files", {})
        host = engine.instantiate(engine.compile(spectest()), {})
        self.registered: dict[str, Any] = {"spectest": engine.exports(host)}
        self.instances: dict[str, Any] = {}
        self.modules: dict[str, Any] = {}
        self.current: Any = None
        self.last_module: Any = None
        self.commands: Final[dict[str, Callable[[Json], None]]] = {
            "module": self.module,
            "module_definition": self.module_definition,
            "module_instance": self.module_instance,
            "register": self.register,
            "action": self.plain_action,
            "assert_return": self.assert_return,
            "assert_trap": self.assert_trap,
            "assert_exhaustion": self.assert_trap,
            "assert_exception": self.assert_exception,
            "assert_malformed": self.assert_malformed,
            "assert_invalid": self.assert_invalid,
            "assert_unlinkable": self.assert_unlinkable,
            "assert_uninstantiable": self.assert_uninstantiable,
            "script": self.unreadable,
        }

    def run(self, command: Json) -> None:
        if command["type"] not in self.commands:
            raise NotInLanguage(f"command {command['type']}")
        self.commands[command["type"]](command)

    # Commands

    def module(self, command: Json) -> None:
        self.current = None
        name = command.get("name")
        try:
            instance = self.instantiate(self.define(command))
        except NotInLanguage as error:
            self.keep(_Missing(str(error)), name)
            raise
        self.keep(instance, name)

    def module_definition(self, command: Json) -> None:
        self.define(command)

    def module_instance(self, command: Json) -> None:
        module = self.modules.get(command["module"]) if "module" in command else self.last_module
        try:
            instance = self.instantiate(module)
        except NotInLanguage as error:
            self.keep(_Missing(str(error)), command.get("instance"))
            raise
        self.keep(instance, command.get("instance"))

    def register(self, command: Json) -> None:
        instance = self.instance(command.get("name"), allow_missing=True)
        exports = instance if isinstance(instance, _Missing) else self.engine.exports(instance)
        self.registered[command["as"]] = exports
        if isinstance(instance, _Missing):
            raise NotInLanguage(instance.feature)

    def plain_action(self, command: Json) -> None:
        self.action(command["action"])

    def assert_return(self, command: Json) -> None:
        values = self.action(command["action"])
        expected = command["expected"]
        if len(values) != len(expected) or not all(map(matches, expected, values)):
            raise Failure(f"returned {', '.join(map(str, values)) or 'nothing'}; expected {json.dumps(expected)}")

    def assert_trap(self, command: Json) -> None:
        try:
            values = self.action(command["action"])
        except Trap as trap:
            self.check_trap(trap, command)
            return
        raise Failure(f"returned {', '.join(map(str, values)) or 'nothing'}; expected a trap: {command['text']}")

    def assert_exception(self, command: Json) -> None:
        try:
            values = self.action(command["action"])
        except WasmException:
            return
        raise Failure(f"returned {', '.join(map(str, values)) or 'nothing'}; expected an exception")

    def assert_malformed(self, command: Json) -> None:
        self.assert_refused(command, Malformed)

    def assert_invalid(self, command: Json) -> None:
        self.assert_refused(command, Invalid)

    def assert_unlinkable(self, command: Json) -> None:
        module = self.compile(command)
        try:
            self.instantiate(module)
        except LinkError:
            return
        raise Failure(f"instantiated; expected: {command['text']}")

    def assert_uninstantiable(self, command: Json) -> None:
        module = self.compile(command)
        try:
            self.instantiate(module)
        except Trap as trap:
            self.check_trap(trap, command)
            return
        raise Failure(f"instantiated; expected a trap: {command['text']}")

    def unreadable(self, command: Json) -> None:
        raise Failure(f"the script cannot be read: {command['text']}")

    # Steps

    def define(self, command: Json) -> Any:
        """Compiles the module and keeps it as the last one, and under its name."""
        self.last_module = None
        try:
            self.last_module = self.compile(command)
        except NotInLanguage as error:
            self.last_module = _Missing(str(error))
            raise
        finally:
            if "name" in command:
                self.modules[command["name"]] = self.last_module
        return self.last_module

    def compile(self, command: Json) -> tuple[Any, bytes]:
        """The engine's module, and its binary."""
        try:
            wasm = self.binary(command)
            return self.engine.compile(wasm), wasm
        except Unsupported as error:
            raise NotInLanguage(str(error)) from error

    def binary(self, command: Json) -> bytes:
        file = self.files[command["filename"]]
        if "b64" in file:
            return base64.b64decode(file["b64"])
        return text_to_binary(base64.b64decode(file["text_b64"]) if "text_b64" in file else file["text"])

    def instantiate(self, compiled: Any) -> Any:
        if isinstance(compiled, _Missing):
            raise NotInLanguage(compiled.feature)
        if compiled is None:
            raise Failure("there is no such module")
        module, wasm = compiled
        missing = {name: one for name, one in self.registered.items() if isinstance(one, _Missing)}
        for imported in decode_module(wasm).imports if missing else ():
            if imported.module in missing:
                raise NotInLanguage(f"an import from a module with {missing[imported.module].feature}")
        imports = {name: exports for name, exports in self.registered.items() if name not in missing}
        return self.engine.instantiate(module, imports)

    def keep(self, instance: Any, name: str | None) -> None:
        self.current = instance
        if name is not None:
            self.instances[name] = instance

    def instance(self, name: str | None, *, allow_missing: bool = False) -> Any:
        instance = self.current if name is None else self.instances.get(name)
        if instance is None:
            raise Failure("there is no such instance")
        if isinstance(instance, _Missing) and not allow_missing:
            raise NotInLanguage(instance.feature)
        return instance

    def action(self, action: Json) -> list[Value]:
        exports = self.engine.exports(self.instance(action.get("module")))
        if action["field"] not in exports:
            raise Failure(f"there is no export {action['field']!r}")
        item = exports[action["field"]]
        if action["type"] == "get":
            return [self.engine.read_global(item)]
        return self.engine.call(item, [constant(argument) for argument in action["args"]])

    def assert_refused(self, command: Json, expected: type[LucetError]) -> None:
        try:
            self.compile(command)
        except (Malformed, Invalid) as error:
            if self.engine.exact and not (type(error) is expected and error.message.startswith(command["text"])):
                raise Failure(f"refused as {error!r}; expected {expected.__name__}: {command['text']}") from error
            return
        raise Failure(f"accepted; expected {expected.__name__}: {command['text']}")

    def check_trap(self, trap: Trap, command: Json) -> None:
        # The suite's text may be the beginning of the engine's, or say more ("uninitialized element 2").
        text = command["text"]
        said = [trap.message] if self.engine.exact else trap.message.split(": ")
        if not any(one.startswith(text) or text.startswith(one) for one in said):
            raise Failure(f"trapped with {trap.message!r}; expected {text!r}")
