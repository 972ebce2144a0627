"""Runs scripts in processes: a script that crashes its process, or hangs, fails alone."""

from __future__ import annotations

import importlib
import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tests.spec.engines import Engine
from tests.spec.script import FAILED, Result, instances_count, load, run_script


@dataclass(frozen=True, kw_only=True)
class Task:
    name: str
    path: Path
    may_skip: bool


@dataclass(frozen=True, kw_only=True)
class Settings:
    engine: str
    """module:factory, the factory taking opt_level and slots, and target_cpu if one is given."""
    opt_level: str
    target_cpu: str | None = None
    timeout: float
    """Seconds for a script."""


@dataclass(kw_only=True)
class Outcome:
    """What became of a script."""

    name: str
    results: list[Result] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, status: str) -> int:
        return sum(result.status == status for result in self.results)

    def of(self, status: str) -> list[Result]:
        return [result for result in self.results if result.status == status]


def run_tasks(tasks: Sequence[Task], settings: Settings, jobs: int) -> Iterator[Outcome]:
    """The outcomes as they come in."""
    waiting = list(reversed(tasks))
    workers: list[_Worker] = []
    try:
        while waiting or any(worker.task for worker in workers):
            while waiting and len(workers) < jobs:
                workers.append(_Worker(settings))
                workers[-1].start(waiting.pop())
            for idle in [worker for worker in workers if not worker.task]:
                if waiting:
                    idle.start(waiting.pop())
            busy = {worker.connection: worker for worker in workers if worker.task}
            deadline = min(worker.deadline for worker in busy.values())
            for ready in wait(list(busy), max(0.0, deadline - time.monotonic())):
                assert isinstance(ready, Connection)
                outcome = busy[ready].receive()
                if outcome is not None:
                    yield outcome
            for worker in busy.values():
                if worker.task and time.monotonic() > worker.deadline:
                    yield worker.give_up(f"did not end within {settings.timeout:g} seconds")
            workers = [worker for worker in workers if not worker.dead]
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    """A process that runs one script after the other."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        # Not a fork: the process would share the compiler's worker processes and the runtime's state with its parent.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, settings))
        self.process.start()
        theirs.close()
        self.task: Task | None = None
        self.dead = False

    def start(self, task: Task) -> None:
        self.task = task
        self.outcome = Outcome(name=task.name)
        self.started = time.monotonic()
        self.deadline = self.started + self.settings.timeout
        self.connection.send(task)

    def receive(self) -> Outcome | None:
        """The next message; the outcome, when that says the script has ended."""
        try:
            message: Result | None = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode or 0
            return self.give_up(f"crashed: {signal.Signals(-code).name if code < 0 else f'exit status {code}'}")
        if message is not None:
            self.outcome.results.append(message)
            return None
        return self.finish()

    def give_up(self, reason: str) -> Outcome:
        """The command after the last result has failed, and those after it have not been run, which is failure too."""
        assert self.task is not None
        commands = load(self.task.path)["commands"][len(self.outcome.results) :]
        for number, command in enumerate(commands):
            message = reason if number == 0 else "not run"
            self.outcome.results.append(
                Result(line=command["line"], command=command["type"], status=FAILED, message=message)
            )
        self.stop()
        return self.finish()

    def finish(self) -> Outcome:
        self.task = None
        self.outcome.seconds = time.monotonic() - self.started
        return self.outcome

    def stop(self) -> None:
        self.dead = True
        self.connection.close()
        if self.task is not None:
            self.process.kill()
        self.process.join()


def _serve(connection: Connection, settings: Settings) -> None:
    try:
        while True:
            task: Task = connection.recv()
            script = load(task.path)
            for result in run_script(_engine(settings, script), script, may_skip=task.may_skip):
                connection.send(result)
            connection.send(None)
    except (EOFError, BrokenPipeError):
        return


def _engine(settings: Settings, script: Any) -> Engine:
    module, _, factory = settings.engine.partition(":")
    more = {} if settings.target_cpu is None else {"target_cpu": settings.target_cpu}
    engine: Engine = getattr(importlib.import_module(module), factory)(
        opt_level=settings.opt_level, slots=instances_count(script), **more
    )
    return engine
