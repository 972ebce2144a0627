/* dlpack.c: the bytes of a Memory or SharedMemory as a DLPack tensor, which other libraries take without a copy. The structures are
 * those of https://dmlc.github.io/dlpack/latest/c_api.html; the protocol is that of the Python array API standard. */

#include "binding.h"

#include <stdlib.h>

enum { DEVICE_CPU = 1, CODE_UINT = 1, MAJOR = 1, MINOR = 0 };

typedef struct {
    void *data;
    struct {
        int32_t type, id;
    } device;
    int32_t ndim;
    struct {
        uint8_t code, bits;
        uint16_t lanes;
    } dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} Tensor;

/* DLManagedTensor, for consumers that know no versions. */
typedef struct Managed {
    Tensor tensor;
    void *context;
    void (*deleter)(struct Managed *self);
} Managed;

/* DLManagedTensorVersioned */
typedef struct Versioned {
    struct {
        uint32_t major, minor;
    } version;
    void *context;
    void (*deleter)(struct Versioned *self);
    uint64_t flags;
    Tensor tensor;
} Versioned;

typedef struct {
    union {
        Managed managed;
        Versioned versioned;
    } as;
    Py_buffer view; /* pins the memory */
    int64_t shape, stride;
} Export;

/* On any thread, with or without the GIL. Once there is no interpreter any more, nothing can be given back. */
static void release(Export *export) {
    if (!Py_IsInitialized())
        return;
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyBuffer_Release(&export->view);
    PyErr_Restore(type, value, traceback);
    PyGILState_Release(state);
    free(export);
}

static void release_managed(Managed *self) {
    release(self->context);
}

static void release_versioned(Versioned *self) {
    release(self->context);
}

/* A consumer renames the capsule, and calls the deleter itself. */
static void drop_managed(PyObject *capsule) {
    if (PyCapsule_IsValid(capsule, "dltensor"))
        release(((Managed *)PyCapsule_GetPointer(capsule, "dltensor"))->context);
}

static void drop_versioned(PyObject *capsule) {
    if (PyCapsule_IsValid(capsule, "dltensor_versioned"))
        release(((Versioned *)PyCapsule_GetPointer(capsule, "dltensor_versioned"))->context);
}

static Tensor tensor_of(Export *export) {
    export->shape = export->view.len;
    export->stride = 1;
    Tensor tensor = {.data = export->view.buf, .device = {DEVICE_CPU, 0}, .ndim = 1, .dtype = {CODE_UINT, 8, 1}};
    tensor.shape = &export->shape;
    tensor.strides = &export->stride;
    return tensor;
}

static PyObject *capsule_of(Export *export, bool versioned) {
    PyObject *capsule;
    if (versioned) {
        export->as.versioned = (Versioned){{MAJOR, MINOR}, export, release_versioned, 0, tensor_of(export)};
        capsule = PyCapsule_New(&export->as.versioned, "dltensor_versioned", drop_versioned);
    } else {
        export->as.managed = (Managed){tensor_of(export), export, release_managed};
        capsule = PyCapsule_New(&export->as.managed, "dltensor", drop_managed);
    }
    if (!capsule)
        release(export);
    return capsule;
}

static bool refuse(const char *message) {
    PyErr_SetString(PyExc_BufferError, message);
    return false;
}

/* Only this memory, on this device: it never needs a copy. */
static bool can_export(PyObject *stream, PyObject *device, PyObject *copy) {
    int type, id;
    if (stream != Py_None)
        return refuse("memory of the CPU has no streams");
    if (copy != Py_None) {
        int wanted = PyObject_IsTrue(copy);
        if (wanted)
            return wanted < 0 ? false : refuse("the memory is not copied");
    }
    if (device == Py_None)
        return true;
    if (!PyTuple_Check(device) || !PyArg_ParseTuple(device, "ii", &type, &id)) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "dl_device is a tuple of two ints");
        return false;
    }
    return (type == DEVICE_CPU && id == 0) || refuse("the memory is the CPU's");
}

/* __dlpack__(*, stream=None, max_version=None, dl_device=None, copy=None) */
PyObject *memory_dlpack(PyObject *object, PyObject *args, PyObject *keywords) {
    static char *names[] = {"stream", "max_version", "dl_device", "copy", NULL};
    PyObject *stream = Py_None, *max_version = Py_None, *device = Py_None, *copy = Py_None;
    int major = 0, minor = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|$OOOO:__dlpack__", names, &stream, &max_version, &device, &copy))
        return NULL;
    if (max_version != Py_None &&
        (!PyTuple_Check(max_version) || !PyArg_ParseTuple(max_version, "ii", &major, &minor))) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "max_version is a tuple of two ints");
        return NULL;
    }
    if (!can_export(stream, device, copy))
        return NULL;
    Export *export = calloc(1, sizeof *export);
    if (!export)
        return PyErr_NoMemory();
    if (PyObject_GetBuffer(object, &export->view, PyBUF_WRITABLE) < 0) {
        free(export);
        return NULL;
    }
    return capsule_of(export, major >= MAJOR);
}

PyObject *memory_dlpack_device(PyObject *object, PyObject *unused) {
    (void)object, (void)unused;
    return Py_BuildValue("(ii)", DEVICE_CPU, 0);
}
