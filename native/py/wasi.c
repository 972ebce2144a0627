/* wasi.c: the types Wasi, WasiFile and WasiFunction: the core's WASI for lucet.wasi, which does what the core leaves to it. */

#include "binding.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <structmember.h>
#include <time.h>

typedef struct {
    PyObject_HEAD
    lucet_wasi_file *file; /* NULL until it is initialised */
} FileObject;

typedef struct {
    PyObject_HEAD
    lucet_wasi *wasi;
} WasiObject;

void wasi_initialise(void) {
    lucet_wasi_set_hooks(gil_let_go, gil_signals_raise);
}

static PyObject *os_error(int error) {
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
}

/* ---- WasiFile ---- */

static PyObject *file_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    (void)args, (void)keywords;
    return ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
}

static int file_init(PyObject *object, PyObject *args, PyObject *keywords) {
    static char *names[] = {"kind", "fd", "filetype", "rights", "inheriting", "flags", NULL};
    FileObject *self = (FileObject *)object;
    int kind, fd;
    unsigned filetype, flags;
    unsigned long long rights, inheriting;
    lucet_error error;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "iiIKKI:WasiFile", names, &kind, &fd, &filetype, &rights,
                                     &inheriting, &flags))
        return -1;
    if (self->file) {
        PyErr_SetString(PyExc_TypeError, "a file is initialised once");
        return -1;
    }
    lucet_wasi_info info = {(lucet_wasi_kind)kind, fd, (uint8_t)filetype, (uint16_t)flags, rights, inheriting};
    self->file = lucet_wasi_file_new(&info, &error);
    if (!self->file)
        raise_error(&error, NULL);
    return self->file ? 0 : -1;
}

static void file_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    if (((FileObject *)object)->file)
        lucet_wasi_file_release(((FileObject *)object)->file);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static lucet_wasi_file *file_of(PyObject *object) {
    lucet_wasi_file *file = ((FileObject *)object)->file;
    if (!file)
        PyErr_SetString(PyExc_AttributeError, "the file is not initialised");
    return file;
}

static PyObject *get_info(PyObject *object, void *which) {
    lucet_wasi_file *file = file_of(object);
    if (!file)
        return NULL;
    lucet_wasi_info info = lucet_wasi_file_info(file);
    switch (*(const char *)which) {
    case 'k':
        return PyLong_FromLong(info.kind);
    case 'd':
        return PyLong_FromLong(info.fd);
    case 't':
        return PyLong_FromLong(info.filetype);
    case 'r':
        return PyLong_FromUnsignedLongLong(info.rights);
    case 'i':
        return PyLong_FromUnsignedLongLong(info.inheriting);
    default:
        return PyLong_FromLong(info.flags);
    }
}

static int set_info(PyObject *object, PyObject *value, void *which) {
    lucet_wasi_file *file = file_of(object);
    if (!file || !value) {
        if (file)
            PyErr_SetString(PyExc_AttributeError, "it cannot be deleted");
        return -1;
    }
    unsigned long long number = PyLong_AsUnsignedLongLong(value);
    if (PyErr_Occurred())
        return -1;
    lucet_wasi_info info = lucet_wasi_file_info(file);
    if (*(const char *)which == 'f')
        lucet_wasi_file_set_flags(file, (uint16_t)number);
    else if (*(const char *)which == 'r')
        lucet_wasi_file_set_rights(file, number, info.inheriting);
    else
        lucet_wasi_file_set_rights(file, info.rights, number);
    return 0;
}

