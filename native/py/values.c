/* values.c: WebAssembly values as Python objects. i32 and i64 are signed ints; an unsigned int of the same width is accepted. */

#include "binding.h"

#include <string.h>

const char *valtype_name(uint8_t valtype) {
    switch (valtype) {
    case VALTYPE_I32:
        return "i32";
    case VALTYPE_I64:
        return "i64";
    case VALTYPE_F32:
        return "f32";
    case VALTYPE_F64:
        return "f64";
    case VALTYPE_V128:
        return "v128";
    case VALTYPE_FUNCREF:
        return "funcref";
    case VALTYPE_EXTERNREF:
        return "externref";
    }
    return "?";
}

static PyObject *valtypes_object(const uint8_t *valtypes, uint32_t count) {
    PyObject *tuple = PyTuple_New((Py_ssize_t)count);
    for (uint32_t i = 0; tuple && i < count; i++) {
        PyObject *name = PyUnicode_InternFromString(valtype_name(valtypes[i]));
        if (!name || PyTuple_SetItem(tuple, (Py_ssize_t)i, name) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

PyObject *functype_object(const lucet_functype *type) {
    PyObject *params = valtypes_object(type->valtypes, type->params_count);
    PyObject *results = valtypes_object(type->valtypes + type->params_count, type->results_count);
    PyObject *both = params && results ? PyTuple_Pack(2, params, results) : NULL;
    Py_XDECREF(params);
    Py_XDECREF(results);
    return both;
}

static bool wrong_type(uint8_t valtype, PyObject *value) {
    PyObject *name = PyObject_GetAttrString((PyObject *)Py_TYPE(value), "__name__");
    if (name)
        PyErr_Format(PyExc_TypeError, "%s expected, got %U", valtype_name(valtype), name);
    Py_XDECREF(name);
    return false;
}

static bool out_of_range(uint8_t valtype, PyObject *value) {
    PyErr_Format(PyExc_OverflowError, "%S does not fit into an %s", value, valtype_name(valtype));
    return false;
}

static bool int_slot(uint64_t *slot, uint8_t valtype, PyObject *value) {
    if (!PyLong_Check(value)) {
        PyObject *index = PyIndex_Check(value) ? PyNumber_Index(value) : NULL;
        if (!index)
            return PyErr_Occurred() ? false : wrong_type(valtype, value);
        bool ok = int_slot(slot, valtype, index);
        Py_DECREF(index);
        return ok;
    }
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (valtype == VALTYPE_I32) {
        if (overflow || number < INT32_MIN || number > UINT32_MAX)
            return out_of_range(valtype, value);
        *slot = (uint32_t)number;
        return true;
    }
    if (overflow < 0)
        return out_of_range(valtype, value);
    if (overflow > 0) {
        unsigned long long large = PyLong_AsUnsignedLongLong(value);
        if (PyErr_Occurred()) {
            PyErr_Clear();
            return out_of_range(valtype, value);
        }
        *slot = large;
        return true;
    }
    *slot = (uint64_t)number;
    return true;
}

static bool float_slot(uint64_t *slot, uint8_t valtype, PyObject *value) {
    if (!PyFloat_Check(value) && !PyLong_Check(value) && !PyObject_HasAttrString(value, "__float__"))
        return wrong_type(valtype, value);
    double number = PyFloat_AsDouble(value);
    if (number == -1.0 && PyErr_Occurred())
        return false;
    *slot = 0;
    if (valtype == VALTYPE_F32) {
        float single = (float)number;
        memcpy(slot, &single, sizeof single);
    } else {
        memcpy(slot, &number, sizeof number);
    }
    return true;
}

/* The guest holds a plain pointer, so the object must live as long as any instance that it can reach. */
bool keep_externref(InstanceObject *instance, PyObject *object) {
    if (!instance->externrefs && !(instance->externrefs = PyDict_New()))
        return false;
    PyObject *key = PyLong_FromVoidPtr(object);
    bool ok = key && PyDict_SetItem(instance->externrefs, key, object) == 0;
    Py_XDECREF(key);
    return ok;
}

static bool funcref_slot(uint64_t *slot, PyObject *value, InstanceObject *instance) {
    if (!PyObject_TypeCheck(value, binding.func))
        return wrong_type(VALTYPE_FUNCREF, value);
    ItemObject *func = (ItemObject *)value;
    lucet_instance *from = instance_open(func->instance), *to = instance_open(instance);
    if (!from || !to)
        return false;
    const lucet_funcref *ref = func->ref ? func->ref : lucet_instance_funcref(from, func->index);
    if (!ref) {
        raise_named("InstanceError", "the function cannot be referred to");
        return false;
    }
    if (!lucet_instances_linked(from, to) || !lucet_instances_linked(lucet_funcref_instance(ref), to)) {
        raise_named("InstanceError", "the function belongs to an instance that this one is not linked to");
        return false;
    }
    *slot = (uint64_t)(uintptr_t)ref;
    return true;
}

bool slot_from_object(uint64_t *slot, uint8_t valtype, PyObject *value, InstanceObject *instance) {
    switch (valtype) {
    case VALTYPE_I32:
    case VALTYPE_I64:
        return int_slot(slot, valtype, value);
    case VALTYPE_F32:
    case VALTYPE_F64:
        return float_slot(slot, valtype, value);
    case VALTYPE_EXTERNREF:
        *slot = value == Py_None ? 0 : (uint64_t)(uintptr_t)value;
        return value == Py_None || keep_externref(instance, value);
    case VALTYPE_FUNCREF:
        *slot = 0;
        return value == Py_None || funcref_slot(slot, value, instance);
    }
    PyErr_Format(PyExc_TypeError, "values of type %s cannot be passed yet", valtype_name(valtype));
    return false;
}

PyObject *object_from_slot(const uint64_t *slot, uint8_t valtype, InstanceObject *instance) {
    float single;
    double number;
    switch (valtype) {
    case VALTYPE_I32:
        return PyLong_FromLong((int32_t)*slot);
    case VALTYPE_I64:
        return PyLong_FromLongLong((int64_t)*slot);
    case VALTYPE_F32:
        memcpy(&single, slot, sizeof single);
        return PyFloat_FromDouble((double)single);
    case VALTYPE_F64:
        memcpy(&number, slot, sizeof number);
        return PyFloat_FromDouble(number);
    case VALTYPE_EXTERNREF:
        return Py_NewRef(*slot ? (PyObject *)(uintptr_t)*slot : Py_None);
    case VALTYPE_FUNCREF:
        if (!*slot)
            Py_RETURN_NONE;
        return new_item(LUCET_FUNC, instance, 0, (const lucet_funcref *)(uintptr_t)*slot);
    }
    PyErr_Format(PyExc_TypeError, "values of type %s cannot be passed yet", valtype_name(valtype));
    return NULL;
}
