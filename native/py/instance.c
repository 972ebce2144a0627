/* instance.c: the type Instance. */

#include "binding.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <structmember.h>

lucet_instance *instance_open(InstanceObject *instance) {
    if (!instance->instance)
        raise_named("InstanceError", "the instance is closed");
    return instance->instance;
}

/* What a run ended with, with the GIL held again. NULL: an exception is set; else None. */
PyObject *finish_call(InstanceObject *instance, lucet_outcome_kind kind, const lucet_outcome *outcome,
                      const lucet_error *error) {
    switch (kind) {
    case LUCET_RETURNED:
        Py_RETURN_NONE;
    case LUCET_TRAPPED:
        /* An interrupt may be Ctrl-C's. */
        return PyErr_CheckSignals() < 0 ? NULL : raise_trap(outcome);
    case LUCET_THREW:
        return raise_exception(outcome, instance);
    case LUCET_TERMINATED:
        if (!PyErr_Occurred())
            raise_named("InstanceError", "the run was ended by its host function");
        return NULL;
    case LUCET_SUSPENDED:
    case LUCET_PREEMPTED:
        return raise_named("InstanceError", "the start function was suspended");
    case LUCET_OUT_OF_FUEL: {
        lucet_outcome ended;
        lucet_resume(instance->instance, true, &ended, NULL);
        return raise_trap(outcome);
    }
    case LUCET_FAILED:
        return raise_error(error, NULL);
    }
    return NULL;
}

/* ---- making and closing ---- */

/* Objects that one of the instances holds live as long as either instance: each dict keeps the other. */
static bool share_externrefs(InstanceObject *a, InstanceObject *b) {
    if ((!a->externrefs && !(a->externrefs = PyDict_New())) || (!b->externrefs && !(b->externrefs = PyDict_New())))
        return false;
    PyObject *a_key = PyLong_FromVoidPtr(a->externrefs), *b_key = PyLong_FromVoidPtr(b->externrefs);
    bool ok = a_key && b_key && PyDict_SetItem(a->externrefs, b_key, b->externrefs) == 0 &&
              PyDict_SetItem(b->externrefs, a_key, a->externrefs) == 0;
    Py_XDECREF(a_key);
    Py_XDECREF(b_key);
    return ok;
}

static bool start(InstanceObject *self) {
    if (!lucet_instance_needs_start(self->instance))
        return true;
    lucet_outcome outcome;
    lucet_error error;
    GilFrame frame = run_begin(self);
    lucet_outcome_kind kind = lucet_instance_start(self->instance, &outcome, &error);
    while (kind == LUCET_PREEMPTED)
        kind = lucet_resume(self->instance, false, &outcome, &error);
    run_end(self, frame);
    PyObject *none = finish_call(self, kind, &outcome, &error);
    Py_XDECREF(none);
    return none != NULL;
}

/* The same for a host that lets it wait, and gives it time slices: None, or a Suspended. */
static PyObject *instance_start(PyObject *object, PyObject *unused) {
    (void)unused;
    static const lucet_functype type; /* neither parameters nor results */
    InstanceObject *self = (InstanceObject *)object;
    lucet_outcome outcome;
    lucet_error error;
    if (!instance_open(self))
        return NULL;
    uint64_t *slots = new_slots(1, false);
    if (!slots)
        return NULL;
    Py_INCREF(object);
    GilFrame frame = run_begin(self);
    lucet_outcome_kind kind = lucet_instance_start(self->instance, &outcome, &error);
    run_end(self, frame);
    PyObject *result = NULL;
    if (is_suspension(self, kind)) {
        result = new_suspended(self, &type, slots, &outcome); /* which owns the slots */
    } else {
        free_slots(slots, false);
        result = finish_call(self, kind, &outcome, &error);
    }
    Py_DECREF(object);
    return result;
}