static PyGetSetDef file_getset[] = {
    {"kind", get_info, NULL, "What the core does with it: one of the WASI_ numbers.", "k"},
    {"fd", get_info, NULL, "The host's descriptor; -1 for none, or once it is closed.", "d"},
    {"filetype", get_info, NULL, "`filetype` of preview 1.", "t"},
    {"rights", get_info, set_info, "`rights`.", "r"},
    {"inheriting", get_info, set_info, "`rights` of what is opened through it.", "i"},
    {"flags", get_info, set_info, "`fdflags`.", "f"},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot file_slots[] = {
    {Py_tp_new, file_new},
    {Py_tp_init, file_init},
    {Py_tp_dealloc, file_dealloc},
    {Py_tp_getset, file_getset},
    {Py_tp_doc, "WasiFile(kind, fd, filetype, rights, inheriting, flags)\n\n"
                "What a guest's descriptor stands for. Owns fd, which the last descriptor closes."},
    {0, NULL},
};

PyType_Spec wasi_file_spec = {"lucet.runtime._core.WasiFile", sizeof(FileObject), 0,
                              Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, file_slots};

/* ---- Wasi ---- */

static PyObject *wasi_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"max_descriptors", NULL};
    unsigned limit;
    lucet_error error;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "I:Wasi", names, &limit))
        return NULL;
    lucet_wasi *wasi = lucet_wasi_new(limit, &error);
    if (!wasi)
        return raise_error(&error, NULL);
    WasiObject *self = (WasiObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (self)
        self->wasi = wasi;
    else
        lucet_wasi_release(wasi);
    return (PyObject *)self;
}

static void wasi_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    lucet_wasi_release(((WasiObject *)object)->wasi);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static lucet_wasi *wasi_of(PyObject *self) {
    return ((WasiObject *)self)->wasi;
}

static bool descriptor_from_object(PyObject *object, uint32_t *descriptor) {
    unsigned long long number = PyLong_AsUnsignedLongLong(object);
    if (PyErr_Occurred())
        return false;
    if (number > UINT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "a descriptor has 32 bits");
        return false;
    }
    *descriptor = (uint32_t)number;
    return true;
}

static PyObject *wasi_add(PyObject *self, PyObject *object) {
    if (!PyObject_TypeCheck(object, binding.wasi_file) || !((FileObject *)object)->file) {
        PyErr_SetString(PyExc_TypeError, "a WasiFile is expected");
        return NULL;
    }
    lucet_wasi_file *file = ((FileObject *)object)->file;
    int64_t descriptor = lucet_wasi_add(wasi_of(self), file);
    if (descriptor < 0)
        return os_error(EMFILE);
    lucet_wasi_own(wasi_of(self), (uint32_t)descriptor, file);
    return PyLong_FromLongLong(descriptor);
}

/* kind(descriptor) -> kind, or -1 if it is not open */
static PyObject *wasi_kind(PyObject *self, PyObject *argument) {
    uint32_t descriptor;
    if (!descriptor_from_object(argument, &descriptor))
        return NULL;
    lucet_wasi_file *file = lucet_wasi_get(wasi_of(self), descriptor);
    if (!file)
        return PyLong_FromLong(-1);
    int kind = lucet_wasi_file_info(file).kind;
    lucet_wasi_file_release(file);
    return PyLong_FromLong(kind);
}

/* adopt(descriptor, file): what is open there is `file` for Python from now on; False if nothing is */
static PyObject *wasi_adopt(PyObject *self, PyObject *args) {
    PyObject *number, *object;
    uint32_t descriptor;
    if (!PyArg_ParseTuple(args, "OO!:adopt", &number, binding.wasi_file, &object) ||
        !descriptor_from_object(number, &descriptor))
        return NULL;
    FileObject *target = (FileObject *)object;
    lucet_wasi_file *file = target->file ? NULL : lucet_wasi_get(wasi_of(self), descriptor);
    if (file && !lucet_wasi_own(wasi_of(self), descriptor, file)) {
        lucet_wasi_file_release(file);
        file = NULL;
    }
    if (file)
        target->file = file;
    return PyBool_FromLong(file != NULL);
}

static PyObject *wasi_close(PyObject *self, PyObject *argument) {
    uint32_t descriptor;
    if (!descriptor_from_object(argument, &descriptor))
        return NULL;
    int error;
    Py_BEGIN_ALLOW_THREADS
    error = lucet_wasi_close(wasi_of(self), descriptor);
    Py_END_ALLOW_THREADS
    return error ? os_error(error) : Py_NewRef(Py_None);
}

