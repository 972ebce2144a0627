"""Files that live in memory: what a guest may be given instead of a directory of the host.

    files = MemoryFiles({"/in.txt": b"hello"})
    context = WasiContext(preopens=[(files, "/")])

Everything a guest can do with a directory works, within bounds: bytes and entries together. Names are UTF-8; paths
stay beneath the directory that a call starts at, as the host's do.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from lucet.wasi.clocks import Clock
from lucet.wasi.dirs import Directory, Entry, accesses
from lucet.wasi.errors import WasiError
from lucet.wasi.files import Buffers, Descriptor, FileStat, NewTimes, host_offset
from lucet.wasi.tables import (
    FILE_RIGHTS,
    MAX_TRANSFER,
    WRITING_RIGHTS,
    ClockId,
    Errno,
    FdFlag,
    FileType,
    OpenFlag,
    Right,
)

DEFAULT_LIMIT: Final = 64 << 20
DEFAULT_ENTRIES: Final = 10_000
MAX_NAME: Final = 255  # as the host's file systems
MAX_SYMLINKS: Final = 40  # Linux's MAXSYMLINKS
SET, CURRENT, END = range(3)
CHANGEABLE_FLAGS: Final = FdFlag.APPEND | FdFlag.NONBLOCK


@dataclass(eq=False, kw_only=True)
class Node:
    """A file, a directory or a symbolic link. Each counts as one entry as long as it has a name or is open."""

    ino: int
    filetype: FileType
    nlink: int = 1
    opens: int = 0
    atim: int
    mtim: int
    ctim: int
    data: bytearray = field(default_factory=bytearray)
    """A file's contents, or where a link leads."""
    entries: dict[bytes, tuple[int, Node]] = field(default_factory=dict)
    """A directory's: by name, with the number by which a listing goes on after it."""
    last_entry: int = 2

    @property
    def is_directory(self) -> bool:
        return self.filetype == FileType.DIRECTORY