PyObject *new_instance(RegionObject *region, LinkageObject *linkage, const lucet_instance_limits *limits,
                       PyObject *context, bool starts) {
    lucet_error error;
    lucet_instance *instance = lucet_instance_new(region->region, linkage->linkage, limits, &error);
    if (!instance)
        return raise_error(&error, NULL);
    InstanceObject *self = PyObject_GC_New(InstanceObject, binding.instance);
    if (!self) {
        lucet_instance_free(instance);
        return NULL;
    }
    self->instance = instance;
    self->region = (RegionObject *)Py_NewRef((PyObject *)region);
    self->linkage = (LinkageObject *)Py_NewRef((PyObject *)linkage);
    self->externrefs = self->weakrefs = NULL;
    self->calls = self->views = 0;
    self->long_runs = 0;
    self->user_context = Py_XNewRef(context);
    self->suspend_value = NULL;
    self->suspend_host = NULL;
    self->spare_slots = NULL;
    self->suspend_out_of_fuel = false;
    lucet_instance_set_context(instance, self);
    PyObject_GC_Track((PyObject *)self);
    bool ok = true;
    for (Py_ssize_t i = 0; ok && i < PyList_Size(linkage->kept); i++)
        ok = share_externrefs((InstanceObject *)PyList_GetItem(linkage->kept, i), self);
    if (!ok || (starts && !start(self)))
        Py_CLEAR(self);
    return (PyObject *)self;
}

/* Instances that are linked to it may go on to call its functions, and those the core's WASI, which knows nothing of this object:
 * what it calls with must live as long as they do. Python's host functions are not called any more: see call_python. */
static void leave_linkage(InstanceObject *self) {
    bool calls_core = false;
    for (Py_ssize_t i = 0; i < self->linkage->bindings_count; i++)
        calls_core |= self->linkage->bindings[i].native != NULL;
    if (!self->externrefs || !calls_core)
        return;
    PyObject *type, *value, *traceback; /* what is being raised while this is dropped */
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *key = PyLong_FromVoidPtr(self->linkage);
    if (!key || PyDict_SetItem(self->externrefs, key, (PyObject *)self->linkage) < 0)
        Py_INCREF((PyObject *)self->linkage); /* for ever */
    Py_XDECREF(key);
    PyErr_Restore(type, value, traceback);
}

static void close_now(InstanceObject *self) {
    lucet_instance *instance = self->instance;
    self->instance = NULL;
    if (instance) {
        leave_linkage(self);
        lucet_instance_set_context(instance, NULL);
        lucet_instance_free(instance);
    }
    Py_CLEAR(self->externrefs);
}

/* Views and runs must be over before the memory may change under them. */
static bool is_idle(InstanceObject *self, const char *what) {
    if (self->calls) {
        raise_named("InstanceError", "the instance is running: it cannot be %s", what);
        return false;
    }
    if (self->views) {
        PyErr_Format(PyExc_BufferError, "%zd views of the instance's memory exist: it cannot be %s", self->views, what);
        return false;
    }
    return true;
}

static PyObject *instance_close(PyObject *object, PyObject *unused) {
    (void)unused;
    InstanceObject *self = (InstanceObject *)object;
    if (self->instance && !is_idle(self, "closed"))
        return NULL;
    close_now(self);
    Py_RETURN_NONE;
}

static PyObject *instance_reset(PyObject *object, PyObject *unused) {
    (void)unused;
    InstanceObject *self = (InstanceObject *)object;
    lucet_error error;
    if (!instance_open(self) || !is_idle(self, "reset"))
        return NULL;
    if (!lucet_instance_reset(self->instance, &error))
        return raise_error(&error, NULL);
    Py_CLEAR(self->externrefs);
    return start(self) ? Py_NewRef(Py_None) : NULL;
}

static PyObject *instance_enter(PyObject *self, PyObject *unused) {
    (void)unused;
    return Py_NewRef(self);
}

static PyObject *instance_exit(PyObject *self, PyObject *args) {
    (void)args;
    return instance_close(self, NULL);
}

/* ---- contents ---- */

PyObject *instance_item(InstanceObject *instance, lucet_kind kind, uint32_t index) {
    return new_item(kind, instance, index, NULL);
}

