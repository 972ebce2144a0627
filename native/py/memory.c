/* memory.c: the types Memory and SharedMemory, and View, a piece of either as a buffer. */

#include "binding.h"

#include <string.h>

/* ---- View ---- */

/* Of an instance's memory, or of a shared one. */
typedef struct {
    PyObject_HEAD
    PyObject *owner; /* the Instance, which is pinned, or the SharedMemory, which need not be */
    uint8_t *bytes;
    Py_ssize_t size;
    bool readonly;
} ViewObject;

/* The owner's bytes may be seen for so long that they must stay: as long as the View lives, not only while a buffer of it is held,
 * because numpy.ndarray(buffer=memoryview) keeps what is under the memoryview without holding a buffer. */
static void pin(PyObject *owner, int by) {
    if (Py_TYPE(owner) == binding.instance)
        ((InstanceObject *)owner)->views += by;
}

static ViewObject *new_view(PyObject *owner, uint8_t *bytes, uint64_t size, bool readonly) {
    ViewObject *view = (ViewObject *)((allocfunc)PyType_GetSlot(binding.view, Py_tp_alloc))(binding.view, 0);
    if (!view)
        return NULL;
    view->owner = Py_NewRef(owner);
    view->bytes = bytes;
    view->size = (Py_ssize_t)size;
    view->readonly = readonly;
    pin(owner, 1);
    return view;
}

static int view_getbuffer(PyObject *object, Py_buffer *view, int flags) {
    ViewObject *self = (ViewObject *)object;
    return PyBuffer_FillInfo(view, object, self->bytes, self->size, self->readonly, flags);
}

static void view_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    ViewObject *self = (ViewObject *)object;
    if (self->owner)
        pin(self->owner, -1);
    Py_CLEAR(self->owner);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyType_Slot view_slots[] = {
    {Py_tp_dealloc, view_dealloc},
    {Py_bf_getbuffer, view_getbuffer},
    {0, NULL},
};

PyType_Spec view_spec = {"lucet.runtime._core.View", sizeof(ViewObject), 0,
                         Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, view_slots};

/* ---- Memory and SharedMemory: what both can do ---- */

typedef struct {
    PyObject_HEAD
    lucet_memory *memory;
} SharedObject;

static bool is_shared(PyObject *object) {
    return Py_TYPE(object) == binding.shared_memory;
}

/* Whom the bytes belong to: see ViewObject. */
static PyObject *owner_of(PyObject *object) {
    return is_shared(object) ? object : (PyObject *)((ItemObject *)object)->instance;
}

static lucet_memory *memory_open(PyObject *object) {
    if (is_shared(object))
        return ((SharedObject *)object)->memory;
    lucet_instance *instance = instance_open(((ItemObject *)object)->instance);
    return instance ? lucet_instance_memory(instance, ((ItemObject *)object)->index) : NULL;
}

static bool check_range(lucet_memory *memory, uint64_t offset, uint64_t size) {
    uint64_t whole = lucet_memory_size(memory);
    if (offset <= whole && size <= whole - offset)
        return true;
    raise_named("MemoryAccessError", "%llu bytes at %llu are outside the memory of %llu bytes",
                (unsigned long long)size, (unsigned long long)offset, (unsigned long long)whole);
    return false;
}

static PyObject *memory_read(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    lucet_memory *memory;
    uint64_t offset, size;
    if (!arguments_are(count, 2, "read(offset, length)") || !offset_from(args[0], &offset) ||
        !offset_from(args[1], &size) || !(memory = memory_open(object)) || !check_range(memory, offset, size))
        return NULL;
    return PyBytes_FromStringAndSize((const char *)lucet_memory_base(memory) + offset, (Py_ssize_t)size);
}

/* Instance._read(pointer, size), both i32 of the guest: of memory 0, without making an object for it. */
PyObject *instance_read(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    if (!arguments_are(count, 2, "_read(pointer, size)"))
        return NULL;
    unsigned long long pointer = PyLong_AsUnsignedLongLongMask(args[0]), size = PyLong_AsUnsignedLongLongMask(args[1]);
    if (UNLIKELY((pointer == (unsigned long long)-1 || size == (unsigned long long)-1) && PyErr_Occurred()))
        return NULL;
    lucet_instance *instance = instance_open((InstanceObject *)object);
    lucet_memory *memory = instance ? lucet_instance_memory(instance, 0) : NULL;
    if (UNLIKELY(!memory))
        return instance ? raise_named("InstanceError", "the module has no memory") : NULL;
    if (!check_range(memory, (uint32_t)pointer, (uint32_t)size))
        return NULL;
    return PyBytes_FromStringAndSize((const char *)lucet_memory_base(memory) + (uint32_t)pointer,
                                     (Py_ssize_t)(uint32_t)size);
}

