/* exception.c: the type Tag, and the exceptions of guests as lucet.errors.WasmException. Values of type exnref are copies. */

#include "binding.h"

#include <string.h>

typedef struct {
    PyObject_HEAD
    lucet_tag *tag; /* a reference */
} TagObject;

/* ---- tags ---- */

static lucet_tag *tag_of(PyObject *object) {
    return ((TagObject *)object)->tag;
}

PyObject *new_tag(lucet_tag *tag) {
    TagObject *self = PyObject_New(TagObject, binding.tag);
    if (self) {
        self->tag = tag;
        lucet_tag_retain(tag);
    }
    return (PyObject *)self;
}

/* lucet.wasm.types knows how a type is encoded, and what its identity is. */
static bool valtype_of(PyObject *types, PyObject *name, uint8_t *valtype, uint64_t *type_id) {
    PyObject *pair = PyObject_CallMethod(types, "valtype_code", "O", name);
    unsigned char code;
    unsigned long long id;
    bool ok = pair && PyArg_ParseTuple(pair, "bK", &code, &id);
    Py_XDECREF(pair);
    *valtype = ok ? code : 0;
    *type_id = ok ? id : 0;
    return ok;
}

static bool type_of(PyObject *params, lucet_functype *type, uint8_t *valtypes, uint64_t *type_ids) {
    PyObject *types = PyImport_ImportModule("lucet.wasm.types");
    PyObject *functype = types ? PyObject_CallFunctionObjArgs(binding.functype, params, NULL) : NULL;
    bool ok = functype != NULL;
    *type = (lucet_functype){.valtypes = valtypes, .type_ids = type_ids};
    for (Py_ssize_t i = 0; ok && i < PyTuple_Size(params); i++)
        ok = valtype_of(types, PyTuple_GetItem(params, i), &valtypes[type->params_count++], &type_ids[i]);
    PyObject *number = ok ? PyObject_CallMethod(functype, "type_id", NULL) : NULL;
    type->id = number ? PyLong_AsUnsignedLongLong(number) : 0;
    Py_XDECREF(types);
    Py_XDECREF(functype);
    Py_XDECREF(number);
    return number && !PyErr_Occurred();
}

static PyObject *tag_new(PyTypeObject *self_type, PyObject *args, PyObject *keywords) {
    enum { MOST = 1000 };
    static char *names[] = {"params", NULL};
    PyObject *given = NULL, *self = NULL;
    (void)self_type;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|O:Tag", names, &given))
        return NULL;
    PyObject *params = given ? PySequence_Tuple(given) : PyTuple_New(0);
    if (!params)
        return NULL;
    uint8_t valtypes[MOST];
    uint64_t type_ids[MOST];
    lucet_functype type;
    if (PyTuple_Size(params) > MOST) {
        PyErr_Format(PyExc_ValueError, "too many parameters: %zd, the limit is %d", PyTuple_Size(params), MOST);
    } else if (type_of(params, &type, valtypes, type_ids)) {
        lucet_error error;
        lucet_tag *tag = lucet_tag_new(&type, &error);
        self = tag ? new_tag(tag) : raise_error(&error, NULL);
        if (tag)
            lucet_tag_release(tag);
    }
    Py_DECREF(params);
    return self;
}

static void tag_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    lucet_tag_release(tag_of(object));
    PyObject_Free(object);
    Py_DECREF(type);
}

static PyObject *tag_params(PyObject *self, void *unused) {
    (void)unused;
    PyObject *both = functype_object(lucet_tag_type(tag_of(self)));
    PyObject *params = both ? Py_NewRef(PyTuple_GetItem(both, 0)) : NULL;
    Py_XDECREF(both);
    return params;
}

static PyObject *tag_compare(PyObject *self, PyObject *other, int operation) {
    if ((operation != Py_EQ && operation != Py_NE) || !PyObject_TypeCheck(other, binding.tag))
        Py_RETURN_NOTIMPLEMENTED;
    return PyBool_FromLong((tag_of(self) == tag_of(other)) == (operation == Py_EQ));
}

static Py_hash_t tag_hash(PyObject *self) {
    return (Py_hash_t)((uintptr_t)tag_of(self) >> 4);
}

static PyObject *tag_repr(PyObject *self) {
    PyObject *params = tag_params(self, NULL);
    PyObject *repr = params ? PyUnicode_FromFormat("<Tag %R>", params) : NULL;
    Py_XDECREF(params);
    return repr;
}

