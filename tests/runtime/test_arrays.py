"""Guest memory as arrays of other libraries: Memory.array, DLPack. Nothing is copied, and what is shown stays."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest

import lucet
from tests.runtime.conftest import Load

TEXT = """(module (memory (export "memory") 2 20)
  (func (export "peek") (param i32) (result i32) (i32.load8_u (local.get 0))))"""


@pytest.fixture
def instance(load: Load, region: lucet.Region) -> Iterator[lucet.Instance]:
    made = region.new_instance(load(TEXT))
    yield made
    gc.collect()
    made.close()  # nothing pins it any more
    assert region.used == 0


def test_elements_of_a_type(instance: lucet.Instance) -> None:
    memory = instance.memory
    memory.write(16, numpy.array([1.5, -2.5], "f8").tobytes())
    seen = memory.array("f8", 16, 2)
    assert (seen.tolist(), seen.flags.writeable) == ([1.5, -2.5], False)
    cells = memory.array(numpy.int32, writable=True)
    assert len(cells) == 2 * 65536 // 4
    cells[100] = 77
    assert memory.read_u32(400) == 77
    assert instance.run("peek", 400) == 77
    assert len(memory.array("i8", 2 * 65536 - 15)) == 1
    assert len(memory.array("i8", 2 * 65536)) == 0
    assert memory.array([("a", "u1"), ("b", "<u4")], 399, 1).tolist() == [(0, 77)]
    memory.grow(1)
    assert len(memory.array("u1")) == 3 * 65536
    assert len(cells) == 2 * 65536 // 4


@pytest.mark.parametrize(
    "arguments", [("u1", 0, 2 * 65536 + 1), ("f8", 2 * 65536 - 7, 1), ("u1", 2**64, 1), ("u1", -1), ("u1", 0, 2**62)]
)
def test_outside_the_memory(instance: lucet.Instance, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(lucet.MemoryAccessError):
        instance.memory.array(*arguments)


@pytest.mark.parametrize("dtype", ["O", "S0", [("a", "O")], "nonsense", 7])
def test_types_that_bytes_cannot_have(instance: lucet.Instance, dtype: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        instance.memory.array(dtype)


def test_without_numpy() -> None:
    program = f"""if True:
        import sys
        sys.modules["numpy"] = None  # importing it fails
        import array, lucet
        module = lucet.Module.from_bytes(lucet.compile({TEXT!r}))
        memory = lucet.Region(1).new_instance(module).memory
        seen = memory.array("i", 8, 3, writable=True)
        seen[1] = -5
        assert memory.array("i", 8, 3).tolist() == [0, -5, 0]
        assert memory.array("d").nbytes == 2 * 65536
        function = memory.instance.exports.peek
        assert function.map(array.array("i", [12, 13])) == array.array("i", [251, 255])
    """
    subprocess.run([sys.executable, "-c", program], check=True)


def test_dlpack(instance: lucet.Instance) -> None:
    memory = instance.memory
    assert memory.__dlpack_device__() == (1, 0)
    tensor = numpy.from_dlpack(memory)
    assert tensor.dtype == numpy.uint8
    assert (tensor.shape, tensor.flags.writeable) == ((2 * 65536,), True)
    tensor[1000] = 9
    assert memory.read(999, 3) == b"\0\x09\0"
    for refused in (instance.reset, instance.close):
        with pytest.raises(BufferError):
            refused()
    memory.grow(2)
    assert len(tensor) == 2 * 65536
    assert len(numpy.from_dlpack(memory)) == 4 * 65536


@pytest.mark.parametrize(
    ("keywords", "exception"),
    [
        ({"stream": 1}, BufferError),
        ({"copy": True}, BufferError),
        ({"dl_device": (2, 0)}, BufferError),
        ({"dl_device": "cpu"}, TypeError),
        ({"dl_device": (1,)}, TypeError),
        ({"max_version": 1}, TypeError),
        ({"max_version": ("a", "b")}, TypeError),
        ({"unknown": 1}, TypeError),
    ],
)
def test_what_dlpack_refuses(instance: lucet.Instance, keywords: dict[str, Any], exception: type[Exception]) -> None:
    with pytest.raises(exception):
        instance.memory.__dlpack__(**keywords)


@pytest.mark.parametrize("keywords", [{}, {"max_version": (1, 0)}, {"max_version": (9, 9)}, {"copy": False}])
def test_a_capsule_that_nobody_takes(instance: lucet.Instance, keywords: dict[str, Any]) -> None:
    capsules = [instance.memory.__dlpack__(**keywords) for _ in range(3)]
    name = "dltensor_versioned" if "max_version" in keywords else "dltensor"
    assert all(name in repr(capsule) for capsule in capsules)
    with pytest.raises(BufferError, match="3 views"):
        instance.close()


def test_a_deleter_without_the_gil(instance: lucet.Instance) -> None:
    """As a consumer in C may call it, on a thread that Python does not know."""
    capsule = instance.memory.__dlpack__()
    python = ctypes.pythonapi
    python.PyCapsule_GetPointer.restype = ctypes.c_void_p
    python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    python.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
    pointer = python.PyCapsule_GetPointer(capsule, b"dltensor")
    python.PyCapsule_SetName(capsule, b"used_dltensor")
    del capsule
    with pytest.raises(BufferError):
        instance.close()
    deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(ctypes.c_void_p.from_address(pointer + 56).value or 0)
    thread = threading.Thread(target=deleter, args=(pointer,))  # ctypes gives the GIL up around the call
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    "show",
    [
        lambda memory: memory.array("u1"),
        lambda memory: numpy.ndarray((100,), "u1", memory.view(0, 100)),
        lambda memory: numpy.ndarray((100,), "u1", memoryview(memory)),
        lambda memory: numpy.frombuffer(memory, "u1"),
        lambda memory: numpy.asarray(memory.view(0, 100)),
        numpy.from_dlpack,
        lambda memory: memoryview(memory)[5:].cast("b").toreadonly(),
        ctypes.c_char.from_buffer,
    ],
)
def test_whatever_shows_the_memory_pins_it(instance: lucet.Instance, show: Callable[[Any], Any]) -> None:
    """numpy.ndarray(buffer=...) does not hold a buffer of what it shows, only a reference."""
    for _ in range(2):
        seen = show(instance.memory)
        gc.collect()
        for refused in (instance.reset, instance.close):
            with pytest.raises(BufferError, match=r"[12] views"):
                refused()
        del seen
        gc.collect()
        instance.reset()


@pytest.mark.parametrize("show", [memoryview, lambda memory: memory.view(0, 10)])
def test_a_view_that_is_released_pins_nothing(instance: lucet.Instance, show: Callable[[Any], memoryview]) -> None:
    view = show(instance.memory)
    with pytest.raises(BufferError):
        instance.reset()
    view.release()
    instance.reset()


def test_arrays_outlive_everything_else(load: Load) -> None:
    region = lucet.Region(1)
    tensor = numpy.from_dlpack(region.new_instance(load(TEXT)).memory)
    cells = region.new_instance  # the slot is taken
    gc.collect()
    with pytest.raises(lucet.RegionFull):
        cells(load(TEXT))
    tensor[:] = 1
    assert int(tensor.sum()) == 2 * 65536
    del tensor
    gc.collect()
    assert region.used == 0


def test_shared_memory() -> None:
    shared = lucet.SharedMemory(1, 3)
    tensor, cells = numpy.from_dlpack(shared), shared.array("u4", writable=True)
    cells[1] = 0x01020304
    assert tensor[4:8].tolist() == [4, 3, 2, 1]
    shared.grow(2)
    del shared
    gc.collect()
    tensor[:] = 5
    assert cells[3] == 0x05050505


def test_large_writes_to_fresh_memory(load: Load, region: lucet.Region) -> None:
    """They are declared, not faulted in; what a reset restores is the same."""
    instance = region.new_instance(load(TEXT))
    for size in (8191, 8192, 100_000):
        instance.memory.write(3000, b"\xaa" * size)
        instance.reset()
        assert instance.memory.read(0, 2 * 65536) == bytes(2 * 65536)
    with pytest.raises(lucet.MemoryAccessError):
        instance.memory.write(65536, bytes(65537))
    instance.close()
