/* items.c: the types Func, Table and Global. memory.c has Memory, which is such an item, too. */

#include "binding.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <structmember.h>

PyObject *new_item(lucet_kind kind, InstanceObject *instance, uint32_t index, const lucet_funcref *ref) {
    if (kind == LUCET_MEMORY && instance->instance) {
        lucet_memory *memory = lucet_instance_memory(instance->instance, index);
        if (lucet_memory_type(memory).is_shared)
            return shared_memory_object(memory);
    }
    PyTypeObject *const types[] = {
        [LUCET_FUNC] = binding.func,
        [LUCET_TABLE] = binding.table,
        [LUCET_MEMORY] = binding.memory,
        [LUCET_GLOBAL] = binding.global,
    };
    ItemObject *self = PyObject_GC_New(ItemObject, types[kind]);
    if (!self)
        return NULL;
    self->vectorcall = NULL;
    self->instance = (InstanceObject *)Py_NewRef((PyObject *)instance);
    self->ref = ref;
    self->index = index;
    self->kind = (uint8_t)kind;
    self->type = NULL;
    if (kind == LUCET_FUNC) {
        extern HIDDEN PyObject *func_vectorcall(PyObject *, PyObject *const *, size_t, PyObject *);
        self->vectorcall = func_vectorcall;
        if (!ref)
            self->type = lucet_module_functype(instance->linkage->module->module, index);
    }
    PyObject_GC_Track((PyObject *)self);
    return (PyObject *)self;
}

int item_traverse(PyObject *object, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((ItemObject *)object)->instance);
    return 0;
}

/* The instance is kept until the end: other references break any cycle, and a cleared item would have to be checked for. */
void item_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    Py_CLEAR(((ItemObject *)object)->instance);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

PyObject *item_get_instance(PyObject *object, void *unused) {
    (void)unused;
    return Py_NewRef((PyObject *)((ItemObject *)object)->instance);
}

PyObject *call_home(const char *module, const char *function, PyObject *self, PyObject *args, PyObject *keywords) {
    PyObject *home = PyImport_ImportModule(module);
    PyObject *callable = home ? PyObject_GetAttrString(home, function) : NULL;
    PyObject *first = callable ? PyTuple_Pack(1, self) : NULL;
    PyObject *all = first ? PySequence_Concat(first, args) : NULL;
    PyObject *result = all ? PyObject_Call(callable, all, keywords) : NULL;
    Py_XDECREF(home);
    Py_XDECREF(callable);
    Py_XDECREF(first);
    Py_XDECREF(all);
    return result;
}

/* ---- arguments ---- */

/* Any int; what does not fit into 64 bits is outside every memory, too. */
bool offset_from(PyObject *object, uint64_t *offset) {
    *offset = PyLong_AsUnsignedLongLong(object);
    if (*offset != (uint64_t)-1 || !PyErr_Occurred())
        return true;
    if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
        PyErr_Clear();
        raise_named("MemoryAccessError", "%S is outside the memory", object);
    }
    return false;
}

bool arguments_are(Py_ssize_t count, Py_ssize_t wanted, const char *usage) {
    if (count == wanted)
        return true;
    PyErr_SetString(PyExc_TypeError, usage);
    return false;
}

/* ---- Func ---- */

const lucet_functype *func_type(const ItemObject *self) {
    if (self->ref)
        return instance_open(self->instance) ? lucet_funcref_type(self->ref) : NULL;
    const lucet_functype *type = lucet_module_functype(self->instance->linkage->module->module, self->index);
    if (!type)
        PyErr_SetString(PyExc_SystemError, "no such function");
    return type;
}

/* The slots hold the arguments; `lasting`: they may outlive the call. False: an exception is set. The caller has a reference to
 * the instance. */
static bool run(InstanceObject *instance, uint32_t function, const lucet_funcref *ref, uint64_t *slots, bool lasting,
                lucet_outcome *outcome) {
    lucet_error error;
    GilFrame frame = run_begin(instance);
    lucet_outcome_kind kind = ref ? lucet_call_ref(instance->instance, ref, slots, outcome, &error)
                                  : lucet_call(instance->instance, function, slots, outcome, &error);
    while (kind == LUCET_PREEMPTED && !lasting)
        kind = lucet_resume(instance->instance, false, outcome, &error);
    run_end(instance, frame);
    bool ok = kind == LUCET_RETURNED || (lasting && is_suspension(instance, kind));
    if (!ok) {
        PyObject *none = finish_call(instance, kind, outcome, &error);
        Py_XDECREF(none);
    }
    return ok;
}