static bool find_export(InstanceObject *self, PyObject *name, lucet_kind *kind, uint32_t *index) {
    if (!PyUnicode_Check(name)) {
        PyErr_SetString(PyExc_TypeError, "the name of an export is a str");
        return false;
    }
    if (module_export(self->linkage->module, name, kind, index))
        return true;
    if (!PyErr_Occurred())
        PyErr_Format(PyExc_KeyError, "the module has no export named %R", name);
    return false;
}

/* run(name, *args): the result, None, or a tuple */
static PyObject *instance_run(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    InstanceObject *self = (InstanceObject *)object;
    lucet_kind kind;
    uint32_t index;
    if (count < 1) {
        PyErr_SetString(PyExc_TypeError, "run(name, *args)");
        return NULL;
    }
    if (!find_export(self, args[0], &kind, &index))
        return NULL;
    if (kind != LUCET_FUNC)
        return PyErr_Format(PyExc_TypeError, "the export %R is not a function", args[0]);
    return call_function(self, index, NULL, args + 1, count - 1);
}

static PyObject *instance_call(PyObject *self, PyObject *args, PyObject *keywords) {
    return call_home("lucet.aio", "call", self, args, keywords);
}

static PyObject *instance_export(PyObject *object, PyObject *name) {
    InstanceObject *self = (InstanceObject *)object;
    lucet_kind kind;
    uint32_t index;
    if (!instance_open(self) || !find_export(self, name, &kind, &index))
        return NULL;
    if (kind == LUCET_TAG)
        return new_tag(lucet_instance_tag(self->instance, index));
    return instance_item(self, kind, index);
}

/* Of table 0, whether it is exported or not: guests name functions to their host by their index there. */
static PyObject *instance_element(PyObject *object, PyObject *at) {
    InstanceObject *self = (InstanceObject *)object;
    uint64_t i;
    void *reference;
    lucet_externtype type;
    lucet_instance *instance;
    if (!offset_from(at, &i) || !(instance = instance_open(self)))
        return NULL;
    const lucet_module *module = lucet_instance_module(instance);
    if (!lucet_module_type(module, LUCET_TABLE, 0, &type) || !lucet_instance_table_get(instance, 0, i, &reference))
        return PyErr_Format(PyExc_IndexError, "table 0 has no element %llu", (unsigned long long)i);
    uint64_t slot = (uint64_t)(uintptr_t)reference;
    return object_from_slot(&slot, type.valtype, self);
}

static PyObject *instance_export_names(PyObject *object, PyObject *unused) {
    (void)unused;
    return PySequence_List(((InstanceObject *)object)->linkage->module->exports);
}

static PyObject *instance_interrupt(PyObject *object, PyObject *unused) {
    (void)unused;
    InstanceObject *self = (InstanceObject *)object;
    if (!instance_open(self))
        return NULL;
    return PyBool_FromLong(lucet_instance_interrupt(self->instance));
}

static PyObject *get_memory(PyObject *object, void *unused) {
    (void)unused;
    InstanceObject *self = (InstanceObject *)object;
    if (!instance_open(self))
        return NULL;
    if (!lucet_instance_memory(self->instance, 0))
        return raise_named("InstanceError", "the module has no memory");
    return instance_item(self, LUCET_MEMORY, 0);
}

/* lucet.runtime's Exports and Globals: mappings by name. */
static PyObject *get_exports(PyObject *self, void *unused) {
    (void)unused;
    return PyObject_CallFunctionObjArgs(binding.exports, self, NULL);
}

static PyObject *get_globals(PyObject *self, void *unused) {
    (void)unused;
    return PyObject_CallFunctionObjArgs(binding.globals, self, NULL);
}

static PyObject *get_context(PyObject *object, void *unused) {
    (void)unused;
    PyObject *context = ((InstanceObject *)object)->user_context;
    return Py_NewRef(context ? context : Py_None);
}

static int set_context(PyObject *object, PyObject *value, void *unused) {
    (void)unused;
    PyObject *before = ((InstanceObject *)object)->user_context;
    ((InstanceObject *)object)->user_context = Py_XNewRef(value);
    Py_XDECREF(before);
    return 0;
}

