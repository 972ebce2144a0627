/* linkage.c: the type Linkage, a module with its imports bound, and calling host functions written in Python. */

#include "binding.h"

#include <stdlib.h>
#include <string.h>
#include <xmmintrin.h>

/* ---- calling Python ---- */

/* Libraries that Python code calls may leave other floating-point modes behind than they found. The guest has those of the start of
 * a process; the host's own, if they are others, come back when the run ends. */
static void restore_modes(void) {
    enum { DEFAULT = 0x1f80, FLAGS = 0x3f };
    if (UNLIKELY((_mm_getcsr() & ~(unsigned)FLAGS) != DEFAULT))
        _mm_setcsr(DEFAULT);
}

bool set_host_results(const HostBinding *host, PyObject *result, uint64_t *slots, InstanceObject *instance) {
    uint32_t count = host->type.results_count;
    const uint8_t *valtypes = host->type.valtypes + host->type.params_count;
    if (count == 0) {
        if (result == Py_None)
            return true;
        PyErr_SetString(PyExc_TypeError, "the host function returned a value, but its type has no results");
        return false;
    }
    if (count == 1)
        return slot_from_object(&slots[0], valtypes[0], type_id_at(&host->type, host->type.params_count), result,
                                instance);
    if (!PyTuple_Check(result) || PyTuple_Size(result) != (Py_ssize_t)count) {
        PyErr_Format(PyExc_TypeError, "the host function must return a tuple of %u values", count);
        return false;
    }
    for (uint32_t i = 0; i < count; slots += slots_of(valtypes[i++]))
        if (!slot_from_object(slots, valtypes[i], type_id_at(&host->type, host->type.params_count + i),
                              PyTuple_GetItem(result, (Py_ssize_t)i), instance))
            return false;
    return true;
}

/* LUCET_HOST_TERMINATE: an exception is set. */
static lucet_host_result take_result(const HostBinding *host, PyObject *result, uint64_t *slots,
                                     InstanceObject *instance) {
    if (!result)
        return throw_pending(instance);
    if (UNLIKELY((PyObject *)Py_TYPE(result) == binding.suspend)) {
        PyObject *value = PyObject_GetAttrString(result, "value"), *before = instance->suspend_value;
        instance->suspend_value = value;
        instance->suspend_host = host;
        Py_XDECREF(before);
        return value ? LUCET_HOST_SUSPEND : LUCET_HOST_TERMINATE;
    }
    return set_host_results(host, result, slots, instance) ? LUCET_HOST_OK : LUCET_HOST_TERMINATE;
}

static lucet_host_result call_binding(const HostBinding *host, InstanceObject *instance, uint64_t *slots) {
    enum { USUAL = 12 };
    PyObject *usual[USUAL + 2], **arguments = usual;
    uint32_t count = host->type.params_count,
             first = 1; /* arguments[0] is for the callee: PY_VECTORCALL_ARGUMENTS_OFFSET */
    if (count > USUAL && !(arguments = PyMem_Malloc((count + 2) * sizeof *arguments)))
        return PyErr_NoMemory(), LUCET_HOST_TERMINATE;
    uint32_t end = first;
    if (host->wants_caller)
        arguments[end++] = Py_NewRef((PyObject *)instance);
    bool ok = true;
    const uint64_t *slot = slots;
    for (uint32_t i = 0; ok && i < count; slot += slots_of(host->type.valtypes[i++])) {
        PyObject *argument = object_from_slot(slot, host->type.valtypes[i], instance);
        ok = argument != NULL;
        if (ok)
            arguments[end++] = argument;
    }
    PyObject *result = NULL;
    if (ok)
        result = binding.call_vector(host->callable, arguments + first, (end - first) | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                     NULL);
    for (uint32_t i = first; i < end; i++)
        Py_DECREF(arguments[i]);
    if (arguments != usual)
        PyMem_Free(arguments);
    lucet_host_result outcome = take_result(host, result, slots, instance);
    Py_XDECREF(result);
    return outcome;
}

_Thread_local lucet_instance *calling_instance;

lucet_host_result call_python(lucet_instance *instance, uint64_t *slots, void *data) {
    const HostBinding *host = data;
    InstanceObject *object = lucet_instance_context(instance);
    bool held = gil_call_begin();
    lucet_instance *outer = calling_instance;
    calling_instance = instance;
    lucet_host_result result = LUCET_HOST_TERMINATE;
    if (object) {
        Py_INCREF((PyObject *)object);
        result = call_binding(host, object, slots);
        Py_DECREF((PyObject *)object);
    } else {
        raise_named("InstanceError", "a closed instance called a host function");
    }
    /* An exception stays set in this thread's state; the run that is ended by it raises it. */
    calling_instance = outer;
    gil_call_end(held);
    restore_modes();
    return result;
}