enum { USUAL_SLOTS = 16 };

PyObject *results_object(const lucet_functype *type, const uint64_t *slots, InstanceObject *instance) {
    const uint8_t *valtypes = type->valtypes + type->params_count;
    if (type->results_count == 0)
        Py_RETURN_NONE;
    if (type->results_count == 1 && valtypes[0] == VALTYPE_I32)
        return PyLong_FromLong((int32_t)slots[0]);
    if (type->results_count == 1)
        return object_from_slot(&slots[0], valtypes[0], instance);
    PyObject *tuple = PyTuple_New((Py_ssize_t)type->results_count);
    instance
        ->calls++; /* converting one may run Python code, and the others may be references to what is in the instance */
    for (uint32_t i = 0; tuple && i < type->results_count; slots += slots_of(valtypes[i++])) {
        PyObject *value = object_from_slot(slots, valtypes[i], instance);
        if (!value || PyTuple_SetItem(tuple, (Py_ssize_t)i, value) < 0)
            Py_CLEAR(tuple);
    }
    instance->calls--;
    return tuple;
}

/* What most arguments are, without a call of slot_from_object, and without running any Python code. */
static inline bool usual_slot(uint64_t *slot, uint8_t valtype, PyObject *value) {
    if (Py_IS_TYPE(value, &PyLong_Type)) {
        int overflow;
        long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
        *slot = valtype == VALTYPE_I32 ? (uint32_t)number : (uint64_t)number;
        return !overflow &&
               (valtype == VALTYPE_I32 ? number >= INT32_MIN && number <= UINT32_MAX : valtype == VALTYPE_I64);
    }
    if (valtype == VALTYPE_F64 && Py_IS_TYPE(value, &PyFloat_Type)) {
        double number = PyFloat_AsDouble(value);
        memcpy(slot, &number, sizeof number);
        return true;
    }
    return false;
}

/* False: an exception is set. */
static bool set_arguments(uint64_t *slots, const lucet_functype *type, PyObject *const *args,
                          InstanceObject *instance) {
    bool usual = true;
    for (uint32_t i = 0; i < type->params_count; slots += slots_of(type->valtypes[i++])) {
        if (usual_slot(slots, type->valtypes[i], args[i]))
            continue;
        usual = false;
        if (!slot_from_object(slots, type->valtypes[i], type_id_at(type, i), args[i], instance))
            return false;
    }
    /* Converting may have run Python code, which may have closed the instance. */
    return usual || instance_open(instance);
}

/* A run that a host function may suspend outlives its call, and so must its slots. */
static uint64_t *allocate_slots(const lucet_functype *type, InstanceObject *instance) {
    uint64_t *slots = instance->spare_slots;
    if (slots && type->slots_count <= USUAL_SLOTS && !type->has_exnrefs) {
        instance->spare_slots = NULL;
        return slots;
    }
    return new_slots(type->slots_count > USUAL_SLOTS ? type->slots_count : USUAL_SLOTS, type->has_exnrefs);
}

static void spare_slots(uint64_t *slots, const lucet_functype *type, InstanceObject *instance) {
    if (!instance->spare_slots && type->slots_count <= USUAL_SLOTS && !type->has_exnrefs)
        instance->spare_slots = slots;
    else
        free_slots(slots, type->has_exnrefs);
}

/* In an instance that is open. */
static PyObject *call_typed(InstanceObject *instance, uint32_t function, const lucet_funcref *ref,
                            const lucet_functype *type, PyObject *const *args, Py_ssize_t count) {
    if (UNLIKELY(count != (Py_ssize_t)type->params_count))
        return PyErr_Format(PyExc_TypeError, "the function takes %u arguments, %zd were given", type->params_count,
                            count);
    bool may_suspend = instance->linkage->bindings_count > 0 || instance->linkage->links_instances;
    bool allocated = may_suspend || instance->suspend_out_of_fuel || lucet_instance_time_slice(instance->instance) ||
                     type->slots_count > USUAL_SLOTS || type->has_exnrefs;
    uint64_t usual[USUAL_SLOTS], *slots = allocated ? allocate_slots(type, instance) : usual;
    lucet_outcome outcome;
    PyObject *result = NULL;
    if (UNLIKELY(!slots))
        return NULL;
    Py_INCREF((PyObject *)instance); /* the caller's may go while it runs; its spare slots are needed afterwards */
    if (set_arguments(slots, type, args, instance) && run(instance, function, ref, slots, allocated, &outcome)) {
        bool suspended = outcome.kind != LUCET_RETURNED;
        result = UNLIKELY(suspended) ? new_suspended(instance, type, slots, &outcome) /* which owns the slots */
                                     : results_object(type, slots, instance);
        allocated = allocated && !suspended;
    }
    if (allocated)
        spare_slots(slots, type, instance);
    Py_DECREF((PyObject *)instance);
    return result;
}