static PyObject *wasi_renumber(PyObject *self, PyObject *args) {
    PyObject *first, *second;
    uint32_t from, to;
    if (!PyArg_ParseTuple(args, "OO:renumber", &first, &second) || !descriptor_from_object(first, &from) ||
        !descriptor_from_object(second, &to))
        return NULL;
    int error;
    Py_BEGIN_ALLOW_THREADS
    error = lucet_wasi_renumber(wasi_of(self), from, to);
    Py_END_ALLOW_THREADS
    return error ? os_error(error) : Py_NewRef(Py_None);
}

static PyObject *wasi_close_all(PyObject *self, PyObject *unused) {
    (void)unused;
    Py_BEGIN_ALLOW_THREADS
    lucet_wasi_close_all(wasi_of(self));
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *wasi_is_full(PyObject *self, PyObject *unused) {
    (void)unused;
    return PyBool_FromLong(lucet_wasi_is_full(wasi_of(self)));
}

static PyObject *wasi_set_strings(PyObject *self, PyObject *args) {
    const char *arguments, *environment;
    Py_ssize_t arguments_size, environment_size;
    lucet_error error;
    if (!PyArg_ParseTuple(args, "y#y#:set_strings", &arguments, &arguments_size, &environment, &environment_size))
        return NULL;
    if (!lucet_wasi_set_arguments(wasi_of(self), arguments, (size_t)arguments_size, &error) ||
        !lucet_wasi_set_environment(wasi_of(self), environment, (size_t)environment_size, &error))
        return raise_error(&error, NULL);
    Py_RETURN_NONE;
}

static PyObject *wasi_set_clock(PyObject *self, PyObject *args) {
    unsigned clock;
    unsigned long long start;
    if (!PyArg_ParseTuple(args, "IK:set_clock", &clock, &start))
        return NULL;
    if (lucet_wasi_set_clock(wasi_of(self), clock, start))
        Py_RETURN_NONE;
    PyErr_SetString(PyExc_ValueError, "there is no such clock");
    return NULL;
}

static PyObject *wasi_set_random(PyObject *self, PyObject *from_host) {
    lucet_wasi_set_random(wasi_of(self), PyObject_IsTrue(from_host) == 1);
    Py_RETURN_NONE;
}

/* function(module, name) -> WasiFunction: of no effect if the core has no such function, or one of another type */
static PyObject *wasi_function(PyObject *self, PyObject *args) {
    const char *module, *name;
    if (!PyArg_ParseTuple(args, "ss:function", &module, &name))
        return NULL;
    PyTypeObject *type = binding.wasi_function;
    WasiFunctionObject *object = (WasiFunctionObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (object) {
        lucet_wasi_retain(wasi_of(self));
        object->wasi = wasi_of(self);
        PyOS_snprintf(object->module, sizeof object->module, "%s", module);
        PyOS_snprintf(object->name, sizeof object->name, "%s", name);
    }
    return (PyObject *)object;
}

static PyMethodDef wasi_methods[] = {
    {"add", wasi_add, METH_O, "add(file) -> int: the lowest free descriptor"},
    {"kind", wasi_kind, METH_O, "kind(descriptor) -> int: what is open there, -1 for nothing"},
    {"adopt", wasi_adopt, METH_VARARGS, "adopt(descriptor, file) -> bool: file is what is open there"},
    {"close", wasi_close, METH_O, "close(descriptor)"},
    {"renumber", wasi_renumber, METH_VARARGS, "renumber(descriptor, to)"},
    {"close_all", wasi_close_all, METH_NOARGS, "close_all()"},
    {"is_full", wasi_is_full, METH_NOARGS, "is_full() -> bool: no descriptor is free"},
    {"set_strings", wasi_set_strings, METH_VARARGS, "set_strings(arguments, environment): each terminated by a NUL"},
    {"set_clock", wasi_set_clock, METH_VARARGS, "set_clock(clock, start): the host's less start, in nanoseconds"},
    {"set_random", wasi_set_random, METH_O, "set_random(from_host)"},
    {"function", wasi_function, METH_VARARGS, "function(module, name) -> WasiFunction"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot wasi_slots[] = {
    {Py_tp_new, wasi_new},
    {Py_tp_dealloc, wasi_dealloc},
    {Py_tp_methods, wasi_methods},
    {Py_tp_doc, "Wasi(max_descriptors)\n\nA guest's table of descriptors, and what the core needs for its calls."},
    {0, NULL},
};

PyType_Spec wasi_spec = {"lucet.runtime._core.Wasi", sizeof(WasiObject), 0, Py_TPFLAGS_DEFAULT, wasi_slots};

/* ---- WasiFunction ---- */

static void function_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    lucet_wasi_release(((WasiFunctionObject *)object)->wasi);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyType_Slot function_slots[] = {
    {Py_tp_dealloc, function_dealloc},
    {Py_tp_doc, "A call of the core, for HostFunction.native."},
    {0, NULL},
};

PyType_Spec wasi_function_spec = {"lucet.runtime._core.WasiFunction", sizeof(WasiFunctionObject), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, function_slots};

/* ---- waiting ---- */

static bool fill(struct pollfd *fds, PyObject *wanted, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++) {
        int fd, events;
        if (!PyArg_ParseTuple(PyList_GetItem(wanted, i), "ii", &fd, &events))
            return false;
        fds[i] = (struct pollfd){fd, (short)events, 0};
    }
    return true;
}

static PyObject *events_of(const struct pollfd *fds, Py_ssize_t count) {
    PyObject *events = PyList_New(count);
    for (Py_ssize_t i = 0; events && i < count; i++) {
        PyObject *number = PyLong_FromLong(fds[i].revents);
        if (!number || PyList_SetItem(events, i, number) < 0)
            Py_CLEAR(events);
    }
    return events;
}

/* wait([(fd, events)], nanoseconds or None) -> [events] */
PyObject *wasi_wait(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *wanted, *timeout;
    if (!PyArg_ParseTuple(args, "O!O:wait", &PyList_Type, &wanted, &timeout))
        return NULL;
    struct timespec end = {0, 0}, now, left;
    if (timeout != Py_None) {
        unsigned long long nanoseconds = PyLong_AsUnsignedLongLong(timeout);
        if (PyErr_Occurred())
            return NULL;
        clock_gettime(CLOCK_MONOTONIC, &end);
        nanoseconds += (unsigned long long)end.tv_nsec;
        end.tv_sec += (time_t)(nanoseconds / 1000000000);
        end.tv_nsec = (long)(nanoseconds % 1000000000);
    }
    Py_ssize_t count = PyList_Size(wanted);
    struct pollfd *fds = calloc((size_t)count + 1, sizeof *fds);
    if (!fds)
        return PyErr_NoMemory();
    bool ok = fill(fds, wanted, count);
    while (ok) {
        int ready, error;
        if (timeout != Py_None) {
            clock_gettime(CLOCK_MONOTONIC, &now);
            left = (struct timespec){end.tv_sec - now.tv_sec, end.tv_nsec - now.tv_nsec};
            if (left.tv_nsec < 0)
                left = (struct timespec){left.tv_sec - 1, left.tv_nsec + 1000000000};
            if (left.tv_sec < 0)
                left = (struct timespec){0, 0};
        }
        Py_BEGIN_ALLOW_THREADS
        ready = lucet_wait(calling_instance, fds, (size_t)count, timeout == Py_None ? NULL : &left);
        error = errno;
        Py_END_ALLOW_THREADS
        if (ready >= 0)
            break;
        ok = error == EINTR && PyErr_CheckSignals() == 0 &&
             !(calling_instance && lucet_instance_is_ending(calling_instance));
        if (!ok && !PyErr_Occurred())
            os_error(error);
    }
    PyObject *events = ok ? events_of(fds, count) : NULL;
    free(fds);
    return events;
}
