/* binding.h: what the files of the Python binding share. Only the public header of the core is used; limited API, 3.11+. */
#ifndef LUCET_BINDING_H
#define LUCET_BINDING_H

#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#include "lucet.h"

/* Parts of the limited API from 3.12 on that have been the same since 3.9. Functions among them are looked up when the extension is
   imported (binding.call_vector): a wheel for the stable ABI of 3.11 may have no undefined symbols beyond it. */
#if Py_LIMITED_API + 0 < 0x030C0000
typedef PyObject *(*vectorcallfunc)(PyObject *callable, PyObject *const *args, size_t count, PyObject *names);
#define PY_VECTORCALL_ARGUMENTS_OFFSET ((size_t)1 << (8 * sizeof(size_t) - 1))
#define Py_TPFLAGS_HAVE_VECTORCALL (1UL << 11)
#endif

#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define HIDDEN __attribute__((visibility("hidden")))

enum { VALTYPE_I32 = 0x7f, VALTYPE_I64 = 0x7e, VALTYPE_F32 = 0x7d, VALTYPE_F64 = 0x7c, VALTYPE_V128 = 0x7b };
enum { VALTYPE_FUNCREF = 0x70, VALTYPE_EXTERNREF = 0x6f, VALTYPE_EXNREF = 0x69 };
enum { VALTYPE_NULLFUNCREF = 0x73, VALTYPE_NULLEXTERNREF = 0x72, VALTYPE_NULLEXNREF = 0x74 };
enum { REF_CONCRETE = 0x63, REF_NON_NULL = 0x80 };

typedef struct {
    PyObject_HEAD
    lucet_module *module;
    PyObject *exports;      /* dict: name -> index << 3 | kind */
    PyObject *bare_linkage; /* for a module without imports; made when first needed */
    PyObject *weakrefs;
} ModuleObject;

/* What one imported host function calls. */
typedef struct {
    PyObject *callable;
    lucet_functype type;
    bool wants_caller;
    PyObject *native; /* WasiFunction that is called first, or NULL */
    lucet_wasi_call wasi_call;
} HostBinding;

/* One of the core's calls: see HostFunction.native. */
typedef struct {
    PyObject_HEAD
    lucet_wasi *wasi;
    char module[32], name[32];
} WasiFunctionObject;

typedef struct {
    PyObject_HEAD
    lucet_linkage *linkage;
    ModuleObject *module;
    PyObject *kept; /* list: the objects that were imported */
    bool links_instances;
    Py_ssize_t bindings_count;
    HostBinding *bindings;
} LinkageObject;

typedef struct {
    PyObject_HEAD
    lucet_budget *budget;
} BudgetObject;

typedef struct {
    PyObject_HEAD
    lucet_region *region;
    PyObject *weakrefs;
} RegionObject;

typedef struct {
    PyObject_HEAD
    lucet_instance *instance; /* NULL once closed */
    RegionObject *region;
    LinkageObject *linkage;
    PyObject
        *externrefs;  /* dict: objects that the guest may hold, and the dicts of linked instances; NULL until needed */
    Py_ssize_t calls; /* runs under way: counted before the GIL is given up */
    Py_ssize_t views; /* buffers of its memory that are alive */
    uint32_t long_runs; /* score: see gil.c */
    bool suspend_out_of_fuel;
    PyObject *user_context;  /* whatever the embedder put there; NULL for None */
    PyObject *suspend_value; /* between a host function's return and the end of the run that it suspends */
    const HostBinding *suspend_host;
    uint64_t *spare_slots; /* USUAL_SLOTS of them, allocated, for a run that may be suspended; NULL if there are none */
    PyObject *weakrefs;
} InstanceObject;

/* Func, Memory, Table and Global: something of an instance. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    InstanceObject *instance;
    const lucet_funcref *ref;   /* Func that came as a reference; else by index */
    const lucet_functype *type; /* of a Func by index */
    uint32_t index;
    uint8_t kind; /* lucet_kind */
} ItemObject;