PyObject *call_function(InstanceObject *instance, uint32_t function, const lucet_funcref *ref, PyObject *const *args,
                        Py_ssize_t count) {
    const ItemObject self = {.instance = instance, .ref = ref, .index = function};
    const lucet_functype *type = instance_open(instance) ? func_type(&self) : NULL;
    return type ? call_typed(instance, function, ref, type, args, count) : NULL;
}

static PyObject *no_keywords(void) {
    PyErr_SetString(PyExc_TypeError, "a WebAssembly function takes no keyword arguments");
    return NULL;
}

HIDDEN PyObject *func_vectorcall(PyObject *object, PyObject *const *args, size_t count, PyObject *names) {
    const ItemObject *self = (const ItemObject *)object;
    Py_ssize_t given = (Py_ssize_t)(count & ~PY_VECTORCALL_ARGUMENTS_OFFSET);
    if (names && PyTuple_Size(names) > 0)
        return no_keywords();
    if (self->type && self->instance->instance)
        return call_typed(self->instance, self->index, NULL, self->type, args, given);
    return call_function(self->instance, self->index, self->ref, args, given);
}

/* Func.__call__ by that name; all other calls find func_vectorcall. */
static PyObject *func_call(PyObject *self, PyObject *args, PyObject *keywords) {
    if (keywords && PyDict_Size(keywords) > 0)
        return no_keywords();
    Py_ssize_t count = PyTuple_Size(args);
    PyObject **items = PyMem_Malloc((size_t)(count + 1) * sizeof *items);
    if (!items)
        return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count; i++)
        items[i] = PyTuple_GetItem(args, i); /* borrowed: args stays */
    PyObject *result = func_vectorcall(self, items, (size_t)count, NULL);
    PyMem_Free(items);
    return result;
}

/* A value's bits as an unsigned int. */
static PyObject *raw_object(const uint64_t *slot, uint8_t valtype) {
    if (valtype == VALTYPE_V128)
        return PyObject_CallMethod((PyObject *)&PyLong_Type, "from_bytes", "y#s", (const char *)slot,
                                   (Py_ssize_t)(2 * sizeof *slot), "little");
    bool narrow = valtype == VALTYPE_I32 || valtype == VALTYPE_F32;
    return PyLong_FromUnsignedLongLong(narrow ? (uint32_t)*slot : *slot);
}

/* The other way; bits beyond the value's are dropped. False: an exception is set. */
static bool raw_slots(uint64_t *slot, uint8_t valtype, PyObject *value) {
    *slot = PyLong_AsUnsignedLongLongMask(value);
    if (PyErr_Occurred() || valtype != VALTYPE_V128)
        return !PyErr_Occurred();
    PyObject *width = PyLong_FromLong(64), *high = width ? PyNumber_Rshift(value, width) : NULL;
    slot[1] = high ? PyLong_AsUnsignedLongLongMask(high) : 0;
    Py_XDECREF(width);
    Py_XDECREF(high);
    return !PyErr_Occurred();
}