static PyObject *get_timeout(PyObject *object, void *unused) {
    (void)unused;
    lucet_instance *instance = instance_open((InstanceObject *)object);
    if (!instance)
        return NULL;
    uint64_t timeout = lucet_instance_timeout(instance);
    return timeout ? PyFloat_FromDouble((double)timeout / 1e9) : Py_NewRef(Py_None);
}

/* Of seconds; None and deletion are 0. */
bool nanoseconds_from_object(uint64_t *nanoseconds, PyObject *value, const char *name) {
    *nanoseconds = 0;
    if (!value || value == Py_None)
        return true;
    double seconds = PyFloat_AsDouble(value);
    if (seconds == -1.0 && PyErr_Occurred())
        return false;
    if (!(seconds > 0 && seconds < 1e9)) {
        PyErr_Format(PyExc_ValueError, "a %s is a positive number of seconds, or None", name);
        return false;
    }
    *nanoseconds = (uint64_t)(seconds * 1e9) + 1;
    return true;
}

static int set_timeout(PyObject *object, PyObject *value, void *unused) {
    (void)unused;
    uint64_t nanoseconds;
    lucet_instance *instance =
        nanoseconds_from_object(&nanoseconds, value, "timeout") ? instance_open((InstanceObject *)object) : NULL;
    if (!instance)
        return -1;
    lucet_instance_set_timeout(instance, nanoseconds);
    return 0;
}

static PyObject *get_memory_used(PyObject *object, void *unused) {
    (void)unused;
    lucet_instance *instance = instance_open((InstanceObject *)object);
    return instance ? PyLong_FromUnsignedLongLong(lucet_instance_usage(instance).memory) : NULL;
}

/* (host calls, bytes of memory, whether a limit refused memory, or table entries) */
static PyObject *get_raw_usage(PyObject *object, void *unused) {
    (void)unused;
    lucet_instance *instance = instance_open((InstanceObject *)object);
    if (!instance)
        return NULL;
    lucet_usage usage = lucet_instance_usage(instance);
    return Py_BuildValue("(KKNN)", (unsigned long long)usage.host_calls, (unsigned long long)usage.memory,
                         PyBool_FromLong(usage.memory_refused), PyBool_FromLong(usage.table_refused));
}

static PyObject *get_time_slice(PyObject *object, void *unused) {
    (void)unused;
    lucet_instance *instance = instance_open((InstanceObject *)object);
    if (!instance)
        return NULL;
    uint64_t slice = lucet_instance_time_slice(instance);
    return slice ? PyFloat_FromDouble((double)slice / 1e9) : Py_NewRef(Py_None);
}

static int set_time_slice(PyObject *object, PyObject *value, void *unused) {
    (void)unused;
    uint64_t nanoseconds;
    lucet_instance *instance =
        nanoseconds_from_object(&nanoseconds, value, "time slice") ? instance_open((InstanceObject *)object) : NULL;
    if (!instance)
        return -1;
    lucet_instance_set_time_slice(instance, nanoseconds);
    return 0;
}

static int set_inner_runs_wait(PyObject *object, PyObject *value, void *unused) {
    (void)unused;
    lucet_instance *instance = instance_open((InstanceObject *)object);
    int yes = value ? PyObject_IsTrue(value) : 0;
    if (!instance || yes < 0)
        return -1;
    lucet_instance_let_inner_runs_wait(instance, yes);
    return 0;
}

static bool check_counts(const lucet_module *module) {
    if (lucet_module_counts_instructions(module))
        return true;
    raise_named("InstanceError", "the module was compiled without count_instructions");
    return false;
}

bool limit_from_object(int64_t *limit, PyObject *value, const char *name) {
    *limit = INT64_MAX;
    if (!value || value == Py_None)
        return true;
    *limit = PyLong_AsLongLong(value);
    if (*limit == -1 && PyErr_Occurred())
        return false;
    if (*limit < 0 || *limit == INT64_MAX) {
        PyErr_Format(PyExc_ValueError, "%s must be a number from 0 to 2**63 - 2, or None", name);
        return false;
    }
    return true;
}