enum { SEVERAL_PAGES = 8192 };

static PyObject *memory_write(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    lucet_memory *memory;
    uint64_t offset;
    Py_buffer view;
    if (!arguments_are(count, 2, "write(offset, data)") || !offset_from(args[0], &offset) ||
        PyObject_GetBuffer(args[1], &view, PyBUF_SIMPLE) < 0)
        return NULL;
    memory = memory_open(object);
    bool ok = memory && check_range(memory, offset, (uint64_t)view.len);
    /* Without it, each page's first write is a fault. */
    if (ok && view.len >= SEVERAL_PAGES && !lucet_memory_will_write(memory, offset, (uint64_t)view.len)) {
        PyErr_NoMemory();
        ok = false;
    }
    if (ok)
        memmove(lucet_memory_base(memory) + offset, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return ok ? Py_NewRef(Py_None) : NULL;
}

static PyObject *read_number(PyObject *object, PyObject *at, size_t size) {
    lucet_memory *memory;
    uint64_t offset, value = 0;
    if (!offset_from(at, &offset) || !(memory = memory_open(object)) || !check_range(memory, offset, size))
        return NULL;
    memcpy(&value, lucet_memory_base(memory) + offset, size);
    return PyLong_FromUnsignedLongLong(value);
}

static PyObject *write_number(PyObject *object, PyObject *const *args, Py_ssize_t count, size_t size) {
    lucet_memory *memory;
    uint64_t offset;
    if (!arguments_are(count, 2, "write_u32(offset, value)") || !offset_from(args[0], &offset))
        return NULL;
    uint64_t value = PyLong_AsUnsignedLongLongMask(args[1]);
    if (PyErr_Occurred() || !(memory = memory_open(object)) || !check_range(memory, offset, size))
        return NULL;
    memcpy(lucet_memory_base(memory) + offset, &value, size);
    return Py_NewRef(Py_None);
}

#define NUMBER_METHODS(bits)                                                                                           \
    static PyObject *memory_read_u##bits(PyObject *object, PyObject *at) {                                             \
        return read_number(object, at, (bits) / 8);                                                                    \
    }                                                                                                                  \
    static PyObject *memory_write_u##bits(PyObject *object, PyObject *const *args, Py_ssize_t count) {                 \
        return write_number(object, args, count, (bits) / 8);                                                          \
    }
NUMBER_METHODS(8)
NUMBER_METHODS(16)
NUMBER_METHODS(32)
NUMBER_METHODS(64)

static PyObject *memory_view(PyObject *object, PyObject *args, PyObject *keywords) {
    static char *names[] = {"offset", "length", "writable", NULL};
    PyObject *at, *length;
    int writable = 0;
    uint64_t offset, size;
    lucet_memory *memory;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OO|p:view", names, &at, &length, &writable) ||
        !offset_from(at, &offset) || !offset_from(length, &size) || !(memory = memory_open(object)) ||
        !check_range(memory, offset, size))
        return NULL;
    if (writable && !lucet_memory_will_write(memory, offset, size))
        return PyErr_NoMemory();
    ViewObject *view = new_view(owner_of(object), lucet_memory_base(memory) + offset, size, !writable);
    if (!view)
        return NULL;
    PyObject *result = PyMemoryView_FromObject((PyObject *)view);
    Py_DECREF((PyObject *)view);
    return result;
}

static PyObject *memory_array(PyObject *self, PyObject *args, PyObject *keywords) {
    return call_home("lucet.runtime.columns", "memory_array", self, args, keywords);
}

static PyObject *memory_grow(PyObject *object, PyObject *delta) {
    uint64_t pages = PyLong_AsUnsignedLongLong(delta);
    lucet_memory *memory;
    if (PyErr_Occurred() || !(memory = memory_open(object)))
        return NULL;
    uint64_t before = lucet_memory_grow(memory, pages);
    if (before == UINT64_MAX && !is_shared(object) &&
        lucet_instance_is_busy(((ItemObject *)object)->instance->instance))
        return raise_named("InstanceError", "the instance is running on another thread");
    if (before == UINT64_MAX)
        return raise_named("LimitsExceeded", "the memory cannot grow by %llu pages", (unsigned long long)pages);
    return PyLong_FromUnsignedLongLong(before);
}

static PyObject *memory_get_size(PyObject *object, void *unused) {
    (void)unused;
    lucet_memory *memory = memory_open(object);
    return memory ? PyLong_FromUnsignedLongLong(lucet_memory_size(memory)) : NULL;
}

static PyObject *memory_get_pages(PyObject *object, void *unused) {
    (void)unused;
    lucet_memory *memory = memory_open(object);
    return memory ? PyLong_FromUnsignedLongLong(lucet_memory_size(memory) >> lucet_memory_type(memory).page_size_log2)
                  : NULL;
}

