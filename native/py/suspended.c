/* suspended.c: the type Suspended, a run that a host function has suspended, or that is out of fuel; it goes on, on any thread, with
 * resume(). */

#include "binding.h"

#include <string.h>

typedef struct {
    PyObject_HEAD
    InstanceObject *instance;
    PyObject *value; /* that the host function gave, or OutOfFuel */
    const lucet_functype *type;
    lucet_outcome_kind kind;
    const HostBinding *host; /* whose results the guest is waiting for, or NULL */
    uint64_t *slots;         /* of the call: the guest's entry still refers to them */
    bool has_exnrefs;        /* which the slots are for */
    uint64_t run, *host_slots;
    InstanceObject *host_instance; /* whose host function, fuel or time slice it is */
} SuspendedObject;

/* Whether a run that ended so is to be seen as a Suspended. */
bool is_suspension(const InstanceObject *instance, lucet_outcome_kind kind) {
    return kind == LUCET_SUSPENDED || kind == LUCET_PREEMPTED ||
           (kind == LUCET_OUT_OF_FUEL && instance->suspend_out_of_fuel);
}

/* The value of the new object: a new reference. */
static PyObject *take_value(InstanceObject *host_instance, const lucet_outcome *outcome) {
    if (outcome->kind == LUCET_OUT_OF_FUEL)
        return trap_object(outcome);
    if (outcome->kind == LUCET_PREEMPTED)
        return Py_NewRef(Py_None);
    PyObject *value = host_instance ? host_instance->suspend_value : NULL;
    if (host_instance)
        host_instance->suspend_value = NULL;
    return value ? value : Py_NewRef(Py_None);
}

/* Owns the slots from here on; without memory for the object, the run ends. */
PyObject *new_suspended(InstanceObject *instance, const lucet_functype *type, uint64_t *slots,
                        const lucet_outcome *outcome) {
    InstanceObject *host_instance = lucet_instance_context(outcome->suspended_instance);
    Py_XINCREF((PyObject *)host_instance); /* making an exception may run anything */
    PyObject *value = take_value(host_instance, outcome);
    SuspendedObject *self = value ? PyObject_GC_New(SuspendedObject, binding.suspended) : NULL;
    if (!self) {
        lucet_outcome ended;
        Py_XDECREF(value);
        Py_XDECREF((PyObject *)host_instance);
        if (instance->instance)
            lucet_resume(instance->instance, true, &ended, NULL);
        free_slots(slots, type->has_exnrefs);
        return NULL;
    }
    self->instance = (InstanceObject *)Py_NewRef((PyObject *)instance);
    self->host_instance = host_instance;
    self->value = value;
    self->kind = outcome->kind;
    self->host = outcome->kind == LUCET_SUSPENDED && host_instance ? host_instance->suspend_host : NULL;
    self->type = type;
    self->slots = slots;
    self->has_exnrefs = type->has_exnrefs;
    self->run = outcome->suspended_run;
    self->host_slots = outcome->suspended_slots;
    PyObject_GC_Track((PyObject *)self);
    return (PyObject *)self;
}

static bool is_current(const SuspendedObject *self) {
    return self->slots && self->instance->instance && self->host_instance && self->host_instance->instance &&
           lucet_is_suspended(self->instance->instance, self->run);
}

static bool check_current(const SuspendedObject *self) {
    if (is_current(self))
        return true;
    raise_named("InstanceError", "the run is over, or another one that was suspended later must go on first");
    return false;
}

/* The slots go with the run: on to the next Suspended, or away. */
static PyObject *go_on(SuspendedObject *self, bool terminate, lucet_exception *exception) {
    InstanceObject *instance = self->instance;
    uint64_t *slots = self->slots;
    lucet_outcome outcome;
    lucet_error error;
    Py_INCREF((PyObject *)instance);
    self->slots = NULL;
    GilFrame frame = run_begin(instance);
    lucet_outcome_kind kind = exception ? lucet_resume_throwing(instance->instance, exception, &outcome, &error)
                                        : lucet_resume(instance->instance, terminate, &outcome, &error);
    run_end(instance, frame);
    PyObject *result = NULL;
    if (is_suspension(instance, kind)) {
        result = new_suspended(instance, self->type, slots, &outcome);
        slots = NULL;
    } else if (kind == LUCET_RETURNED) {
        result = results_object(self->type, slots, instance);
    } else if (kind == LUCET_TERMINATED && terminate) {
        result = Py_NewRef(Py_None);
    } else {
        result = finish_call(instance, kind, &outcome, &error);
        Py_CLEAR(result);
    }
    free_slots(slots, self->has_exnrefs);
    Py_DECREF((PyObject *)instance);
    return result;
}