bool tag_import(PyObject *value, lucet_import *import) {
    if (!PyObject_TypeCheck(value, binding.tag))
        return false;
    import->from = LUCET_IMPORT_TAG;
    import->tag = tag_of(value);
    return true;
}

/* ---- exceptions that refer to exceptions ----
 *
 * Each is converted for itself, however often it is referred to, by functions that call themselves: a guest can make as many as
 * it likes, as deep as it likes. */

enum { MOST_DEEP = 50, MOST_IN_ALL = 1000 };
static _Thread_local struct {
    unsigned depth, count;
} nesting;

/* To be followed by nesting.depth--. False: an exception is set. */
static bool nest(void) {
    if (nesting.depth == 0)
        nesting.count = 0;
    if (nesting.depth == MOST_DEEP || nesting.count == MOST_IN_ALL) {
        raise_named("LimitsExceeded", "an exception refers to other exceptions %s than %d",
                    nesting.depth == MOST_DEEP ? "deeper" : "more often",
                    nesting.depth == MOST_DEEP ? MOST_DEEP : MOST_IN_ALL);
        return false;
    }
    nesting.depth++;
    nesting.count++;
    return true;
}

/* ---- from the guest ---- */

static PyObject *values_object(const lucet_exception *exception, InstanceObject *instance) {
    const lucet_functype *type = lucet_tag_type(lucet_exception_tag(exception));
    const uint64_t *slot = lucet_exception_slots(exception);
    if (!nest())
        return NULL;
    PyObject *values = PyTuple_New((Py_ssize_t)type->params_count);
    instance->calls++; /* as in results_object */
    for (uint32_t i = 0; values && i < type->params_count; i++) {
        PyObject *value = object_from_slot(slot, type->valtypes[i], instance);
        if (!value || PyTuple_SetItem(values, (Py_ssize_t)i, value) < 0)
            Py_CLEAR(values);
        slot += type->valtypes[i] == VALTYPE_V128 ? 2 : 1;
    }
    instance->calls--;
    nesting.depth--;
    return values;
}

/* outcome: where it was thrown; NULL if nobody knows. */
PyObject *exception_object(const lucet_exception *exception, const lucet_outcome *outcome, InstanceObject *instance) {
    PyObject *values = values_object(exception, instance);
    if (!values)
        return NULL;
    PyObject *type = PyObject_GetAttrString(binding.errors, "WasmException");
    PyObject *tag = new_tag(lucet_exception_tag(exception));
    PyObject *arguments = tag && values ? PyTuple_Pack(2, tag, values) : NULL, *keywords = PyDict_New();
    PyObject *function = outcome ? outcome_function(outcome) : NULL, *offset = outcome ? outcome_offset(outcome) : NULL;
    PyObject *frames = outcome ? frames_object() : NULL;
    PyObject *result = NULL;
    bool ok = type && arguments && keywords;
    if (ok && outcome)
        ok = function && offset && frames && PyDict_SetItemString(keywords, "function", function) == 0 &&
             PyDict_SetItemString(keywords, "frames", frames) == 0 &&
             PyDict_SetItemString(keywords, "offset", offset) == 0;
    if (ok)
        result = PyObject_Call(type, arguments, keywords);
    Py_XDECREF(type);
    Py_XDECREF(tag);
    Py_XDECREF(values);
    Py_XDECREF(arguments);
    Py_XDECREF(keywords);
    Py_XDECREF(function);
    Py_XDECREF(offset);
    Py_XDECREF(frames);
    return result;
}

PyObject *raise_exception(const lucet_outcome *outcome, InstanceObject *instance) {
    PyObject *exception = exception_object(outcome->exception, outcome, instance);
    lucet_exception_release(outcome->exception);
    if (exception)
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
    Py_XDECREF(exception);
    return NULL;
}

PyObject *exnref_object(uint64_t value, InstanceObject *instance) {
    lucet_error error;
    lucet_exception *exception = lucet_exnref_get(value, &error);
    if (!exception)
        return raise_error(&error, NULL);
    PyObject *object = exception_object(exception, NULL, instance);
    lucet_exception_release(exception);
    return object;
}

/* ---- to the guest ---- */