/* ---- binding imports ---- */

static bool link_error(const lucet_import_info *info, const char *why) {
    PyObject *module = string_object(info->module), *field = string_object(info->field);
    if (module && field)
        raise_named("LinkError", "%s: %R %R", why, module, field);
    Py_XDECREF(module);
    Py_XDECREF(field);
    return false;
}

static PyObject *find_import(PyObject *imports, const lucet_import_info *info) {
    PyObject *module = string_object(info->module), *field = string_object(info->field);
    PyObject *fields = NULL, *found = NULL;
    if (module && field && imports != Py_None) {
        fields = PyObject_GetItem(imports, module);
        if (fields)
            found = PyObject_GetItem(fields, field);
    }
    Py_XDECREF(fields);
    Py_XDECREF(module);
    Py_XDECREF(field);
    if (!found && (!PyErr_Occurred() || PyErr_ExceptionMatches(PyExc_KeyError))) {
        PyErr_Clear();
        link_error(info, "unknown import");
    }
    return found;
}

/* "int" and "float" stand for whichever width is imported. */
static bool types_match(PyObject *declared, const lucet_functype *type, uint32_t first, uint32_t count) {
    if (!PyTuple_Check(declared) || PyTuple_Size(declared) != (Py_ssize_t)count)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        PyObject *name = PyTuple_GetItem(declared, (Py_ssize_t)i);
        uint8_t valtype = type->valtypes[first + i];
        bool loose = (PyUnicode_CompareWithASCIIString(name, "int") == 0 &&
                      (valtype == VALTYPE_I32 || valtype == VALTYPE_I64)) ||
                     (PyUnicode_CompareWithASCIIString(name, "float") == 0 &&
                      (valtype == VALTYPE_F32 || valtype == VALTYPE_F64));
        if (!loose && PyUnicode_CompareWithASCIIString(name, VALTYPE_NAME(valtype, type_id_at(type, first + i))) != 0)
            return false;
    }
    return true;
}

/* Call the core's function first, if it has one of that name and type. */
static void prefer_native(HostBinding *host, WasiFunctionObject *native, lucet_import *import) {
    lucet_host_function function = lucet_wasi_function(native->module, native->name, &host->type);
    if (!function)
        return;
    host->native = Py_NewRef((PyObject *)native);
    host->wasi_call = (lucet_wasi_call){native->wasi, call_python, host};
    import->function = function;
    import->data = &host->wasi_call;
}

static bool bind_host_function(LinkageObject *self, const lucet_import_info *info, PyObject *value,
                               const lucet_functype *type, lucet_import *import) {
    /* One after the other: looking up an attribute may clear an exception that is set. */
    PyObject *params = PyObject_GetAttrString(value, "params");
    PyObject *results = params ? PyObject_GetAttrString(value, "results") : NULL;
    PyObject *callable = results ? PyObject_GetAttrString(value, "callable") : NULL;
    PyObject *caller = callable ? PyObject_GetAttrString(value, "wants_caller") : NULL;
    PyObject *native = caller ? PyObject_GetAttrString(value, "native") : NULL;
    bool ok = native != NULL;
    if (ok && !(types_match(params, type, 0, type->params_count) &&
                types_match(results, type, type->params_count, type->results_count))) {
        PyObject *wanted = functype_object(type);
        PyObject *why = wanted
                            ? PyUnicode_FromFormat("incompatible import type: the module wants %R, the host function "
                                                   "has (%R, %R)",
                                                   wanted, params, results)
                            : NULL;
        const char *text = why ? PyUnicode_AsUTF8AndSize(why, NULL) : NULL;
        ok = text ? link_error(info, text) : false;
        Py_XDECREF(why);
        Py_XDECREF(wanted);
    }
    if (ok) {
        HostBinding *host = &self->bindings[self->bindings_count++];
        *host = (HostBinding){Py_NewRef(callable), *type, PyObject_IsTrue(caller) == 1, NULL, {NULL, NULL, NULL}};
        import->from = LUCET_IMPORT_HOST_FUNCTION;
        import->function = call_python;
        import->data = host;
        if (Py_TYPE(native) == binding.wasi_function)
            prefer_native(host, (WasiFunctionObject *)native, import);
    }
    Py_XDECREF(params);
    Py_XDECREF(results);
    Py_XDECREF(callable);
    Py_XDECREF(caller);
    Py_XDECREF(native);
    return ok;
}

