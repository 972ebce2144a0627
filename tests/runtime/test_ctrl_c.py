"""Ctrl-C ends a guest's loop also when somebody else has taken the signal since."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, os, signal, threading
import lucet

text = '(module (func (export "spin") (loop (br 0))) (func (export "one") (param i32) (loop (br 0))))'
module = lucet.Module.from_bytes(lucet.compile(text))
instance = lucet.Region(2).new_instance(module)

async def nothing():
    pass

{before}
for _ in range(3):
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        {run}
    except KeyboardInterrupt:
        timer.join()
    else:
        raise SystemExit("not interrupted")
"""


@pytest.mark.parametrize("run", ['instance.run("spin")', "instance.exports.one.map(bytes(1000))"])
@pytest.mark.parametrize(
    "before",
    [
        "",
        "asyncio.run(nothing())",
        "signal.signal(signal.SIGINT, signal.default_int_handler)",
        "for _ in range(100): instance.time_slice = None; asyncio.run(nothing())",
    ],
)
def test_ctrl_c(before: str, run: str) -> None:
    program = PROGRAM.format(before=before, run=run)
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_whoever_wants_the_default_has_it() -> None:
    program = PROGRAM.format(before="signal.signal(signal.SIGINT, signal.SIG_DFL)", run='instance.run("spin")')
    ended = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert ended.returncode == -2