static PyObject *resume(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    SuspendedObject *self = (SuspendedObject *)object;
    if (count > 1) {
        PyErr_SetString(PyExc_TypeError, "resume(result=None)");
        return NULL;
    }
    if (!check_current(self))
        return NULL;
    if (!self->host) {
        if (!count || args[0] == Py_None)
            return go_on(self, false, NULL);
        PyErr_SetString(PyExc_TypeError, "the run waits for fuel or time, not for a result");
        return NULL;
    }
    uint32_t results = self->host->type.slots_count;
    bool has_exnrefs = self->host->type.has_exnrefs;
    uint64_t *converted = new_slots(results, has_exnrefs);
    if (!converted)
        return NULL;
    /* Converting may run Python code, which may have ended the run: only then may its stack be written. */
    bool ok =
        set_host_results(self->host, count ? args[0] : Py_None, converted, self->host_instance) && check_current(self);
    if (ok)
        memcpy(self->host_slots, converted, results * sizeof *converted);
    free_slots(converted, has_exnrefs);
    if (!ok)
        return NULL;
    return go_on(self, false, NULL);
}

/* As if the host function had raised it. */
static PyObject *suspended_throw(PyObject *object, PyObject *value) {
    SuspendedObject *self = (SuspendedObject *)object;
    if (!PyExceptionInstance_Check(value)) {
        PyErr_Format(PyExc_TypeError, "an exception is expected, not %R", value);
        return NULL;
    }
    if (!check_current(self))
        return NULL;
    int is = self->host ? is_exception(value) : 0;
    if (is < 0)
        return NULL;
    if (is) {
        lucet_exception *exception = make_exception(value, self->host_instance);
        /* Making it may run Python code, which may have ended the run. */
        PyObject *result = exception && check_current(self) ? go_on(self, false, exception) : NULL;
        if (exception)
            lucet_exception_release(exception);
        return result;
    }
    PyObject *none = go_on(self, true, NULL);
    if (none)
        PyErr_SetObject((PyObject *)Py_TYPE(value), value);
    Py_XDECREF(none);
    return NULL;
}

static PyObject *suspended_close(PyObject *object, PyObject *unused) {
    (void)unused;
    SuspendedObject *self = (SuspendedObject *)object;
    if (!self->slots || !self->instance->instance)
        return Py_NewRef(Py_None);
    return check_current(self) ? go_on(self, true, NULL) : NULL;
}

static PyObject *get_value(PyObject *object, void *unused) {
    (void)unused;
    PyObject *value = ((SuspendedObject *)object)->value;
    return Py_NewRef(value ? value : Py_None);
}

static PyObject *get_instance(PyObject *object, void *unused) {
    (void)unused;
    return Py_NewRef((PyObject *)((SuspendedObject *)object)->instance);
}

static PyObject *get_reason(PyObject *object, void *unused) {
    (void)unused;
    lucet_outcome_kind kind = ((SuspendedObject *)object)->kind;
    return PyUnicode_FromString(kind == LUCET_SUSPENDED ? "host" : kind == LUCET_OUT_OF_FUEL ? "fuel" : "time");
}

static PyObject *get_waiting(PyObject *object, void *unused) {
    (void)unused;
    PyObject *waiting = (PyObject *)((SuspendedObject *)object)->host_instance;
    return Py_NewRef(waiting ? waiting : Py_None);
}

static int traverse(PyObject *object, visitproc visit, void *arg) {
    SuspendedObject *self = (SuspendedObject *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->instance);
    Py_VISIT(self->host_instance);
    Py_VISIT(self->value);
    return 0;
}

static int clear(PyObject *object) {
    Py_CLEAR(((SuspendedObject *)object)->value);
    return 0;
}

/* Nobody can let it go on any more: the guest's frames are dropped, and the instance can be used again. */
static void dealloc(PyObject *object) {
    SuspendedObject *self = (SuspendedObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    if (is_current(self)) {
        lucet_outcome outcome;
        lucet_resume(self->instance->instance, true, &outcome, NULL);
    }
    /* The slots of a run that an outer one holds back may still be written: by nobody, as it is never resumed. */
    free_slots(self->slots, self->has_exnrefs);
    Py_CLEAR(self->value);
    Py_CLEAR(self->host_instance);
    Py_CLEAR(self->instance);
    PyObject_GC_Del(object);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"resume", (PyCFunction)(void (*)(void))resume, METH_FASTCALL,
     "resume(result=None) -> result of the run, or Suspended again\n\nGo on: result is what the host function returns."},
    {"throw", suspended_throw, METH_O,
     "throw(exception) -> result of the run, or Suspended again\n\nAs if the host function had raised it: a WasmException is thrown\nat the guest, any other ends the run and is raised."},
    {"close", suspended_close, METH_NOARGS, "close()\n\nEnd the run: the guest's frames are dropped."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"value", get_value, NULL, "What the host function suspended with; the OutOfFuel of a run that is out of fuel.",
     NULL},
    {"instance", get_instance, NULL, "That was called.", NULL},
    {"reason", get_reason, NULL,
     "\"host\": a host function suspended it; \"fuel\": there is none; \"time\": its slice is over.", NULL},
    {"waiting", get_waiting, NULL, "Whose host function suspended, or whose fuel is spent: this or a linked instance.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_doc, "A run that a host function suspended by returning lucet.Suspend(value), or that is out of fuel."},
    {0, NULL},
};

PyType_Spec suspended_spec = {"lucet.runtime._core.Suspended", sizeof(SuspendedObject), 0,
                              Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