static PyObject *limit_object(int64_t left) {
    return left == INT64_MAX ? Py_NewRef(Py_None) : PyLong_FromLongLong(left > 0 ? left : 0);
}

bool fuel_from_object(int64_t *fuel, PyObject *value, const lucet_module *module) {
    return limit_from_object(fuel, value, "fuel") && check_counts(module);
}

static PyObject *get_fuel(PyObject *object, void *unused) {
    (void)unused;
    lucet_instance *instance = instance_open((InstanceObject *)object);
    if (!instance)
        return NULL;
    return limit_object(lucet_instance_fuel(instance));
}

static int set_fuel(PyObject *object, PyObject *value, void *unused) {
    (void)unused;
    InstanceObject *self = (InstanceObject *)object;
    int64_t fuel;
    /* Converting may run Python code, which may close the instance. */
    if (!instance_open(self) || !fuel_from_object(&fuel, value, self->linkage->module->module) || !instance_open(self))
        return -1;
    lucet_instance_set_fuel(self->instance, fuel);
    return 0;
}

static PyObject *get_host_calls(PyObject *object, void *unused) {
    (void)unused;
    lucet_instance *instance = instance_open((InstanceObject *)object);
    return instance ? limit_object(lucet_instance_host_calls(instance)) : NULL;
}

static int set_host_calls(PyObject *object, PyObject *value, void *unused) {
    (void)unused;
    int64_t calls;
    lucet_instance *instance =
        limit_from_object(&calls, value, "host_calls") ? instance_open((InstanceObject *)object) : NULL;
    if (!instance)
        return -1;
    lucet_instance_set_host_calls(instance, calls);
    return 0;
}

static PyObject *get_suspend_out_of_fuel(PyObject *object, void *unused) {
    (void)unused;
    return PyBool_FromLong(((InstanceObject *)object)->suspend_out_of_fuel);
}

static int set_suspend_out_of_fuel(PyObject *object, PyObject *value, void *unused) {
    (void)unused;
    InstanceObject *self = (InstanceObject *)object;
    int suspend = value ? PyObject_IsTrue(value) : 0;
    if (suspend < 0 || !instance_open(self) || !check_counts(self->linkage->module->module))
        return -1;
    self->suspend_out_of_fuel = suspend;
    return 0;
}

static PyObject *get_fuel_used(PyObject *object, void *unused) {
    (void)unused;
    lucet_instance *instance = instance_open((InstanceObject *)object);
    if (!instance || !check_counts(lucet_instance_module(instance)))
        return NULL;
    return PyLong_FromUnsignedLongLong(lucet_instance_fuel_used(instance));
}

static PyObject *get_state(PyObject *object, void *unused) {
    (void)unused;
    InstanceObject *self = (InstanceObject *)object;
    return PyUnicode_FromString(self->instance ? lucet_state_text(lucet_instance_state(self->instance)) : "closed");
}

static PyObject *get_module(PyObject *object, void *unused) {
    (void)unused;
    return Py_NewRef((PyObject *)((InstanceObject *)object)->linkage->module);
}

static PyObject *get_region(PyObject *object, void *unused) {
    (void)unused;
    return Py_NewRef((PyObject *)((InstanceObject *)object)->region);
}

/* ---- the type ---- */

static int traverse(PyObject *object, visitproc visit, void *arg) {
    InstanceObject *self = (InstanceObject *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->linkage);
    Py_VISIT(self->externrefs);
    Py_VISIT(self->user_context);
    Py_VISIT(self->suspend_value);
    return 0;
}

static int clear(PyObject *object) {
    InstanceObject *self = (InstanceObject *)object;
    if (!self->calls && !self->views)
        close_now(self);
    Py_CLEAR(self->user_context);
    Py_CLEAR(self->suspend_value);
    return 0;
}