class MemoryFiles:
    """A file system in memory. Give it to WasiContext as the host's side of a preopen; to several, if they share it.

    files: contents by path ("/a/b.txt"); directories are made as needed.
    limit: bytes of all contents together. max_entries: files, directories and links together. Beyond either the guest
    is told that there is no space left (NOSPC). Holes of sparse files count as their zeros.
    clock: where times of files come from; default: the clock of the first context that uses it.
    """

    def __init__(
        self,
        files: Mapping[str, bytes] | None = None,
        *,
        limit: int = DEFAULT_LIMIT,
        max_entries: int = DEFAULT_ENTRIES,
        clock: Clock | None = None,
    ) -> None:
        self.limit, self.max_entries, self.clock = limit, max_entries, clock
        self.used = self.entries = self._last_ino = 0
        self.root = self.new_node(FileType.DIRECTORY)
        for path, data in (files or {}).items():
            self.write(path, data)

    # ---- for the embedder ----

    def write(self, path: str, data: bytes) -> None:
        """Make the file, and the directories that it needs, or replace its contents."""
        *folders, name = _names(path)
        node = self.root
        for folder in folders:
            entry = node.entries.get(folder)
            node = self.add(node, folder, FileType.DIRECTORY) if entry is None else entry[1]
            if not node.is_directory:
                raise NotADirectoryError(f"{path!r}: a part of it is no directory")
        entry = node.entries.get(name)
        file = self.add(node, name, FileType.REGULAR_FILE) if entry is None else entry[1]
        if file.filetype != FileType.REGULAR_FILE:
            raise IsADirectoryError(f"{path!r} is no file")
        try:
            self.resize(file, len(data))
        except WasiError:
            raise OSError(f"{path!r}: no space left of {self.limit} bytes") from None
        file.data[:] = data

    def read(self, path: str) -> bytes:
        """The contents of a file; FileNotFoundError if there is none of that name."""
        node = self.root
        for name in _names(path):
            if name not in node.entries:
                raise FileNotFoundError(path)
            node = node.entries[name][1]
        if node.filetype != FileType.REGULAR_FILE:
            raise IsADirectoryError(f"{path!r} is no file")
        return bytes(node.data)

    def files(self) -> dict[str, bytes]:
        """All files by path, as they are now."""
        found: dict[str, bytes] = {}
        waiting = [("", self.root)]
        while waiting:
            path, node = waiting.pop()
            for name, (_, child) in node.entries.items():
                below = f"{path}/{name.decode()}"
                if child.is_directory:
                    waiting.append((below, child))
                elif child.filetype == FileType.REGULAR_FILE:
                    found[below] = bytes(child.data)
        return found

    # ---- for the descriptors ----

    def now(self) -> int:
        return time.time_ns() if self.clock is None else self.clock.time(ClockId.REALTIME)

    def new_node(self, filetype: FileType) -> Node:
        if self.entries >= self.max_entries:
            raise WasiError(Errno.NOSPC)
        self.entries += 1
        self._last_ino += 1
        now = self.now()
        return Node(ino=self._last_ino, filetype=filetype, atim=now, mtim=now, ctim=now)

    def add(self, directory: Node, name: bytes, filetype: FileType) -> Node:
        """A new node with a name."""
        self._check_name(directory, name)
        node = self.new_node(filetype)
        self.enter(directory, name, node)
        return node

    def enter(self, directory: Node, name: bytes, node: Node) -> None:
        self._check_name(directory, name)
        directory.last_entry += 1
        directory.entries[name] = (directory.last_entry, node)
        directory.mtim = directory.ctim = self.now()

    def remove(self, directory: Node, name: bytes) -> None:
        """Take a name away, and the node if it was the last one and nobody has it open."""
        _, node = directory.entries.pop(name)
        node.nlink -= 1
        directory.mtim = directory.ctim = node.ctim = self.now()
        self.forget_unused(node)

    def forget_unused(self, node: Node) -> None:
        if node.nlink == 0 and node.opens == 0:
            node.nlink = -1  # once
            self.entries -= 1
            self.used -= len(node.data)
            node.data = bytearray()

    def resize(self, node: Node, size: int) -> None:
        growth = size - len(node.data)
        if growth > self.limit - self.used:
            raise WasiError(Errno.NOSPC)
        if growth > 0:
            node.data.extend(bytes(growth))
        else:
            del node.data[size:]
        self.used += growth
        node.mtim = node.ctim = self.now()

    def stat(self, node: Node) -> FileStat:
        size = len(node.data)
        return FileStat(1, node.ino, node.filetype, max(node.nlink, 0), size, node.atim, node.mtim, node.ctim)

    def set_times(self, node: Node, times: NewTimes) -> None:
        node.atim = node.atim if times.atim is None else times.atim
        node.mtim = node.mtim if times.mtim is None else times.mtim
        node.ctim = self.now()

    def _check_name(self, directory: Node, name: bytes) -> None:
        if len(name) > MAX_NAME:
            raise WasiError(Errno.NAMETOOLONG)
        if directory.nlink <= 0:  # removed, but open
            raise WasiError(Errno.NOENT)


def _names(path: str) -> list[bytes]:
    names = [name.encode() for name in path.split("/") if name]
    if not names or b"." in names or b".." in names:
        raise ValueError(f"{path!r} is not a path of a file")
    return names


class _OfNode(Descriptor):
    """What open files and directories have in common."""

    __slots__ = ()  # those of two bases would not go together in MemoryDirectory
    _files: MemoryFiles
    _node: Node

    def _hold(self, files: MemoryFiles, node: Node) -> None:
        self._files, self._node = files, node
        node.opens += 1

    def close(self) -> None:
        self._node.opens -= 1
        self._files.forget_unused(self._node)

    def stat(self) -> FileStat:
        return self._files.stat(self._node)

    def set_times(self, times: NewTimes) -> None:
        self._files.set_times(self._node, times)

    def set_flags(self, flags: int) -> None:
        if (flags ^ self.flags) & ~CHANGEABLE_FLAGS:
            raise WasiError(Errno.NOTSUP)
        self.flags = flags