int is_exception(PyObject *value) {
    PyObject *type = PyObject_GetAttrString(binding.errors, "WasmException");
    int is = type ? PyObject_IsInstance(value, type) : -1;
    Py_XDECREF(type);
    return is;
}

static lucet_exception *make_nested(PyObject *value, InstanceObject *instance) {
    PyObject *tag = PyObject_GetAttrString(value, "tag"), *attribute = PyObject_GetAttrString(value, "values");
    PyObject *values = attribute ? PySequence_Tuple(attribute) : NULL;
    lucet_exception *exception = NULL;
    bool ok = tag && values;
    if (ok && !PyObject_TypeCheck(tag, binding.tag)) {
        PyErr_Format(PyExc_TypeError, "the tag of a WasmException is a lucet.Tag, not %R", tag);
        ok = false;
    }
    if (ok) {
        const lucet_functype *type = lucet_tag_type(tag_of(tag));
        uint64_t *slots = new_slots(type->slots_count, type->has_exnrefs), *slot = slots;
        if (!slots) {
            ok = false;
        } else if (PyTuple_Size(values) != (Py_ssize_t)type->params_count) {
            PyErr_Format(PyExc_TypeError, "an exception with the tag carries %u values, not %zd", type->params_count,
                         PyTuple_Size(values));
            ok = false;
        }
        for (uint32_t i = 0; ok && i < type->params_count; i++) {
            ok = slot_from_object(slot, type->valtypes[i], type_id_at(type, i), PyTuple_GetItem(values, (Py_ssize_t)i),
                                  instance);
            slot += type->valtypes[i] == VALTYPE_V128 ? 2 : 1;
        }
        lucet_error error;
        if (ok && !(exception = lucet_exception_new(tag_of(tag), slots, &error)))
            raise_error(&error, NULL);
        free_slots(slots, type->has_exnrefs);
    }
    Py_XDECREF(tag);
    Py_XDECREF(attribute);
    Py_XDECREF(values);
    return exception;
}

/* From a WasmException. */
lucet_exception *make_exception(PyObject *value, InstanceObject *instance) {
    if (!nest())
        return NULL;
    lucet_exception *exception = make_nested(value, instance);
    nesting.depth--;
    return exception;
}

bool exnref_slot(uint64_t *slot, PyObject *value, InstanceObject *instance) {
    int is = is_exception(value);
    if (is <= 0) {
        if (is == 0)
            PyErr_Format(PyExc_TypeError, "exnref expected, got %R", value);
        return false;
    }
    lucet_exception *exception = make_exception(value, instance);
    lucet_instance *open = exception ? instance_open(instance) : NULL;
    lucet_error error;
    bool ok = open && lucet_exnref_new(open, exception, slot, &error);
    if (open && !ok)
        raise_error(&error, NULL);
    if (exception)
        lucet_exception_release(exception);
    return ok;
}

/* A WasmException is thrown at the guest; any other ends the run, and is raised where the run was begun. */
lucet_host_result throw_pending(InstanceObject *instance) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    lucet_host_result result = LUCET_HOST_TERMINATE;
    int is = value ? is_exception(value) : 0;
    if (is == 0) {
        PyErr_Restore(type, value, traceback);
        return result;
    }
    lucet_exception *exception = is > 0 ? make_exception(value, instance) : NULL;
    if (exception && instance_open(instance))
        result = lucet_throw(instance->instance, exception);
    if (exception)
        lucet_exception_release(exception);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return result;
}

/* ---- the type ---- */

static PyGetSetDef tag_getset[] = {
    {"params", tag_params, NULL, "Names of the types of the values that exceptions with the tag carry.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot tag_slots[] = {
    {Py_tp_new, tag_new},
    {Py_tp_dealloc, tag_dealloc},
    {Py_tp_richcompare, tag_compare},
    {Py_tp_hash, tag_hash},
    {Py_tp_repr, tag_repr},
    {Py_tp_getset, tag_getset},
    {Py_tp_doc,
     "Tag(params=())\n\nWhat tells one kind of WebAssembly exception from others, with the types of the values\n"
     "that it carries: to be imported by modules, or an export of an instance. Equal if it is the same tag."},
    {0, NULL},
};

PyType_Spec tag_spec = {"lucet.runtime._core.Tag", sizeof(TagObject), 0, Py_TPFLAGS_DEFAULT, tag_slots};
