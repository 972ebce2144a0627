/* values.c: WebAssembly values as Python objects. i32 and i64 are signed ints; an unsigned int of the same width is accepted.
 * A v128 is 16 bytes, and takes two slots; all others take one. */

#include "binding.h"

#include <stdlib.h>
#include <string.h>

const char *valtype_name(uint8_t valtype, uint64_t type_id, char name[LUCET_VALTYPE_NAME_SIZE]) {
    lucet_valtype_name(valtype, type_id, name);
    return name;
}

bool is_exnref(uint8_t valtype) {
    return (valtype & ~REF_NON_NULL) == VALTYPE_EXNREF;
}

uint64_t *new_slots(uint32_t count, bool has_exnrefs) {
    uint64_t *slots = has_exnrefs ? lucet_slots_new(count) : calloc(count + 1, sizeof *slots);
    if (!slots)
        PyErr_NoMemory();
    return slots;
}

void free_slots(uint64_t *slots, bool has_exnrefs) {
    if (has_exnrefs)
        lucet_slots_free(slots);
    else
        free(slots);
}

bool is_reference(uint8_t valtype) {
    return valtype < VALTYPE_V128 || valtype > VALTYPE_I32;
}

uint64_t type_id_at(const lucet_functype *type, uint32_t i) {
    return type->type_ids ? type->type_ids[i] : 0;
}

/* As lucet.wasm.types writes it: a type refers to itself as "#rec.0". */
static const char *name_within(const lucet_functype *type, uint32_t i, char name[LUCET_VALTYPE_NAME_SIZE]) {
    uint64_t type_id = type_id_at(type, i);
    if (type_id && type_id == type->id)
        return type->valtypes[i] & REF_NON_NULL ? "(ref #rec.0)" : "(ref null #rec.0)";
    return valtype_name(type->valtypes[i], type_id, name);
}

static PyObject *valtypes_object(const lucet_functype *type, uint32_t first, uint32_t count) {
    PyObject *tuple = PyTuple_New((Py_ssize_t)count);
    for (uint32_t i = 0; tuple && i < count; i++) {
        char name[LUCET_VALTYPE_NAME_SIZE];
        PyObject *object = PyUnicode_InternFromString(name_within(type, first + i, name));
        if (!object || PyTuple_SetItem(tuple, (Py_ssize_t)i, object) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

PyObject *functype_object(const lucet_functype *type) {
    PyObject *params = valtypes_object(type, 0, type->params_count);
    PyObject *results = valtypes_object(type, type->params_count, type->results_count);
    PyObject *both = params && results ? PyTuple_Pack(2, params, results) : NULL;
    Py_XDECREF(params);
    Py_XDECREF(results);
    return both;
}

static bool wrong_type(uint8_t valtype, uint64_t type_id, PyObject *value) {
    PyObject *name = PyObject_GetAttrString((PyObject *)Py_TYPE(value), "__name__");
    if (name)
        PyErr_Format(PyExc_TypeError, "%s expected, got %U", VALTYPE_NAME(valtype, type_id), name);
    Py_XDECREF(name);
    return false;
}

static bool out_of_range(uint8_t valtype, PyObject *value) {
    PyErr_Format(PyExc_OverflowError, "%S does not fit into an %s", value, VALTYPE_NAME(valtype, 0));
    return false;
}

static bool int_slot(uint64_t *slot, uint8_t valtype, PyObject *value) {
    if (!PyLong_Check(value)) {
        PyObject *index = PyIndex_Check(value) ? PyNumber_Index(value) : NULL;
        if (!index)
            return PyErr_Occurred() ? false : wrong_type(valtype, 0, value);
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
        return wrong_type(valtype, 0, value);
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

static bool wrong_functype(uint8_t valtype, uint64_t type_id, const lucet_funcref *ref) {
    const lucet_functype *type = lucet_funcref_type(ref);
    PyObject *both = functype_object(type);
    PyObject *object = both ? PyObject_CallObject(binding.functype, both) : NULL;
    if (object)
        PyErr_Format(PyExc_TypeError, "%s expected, got %s, a function of type %S", VALTYPE_NAME(valtype, type_id),
                     VALTYPE_NAME(REF_CONCRETE | REF_NON_NULL, type->id), object);
    Py_XDECREF(object);
    Py_XDECREF(both);
    return false;
}

static bool funcref_slot(uint64_t *slot, uint8_t valtype, uint64_t type_id, PyObject *value, InstanceObject *instance) {
    if (!PyObject_TypeCheck(value, binding.func))
        return wrong_type(valtype, type_id, value);
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
    if (!lucet_valtype_matches(REF_CONCRETE | REF_NON_NULL, lucet_funcref_type(ref)->id, valtype, type_id))
        return wrong_functype(valtype, type_id, ref);
    *slot = (uint64_t)(uintptr_t)ref;
    return true;
}

/* The bytes are those of memory: lane 0 first. */
static bool vector_slots(uint64_t *slots, PyObject *value) {
    if (!PyBytes_Check(value))
        return wrong_type(VALTYPE_V128, 0, value);
    Py_ssize_t size = PyBytes_Size(value);
    if (size != 2 * sizeof *slots) {
        PyErr_Format(PyExc_ValueError, "a v128 is 16 bytes, not %zd", size);
        return false;
    }
    memcpy(slots, PyBytes_AsString(value), 2 * sizeof *slots);
    return true;
}

static bool ref_slot(uint64_t *slot, uint8_t valtype, uint64_t type_id, PyObject *value, InstanceObject *instance) {
    *slot = 0;
    if (value == Py_None)
        return valtype & REF_NON_NULL ? wrong_type(valtype, type_id, value) : true;
    switch (valtype & ~REF_NON_NULL) {
    case VALTYPE_EXTERNREF:
        *slot = (uint64_t)(uintptr_t)value;
        return keep_externref(instance, value);
    case VALTYPE_FUNCREF:
    case REF_CONCRETE:
        return funcref_slot(slot, valtype, type_id, value, instance);
    case VALTYPE_EXNREF:
        return exnref_slot(slot, value, instance);
    default:
        return wrong_type(valtype, type_id, value);
    }
}

bool slot_from_object(uint64_t *slot, uint8_t valtype, uint64_t type_id, PyObject *value, InstanceObject *instance) {
    switch (valtype) {
    case VALTYPE_I32:
    case VALTYPE_I64:
        return int_slot(slot, valtype, value);
    case VALTYPE_F32:
    case VALTYPE_F64:
        return float_slot(slot, valtype, value);
    case VALTYPE_V128:
        return vector_slots(slot, value);
    default:
        return ref_slot(slot, valtype, type_id, value, instance);
    }
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
    case VALTYPE_V128:
        return PyBytes_FromStringAndSize((const char *)slot, 2 * sizeof *slot);
    }
    if (is_reference(valtype) && !*slot)
        Py_RETURN_NONE;
    switch (valtype & ~REF_NON_NULL) {
    case VALTYPE_EXTERNREF:
        return Py_NewRef((PyObject *)(uintptr_t)*slot);
    case VALTYPE_FUNCREF:
    case REF_CONCRETE:
        return new_item(LUCET_FUNC, instance, 0, (const lucet_funcref *)(uintptr_t)*slot);
    case VALTYPE_EXNREF:
        return exnref_object(*slot, instance);
    }
    PyErr_Format(PyExc_TypeError, "values of type %s cannot be passed", VALTYPE_NAME(valtype, 0));
    return NULL;
}