class MemoryFile(_OfNode):
    """An open file in memory."""

    __slots__ = ("_files", "_node", "_position")

    def __init__(self, files: MemoryFiles, node: Node, *, rights: int, flags: int) -> None:
        super().__init__(filetype=node.filetype, rights=rights, flags=flags)
        self._hold(files, node)
        self._position = 0

    def read(self, buffers: Buffers) -> int:
        count = self.pread(buffers, self._position)
        self._position += count
        return count

    def write(self, buffers: Buffers) -> int:
        start = len(self._node.data) if self.flags & FdFlag.APPEND else self._position
        count = self._put(buffers, start)
        if count:
            self._position = start + count
        return count

    def pread(self, buffers: Buffers, offset: int) -> int:
        start = end = host_offset(offset)
        with memoryview(self._node.data) as data:
            for view in buffers:
                piece = data[end : end + view.nbytes]
                view[: piece.nbytes] = piece
                end += piece.nbytes
                piece.release()
        self._node.atim = self._files.now()
        return end - start

    def pwrite(self, buffers: Buffers, offset: int) -> int:
        # As Linux does: a file opened to append is appended to even here.
        return self._put(buffers, len(self._node.data) if self.flags & FdFlag.APPEND else host_offset(offset))

    def _put(self, buffers: Buffers, start: int) -> int:
        """As much as there is space for; none at all is an error."""
        wanted = min(sum(view.nbytes for view in buffers), MAX_TRANSFER)
        size = len(self._node.data)
        room = max(size - start, 0) + max(self._files.limit - self._files.used - max(start - size, 0), 0)
        left = count = min(wanted, room)
        if wanted and not count:
            raise WasiError(Errno.NOSPC)
        if start + count > size and count:
            self._files.resize(self._node, start + count)
        position = start
        for view in buffers:
            with view[:left] as piece:
                self._node.data[position : position + piece.nbytes] = piece
                position += piece.nbytes
                left -= piece.nbytes
        self._node.mtim = self._node.ctim = self._files.now()
        return count

    def seek(self, offset: int, whence: int) -> int:
        position = offset + {SET: 0, CURRENT: self._position, END: len(self._node.data)}[whence]
        if position < 0:
            raise WasiError(Errno.INVAL)
        self._position = host_offset(position)
        return position

    def advise(self, offset: int, length: int, advice: int) -> None:
        host_offset(offset), host_offset(length)

    def allocate(self, offset: int, length: int) -> None:
        end = host_offset(host_offset(offset) + host_offset(length))
        if not length:
            raise WasiError(Errno.INVAL)
        if end > len(self._node.data):
            self._files.resize(self._node, end)

    def set_size(self, size: int) -> None:
        self._files.resize(self._node, host_offset(size))

    def available(self) -> int:
        return max(len(self._node.data) - self._position, 0)