static void dealloc(PyObject *object) {
    InstanceObject *self = (InstanceObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    if (self->weakrefs)
        PyObject_ClearWeakRefs(object);
    close_now(self);
    Py_CLEAR(self->user_context);
    Py_CLEAR(self->suspend_value);
    free(self->spare_slots);
    Py_CLEAR(self->linkage);
    Py_CLEAR(self->region);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"run", (PyCFunction)(void (*)(void))instance_run, METH_FASTCALL,
     "run(name, *args) -> result\n\nCall an exported function: None, one value or a tuple."},
    {"call", (PyCFunction)(void (*)(void))instance_call, METH_VARARGS | METH_KEYWORDS,
     "await call(function, *args, time_slice=None, executor=None) -> result\n\nAs run, without blocking the event loop: see lucet.aio.call."},
    {"export", instance_export, METH_O, "export(name) -> Func | Memory | Table | Global | Tag"},
    {"_element", instance_element, METH_O,
     "_element(index) -> object | Func | None\n\nOf table 0, exported or not. IndexError."},
    {"_read", FAST(instance_read),
     "_read(pointer, size) -> bytes\n\nOf memory 0; both are i32 of the guest, signed or not."},
    {"_start", instance_start, METH_NOARGS,
     "_start() -> None | Suspended\n\nThe start function of an instance that was made with start=False."},
    {"_export_names", instance_export_names, METH_NOARGS, NULL},
    {"reset", instance_reset, METH_NOARGS, "reset()\n\nBack to the state of a new instance, in the same slot."},
    {"close", instance_close, METH_NOARGS, "close()\n\nGive the slot back; every later use raises InstanceError."},
    {"interrupt", instance_interrupt, METH_NOARGS,
     "interrupt() -> bool\n\nFrom any thread: end what runs in the instance with Trap INTERRUPTED."},
    {"__enter__", instance_enter, METH_NOARGS, NULL},
    {"__exit__", instance_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"memory", get_memory, NULL, "Memory 0.", NULL},
    {"exports", get_exports, NULL, "Mapping: name -> Func, Memory, Table, Global or Tag.", NULL},
    {"globals", get_globals, NULL, "Mapping: name -> exported Global.", NULL},
    {"context", get_context, set_context, "Anything that host functions are to find with their caller.", NULL},
    {"timeout", get_timeout, set_timeout,
     "Seconds of wall-clock time that each later run may take, or None; a run that takes longer raises TimedOut.",
     NULL},
    {"_memory_used", get_memory_used, NULL, "Bytes of its memories.", NULL},
    {"_raw_usage", get_raw_usage, NULL, NULL, NULL},
    {"time_slice", get_time_slice, set_time_slice,
     "Seconds of computing after which a later run is suspended, or None: run gives a Suspended.", NULL},
    {"_inner_runs_wait", NULL, set_inner_runs_wait,
     "Whether runs that host functions make have time slices, too, and may begin while the guest is suspended in one.",
     NULL},
    {"fuel", get_fuel, set_fuel,
     "Instructions that may still be executed, or None; a run that needs more raises OutOfFuel. Only when compiled with\n"
     "count_instructions.",
     NULL},
    {"host_calls", get_host_calls, set_host_calls,
     "Calls of imported functions that there may still be, or None; one more raises Trap, HOST_CALLS_EXHAUSTED.", NULL},
    {"suspend_out_of_fuel", get_suspend_out_of_fuel, set_suspend_out_of_fuel,
     "Whether a run that is out of fuel is suspended, instead of raising OutOfFuel.", NULL},
    {"fuel_used", get_fuel_used, NULL, "Instructions executed since the instance was new, or reset.", NULL},
    {"state", get_state, NULL, "\"ready\", \"running\", \"suspended\", \"faulted\", \"closed\" ...", NULL},
    {"module", get_module, NULL, NULL, NULL},
    {"region", get_region, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(InstanceObject, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_members, members},
    {Py_tp_doc, "A sandbox: an instance of a module in a region's slot."},
    {0, NULL},
};

PyType_Spec instance_spec = {"lucet.runtime._core.Instance", sizeof(InstanceObject), 0,
                             Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
