"""A host for plugins: each transforms a text in a sandbox of its own, and can do no worse than fail.

    python examples/plugin_host.py 'some text'

Checked by pyright and mypy in their strict modes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import lucet
from lucet.runtime import Linkage
from lucet.wasm.text import text_to_binary

UNSIGNED = 0xFFFFFFFF  # an i32 arrives as a signed int; addresses are unsigned

# From the global "buffer" on, the host writes the text and reads the result.
INTERFACE = """
    (import "host" "log" (func $log (param $start i32) (param $length i32)))
    (import "host" "setting" (func $setting (param $key i32) (result i32)))
    (memory (export "memory") 1 4)
    (global (export "buffer") i32 (i32.const 1024))"""

SHOUT = f"""(module {INTERFACE}
    (data (i32.const 0) "shouting")
    (func (export "transform") (param $length i32) (result i32)
        (local $at i32) (local $byte i32)
        (call $log (i32.const 0) (i32.const 8))
        (block $done
            (loop $next
                (br_if $done (i32.ge_u (local.get $at) (local.get $length)))
                (local.set $byte (i32.load8_u offset=1024 (local.get $at)))
                (if (i32.lt_u (i32.sub (local.get $byte) (i32.const 97)) (i32.const 26)) ;; a to z
                    (then (i32.store8 offset=1024 (local.get $at) (i32.sub (local.get $byte) (i32.const 32)))))
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (br $next)))
        (local.get $length)))"""

SHORTEN = f"""(module {INTERFACE}
    (func (export "transform") (param $length i32) (result i32) (local $most i32)
        (local.set $most (call $setting (i32.const 0)))
        (select (local.get $length) (local.get $most) (i32.lt_u (local.get $length) (local.get $most)))))"""

CRASH = f"""(module {INTERFACE} (func (export "transform") (param i32) (result i32) (i32.load (i32.const -4))))"""
HANG = f"""(module {INTERFACE} (func (export "transform") (param i32) (result i32) (loop (br 0)) (i32.const 0)))"""
LIE = f"""(module {INTERFACE} (func (export "transform") (param i32) (result i32) (i32.const -1)))"""

PLUGINS = {"shout": SHOUT, "shorten": SHORTEN, "crash": CRASH, "hang": HANG, "lie": LIE}


@lucet.host_function
def setting(key: lucet.i32) -> lucet.i32:
    """The host's settings, by number."""
    return 9 if key == 0 else 0


class PluginHost:
    """Compiles plugins, and runs each text in a new instance."""

    def __init__(self) -> None:
        self.region = lucet.Region(slots=8, memory_limit=1 << 20)
        self.messages: list[str] = []

    def load(self, name: str, text: str) -> Linkage:
        """Compile a plugin and bind its imports, once for all instances."""

        @lucet.host_function
        def log(caller: lucet.Instance, start: lucet.i32, length: lucet.i32) -> None:
            message = caller.memory.read(start & UNSIGNED, length & UNSIGNED)
            self.messages.append(f"{name}: {message.decode(errors='replace')}")

        module = lucet.Module.from_bytes(lucet.compile(text_to_binary(text)))
        return self.region.link(module, {"host": {"log": log, "setting": setting}})

    def transform(self, plugin: Linkage, text: str) -> str:
        """What the plugin makes of the text."""
        data = text.encode()
        with self.region.new_instance(plugin) as instance:
            instance.timeout = 1.0
            buffer: int = instance.globals["buffer"].value
            instance.memory.write(buffer, data)
            length: int = instance.run("transform", len(data))
            with instance.memory.view(buffer, length & UNSIGNED) as result:  # no copy; ends before the instance does
                return str(result, "utf-8", "replace")


def outcomes(host: PluginHost, text: str) -> Iterator[str]:
    """One line for each plugin."""
    for name, source in PLUGINS.items():
        plugin = host.load(name, source)
        try:
            yield f"{name}: {host.transform(plugin, text)!r}"
        except lucet.TimedOut:
            yield f"{name}: took too long"
        except lucet.Trap as trap:
            yield f"{name}: {trap.code} in function {trap.function}"
        except lucet.MemoryAccessError as error:
            yield f"{name}: named bytes that it does not have: {error}"


def main() -> None:
    host = PluginHost()
    most: int = setting(0)  # still a function of Python, with its type
    print(f"texts are cut to {most} bytes")
    for line in outcomes(host, " ".join(sys.argv[1:]) or "hello, plugins"):
        print(line)
    print("logged:", *host.messages)
    assert host.region.used == 0


if __name__ == "__main__":
    main()