class MemoryDirectory(_OfNode, Directory):
    """An open directory in memory."""

    __slots__ = ("_files", "_node")

    def __init__(
        self,
        files: MemoryFiles,
        node: Node,
        *,
        rights: int,
        inheriting: int,
        flags: int = 0,
        preopen: bytes | None = None,
    ) -> None:
        super().__init__(rights=rights, inheriting=inheriting, flags=flags, preopen=preopen)
        self._hold(files, node)

    def entries(self, cookie: int) -> Iterator[Entry]:
        for number, name in ((1, b"."), (2, b"..")):
            if cookie < number:
                yield Entry(number, self._node.ino, FileType.DIRECTORY, name)
        for name, (number, node) in sorted(self._node.entries.items(), key=lambda entry: entry[1][0]):
            if number > cookie:
                yield Entry(number, node.ino, node.filetype, name)

    def open(self, path: bytes, *, follow: bool, oflags: int, fdflags: int, rights: int, inheriting: int) -> Descriptor:
        directory, name, must_be_directory = self._walk(path, follow=follow and not oflags & OpenFlag.EXCL)
        node = self._look(directory, name)
        readable, writable = accesses(rights)
        if node is None:
            if not oflags & OpenFlag.CREAT:
                raise WasiError(Errno.NOENT)
            if must_be_directory:
                raise WasiError(Errno.ISDIR)
            node = self._files.add(directory, name, FileType.REGULAR_FILE)
        elif oflags & OpenFlag.CREAT and oflags & OpenFlag.EXCL:
            raise WasiError(Errno.EXIST)
        if node.filetype == FileType.SYMBOLIC_LINK:
            raise WasiError(Errno.NOTDIR if oflags & OpenFlag.DIRECTORY else Errno.LOOP)
        if node.is_directory:
            if writable or oflags & (OpenFlag.TRUNC | OpenFlag.CREAT):
                raise WasiError(Errno.ISDIR)
            return MemoryDirectory(self._files, node, rights=rights, inheriting=inheriting, flags=fdflags)
        if must_be_directory or oflags & OpenFlag.DIRECTORY:
            raise WasiError(Errno.NOTDIR)
        if oflags & OpenFlag.TRUNC:
            self._files.resize(node, 0)
        rights &= FILE_RIGHTS & ~(0 if readable else Right.FD_READ) & ~(0 if writable else WRITING_RIGHTS)
        return MemoryFile(self._files, node, rights=rights, flags=fdflags)

    def stat_at(self, path: bytes, *, follow: bool) -> FileStat:
        return self._files.stat(self._existing(path, follow=follow))

    def set_times_at(self, path: bytes, times: NewTimes, *, follow: bool) -> None:
        self._files.set_times(self._existing(path, follow=follow), times)

    def create_directory(self, path: bytes) -> None:
        directory, name, _ = self._walk(path, follow=False, must_have_name=Errno.EXIST)
        if self._look(directory, name) is not None:
            raise WasiError(Errno.EXIST)
        self._files.add(directory, name, FileType.DIRECTORY)

    def remove_directory(self, path: bytes) -> None:
        directory, name, _ = self._walk(path, follow=False, must_have_name=Errno.INVAL)
        node = self._look(directory, name)
        if node is None:
            raise WasiError(Errno.NOENT)
        if not node.is_directory:
            raise WasiError(Errno.NOTDIR)
        if node.entries:
            raise WasiError(Errno.NOTEMPTY)
        self._files.remove(directory, name)

    def unlink(self, path: bytes) -> None:
        directory, name, must_be_directory = self._walk(path, follow=False, must_have_name=Errno.ISDIR)
        node = self._look(directory, name)
        if node is None:
            raise WasiError(Errno.NOENT)
        if node.is_directory:
            raise WasiError(Errno.ISDIR)
        if must_be_directory:
            raise WasiError(Errno.NOTDIR)
        self._files.remove(directory, name)

    def symlink(self, target: bytes, path: bytes) -> None:
        if target.startswith(b"/"):
            raise WasiError(Errno.NOTCAPABLE)
        if not target:
            raise WasiError(Errno.NOENT)
        directory, name, must_be_directory = self._walk(path, follow=False, must_have_name=Errno.EXIST)
        if self._look(directory, name) is not None:
            raise WasiError(Errno.EXIST)
        if must_be_directory:
            raise WasiError(Errno.NOENT)
        if len(target) > self._files.limit - self._files.used:
            raise WasiError(Errno.NOSPC)
        link = self._files.add(directory, name, FileType.SYMBOLIC_LINK)
        link.data[:] = target
        self._files.used += len(target)

    def read_link(self, path: bytes) -> bytes:
        node = self._existing(path, follow=False)
        if node.filetype != FileType.SYMBOLIC_LINK:
            raise WasiError(Errno.INVAL)
        return bytes(node.data)

    def rename(self, path: bytes, to: Directory, new_path: bytes) -> None:
        target = self._same_files(to)
        old, old_name, _ = self._walk(path, follow=False, must_have_name=Errno.BUSY)
        new, new_name, new_is_directory = target._walk(new_path, follow=False, must_have_name=Errno.BUSY)
        node, replaced = self._look(old, old_name), self._look(new, new_name)
        if node is None:
            raise WasiError(Errno.NOENT)
        if not node.is_directory and (new_is_directory or path.endswith(b"/")):
            raise WasiError(Errno.NOTDIR)
        if replaced is node:
            return
        if node.is_directory and _contains(node, new):
            raise WasiError(Errno.INVAL)
        if replaced is not None:
            if node.is_directory != replaced.is_directory:
                raise WasiError(Errno.ISDIR if replaced.is_directory else Errno.NOTDIR)
            if replaced.entries:
                raise WasiError(Errno.NOTEMPTY)
            self._files.remove(new, new_name)
        self._files.enter(new, new_name, node)
        if (old, old_name) != (new, new_name):
            del old.entries[old_name]
        old.mtim = old.ctim = node.ctim = self._files.now()

    def link(self, path: bytes, to: Directory, new_path: bytes, *, follow: bool) -> None:
        target = self._same_files(to)
        node = self._existing(path, follow=follow)
        new, new_name, new_is_directory = target._walk(new_path, follow=False, must_have_name=Errno.EXIST)
        if self._look(new, new_name) is not None:
            raise WasiError(Errno.EXIST)
        if node.is_directory:
            raise WasiError(Errno.PERM)
        if new_is_directory:
            raise WasiError(Errno.NOENT)
        self._files.enter(new, new_name, node)
        node.nlink += 1
        node.ctim = self._files.now()

    def _same_files(self, to: Directory) -> MemoryDirectory:
        if not isinstance(to, MemoryDirectory) or to._files is not self._files:
            raise WasiError(Errno.XDEV)
        return to

    @staticmethod
    def _look(directory: Node, name: bytes) -> Node | None:
        if not name:
            return directory
        entry = directory.entries.get(name)
        return None if entry is None else entry[1]

    def _existing(self, path: bytes, *, follow: bool) -> Node:
        directory, name, must_be_directory = self._walk(path, follow=follow)
        node = self._look(directory, name)
        if node is None:
            raise WasiError(Errno.NOENT)
        if must_be_directory and not node.is_directory:
            raise WasiError(Errno.NOTDIR)
        return node

    def _walk(self, path: bytes, *, follow: bool, must_have_name: Errno | None = None) -> tuple[Node, bytes, bool]:
        """(directory, the last component in it, whether that must be a directory); b"" is the directory itself.

        follow: of a symbolic link in the last place, too. One before a slash is always followed.
        """
        if not path:
            raise WasiError(Errno.NOENT)
        trail = [self._node]
        rest = _components(path)
        must_be_directory = path.endswith(b"/")
        links = 0
        while rest:
            name = rest.pop()
            if name == b".":
                if not rest:
                    break
                continue
            if name == b"..":
                if len(trail) == 1:
                    raise WasiError(Errno.NOTCAPABLE)
                trail.pop()
                continue
            node = self._look(trail[-1], name)
            is_last = not rest
            if (
                node is not None
                and node.filetype == FileType.SYMBOLIC_LINK
                and (not is_last or follow or (must_be_directory and must_have_name is None))
            ):
                links += 1
                if links > MAX_SYMLINKS:
                    raise WasiError(Errno.LOOP)
                rest += _components(bytes(node.data))
                must_be_directory |= is_last and node.data.endswith(b"/")
                continue
            if is_last:
                return trail[-1], name, must_be_directory
            if node is None:
                raise WasiError(Errno.NOENT)
            if not node.is_directory:
                raise WasiError(Errno.NOTDIR)
            trail.append(node)
        if must_have_name is not None:
            raise WasiError(must_have_name)
        return trail[-1], b"", True


def _components(path: bytes) -> list[bytes]:
    """Last first. An absolute path leads nowhere."""
    if path.startswith(b"/"):
        raise WasiError(Errno.NOTCAPABLE)
    return [part for part in path.split(b"/") if part][::-1]


def _contains(directory: Node, node: Node) -> bool:
    """Whether node is the directory or somewhere below it; without recursion, as guests nest as they like."""
    waiting = [directory]
    while waiting:
        one = waiting.pop()
        if one is node:
            return True
        waiting += [child for _, child in one.entries.values() if child.is_directory]
    return False
