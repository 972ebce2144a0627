"""A process that runs one command where it can do no harm: `python -m lucet.terrarium.confined`, which jail.py starts.

It gets a request and files on standard input, and gives what became of them on standard output. The command sees a root
of its own, in memory: the toolchain's folders, read only, and /work, where the files are. It has no network, no other
processes, no privileges, few system calls, and limits for the rest. Where the kernel does not allow namespaces, what
there is instead is used, and the answer says what is missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import selectors
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any, Final

from lucet.terrarium import kernel

WORK: Final = "/work"
_LENGTH: Final = struct.Struct("<Q")
_DEVICES: Final = ("null", "zero", "full", "random", "urandom")
_SYSTEM: Final = ("bin", "lib", "lib64", "sbin")
_ALWAYS: Final = ("/usr", "/etc/ld.so.cache", "/etc/alternatives")
_FIRST_UID: Final = 0x70000000
"""Users that nobody is: a build that root starts is one of them."""
_IN_USER_NAMESPACE: Final = 1000
_HEADROOM: Final = 2.0
"""Seconds that ending takes at most."""


def send(stream: IO[bytes], header: dict[str, Any], contents: list[bytes]) -> None:
    """A header, and the contents of as many files as it says."""
    text = json.dumps(header).encode()
    stream.write(_LENGTH.pack(len(text)) + text)
    for data in contents:
        stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], list[bytes]]:
    """What send() has sent. EOFError."""
    header = json.loads(_block(stream))
    assert isinstance(header, dict)
    return header, [_block(stream) for _ in range(header["contents"])]


def _block(stream: IO[bytes]) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    return _exactly(stream, length)


def _exactly(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data


def main() -> None:
    kernel.die_with_parent(signal.SIGKILL)
    request, contents = receive(sys.stdin.buffer)
    os.umask(0o022)
    os.nice(10)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")  # rather than the server
    missing: list[str] = []
    isolated = bool(request["isolate"]) and _unshare(missing)
    if not request["isolate"]:
        missing.append("namespaces: not asked for")
    # The first child of a new namespace of processes is their init: when it ends, so do all others.
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    try:
        kernel.die_with_parent(signal.SIGKILL)
        answer, outputs = _run(request, contents, missing, isolated=isolated)
    except OSError as error:
        answer, outputs = {"failed": str(error)}, []
    send(sys.stdout.buffer, {**answer, "missing": missing, "contents": len(outputs)}, outputs)
    os._exit(0)


def _unshare(missing: list[str]) -> bool:
    """Whether this process and its children have namespaces of their own."""
    flags = kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            kernel.unshare(flags)
            return True
    uid, gid = os.geteuid(), os.getegid()
    try:
        kernel.unshare(flags | kernel.CLONE_NEWUSER)
        for name, text in (
            ("setgroups", "deny"),
            # Not root inside, so that a command has no privileges there either.
            ("uid_map", f"{_IN_USER_NAMESPACE} {uid} 1"),
            ("gid_map", f"{_IN_USER_NAMESPACE} {gid} 1"),
        ):
            Path(f"/proc/self/{name}").write_text(text, encoding="ascii")
    except OSError as error:
        missing.append(f"namespaces: {error}")
        return False
    return True


def _run(
    request: dict[str, Any], contents: list[bytes], missing: list[str], *, isolated: bool
) -> tuple[dict[str, Any], list[bytes]]:
    work = request["scratch"]
    if isolated:
        _make_root(request["scratch"], request["reads"], request["limits"]["scratch"], missing)
        work = WORK
    else:
        # The way there may be closed to the user that this becomes.
        os.chdir(work)
        work = "."
    readable = [*_ALWAYS, *(f"/{name}" for name in _SYSTEM), *request["reads"], "/proc/self"]
    readable += [f"/dev/{name}" for name in _DEVICES]
    for target, name in request["links"]:
        Path(work, name).symlink_to(target)
    for source, name in request["copies"]:
        shutil.copytree(source, Path(work, name))
    _drop_privileges(work, isolated=isolated)
    kernel.no_new_privileges()
    children = None
    if not isolated:
        kernel.adopt_orphans()
        # Opened now: later nothing in /proc can be.
        children = Path(f"/proc/self/task/{os.getpid()}/children").open(encoding="ascii")  # noqa: SIM115
        request["limits"]["processes"] += _processes()
        try:
            # /dev/null must be writable, too.
            kernel.confine_files(readable, [work, "/dev/null"])
        except OSError as error:
            missing.append(f"files: {error}")
    try:
        kernel.refuse_system_calls()
    except OSError as error:
        missing.append(f"system calls: {error}")
        if not isolated:
            missing.append("network")
    for (name, mode), data in zip(request["files"], contents, strict=True):
        path = Path(work, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
    os.chdir(work)
    answer = _command(request, work, children)
    outputs, sizes = [], {}
    for name, limit in request["outputs"]:
        found = _output(Path(work, name), limit)
        if found is not None:
            sizes[name] = len(found)
            outputs.append(found)
    return {**answer, "outputs": list(sizes)}, outputs


def _make_root(at: str, reads: list[str], size: int, missing: list[str]) -> None:
    """A root in memory with what is readable, and /work; the old one is gone."""
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    plain = kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("tmpfs", at, "tmpfs", plain | kernel.MS_NOEXEC, f"size={size},nr_inodes=100000,mode=755")
    root = Path(at)
    for name in _SYSTEM:
        path = Path("/", name)
        if path.is_symlink():
            (root / name).symlink_to(path.readlink())
        elif path.is_dir():
            _bind(root, str(path))
    for one in (*_ALWAYS, *reads):
        if Path(one).exists():
            _bind(root, one)
    for name in _DEVICES:
        target = root / "dev" / name
        target.parent.mkdir(exist_ok=True)
        target.touch()
        kernel.mount(f"/dev/{name}", str(target), "", kernel.MS_BIND)
    (root / "proc").mkdir()
    try:
        kernel.mount("proc", str(root / "proc"), "proc", plain | kernel.MS_NOEXEC)
    except OSError as error:
        missing.append(f"/proc: {error}")
    for name in ("work", "tmp", "old"):
        (root / name).mkdir(exist_ok=True)  # a toolchain may be below /tmp
    os.chdir(root)
    kernel.pivot_root(".", "old")
    os.chdir("/")
    kernel.unmount("/old", kernel.MNT_DETACH)
    Path("/old").rmdir()


def _bind(root: Path, one: str) -> None:
    """The file or folder at the same place below the root, read only."""
    target = root / one.lstrip("/")
    if target.is_symlink() or any(str(parent) in _BOUND for parent in Path(one).parents):
        return
    if Path(one).is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    kernel.mount(one, str(target), "", kernel.MS_BIND | kernel.MS_REC)
    flags = kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV
    kernel.mount("none", str(target), "", flags)
    _BOUND.add(one)


_BOUND: Final[set[str]] = set()


def _drop_privileges(work: str, *, isolated: bool) -> None:
    """Root becomes a user whom nothing belongs to; others stay who they are."""
    if os.geteuid() != 0:
        return
    uid = _FIRST_UID + (os.getpid() if not isolated else struct.unpack("<H", os.urandom(2))[0])
    for folder, _, names in os.walk(work):
        for path in (folder, *(os.path.join(folder, name) for name in names)):  # noqa: PTH118
            os.chown(path, uid, uid, follow_symlinks=False)
    if isolated:
        os.chown("/tmp", uid, uid)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    kernel.die_with_parent(signal.SIGKILL)  # which a change of user forgets


def _limit(limits: dict[str, int]) -> None:
    for kind, name in (
        (resource.RLIMIT_CPU, "cpu"),
        (resource.RLIMIT_DATA, "memory"),
        (resource.RLIMIT_AS, "addresses"),
        (resource.RLIMIT_FSIZE, "file"),
        (resource.RLIMIT_NOFILE, "descriptors"),
        (resource.RLIMIT_NPROC, "processes"),
    ):
        if name in limits:
            _, hard = resource.getrlimit(kind)
            value = limits[name] if hard == resource.RLIM_INFINITY else min(limits[name], hard)
            resource.setrlimit(kind, (value, value))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _processes() -> int:
    """How many this user has: without a namespace the limit counts them all."""
    count = 0
    for one in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if one.name.isdecimal() and one.stat().st_uid == os.getuid():
                count += sum(1 for _ in (one / "task").iterdir())
    return count


def _command(request: dict[str, Any], work: str, children: IO[str] | None) -> dict[str, Any]:
    """children: whose have to be ended, if there is no namespace that ends with this process."""
    limits = request["limits"]
    environment = {name: text.replace("{work}", work) for name, text in request["env"].items()}
    deadline = time.monotonic() + limits["wall"]
    try:
        process = subprocess.Popen(
            [one.replace("{work}", work) for one in request["command"]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: _limit(limits),  # noqa: PLW1509 - there are no threads here
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = f"{request['command'][0]}: {error}"
        return {"status": 127, "log": said, "lost": 0, "timed_out": False, "cpu_time": 0.0, "memory": 0}
    assert process.stdout is not None
    log, lost, timed_out = _listen(process, deadline, limits["log"])
    if timed_out:
        process.kill()
    status = process.wait()
    if children is not None:
        _end_all(children)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "status": status,
        "log": log.decode(errors="replace"),
        "lost": lost,
        "timed_out": timed_out,
        "cpu_time": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss * 1024,
    }


def _listen(process: subprocess.Popen[bytes], deadline: float, limit: int) -> tuple[bytes, int, bool]:
    """What it prints, until it has ended, whoever else still has the pipe: (log, bytes beyond, is it too late?)."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    log, lost = bytearray(), 0
    end = os.pidfd_open(process.pid)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(end, selectors.EVENT_READ)
        while True:
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            ended = any(key.fileobj == end for key, _ in ready)
            while data := process.stdout.read(65536):
                part = data[: limit - len(log)]
                log += part
                lost += len(data) - len(part)
                if ended or time.monotonic() > deadline:
                    break
            if ended or time.monotonic() > deadline:
                return bytes(log), lost, not ended
            if data == b"":
                selector.unregister(process.stdout)
                process.stdout.close()
                selector.select(max(0.0, deadline - time.monotonic()))
                return bytes(log), lost, process.poll() is None


def _end_all(children: IO[str]) -> None:
    """Without a namespace: kill what the command has left, however it hid."""
    deadline = time.monotonic() + _HEADROOM
    while time.monotonic() < deadline:
        if os.getuid() >= _FIRST_UID:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)  # all of this user, whom nobody else is
        children.seek(0)
        for pid in [int(one) for one in children.read().split()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return  # there are none any more
        time.sleep(0.001)


def _output(path: Path, limit: int) -> bytes | None:
    """A regular file; nothing else is followed or waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(limit + 1)
    return data if len(data) <= limit else None


if __name__ == "__main__":
    main()