static Py_ssize_t memory_length(PyObject *object) {
    lucet_memory *memory = memory_open(object);
    return memory ? (Py_ssize_t)lucet_memory_size(memory) : -1;
}

/* The whole memory, as large as it is now. Whoever holds it may write at any time, so all of it counts as written. */
static int memory_getbuffer(PyObject *object, Py_buffer *view, int flags) {
    lucet_memory *memory = memory_open(object);
    if (!memory)
        return -1;
    uint64_t size = lucet_memory_size(memory);
    if (!lucet_memory_will_write(memory, 0, size)) {
        PyErr_NoMemory();
        return -1;
    }
    ViewObject *whole = new_view(owner_of(object), lucet_memory_base(memory), size, false);
    if (!whole)
        return -1;
    int got = PyObject_GetBuffer((PyObject *)whole, view, flags); /* which belongs to the View from here on */
    Py_DECREF((PyObject *)whole);
    return got;
}

/* Never called: buffers belong to Views. But numpy.frombuffer holds a buffer only of types that have it. */
static void memory_releasebuffer(PyObject *object, Py_buffer *view) {
    (void)object, (void)view;
}

/* clang-format off */
#define MEMORY_METHODS                                                                                                 \
    {"read", FAST(memory_read), "read(offset, length) -> bytes"}, \
    {"write", FAST(memory_write), "write(offset, data)"}, \
    {"read_u8", memory_read_u8, METH_O, "read_u8(offset) -> int"}, \
    {"read_u16", memory_read_u16, METH_O, "read_u16(offset) -> int, little endian"}, \
    {"read_u32", memory_read_u32, METH_O, "read_u32(offset) -> int, little endian"}, \
    {"read_u64", memory_read_u64, METH_O, "read_u64(offset) -> int, little endian"}, \
    {"write_u8", FAST(memory_write_u8), "write_u8(offset, value)\n\nThe value's low bits are written."}, \
    {"write_u16", FAST(memory_write_u16), "write_u16(offset, value)"}, \
    {"write_u32", FAST(memory_write_u32), "write_u32(offset, value)"}, \
    {"write_u64", FAST(memory_write_u64), "write_u64(offset, value)"}, \
    {"view", (PyCFunction)(void (*)(void))memory_view, METH_VARARGS | METH_KEYWORDS, \
     "view(offset, length, writable=False) -> memoryview\n\nThe bytes themselves, not a copy. While the view lives, the " \
     "instance cannot be reset or closed."}, \
    {"array", (PyCFunction)(void (*)(void))memory_array, METH_VARARGS | METH_KEYWORDS, \
     "array(dtype, offset=0, count=None, *, writable=False) -> ndarray or memoryview\n\nElements of a type, without a copy; " \
     "pins the instance as view does."}, \
    {"__dlpack__", (PyCFunction)(void (*)(void))memory_dlpack, METH_VARARGS | METH_KEYWORDS, \
     "__dlpack__(*, stream=None, max_version=None, dl_device=None, copy=None) -> capsule\n\nAll bytes; " \
     "pins the instance as view does."}, \
    {"__dlpack_device__", memory_dlpack_device, METH_NOARGS, "__dlpack_device__() -> (int, int)"}, \
    {"grow", memory_grow, METH_O, "grow(delta) -> int\n\nGrow by delta pages; the number of pages before."}
/* clang-format on */

static PyMethodDef memory_methods[] = {MEMORY_METHODS, {NULL, NULL, 0, NULL}};

