/* region.c: the type Region. */

#include "binding.h"

#include <stddef.h>
#include <structmember.h>

/* ---- Budget ---- */

static PyObject *budget_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"limit", NULL};
    unsigned long long limit;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "K:Budget", names, &limit))
        return NULL;
    lucet_error error;
    lucet_budget *budget = lucet_budget_new(limit, &error);
    if (!budget)
        return raise_error(&error, NULL);
    BudgetObject *self = (BudgetObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (self)
        self->budget = budget;
    else
        lucet_budget_release(budget);
    return (PyObject *)self;
}

static PyObject *get_budget_limit(PyObject *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(lucet_budget_limit(((BudgetObject *)self)->budget));
}

static PyObject *get_budget_used(PyObject *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLongLong(lucet_budget_used(((BudgetObject *)self)->budget));
}

static void budget_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    lucet_budget_release(((BudgetObject *)object)->budget);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyGetSetDef budget_getset[] = {
    {"limit", get_budget_limit, NULL, "Bytes.", NULL},
    {"used", get_budget_used, NULL, "Bytes of memory that instances have now.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot budget_slots[] = {
    {Py_tp_new, budget_new},
    {Py_tp_dealloc, budget_dealloc},
    {Py_tp_getset, budget_getset},
    {Py_tp_doc, "Budget(limit)\n\nBytes of memory that the instances of all regions made with it may have together."},
    {0, NULL},
};

PyType_Spec budget_spec = {"lucet.runtime._core.Budget", sizeof(BudgetObject), 0, Py_TPFLAGS_DEFAULT, budget_slots};

/* ---- Region ---- */

static PyObject *region_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"slots",       "memory_limit",  "memory_reserved", "memory_guard", "stack_size", "stacks",
                            "table_limit", "instance_area", "random_slots",    "track_writes", "budget",     NULL};
    lucet_region_config config = lucet_region_defaults();
    unsigned long long memory_limit = config.memory_limit, reserved = config.memory_reserved,
                       guard = config.memory_guard, stack = config.stack_size, tables = config.table_limit;
    PyObject *budget = Py_None;
    int random = config.random_slots, track = config.track_writes;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|I$KKKKIKIppO:Region", names, &config.slots, &memory_limit,
                                     &reserved, &guard, &stack, &config.stacks, &tables, &config.instance_area, &random,
                                     &track, &budget))
        return NULL;
    if (budget != Py_None && !PyObject_TypeCheck(budget, binding.budget)) {
        PyErr_SetString(PyExc_TypeError, "budget must be a lucet.Budget");
        return NULL;
    }
    if (budget != Py_None)
        config.budget = ((BudgetObject *)budget)->budget;
    config.memory_limit = memory_limit;
    config.memory_reserved = reserved;
    config.memory_guard = guard;
    config.stack_size = stack;
    config.table_limit = tables;
    config.random_slots = random != 0;
    config.track_writes = track != 0;
    lucet_error error;
    lucet_region *region = lucet_region_new(&config, &error);
    if (!region)
        return error.code == LUCET_ERROR_ARGUMENT ? (PyErr_SetString(PyExc_ValueError, error.message), NULL)
                                                  : raise_error(&error, NULL);
    RegionObject *self = (RegionObject *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self) {
        lucet_region_release(region);
        return NULL;
    }
    self->region = region;
    return (PyObject *)self;
}

static bool is_module(PyObject *object) {
    if (PyObject_TypeCheck(object, binding.module))
        return true;
    PyErr_SetString(PyExc_TypeError, "a lucet.Module is expected");
    return false;
}

static PyObject *region_link(PyObject *self, PyObject *const *args, Py_ssize_t count) {
    (void)self;
    if (count < 1 || count > 2) {
        PyErr_SetString(PyExc_TypeError, "link(module, imports=None)");
        return NULL;
    }
    return is_module(args[0]) ? (PyObject *)link_module((ModuleObject *)args[0], count > 1 ? args[1] : Py_None) : NULL;
}

static LinkageObject *linkage_for(PyObject *what, PyObject *imports) {
    if (Py_TYPE(what) == binding.linkage) {
        if (imports == Py_None)
            return (LinkageObject *)Py_NewRef(what);
        PyErr_SetString(PyExc_TypeError, "the linkage has its imports already");
        return NULL;
    }
    if (!is_module(what))
        return NULL;
    ModuleObject *module = (ModuleObject *)what;
    if (lucet_module_imports_count(module->module) > 0)
        return link_module(module, imports);
    if (!module->bare_linkage)
        module->bare_linkage = (PyObject *)link_module(module, Py_None);
    return (LinkageObject *)Py_XNewRef(module->bare_linkage);
}