/* For exact bit patterns (NaN payloads): one unsigned int per value. */
static PyObject *func_call_raw(PyObject *object, PyObject *list) {
    const ItemObject *self = (const ItemObject *)object;
    const lucet_functype *type = instance_open(self->instance) ? func_type(self) : NULL;
    if (!type)
        return NULL;
    for (uint32_t i = 0; i < type->params_count; i++)
        if (is_reference(type->valtypes[i])) {
            PyErr_SetString(PyExc_TypeError, "references cannot be passed as raw slots");
            return NULL;
        }
    Py_ssize_t count = PyList_Check(list) ? PyList_Size(list) : -1;
    if (count != (Py_ssize_t)type->params_count)
        return PyErr_Format(PyExc_TypeError, "a list of %u ints is expected", type->params_count);
    uint64_t *slots = new_slots(type->slots_count, type->has_exnrefs);
    if (!slots)
        return NULL;
    bool ok = true;
    uint64_t *slot = slots;
    for (Py_ssize_t i = 0; ok && i < count; slot += slots_of(type->valtypes[i++]))
        ok = raw_slots(slot, type->valtypes[i], PyList_GetItem(list, i));
    PyObject *result = NULL;
    lucet_outcome outcome;
    if (ok && instance_open(self->instance) && run(self->instance, self->index, self->ref, slots, true, &outcome)) {
        if (outcome.kind != LUCET_RETURNED)
            return new_suspended(self->instance, type, slots, &outcome);
        result = PyList_New((Py_ssize_t)type->results_count);
        const uint8_t *valtypes = type->valtypes + type->params_count;
        slot = slots;
        for (uint32_t i = 0; result && i < type->results_count; slot += slots_of(valtypes[i++])) {
            PyObject *value = raw_object(slot, valtypes[i]);
            if (!value || PyList_SetItem(result, (Py_ssize_t)i, value) < 0)
                Py_CLEAR(result);
        }
    }
    free_slots(slots, type->has_exnrefs);
    return result;
}

static PyObject *func_get_type(PyObject *object, void *unused) {
    (void)unused;
    const lucet_functype *type = func_type((ItemObject *)object);
    PyObject *both = type ? functype_object(type) : NULL;
    PyObject *result = both ? PyObject_CallObject(binding.functype, both) : NULL;
    Py_XDECREF(both);
    return result;
}

static const lucet_funcref *reference_of(const ItemObject *self) {
    if (self->ref || !self->instance->instance)
        return self->ref;
    return lucet_instance_funcref(self->instance->instance, self->index);
}

static PyObject *func_get_name(PyObject *object, void *unused) {
    (void)unused;
    const ItemObject *self = (const ItemObject *)object;
    if (self->ref && !instance_open(self->instance))
        return NULL;
    const lucet_module *module =
        self->ref ? lucet_instance_module(lucet_funcref_instance(self->ref)) : self->instance->linkage->module->module;
    return string_object(
        lucet_module_function_name(module, self->ref ? lucet_funcref_function(self->ref) : self->index));
}

static PyObject *func_compare(PyObject *a, PyObject *b, int operation) {
    if ((operation != Py_EQ && operation != Py_NE) || Py_TYPE(b) != binding.func)
        Py_RETURN_NOTIMPLEMENTED;
    const lucet_funcref *x = reference_of((ItemObject *)a), *y = reference_of((ItemObject *)b);
    bool equal = a == b || (x && x == y);
    return PyBool_FromLong(equal == (operation == Py_EQ));
}

static Py_hash_t func_hash(PyObject *object) {
    const ItemObject *self = (const ItemObject *)object;
    const lucet_funcref *ref = reference_of(self);
    Py_hash_t hash = (Py_hash_t)((uintptr_t)(ref ? (const void *)ref : (const void *)self) >> 4);
    return hash == -1 ? -2 : hash;
}

static PyObject *func_map(PyObject *self, PyObject *args, PyObject *keywords) {
    return call_home("lucet.runtime.columns", "map_function", self, args, keywords);
}