static PyGetSetDef memory_getset[] = {
    {"size", memory_get_size, NULL, "Bytes.", NULL},
    {"pages", memory_get_pages, NULL, "Pages, usually of 64 KiB.", NULL},
    {"instance", item_get_instance, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot memory_slots[] = {
    {Py_tp_dealloc, item_dealloc},
    {Py_tp_traverse, item_traverse},
    {Py_tp_methods, memory_methods},
    {Py_tp_getset, memory_getset},
    {Py_sq_length, memory_length},
    {Py_bf_getbuffer, memory_getbuffer},
    {Py_bf_releasebuffer, memory_releasebuffer},
    {Py_tp_doc, "The linear memory of an instance. memoryview(memory) shows it without a copy."},
    {0, NULL},
};

PyType_Spec memory_spec = {"lucet.runtime._core.Memory", sizeof(ItemObject), 0, ITEM_FLAGS, memory_slots};

/* ---- SharedMemory ---- */

static PyObject *wrap_shared(PyTypeObject *type, lucet_memory *memory) {
    SharedObject *self = (SharedObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (self)
        self->memory = memory;
    else
        lucet_memory_release(memory);
    return (PyObject *)self;
}

PyObject *shared_memory_object(lucet_memory *memory) {
    lucet_memory_retain(memory);
    return wrap_shared(binding.shared_memory, memory);
}

lucet_memory *shared_memory_of(PyObject *object) {
    return is_shared(object) ? ((SharedObject *)object)->memory : NULL;
}

static PyObject *shared_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"minimum", "maximum", "index_type", "page_size", "budget", NULL};
    unsigned long long minimum, maximum;
    const char *index_type = "i32";
    unsigned int page_size = 65536;
    PyObject *budget = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "KK|$sIO:SharedMemory", names, &minimum, &maximum, &index_type,
                                     &page_size, &budget))
        return NULL;
    bool is_64 = strcmp(index_type, "i64") == 0;
    if (!is_64 && strcmp(index_type, "i32") != 0) {
        PyErr_SetString(PyExc_ValueError, "index_type is \"i32\" or \"i64\"");
        return NULL;
    }
    if (page_size != 1 && page_size != 65536) {
        PyErr_SetString(PyExc_ValueError, "page_size is 1 or 65536");
        return NULL;
    }
    if (budget != Py_None && !PyObject_TypeCheck(budget, binding.budget)) {
        PyErr_SetString(PyExc_TypeError, "budget must be a lucet.Budget");
        return NULL;
    }
    lucet_externtype wanted = {.kind = LUCET_MEMORY,
                               .is_64 = is_64,
                               .is_shared = true,
                               .page_size_log2 = page_size == 1 ? 0 : 16,
                               .limits = {minimum, maximum}};
    lucet_error error;
    lucet_memory *memory =
        lucet_shared_memory_new(&wanted, budget == Py_None ? NULL : ((BudgetObject *)budget)->budget, &error);
    if (!memory)
        return error.code == LUCET_ERROR_ARGUMENT ? (PyErr_SetString(PyExc_ValueError, error.message), NULL)
                                                  : raise_error(&error, NULL);
    return wrap_shared(type, memory);
}

static void shared_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    if (((SharedObject *)object)->memory)
        lucet_memory_release(((SharedObject *)object)->memory);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

/* Several objects may stand for one memory. */
static PyObject *shared_compare(PyObject *a, PyObject *b, int operation) {
    if ((operation != Py_EQ && operation != Py_NE) || !is_shared(b))
        Py_RETURN_NOTIMPLEMENTED;
    bool equal = ((SharedObject *)a)->memory == ((SharedObject *)b)->memory;
    return PyBool_FromLong(equal == (operation == Py_EQ));
}

static Py_hash_t shared_hash(PyObject *object) {
    return (Py_hash_t)((uintptr_t)((SharedObject *)object)->memory >> 12);
}

static PyObject *shared_notify(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    uint64_t offset;
    unsigned long most = UINT32_MAX;
    if (count < 1 || count > 2) {
        PyErr_SetString(PyExc_TypeError, "notify(offset, count=2**32 - 1)");
        return NULL;
    }
    if (!offset_from(args[0], &offset))
        return NULL;
    if (count > 1 && (most = PyLong_AsUnsignedLong(args[1])) > UINT32_MAX) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_OverflowError, "count is at most 2**32 - 1");
        return NULL;
    }
    lucet_memory *memory = ((SharedObject *)object)->memory;
    if (!check_range(memory, offset, 4))
        return NULL;
    if (offset % 4) {
        PyErr_SetString(PyExc_ValueError, "the offset must be a multiple of 4");
        return NULL;
    }
    return PyLong_FromUnsignedLong(lucet_memory_notify(memory, offset, (uint32_t)most));
}

static PyMethodDef shared_methods[] = {
    MEMORY_METHODS,
    {"notify", FAST(shared_notify),
     "notify(offset, count=2**32 - 1) -> int\n\nWake at most count guests that wait there in memory.atomic.wait; how many "
     "it was."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef shared_getset[] = {
    {"size", memory_get_size, NULL, "Bytes.", NULL},
    {"pages", memory_get_pages, NULL, "Pages, usually of 64 KiB.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot shared_slots[] = {
    {Py_tp_new, shared_new},
    {Py_tp_dealloc, shared_dealloc},
    {Py_tp_methods, shared_methods},
    {Py_tp_getset, shared_getset},
    {Py_tp_richcompare, shared_compare},
    {Py_tp_hash, shared_hash},
    {Py_sq_length, memory_length},
    {Py_bf_getbuffer, memory_getbuffer},
    {Py_bf_releasebuffer, memory_releasebuffer},
    {Py_tp_doc, "SharedMemory(minimum, maximum, *, index_type=\"i32\", page_size=65536, budget=None)\n\n"
                "A memory that instances on several threads use at the same time. Sizes are in pages."},
    {0, NULL},
};

PyType_Spec shared_memory_spec = {"lucet.runtime._core.SharedMemory", sizeof(SharedObject), 0, Py_TPFLAGS_DEFAULT,
                                  shared_slots};