#define NEW_INSTANCE                                                                                                   \
    "new_instance(module, imports=None, *, memory_limit=0, table_limit=0, fuel=None, host_calls=None, timeout=None, "  \
    "context=None, start=True)"

/* module: or a Linkage. */
static PyObject *region_new_instance(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    lucet_instance_limits limits = {0};
    PyObject *fuel = Py_None, *context = NULL;
    int starts = 1;
    PyObject *imports = count > 1 ? args[1] : Py_None;
    Py_ssize_t keywords = names ? PyTuple_Size(names) : 0;
    if (count < 1 || count > 2) {
        PyErr_SetString(PyExc_TypeError, NEW_INSTANCE);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < keywords; i++) {
        PyObject *name = PyTuple_GetItem(names, i), *value = args[count + i];
        uint64_t *limit = PyUnicode_CompareWithASCIIString(name, "memory_limit") == 0  ? &limits.memory
                          : PyUnicode_CompareWithASCIIString(name, "table_limit") == 0 ? &limits.table
                                                                                       : NULL;
        if (limit) {
            *limit = PyLong_AsUnsignedLongLong(value);
            if (PyErr_Occurred())
                return NULL;
        } else if (PyUnicode_CompareWithASCIIString(name, "context") == 0) {
            context = value;
        } else if (PyUnicode_CompareWithASCIIString(name, "start") == 0) {
            if ((starts = PyObject_IsTrue(value)) < 0)
                return NULL;
        } else if (PyUnicode_CompareWithASCIIString(name, "imports") == 0 && count == 1) {
            imports = value;
        } else if (PyUnicode_CompareWithASCIIString(name, "fuel") == 0) {
            fuel = value;
        } else if (PyUnicode_CompareWithASCIIString(name, "host_calls") == 0) {
            if (!limit_from_object(&limits.host_calls, value, "host_calls"))
                return NULL;
            limits.host_calls = limits.host_calls ? limits.host_calls : -1;
        } else if (PyUnicode_CompareWithASCIIString(name, "timeout") == 0) {
            if (!nanoseconds_from_object(&limits.timeout, value, "timeout"))
                return NULL;
        } else {
            return PyErr_Format(PyExc_TypeError, "new_instance() got an unexpected argument %R", name);
        }
    }
    LinkageObject *linkage = linkage_for(args[0], imports);
    if (!linkage)
        return NULL;
    if (fuel != Py_None) {
        if (!fuel_from_object(&limits.fuel, fuel, linkage->module->module)) {
            Py_DECREF((PyObject *)linkage);
            return NULL;
        }
        limits.fuel = limits.fuel ? limits.fuel : -1;
    }
    PyObject *instance = new_instance((RegionObject *)self, linkage, keywords ? &limits : NULL, context, starts);
    Py_DECREF((PyObject *)linkage);
    return instance;
}

static PyObject *get_capacity(PyObject *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLong(lucet_region_capacity(((RegionObject *)self)->region));
}

static PyObject *get_used(PyObject *self, void *unused) {
    (void)unused;
    return PyLong_FromUnsignedLong(lucet_region_used(((RegionObject *)self)->region));
}

static void dealloc(PyObject *object) {
    RegionObject *self = (RegionObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->weakrefs)
        PyObject_ClearWeakRefs(object);
    if (self->region)
        lucet_region_release(self->region);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"link", (PyCFunction)(void (*)(void))region_link, METH_FASTCALL,
     "link(module, imports=None) -> Linkage\n\nBind the imports once, for many instances."},
    {"new_instance", (PyCFunction)(void (*)(void))region_new_instance, METH_FASTCALL | METH_KEYWORDS,
     NEW_INSTANCE " -> Instance\n\n"
                  "Instantiate a module (or a Linkage) in a free slot, and run its start function."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"capacity", get_capacity, NULL, "Slots in all.", NULL},
    {"used", get_used, NULL, "Slots that hold an instance.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(RegionObject, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, region_new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_members, members},
    {Py_tp_doc, "Region(slots=100, *, memory_limit, memory_reserved, memory_guard, stack_size, stacks, table_limit,\n"
                "       instance_area, random_slots, track_writes, budget)\n\n"
                "Address space, reserved once, in slots for instances. Sizes are in bytes."},
    {0, NULL},
};

PyType_Spec region_spec = {"lucet.runtime._core.Region", sizeof(RegionObject), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};
