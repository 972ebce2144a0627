/* module.c: the type Module, a loaded artifact. */

#include "binding.h"

#include <stddef.h>
#include <structmember.h>

static PyObject *make_exports(const lucet_module *module) {
    PyObject *exports = PyDict_New();
    for (uint32_t i = 0; exports && i < lucet_module_exports_count(module); i++) {
        lucet_export_info info = lucet_module_export(module, i);
        PyObject *name = string_object(info.name);
        PyObject *place = PyLong_FromUnsignedLongLong((uint64_t)info.index << 3 | info.kind);
        if (!name || !place || PyDict_SetItem(exports, name, place) < 0)
            Py_CLEAR(exports);
        Py_XDECREF(name);
        Py_XDECREF(place);
    }
    return exports;
}

static PyObject *wrap(PyObject *type, lucet_module *module) {
    allocfunc allocate = (allocfunc)PyType_GetSlot((PyTypeObject *)type, Py_tp_alloc);
    ModuleObject *self = (ModuleObject *)allocate((PyTypeObject *)type, 0);
    if (!self) {
        lucet_module_release(module);
        return NULL;
    }
    self->module = module;
    self->exports = make_exports(module);
    if (!self->exports)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static PyObject *load(PyObject *type, PyObject *path) {
    PyObject *bytes, *text = NULL;
    if (!PyUnicode_FSConverter(path, &bytes))
        return NULL;
    lucet_error error;
    lucet_module *module;
    Py_BEGIN_ALLOW_THREADS
    module = lucet_module_load(PyBytes_AsString(bytes), &error);
    Py_END_ALLOW_THREADS
    PyObject *result = NULL;
    if (module)
        result = wrap(type, module);
    else if (PyUnicode_FSDecoder(bytes, &text))
        raise_error(&error, text);
    Py_XDECREF(text);
    Py_DECREF(bytes);
    return result;
}

static PyObject *from_bytes(PyObject *type, PyObject *data) {
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    lucet_error error;
    lucet_module *module;
    Py_BEGIN_ALLOW_THREADS
    module = lucet_module_load_bytes(view.buf, (size_t)view.len, &error);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&view);
    return module ? wrap(type, module) : raise_error(&error, NULL);
}

bool module_export(ModuleObject *module, PyObject *name, lucet_kind *kind, uint32_t *index) {
    PyObject *place = PyDict_GetItemWithError(module->exports, name);
    if (!place)
        return false;
    unsigned long long value = PyLong_AsUnsignedLongLong(place);
    *kind = (lucet_kind)(value & 7);
    *index = (uint32_t)(value >> 3);
    return true;
}

static PyObject *limits_object(const lucet_externtype *type) {
    uint64_t maximum = type->limits.maximum;
    return Py_BuildValue("(KNs)", (unsigned long long)type->limits.minimum,
                         maximum == UINT64_MAX ? Py_NewRef(Py_None) : PyLong_FromUnsignedLongLong(maximum),
                         type->is_64 ? "i64" : "i32");
}

/* (kind, details): func (params, results); table (reftype, limits); memory (limits, shared, page size's exponent);
 * global (valtype, mutable); tag (params, results). Limits are (minimum, maximum, index type). */
static PyObject *externtype_object(const lucet_module *module, lucet_kind kind, uint32_t index) {
    lucet_externtype type;
    if (!lucet_module_type(module, kind, index, &type)) {
        PyErr_SetString(PyExc_SystemError, "no such item");
        return NULL;
    }
    switch (kind) {
    case LUCET_FUNC:
        return Py_BuildValue("(sN)", "func", functype_object(&type.functype));
    case LUCET_TABLE:
        return Py_BuildValue("(s(sN))", "table", VALTYPE_NAME(type.valtype, type.type_id), limits_object(&type));
    case LUCET_MEMORY:
        return Py_BuildValue("(s(NOi))", "memory", limits_object(&type), type.is_shared ? Py_True : Py_False,
                             (int)type.page_size_log2);
    case LUCET_TAG:
        return Py_BuildValue("(sN)", "tag", functype_object(&type.functype));
    default:
        return Py_BuildValue("(s(sO))", "global", VALTYPE_NAME(type.valtype, type.type_id),
                             type.is_mutable ? Py_True : Py_False);
    }
}

static PyObject *raw_imports(PyObject *self, PyObject *unused) {
    (void)unused;
    const lucet_module *module = ((ModuleObject *)self)->module;
    uint32_t count = lucet_module_imports_count(module);
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (uint32_t i = 0; list && i < count; i++) {
        lucet_import_info info = lucet_module_import(module, i);
        PyObject *item = Py_BuildValue("(NNN)", string_object(info.module), string_object(info.field),
                                       externtype_object(module, info.kind, info.index));
        if (!item || PyList_SetItem(list, (Py_ssize_t)i, item) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *raw_exports(PyObject *self, PyObject *unused) {
    (void)unused;
    const lucet_module *module = ((ModuleObject *)self)->module;
    uint32_t count = lucet_module_exports_count(module);
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (uint32_t i = 0; list && i < count; i++) {
        lucet_export_info info = lucet_module_export(module, i);
        PyObject *item =
            Py_BuildValue("(NN)", string_object(info.name), externtype_object(module, info.kind, info.index));
        if (!item || PyList_SetItem(list, (Py_ssize_t)i, item) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *get_producer(PyObject *self, void *unused) {
    (void)unused;
    return string_object(lucet_module_producer(((ModuleObject *)self)->module));
}

static PyObject *get_source_digest(PyObject *self, void *unused) {
    (void)unused;
    return PyBytes_FromStringAndSize((const char *)lucet_module_source_digest(((ModuleObject *)self)->module), 32);
}

static void dealloc(PyObject *object) {
    ModuleObject *self = (ModuleObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    if (self->weakrefs)
        PyObject_ClearWeakRefs(object);
    Py_CLEAR(self->exports);
    Py_CLEAR(self->bare_linkage);
    if (self->module)
        lucet_module_release(self->module);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static int traverse(PyObject *object, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((ModuleObject *)object)->exports);
    Py_VISIT(((ModuleObject *)object)->bare_linkage);
    return 0;
}

static int clear(PyObject *object) {
    Py_CLEAR(((ModuleObject *)object)->bare_linkage);
    return 0;
}

static PyMethodDef methods[] = {
    {"load", load, METH_O | METH_CLASS,
     "load(path) -> Module\n\nLoad an artifact, which must stay unchanged while it is in use."},
    {"from_bytes", from_bytes, METH_O | METH_CLASS, "from_bytes(data) -> Module\n\nLoad an artifact from memory."},
    {"_raw_imports", raw_imports, METH_NOARGS, NULL},
    {"_raw_exports", raw_exports, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyObject *get_starts(PyObject *self, void *unused) {
    (void)unused;
    return PyBool_FromLong(lucet_module_needs_start(((ModuleObject *)self)->module));
}

static PyGetSetDef getset[] = {
    {"_starts", get_starts, NULL, "Whether new instances have something to run before they are used.", NULL},
    {"producer", get_producer, NULL, "Compiler, LLVM version and options that made the artifact.", NULL},
    {"source_digest", get_source_digest, NULL, "SHA-256 of the .wasm.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(ModuleObject, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_members, members},
    {Py_tp_doc, "A loaded artifact."},
    {0, NULL},
};

PyType_Spec module_spec = {
    "lucet.runtime._core.Module", sizeof(ModuleObject), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