typedef struct {
    PyTypeObject *module, *linkage, *region, *instance, *func, *memory, *shared_memory, *table, *global, *view,
        *suspended, *budget, *tag, *wasi, *wasi_file, *wasi_function;
    /* classes of lucet.runtime and lucet.wasm.types, which lucet.runtime sets */
    PyObject *host_function, *suspend, *exports, *globals, *functype, *globaltype;
    PyObject *errors;           /* module lucet.errors */
    vectorcallfunc call_vector; /* PyObject_Vectorcall */
} BindingState;

extern HIDDEN BindingState binding; /* one interpreter only: single-phase initialisation */

/* errors.c: all return NULL with an exception set */
HIDDEN PyObject *raise_named(const char *name, const char *format, ...);
HIDDEN PyObject *raise_error(const lucet_error *error, PyObject *path);
HIDDEN PyObject *raise_trap(const lucet_outcome *outcome);
HIDDEN PyObject *outcome_function(const lucet_outcome *outcome); /* name and offset, or None */
HIDDEN PyObject *outcome_offset(const lucet_outcome *outcome);
HIDDEN PyObject *frames_object(void);                       /* of the run that has just ended */
HIDDEN PyObject *trap_object(const lucet_outcome *outcome); /* the exception itself */

/* values.c */
static inline uint32_t slots_of(uint8_t valtype) {
    return valtype == VALTYPE_V128 ? 2 : 1;
}
HIDDEN bool slot_from_object(uint64_t *slot, uint8_t valtype, uint64_t type_id, PyObject *value,
                             InstanceObject *instance);
HIDDEN PyObject *object_from_slot(const uint64_t *slot, uint8_t valtype, InstanceObject *instance);
HIDDEN bool is_reference(uint8_t valtype);
HIDDEN bool is_exnref(uint8_t valtype);
HIDDEN uint64_t type_id_at(const lucet_functype *type, uint32_t i); /* of parameters and results */
HIDDEN const char *valtype_name(uint8_t valtype, uint64_t type_id, char name[LUCET_VALTYPE_NAME_SIZE]);
/* until the end of the block */
#define VALTYPE_NAME(valtype, type_id) valtype_name(valtype, type_id, (char[LUCET_VALTYPE_NAME_SIZE]){0})
HIDDEN PyObject *functype_object(const lucet_functype *type);
HIDDEN bool keep_externref(InstanceObject *instance, PyObject *object);

/* module.c */
HIDDEN bool module_export(ModuleObject *module, PyObject *name, lucet_kind *kind, uint32_t *index);
HIDDEN PyObject *string_object(lucet_string string);

/* linkage.c */
HIDDEN LinkageObject *link_module(ModuleObject *module, PyObject *imports);
HIDDEN lucet_host_result call_python(lucet_instance *instance, uint64_t *slots, void *data);
extern HIDDEN _Thread_local lucet_instance *calling_instance; /* whose host function this thread executes */

/* exception.c */
HIDDEN PyObject *new_tag(lucet_tag *tag);
HIDDEN PyObject *exception_object(const lucet_exception *exception, const lucet_outcome *outcome,
                                  InstanceObject *instance);
HIDDEN PyObject *raise_exception(const lucet_outcome *outcome, InstanceObject *instance);
HIDDEN bool exnref_slot(uint64_t *slot, PyObject *value, InstanceObject *instance);
/* Slots for a call of the type, zero, or for other values; with exnrefs among them, what they refer to is kept. NULL: an exception is
 * set. */
HIDDEN uint64_t *new_slots(uint32_t count, bool has_exnrefs);
HIDDEN void free_slots(uint64_t *slots, bool has_exnrefs);
HIDDEN PyObject *exnref_object(uint64_t value, InstanceObject *instance);
HIDDEN lucet_host_result throw_pending(InstanceObject *instance); /* the Python exception that is set */
HIDDEN bool tag_import(PyObject *value, lucet_import *import);

/* exception.c: is_exception: whether a value is a WasmException, -1: an exception is set; make_exception: NULL with one set */
HIDDEN int is_exception(PyObject *value);
HIDDEN lucet_exception *make_exception(PyObject *value, InstanceObject *instance);

/* suspended.c */
HIDDEN bool is_suspension(const InstanceObject *instance, lucet_outcome_kind kind);
HIDDEN PyObject *new_suspended(InstanceObject *instance, const lucet_functype *type, uint64_t *slots,
                               const lucet_outcome *outcome);