static bool bind_item(LinkageObject *self, const lucet_import_info *info, PyObject *value, lucet_import *import) {
    ItemObject *item = (ItemObject *)value;
    lucet_instance *from = instance_open(item->instance);
    if (!from)
        return false;
    if (item->kind != info->kind)
        return link_error(info, "incompatible import type");
    import->from = LUCET_IMPORT_ITEM;
    import->instance = from;
    import->index = item->index;
    if (item->ref) { /* a function that came as a reference: name it by its own instance and index */
        import->instance = lucet_funcref_instance(item->ref);
        import->index = lucet_funcref_function(item->ref);
    }
    self->links_instances = true;
    return PyList_Append(self->kept, (PyObject *)item->instance) == 0;
}

static bool bind(LinkageObject *self, uint32_t i, PyObject *value, lucet_import *import) {
    lucet_import_info info = lucet_module_import(self->module->module, i);
    lucet_externtype type;
    lucet_module_type(self->module->module, info.kind, info.index, &type);
    if (PyObject_TypeCheck(value, binding.func) || PyObject_TypeCheck(value, binding.memory) ||
        PyObject_TypeCheck(value, binding.table) || PyObject_TypeCheck(value, binding.global))
        return bind_item(self, &info, value, import);
    if (info.kind == LUCET_TAG && tag_import(value, import))
        return true;
    lucet_memory *shared = shared_memory_of(value);
    if (shared && info.kind == LUCET_MEMORY) {
        import->from = LUCET_IMPORT_MEMORY;
        import->memory = shared;
        return true;
    }
    int is_host = PyObject_IsInstance(value, binding.host_function);
    if (is_host < 0)
        return false;
    if (is_host && info.kind == LUCET_FUNC)
        return bind_host_function(self, &info, value, &type.functype, import);
    bool is_number = PyLong_Check(value) || PyFloat_Check(value) || PyBytes_Check(value);
    bool is_value = is_reference(type.valtype) ? value == Py_None && !(type.valtype & REF_NON_NULL) : is_number;
    if (!is_host && info.kind == LUCET_GLOBAL && !type.is_mutable && is_value) {
        import->from = LUCET_IMPORT_VALUE;
        return slot_from_object(import->value, type.valtype, type.type_id, value, NULL);
    }
    if (info.kind == LUCET_FUNC && PyCallable_Check(value))
        return link_error(&info, "a plain callable has no WebAssembly type: decorate it with @lucet.host_function");
    return link_error(&info, "incompatible import type");
}

LinkageObject *link_module(ModuleObject *module, PyObject *imports) {
    uint32_t count = lucet_module_imports_count(module->module);
    LinkageObject *self = PyObject_GC_New(LinkageObject, binding.linkage);
    if (!self)
        return NULL;
    self->linkage = NULL;
    self->module = (ModuleObject *)Py_NewRef((PyObject *)module);
    self->bindings_count = 0;
    self->links_instances = false;
    self->bindings = calloc(count + 1, sizeof *self->bindings);
    self->kept = PyList_New(0);
    PyObject_GC_Track((PyObject *)self);
    lucet_import *values = calloc(count + 1, sizeof *values);
    bool ok = values && self->bindings && self->kept;
    if (!ok)
        PyErr_NoMemory();
    for (uint32_t i = 0; ok && i < count; i++) {
        lucet_import_info info = lucet_module_import(module->module, i);
        PyObject *value = find_import(imports, &info);
        ok = value && bind(self, i, value, &values[i]);
        Py_XDECREF(value);
    }
    lucet_error error;
    if (ok && !(self->linkage = lucet_link(module->module, values, count, &error))) {
        raise_error(&error, NULL);
        ok = false;
    }
    free(values);
    if (!ok)
        Py_CLEAR(self);
    return self;
}

/* ---- the type ---- */

static int traverse(PyObject *object, visitproc visit, void *arg) {
    LinkageObject *self = (LinkageObject *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->module);
    Py_VISIT(self->kept);
    for (Py_ssize_t i = 0; i < self->bindings_count; i++)
        Py_VISIT(self->bindings[i].callable);
    return 0;
}

static int clear(PyObject *object) {
    LinkageObject *self = (LinkageObject *)object;
    Py_CLEAR(self->kept);
    /* The bindings stay: an instance that is still there may call them. dealloc drops them. */
    return 0;
}

static void dealloc(PyObject *object) {
    LinkageObject *self = (LinkageObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    for (Py_ssize_t i = 0; i < self->bindings_count; i++) {
        Py_CLEAR(self->bindings[i].callable);
        Py_CLEAR(self->bindings[i].native);
    }
    free(self->bindings);
    Py_CLEAR(self->kept);
    if (self->linkage)
        lucet_linkage_release(self->linkage);
    Py_CLEAR(self->module);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyType_Slot slots[] = {
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_doc, "A module with its imports bound: Region.link() makes it, Region.new_instance() takes it."},
    {0, NULL},
};

PyType_Spec linkage_spec = {"lucet.runtime._core.Linkage", sizeof(LinkageObject), 0,
                            Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
