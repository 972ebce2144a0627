"""The end of the interpreter, and fork, while guests run, wait or are suspended: in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
import gc, os, signal, sys, threading, time
import lucet
from lucet.runtime import HostFunction
from lucet.wasm.text import text_to_binary
module = lucet.Module.from_bytes(lucet.compile(text_to_binary('''(module
  (import "h" "f" (func $f (param i32) (result i32))) (memory (export "memory") 1)
  (func (export "spin") (loop br 0))
  (func (export "call") (param i32) (result i32) local.get 0 call $f)
  (func (export "poke") (param i32 i32) local.get 0 local.get 1 i32.store)
  (func (export "peek") (param i32) (result i32) local.get 0 i32.load))'''), opt_level="none"))
region = lucet.Region(slots=8)
def new(function=lambda n: n):
    return region.new_instance(module, {"h": {"f": HostFunction(function, ("i32",), ("i32",), wants_caller=False)}})
def wait_until_running(instance):
    while instance.state != "running":
        time.sleep(0.001)
"""

ENDINGS = {
    "a daemon thread runs a guest": """
        guest = new()
        threading.Thread(target=guest.run, args=("spin",), daemon=True).start()
        wait_until_running(guest)
    """,
    "a daemon thread is in a host function": """
        guest = new(lambda n: time.sleep(100))
        threading.Thread(target=guest.run, args=("call", 1), daemon=True).start()
        wait_until_running(guest)
    """,
    "many daemon threads make, run and close instances": """
        def work():
            while True:
                with new() as guest:
                    guest.run("call", 1)
        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.05)
    """,
    "a run is suspended": """
        run = new(lambda n: lucet.Suspend(n)).run("call", 1)
        assert run.value == 1
    """,
    "a view is alive": "view = memoryview(new().memory)",
    "an instance holds itself": """
        guest = new()
        guest.context = guest
    """,
    "sys.exit in a host function": """
        new(lambda n: sys.exit(0)).run("call", 1)
        raise AssertionError
    """,
    "everything goes at once": """
        guests = [new() for _ in range(8)]
        views = [guest.memory.view(0, 10) for guest in guests]
        import atexit
        atexit.register(lambda: guests[0].run("call", 3))
    """,
}


def end_of(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", PRELUDE + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", ENDINGS)
def test_the_interpreter_ends_in_order(name: str) -> None:
    outcome = end_of(ENDINGS[name])
    assert (outcome.returncode, outcome.stderr) == (0, "")


FORKS = {
    "idle instances": """
        guest = new()
        guest.run("poke", 100, 7)
        if (child := os.fork()) == 0:
            assert guest.run("peek", 100) == 7
            guest.run("poke", 100, 8)
            guest.reset()
            assert guest.run("peek", 100) == 0
            with new() as other:
                other.timeout = 0.05
                try:
                    other.run("spin")
                except lucet.TimedOut:
                    os._exit(5)
            os._exit(6)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        assert guest.run("peek", 100) == 7
    """,
    "another thread runs a guest": """
        guest, other = new(), new()
        other.timeout = 100
        thread = threading.Thread(target=lambda: guest.run("spin"), daemon=True)
        thread.start()
        wait_until_running(guest)
        if (child := os.fork()) == 0:
            assert other.run("call", 3) == 3
            try:
                guest.run("call", 1)
            except lucet.InstanceError:
                os._exit(5)
            os._exit(6)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        guest.interrupt()
        thread.join()
    """,
    "other threads make, run and end instances": """
        stop = False
        def work():
            while not stop:
                with new(lambda n: time.sleep(0)) as guest:
                    guest.run("call", 1)
                    guest.timeout = 0.002
                    try:
                        guest.run("spin")
                    except lucet.TimedOut:
                        pass
        threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(100):
            if (child := os.fork()) == 0:
                signal.alarm(20)
                for _ in range(3):
                    with new() as guest:
                        assert guest.run("call", 3) == 3
                        thread = threading.Thread(target=lambda: guest.run("call", 3))
                        thread.start()
                        thread.join()
                        guest.timeout = 0.001
                        try:
                            guest.run("spin")
                        except lucet.TimedOut:
                            pass
                os._exit(5)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        stop = True
        for thread in threads:
            thread.join()
    """,
    "inside a host function": """
        def fork(n):
            return os.fork()
        guest = new(fork)
        child = guest.run("call", 1)
        assert guest.run("peek", 0) == 0
        if child == 0:
            os._exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    """,
}


@pytest.mark.parametrize("name", FORKS)
def test_a_forked_child_goes_on(name: str) -> None:
    outcome = end_of(FORKS[name])
    assert outcome.returncode == 0, outcome.stderr