HIDDEN bool set_host_results(const HostBinding *host, PyObject *result, uint64_t *slots, InstanceObject *instance);
HIDDEN PyObject *results_object(const lucet_functype *type, const uint64_t *slots, InstanceObject *instance);

/* instance.c */
HIDDEN PyObject *new_instance(RegionObject *region, LinkageObject *linkage, const lucet_instance_limits *limits,
                              PyObject *context /* or NULL */, bool starts);
HIDDEN PyObject *instance_item(InstanceObject *instance, lucet_kind kind, uint32_t index);
HIDDEN lucet_instance *instance_open(InstanceObject *instance); /* NULL and InstanceError if closed */
HIDDEN bool nanoseconds_from_object(uint64_t *nanoseconds, PyObject *value, const char *name);
/* None: INT64_MAX, no limit. */
HIDDEN bool limit_from_object(int64_t *limit, PyObject *value, const char *name);
HIDDEN bool fuel_from_object(int64_t *fuel, PyObject *value, const lucet_module *module);
HIDDEN PyObject *finish_call(InstanceObject *instance, lucet_outcome_kind kind, const lucet_outcome *outcome,
                             const lucet_error *error);

/* gil.c: around a run of guest code, and around the calls of host functions in it */
typedef struct {
    PyThreadState *outer;
    uint64_t ticks;
} GilFrame;
HIDDEN void gil_initialise(void);
HIDDEN GilFrame run_begin(InstanceObject *instance);
HIDDEN void run_end(InstanceObject *instance, GilFrame frame);
HIDDEN bool gil_call_begin(void); /* what gil_call_end is to be given */
HIDDEN void gil_call_end(bool held);
/* In a host function that is not Python's: from now on the run goes on without the GIL. */
HIDDEN void gil_let_go(void);
/* And after that, when a system call was interrupted: whether a signal's handler has raised an exception. */
HIDDEN bool gil_signals_raise(void);

/* wasi.c */
HIDDEN void wasi_initialise(void);
HIDDEN PyObject *wasi_wait(PyObject *self, PyObject *args);

/* items.c */
enum { ITEM_FLAGS = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION };
#define FAST(function) (PyCFunction)(void (*)(void))(function), METH_FASTCALL
HIDDEN int item_traverse(PyObject *object, visitproc visit, void *arg);
HIDDEN void item_dealloc(PyObject *object);
HIDDEN PyObject *item_get_instance(PyObject *object, void *unused);
HIDDEN bool offset_from(PyObject *object, uint64_t *offset);
HIDDEN bool arguments_are(Py_ssize_t count, Py_ssize_t wanted, const char *usage);
HIDDEN PyObject *new_item(lucet_kind kind, InstanceObject *instance, uint32_t index, const lucet_funcref *ref);
/* module.function(self, *args, **keywords): what is Python, and needed only when somebody uses it. */
HIDDEN PyObject *call_home(const char *module, const char *function, PyObject *self, PyObject *args,
                           PyObject *keywords);
HIDDEN const lucet_functype *func_type(const ItemObject *self); /* NULL: an exception is set */
HIDDEN PyObject *call_function(InstanceObject *instance, uint32_t function, const lucet_funcref *ref,
                               PyObject *const *args, Py_ssize_t count);

/* columns.c */
HIDDEN PyObject *func_map_columns(PyObject *object, PyObject *const *args, Py_ssize_t count);

/* dlpack.c */
HIDDEN PyObject *memory_dlpack(PyObject *object, PyObject *args, PyObject *keywords);
HIDDEN PyObject *memory_dlpack_device(PyObject *object, PyObject *unused);

/* memory.c */
HIDDEN PyObject *instance_read(PyObject *object, PyObject *const *args, Py_ssize_t count);
HIDDEN PyObject *shared_memory_object(lucet_memory *memory);
HIDDEN lucet_memory *shared_memory_of(PyObject *object); /* NULL if it is none */

/* the types, each in its file */
extern HIDDEN PyType_Spec module_spec, linkage_spec, region_spec, instance_spec, func_spec, memory_spec,
    shared_memory_spec, table_spec, global_spec, view_spec, suspended_spec, budget_spec, tag_spec, wasi_spec,
    wasi_file_spec, wasi_function_spec;

#endif