static PyMethodDef func_methods[] = {
    {"map", (PyCFunction)(void (*)(void))func_map, METH_VARARGS | METH_KEYWORDS,
     "map(*columns, out=None) -> array, or tuple of arrays, or None\n\nCall it for each element of arrays, in one run: see lucet.runtime.columns."},
    {"_map", FAST(func_map_columns), NULL},
    {"call_raw", func_call_raw, METH_O,
     "call_raw(slots) -> slots\n\nCall with bit patterns: one unsigned int per argument and result."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef func_getset[] = {
    {"type", func_get_type, NULL, "Its FuncType.", NULL},
    {"name", func_get_name, NULL, "The function's name in the module, or None.", NULL},
    {"instance", item_get_instance, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef func_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(ItemObject, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot func_slots[] = {
    {Py_tp_dealloc, item_dealloc},
    {Py_tp_traverse, item_traverse},
    {Py_tp_methods, func_methods},
    {Py_tp_getset, func_getset},
    {Py_tp_members, func_members},
    {Py_tp_call, func_call},
    {Py_tp_hash, func_hash},
    {Py_tp_richcompare, func_compare},
    {Py_tp_doc, "A function of an instance."},
    {0, NULL},
};

PyType_Spec func_spec = {"lucet.runtime._core.Func", sizeof(ItemObject), 0, ITEM_FLAGS | Py_TPFLAGS_HAVE_VECTORCALL,
                         func_slots};

static bool is_busy(const lucet_instance *instance) {
    if (!lucet_instance_is_busy(instance))
        return false;
    raise_named("InstanceError", "the instance is running on another thread");
    return true;
}

/* For one value; not zero. NULL: an exception is set. */
static uint64_t *value_slots(uint64_t usual[2], uint8_t valtype) {
    return UNLIKELY(is_exnref(valtype)) ? new_slots(1, true) : usual;
}

static void free_value_slots(uint64_t *slots, uint8_t valtype) {
    if (UNLIKELY(is_exnref(valtype)))
        free_slots(slots, true);
}

/* ---- Global ---- */

static uint64_t *global_cell(const ItemObject *self, lucet_externtype *type) {
    lucet_instance *instance = instance_open(self->instance);
    if (!instance)
        return NULL;
    lucet_module_type(lucet_instance_module(instance), LUCET_GLOBAL, self->index, type);
    return lucet_global_cell(instance, self->index);
}

static PyObject *global_get_value(PyObject *object, void *unused) {
    (void)unused;
    lucet_externtype type;
    const ItemObject *self = (ItemObject *)object;
    const uint64_t *cell = global_cell(self, &type);
    if (!cell || !is_exnref(type.valtype))
        return cell ? object_from_slot(cell, type.valtype, self->instance) : NULL;
    uint64_t *slot = new_slots(1, true); /* kept while another thread may change the global */
    PyObject *value = NULL;
    if (slot && lucet_instance_global_get(self->instance->instance, self->index, slot))
        value = object_from_slot(slot, type.valtype, self->instance);
    else if (slot)
        raise_named("InstanceError", "the instance is running on another thread");
    free_slots(slot, true);
    return value;
}

static int global_set_value(PyObject *object, PyObject *value, void *unused) {
    (void)unused;
    ItemObject *self = (ItemObject *)object;
    lucet_externtype type;
    if (!value) {
        PyErr_SetString(PyExc_AttributeError, "a global's value cannot be deleted");
        return -1;
    }
    if (!global_cell(self, &type))
        return -1;
    if (!type.is_mutable) {
        PyErr_SetString(PyExc_AttributeError, "the global is immutable");
        return -1;
    }
    uint64_t usual[2], *slots = value_slots(usual, type.valtype), *cell = NULL;
    if (slots && slot_from_object(slots, type.valtype, type.type_id, value, self->instance))
        cell = global_cell(self, &type); /* again: the conversion may have closed the instance */
    if (cell)
        memcpy(cell, slots, slots_of(type.valtype) * sizeof *cell);
    free_value_slots(slots, type.valtype);
    return cell ? 0 : -1;
}

static PyObject *global_get_raw(PyObject *object, PyObject *unused) {
    (void)unused;
    lucet_externtype type;
    const uint64_t *cell = global_cell((ItemObject *)object, &type);
    return cell ? raw_object(cell, type.valtype) : NULL;
}

static PyObject *global_get_type(PyObject *object, void *unused) {
    (void)unused;
    const ItemObject *self = (ItemObject *)object;
    lucet_externtype type;
    lucet_module_type(self->instance->linkage->module->module, LUCET_GLOBAL, self->index, &type);
    PyObject *none = PyTuple_New(0);
    PyObject *keywords = Py_BuildValue("{s:s,s:O}", "valtype", VALTYPE_NAME(type.valtype, type.type_id), "mutable",
                                       type.is_mutable ? Py_True : Py_False);
    PyObject *result = none && keywords ? PyObject_Call(binding.globaltype, none, keywords) : NULL;
    Py_XDECREF(none);
    Py_XDECREF(keywords);
    return result;
}

static PyMethodDef global_methods[] = {
    {"get_raw", global_get_raw, METH_NOARGS, "get_raw() -> int\n\nThe value's bit pattern."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef global_getset[] = {
    {"value", global_get_value, global_set_value, "The value; may be set if the global is mutable.", NULL},
    {"type", global_get_type, NULL, "Its GlobalType.", NULL},
    {"instance", item_get_instance, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot global_slots[] = {
    {Py_tp_dealloc, item_dealloc}, {Py_tp_traverse, item_traverse},         {Py_tp_methods, global_methods},
    {Py_tp_getset, global_getset}, {Py_tp_doc, "A global of an instance."}, {0, NULL},
};

PyType_Spec global_spec = {"lucet.runtime._core.Global", sizeof(ItemObject), 0, ITEM_FLAGS, global_slots};

/* ---- Table ---- */

static lucet_externtype table_type(const ItemObject *self) {
    lucet_externtype type;
    lucet_module_type(self->instance->linkage->module->module, LUCET_TABLE, self->index, &type);
    return type;
}

static bool table_slot(uint64_t *slot, const ItemObject *self, PyObject *value) {
    lucet_externtype type = table_type(self);
    return slot_from_object(slot, type.valtype, type.type_id, value, self->instance);
}

static PyObject *table_get(PyObject *object, PyObject *at) {
    ItemObject *self = (ItemObject *)object;
    uint8_t valtype = table_type(self).valtype;
    uint64_t i, usual[2], slot;
    lucet_instance *instance;
    if (!offset_from(at, &i) || !(instance = instance_open(self->instance)))
        return NULL;
    uint64_t *kept = value_slots(usual, valtype);
    PyObject *value = NULL;
    if (kept && lucet_instance_table_get(instance, self->index, i, (void **)kept)) {
        memcpy(&slot, kept, sizeof slot);
        value = object_from_slot(&slot, valtype, self->instance);
    } else if (kept && !is_busy(instance)) {
        PyErr_Format(PyExc_IndexError, "the table has no element %llu", (unsigned long long)i);
    }
    free_value_slots(kept, valtype);
    return value;
}

static PyObject *table_set(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    ItemObject *self = (ItemObject *)object;
    uint8_t valtype = table_type(self).valtype;
    uint64_t i, usual[2], *slot = NULL;
    lucet_instance *instance;
    bool ok = false;
    if (arguments_are(count, 2, "set(index, value)") && offset_from(args[0], &i) && instance_open(self->instance) &&
        (slot = value_slots(usual, valtype)) && table_slot(slot, self, args[1]) &&
        (instance = instance_open(self->instance))) {
        ok = lucet_instance_table_set(instance, self->index, i, (void *)(uintptr_t)*slot);
        if (!ok && !is_busy(instance))
            PyErr_Format(PyExc_IndexError, "the table has no element %llu that can be set", (unsigned long long)i);
    }
    free_value_slots(slot, valtype);
    return ok ? Py_NewRef(Py_None) : NULL;
}

static PyObject *grown(lucet_instance *instance, uint64_t before, uint64_t delta) {
    if (before != UINT64_MAX)
        return PyLong_FromUnsignedLongLong(before);
    if (is_busy(instance))
        return NULL;
    if (lucet_instance_state(instance) == LUCET_STATE_SUSPENDED)
        return raise_named("InstanceError", "the table cannot grow while a run is suspended");
    return raise_named("LimitsExceeded", "the table cannot grow by %llu elements", (unsigned long long)delta);
}

static PyObject *table_grow(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    ItemObject *self = (ItemObject *)object;
    uint8_t valtype = table_type(self).valtype;
    uint64_t delta, usual[2], *slot = NULL;
    lucet_instance *instance;
    PyObject *result = NULL;
    if (arguments_are(count, 2, "grow(delta, value)") && offset_from(args[0], &delta) &&
        instance_open(self->instance) && (slot = value_slots(usual, valtype)) && table_slot(slot, self, args[1]) &&
        (instance = instance_open(self->instance)))
        result =
            grown(instance, lucet_instance_table_grow(instance, self->index, delta, (void *)(uintptr_t)*slot), delta);
    free_value_slots(slot, valtype);
    return result;
}

static Py_ssize_t table_length(PyObject *object) {
    const ItemObject *self = (ItemObject *)object;
    lucet_instance *instance = instance_open(self->instance);
    return instance ? (Py_ssize_t)lucet_instance_table_size(instance, self->index) : -1;
}

static PyMethodDef table_methods[] = {
    {"get", table_get, METH_O, "get(index) -> object | Func | None"},
    {"set", FAST(table_set), "set(index, value)"},
    {"grow", FAST(table_grow), "grow(delta, value) -> int\n\nThe number of elements before."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef table_getset[] = {
    {"instance", item_get_instance, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot table_slots[] = {
    {Py_tp_dealloc, item_dealloc},
    {Py_tp_traverse, item_traverse},
    {Py_tp_methods, table_methods},
    {Py_tp_getset, table_getset},
    {Py_sq_length, table_length},
    {Py_tp_doc, "A table of an instance."},
    {0, NULL},
};

PyType_Spec table_spec = {"lucet.runtime._core.Table", sizeof(ItemObject), 0, ITEM_FLAGS, table_slots};
