/* lucet.h: the public C API of the Lucet runtime, usable without Python. x86-64 Linux.
 *
 * Ownership rules
 *  1. Every object is created by a function that returns a pointer the caller owns, or NULL with *error filled in.
 *  2. Modules, linkages and regions are reference counted: lucet_X_release gives up one reference. Whatever needs another
 *     object keeps its own reference to it: a linkage its module, an instance its linkage and its region.
 *  3. An instance is owned by its creator until lucet_instance_free, which must not be called while it runs. Its slot goes
 *     back to the region at once, unless it is linked to other instances (rule 4). The pointer is then invalid.
 *  4. Instances that share functions, tables, globals, or memories that are not shared ones, through imports form one group. Slots of a group are given
 *     back together, when lucet_instance_free has been called for its last instance. One thread at a time may run in a group.
 *  5. Pointers that a function returns into an object (strings, types, memory) live as long as that object. The base of a
 *     memory never moves; its size only grows, until its instance is reset or freed.
 *  6. A host function runs on the host's stack, on the thread that runs the guest, and may call any function of this API,
 *     other than freeing or resetting the instances of the group that called it. It must return, not jump out;
 *     and as the ABI demands, with the floating-point control modes (MXCSR) that it was called with: the guest goes on with them.
 *  7. `data` pointers given to the API are never dereferenced or freed by it.
 *  8. lucet_error objects are the caller's; functions write them only when they fail. NULL is allowed.
 *  9. Any function may be called from any thread; objects of one group are not to be used by two threads at once, except that
 *     lucet_instance_interrupt may be called from any thread, at any time while the instance exists.
 */
#ifndef LUCET_H
#define LUCET_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lucet_module lucet_module;
typedef struct lucet_linkage lucet_linkage;
typedef struct lucet_region lucet_region;
typedef struct lucet_instance lucet_instance;
typedef struct lucet_table lucet_table;
typedef struct lucet_memory lucet_memory;
typedef struct lucet_tag lucet_tag;
typedef struct lucet_exception lucet_exception;

/* ---- errors ---- */

typedef enum lucet_error_code {
    LUCET_ERROR_ARTIFACT = 1, /* not an artifact that this runtime and this machine can run */
    LUCET_ERROR_LINK,         /* an import is missing or does not match */
    LUCET_ERROR_LIMITS,       /* the region's limits do not allow it */
    LUCET_ERROR_REGION_FULL,  /* no free slot, or no free stack */
    LUCET_ERROR_STATE,        /* the instance's state does not allow it */
    LUCET_ERROR_ARGUMENT,     /* an index out of range, a wrong kind */
    LUCET_ERROR_MEMORY,       /* the system has no memory left */
    LUCET_ERROR_SYSTEM        /* a system call failed */
} lucet_error_code;

typedef struct lucet_error {
    lucet_error_code code;
    int system_errno; /* for LUCET_ERROR_SYSTEM */
    char message[244];
} lucet_error;

/* ---- values ---- */

typedef enum lucet_kind { LUCET_FUNC, LUCET_TABLE, LUCET_MEMORY, LUCET_GLOBAL, LUCET_TAG } lucet_kind;

/* A function type. Value types are the bytes of the binary format: 0x7f i32, 0x7e i64, 0x7d f32, 0x7c f64, 0x7b v128,
 * 0x70 funcref, 0x6f externref, and others that lucet_valtype_name gives names to. Arguments and results travel in 8-byte slots: i32 and f32 in the low half, v128 in two. */
typedef struct lucet_functype {
    uint64_t id;
    uint32_t params_count, results_count;
    const uint8_t *valtypes; /* parameters, then results */
    const uint64_t
        *type_ids;        /* as many: which type's functions a value type refers to, 0 if it is not of that kind; NULL
                                 if they are all 0 */
    uint32_t slots_count; /* what a call needs: the larger of arguments and results */
    bool has_exnrefs;     /* among them: then the slots should be those of lucet_slots_new */
} lucet_functype;

/* In the text format's notation, "funcref" or "(ref null #0123456789abcdef)", where the digits are type_id; always ended. */
enum { LUCET_VALTYPE_NAME_SIZE = 32 };
void lucet_valtype_name(uint8_t valtype, uint64_t type_id, char name[LUCET_VALTYPE_NAME_SIZE]);

/* Whether values of the first type may stand where values of the second are expected. */
bool lucet_valtype_matches(uint8_t valtype, uint64_t type_id, uint8_t expected, uint64_t expected_id);

/* A reference to a function: what a funcref value points to. Lives as long as the instance's group. */
typedef struct lucet_funcref lucet_funcref;

/* ---- modules: loaded artifacts ---- */

/* path must name a regular file that stays unchanged while the module is loaded. */
lucet_module *lucet_module_load(const char *path, lucet_error *error);
lucet_module *lucet_module_load_bytes(const void *bytes, size_t size, lucet_error *error);
void lucet_module_retain(lucet_module *module);
void lucet_module_release(lucet_module *module);

typedef struct lucet_string {
    const char *bytes; /* UTF-8, not terminated */
    uint32_t size;
} lucet_string;

typedef struct lucet_limits {
    uint64_t minimum, maximum; /* maximum is UINT64_MAX if there is none */
} lucet_limits;

typedef struct lucet_externtype {
    lucet_kind kind;
    uint8_t valtype;         /* global: value type; table: reference type */
    uint64_t type_id;        /* global, table: which type's functions, if valtype refers to those; else 0 */
    bool is_mutable;         /* global */
    bool is_64;              /* table, memory: indices and addresses are i64 */
    bool is_shared;          /* memory */
    uint8_t page_size_log2;  /* memory: 16, or 0 for pages of one byte */
    lucet_limits limits;     /* table: elements; memory: pages */
    lucet_functype functype; /* func, tag */
} lucet_externtype;

typedef struct lucet_import_info {
    lucet_string module, field;
    lucet_kind kind;
    uint32_t index;
} lucet_import_info;

typedef struct lucet_export_info {
    lucet_string name;
    lucet_kind kind;
    uint32_t index;
} lucet_export_info;

uint32_t lucet_module_imports_count(const lucet_module *module);
uint32_t lucet_module_exports_count(const lucet_module *module);
lucet_import_info lucet_module_import(const lucet_module *module, uint32_t i);
lucet_export_info lucet_module_export(const lucet_module *module, uint32_t i);
bool lucet_module_find_export(const lucet_module *module, const char *name, size_t size, lucet_export_info *found);
/* The declared type of item `index` of an index space; false if there is none. */
bool lucet_module_type(const lucet_module *module, lucet_kind kind, uint32_t index, lucet_externtype *type);
/* Of function `index` of the index space; NULL if there is none. Lives as long as the module. */
const lucet_functype *lucet_module_functype(const lucet_module *module, uint32_t index);
/* The function's name for people; {NULL, 0} if the module has none. */
lucet_string lucet_module_function_name(const lucet_module *module, uint32_t index);
/* The module's DWARF lines, packed as docs/artifact.md says; no bytes if it has none. */
lucet_string lucet_module_sources(const lucet_module *module);
lucet_string lucet_module_producer(const lucet_module *module);
const uint8_t *lucet_module_source_digest(const lucet_module *module); /* 32 bytes: SHA-256 of the .wasm */

/* ---- linkages: a module with its imports bound ---- */

/* What a host function returns. */
typedef enum lucet_host_result {
    LUCET_HOST_OK = 0,    /* results are in the slots */
    LUCET_HOST_SUSPEND,   /* the run ends with LUCET_SUSPENDED; lucet_resume goes on after the call */
    LUCET_HOST_TERMINATE, /* the run ends with LUCET_TERMINATED; the guest's frames are dropped */
    LUCET_HOST_THROW      /* what lucet_throw returns */
} lucet_host_result;

/* slots: arguments on entry, results on return. instance is the one whose code made the call. */
typedef lucet_host_result (*lucet_host_function)(lucet_instance *instance, uint64_t *slots, void *data);

typedef struct lucet_import {
    enum {
        LUCET_IMPORT_HOST_FUNCTION,
        LUCET_IMPORT_VALUE,  /* an immutable global */
        LUCET_IMPORT_TAG,    /* a tag of the host's */
        LUCET_IMPORT_MEMORY, /* a shared memory */
        LUCET_IMPORT_ITEM    /* item `index` of another instance's index space of the import's kind */
    } from;
    lucet_host_function function;
    void *data;
    uint64_t value[2];
    lucet_instance *instance;
    uint32_t index;
    lucet_tag *tag;       /* the linkage keeps a reference */
    lucet_memory *memory; /* likewise */
} lucet_import;

/* imports: one for each import of the module, in its order; types are checked where there is a type to check (a host function
 * is trusted to have the type that is imported). */
lucet_linkage *lucet_link(lucet_module *module, const lucet_import *imports, size_t count, lucet_error *error);
void lucet_linkage_retain(lucet_linkage *linkage);
void lucet_linkage_release(lucet_linkage *linkage);

/* ---- regions ---- */

/* Bytes of memory that the instances of all regions with the same budget may have together. */
typedef struct lucet_budget lucet_budget;
lucet_budget *lucet_budget_new(uint64_t limit, lucet_error *error);
void lucet_budget_retain(lucet_budget *budget);
void lucet_budget_release(lucet_budget *budget);
uint64_t lucet_budget_limit(const lucet_budget *budget);
uint64_t lucet_budget_used(const lucet_budget *budget);

typedef struct lucet_region_config {
    uint32_t slots;           /* instances at once */
    uint64_t memory_reserved; /* address space per memory: 4 GiB, less for modules compiled with explicit checks, or
                                 more for 64-bit memories */
    uint64_t memory_guard;    /* bytes after it that fault */
    uint64_t memory_limit;    /* bytes that the memories of one instance may have together */
    uint64_t stack_size;      /* bytes of guest stack */
    uint32_t stacks;          /* guest stacks at once, running or suspended; 0: as needed */
    uint64_t table_limit;     /* elements that one table may have */
    uint32_t instance_area;   /* bytes per slot for globals, imports and function references */
    lucet_budget *budget;     /* NULL for none; the region keeps a reference */
    bool random_slots;        /* take free slots in random order, not last freed first */
    bool track_writes;        /* know exactly which pages were written: for slots that are used again and again */
} lucet_region_config;

/* With memory_guard 0 and without track_writes, slots are packed: only modules compiled with explicit bounds checks fit, and
 * instance_area may be any multiple of 64 bytes. */
/* 100 slots, 4 GiB + 32 MiB, 4 GiB of memory, 1 MiB stacks, 10,000,000 elements, 1 MiB area, writes tracked. */
lucet_region_config lucet_region_defaults(void);
lucet_region *lucet_region_new(const lucet_region_config *config, lucet_error *error);
void lucet_region_retain(lucet_region *region);
void lucet_region_release(lucet_region *region);
uint32_t lucet_region_capacity(const lucet_region *region);
uint32_t lucet_region_used(const lucet_region *region);

/* ---- instances ---- */

typedef enum lucet_state {
#define STATE(name, text) LUCET_STATE_##name,
#include "states.def"
#undef STATE
} lucet_state;

/* Per instance, at most the region's; 0 means the region's. */
typedef struct lucet_instance_limits {
    uint64_t memory;  /* bytes of all memories together */
    uint64_t table;   /* elements of each table */
    int64_t fuel;     /* as of lucet_instance_set_fuel, before the start function runs; 0: unlimited, negative: none */
    uint64_t timeout; /* as of lucet_instance_set_timeout, for the start function, too */
    int64_t host_calls; /* as of lucet_instance_set_host_calls, likewise; 0: unlimited, negative: none */
} lucet_instance_limits;

lucet_instance *lucet_instance_new(lucet_region *region, lucet_linkage *linkage, const lucet_instance_limits *limits,
                                   lucet_error *error);
/* As if new: memory, globals, tables; the start function is due again. Error while running, suspended, or in a group. */
bool lucet_instance_reset(lucet_instance *instance, lucet_error *error);
void lucet_instance_free(lucet_instance *instance);
lucet_state lucet_instance_state(const lucet_instance *instance);
const char *lucet_state_text(lucet_state state);
lucet_module *lucet_instance_module(const lucet_instance *instance);
lucet_region *lucet_instance_region(const lucet_instance *instance);
/* What it has used since it was new, or reset. */
typedef struct lucet_usage {
    uint64_t host_calls; /* of its module's imported functions */
    uint64_t memory;     /* bytes of its own memories, which only grow */
    bool memory_refused; /* a limit or budget, not the module's own maximum, has kept a memory from growing */
    bool table_refused;  /* likewise a table */
} lucet_usage;
lucet_usage lucet_instance_usage(const lucet_instance *instance);
/* How many calls of its module's imported functions there may be from now on; the next one ends the run with trap HOST_CALLS_EXHAUSTED.
 * Not while it runs, but for its host functions. */
#define LUCET_HOST_CALLS_UNLIMITED INT64_MAX
void lucet_instance_set_host_calls(lucet_instance *instance, int64_t calls);
/* What is left of them. LUCET_HOST_CALLS_UNLIMITED if there is no bound. */
int64_t lucet_instance_host_calls(const lucet_instance *instance);
void lucet_instance_set_context(lucet_instance *instance, void *context);
void *lucet_instance_context(const lucet_instance *instance);

typedef enum lucet_outcome_kind {
    LUCET_RETURNED,    /* results are in the slots */
    LUCET_TRAPPED,     /* trap, module, function, wasm_offset say which and where */
    LUCET_SUSPENDED,   /* a host function returned LUCET_HOST_SUSPEND: suspended_* */
    LUCET_TERMINATED,  /* a host function returned LUCET_HOST_TERMINATE */
    LUCET_THREW,       /* an exception that nobody caught: exception; module and so on say where it was thrown */
    LUCET_OUT_OF_FUEL, /* suspended: see lucet_instance_set_fuel; trap and so on say where */
    LUCET_PREEMPTED,   /* suspended: see lucet_instance_set_time_slice */
    LUCET_FAILED       /* nothing ran: see the error */
} lucet_outcome_kind;

#define LUCET_NO_OFFSET UINT32_MAX

typedef struct lucet_outcome {
    lucet_outcome_kind kind;
    uint32_t trap;              /* a code of traps.def */
    const lucet_module *module; /* of the function that trapped; NULL if unknown */
    uint32_t function;          /* its index */
    uint32_t wasm_offset;       /* in the .wasm; LUCET_NO_OFFSET if unknown */
    lucet_exception *exception; /* of LUCET_THREW: a reference that is the caller's to release */
    uint64_t *suspended_slots;  /* where the results of the suspended host function go */
    lucet_instance *suspended_instance;
    uint32_t suspended_function;
    uint64_t suspended_run; /* tells this suspension from all others: see lucet_is_suspended */
} lucet_outcome;

/* A frame of the guest. */
typedef struct lucet_frame {
    const lucet_module *module;
    uint32_t function;
    uint32_t wasm_offset; /* of the instruction that trapped, or of the call; LUCET_NO_OFFSET if unknown */
} lucet_frame;
#define LUCET_MAX_FRAMES 64

/* The frames of the guest where the last run on this thread that trapped, threw or was out of fuel ended, innermost first; is_cut:
 * there were more. Valid until the thread's next run, and as long as the modules are. */
const lucet_frame *lucet_backtrace(uint32_t *count, bool *is_cut);

const char *lucet_trap_name(uint32_t trap); /* "UNREACHABLE" */
const char *lucet_trap_text(uint32_t trap); /* "unreachable" */

/* Run what instantiation still owes: initialisers and the start function. Must have returned before anything else is run.
 * lucet_instance_needs_start says whether there is anything to run. */
bool lucet_instance_needs_start(const lucet_instance *instance);
bool lucet_module_needs_start(const lucet_module *module); /* when its instances are new */
lucet_outcome_kind lucet_instance_start(lucet_instance *instance, lucet_outcome *outcome, lucet_error *error);

/* Call a function; slots holds the arguments and receives the results (functype.slots_count of them at least). It must stay valid
 * until the run is over: results of a run that was suspended are written there, too. */
lucet_outcome_kind lucet_call(lucet_instance *instance, uint32_t function, uint64_t *slots, lucet_outcome *outcome,
                              lucet_error *error);
lucet_outcome_kind lucet_call_ref(lucet_instance *instance, const lucet_funcref *ref, uint64_t *slots,
                                  lucet_outcome *outcome, lucet_error *error);
/* Many calls in one run, one for each row of slots: whatever ends the run ends all of them, and a timeout is for all together. Slots,
 * end and stride may change in `next` only, which is called when slots == end, before the first row too: by the thread that runs,
 * on the host's stack, as host functions are. It puts rows into memory of its own and says where, or returns false: that was all.
 * When a run has ended early, `slots` is the row that it ended in; rows before that have their results. */
typedef struct lucet_rows {
    uint64_t *slots; /* of the next call: as for lucet_call */
    uint64_t *end;   /* behind the last row; a multiple of the stride beyond slots */
    uint64_t stride; /* bytes */
    bool (*next)(struct lucet_rows *rows);
    void *data; /* for it */
} lucet_rows;

/* The rows must stay valid until the run is over, however often it is suspended. */
lucet_outcome_kind lucet_call_many(lucet_instance *instance, uint32_t function, lucet_rows *rows,
                                   lucet_outcome *outcome, lucet_error *error);
lucet_outcome_kind lucet_call_ref_many(lucet_instance *instance, const lucet_funcref *ref, lucet_rows *rows,
                                       lucet_outcome *outcome, lucet_error *error);
/* Whether it is the suspension of that number that lucet_resume would end, not one of an inner or later run. */
bool lucet_is_suspended(lucet_instance *instance, uint64_t suspended_run);
/* Go on after LUCET_SUSPENDED, LUCET_OUT_OF_FUEL or LUCET_PREEMPTED, on any thread. With terminate, the guest's frames are dropped instead. */
lucet_outcome_kind lucet_resume(lucet_instance *instance, bool terminate, lucet_outcome *outcome, lucet_error *error);
/* After LUCET_SUSPENDED only: as if the host function had thrown the exception, with lucet_throw. */
lucet_outcome_kind lucet_resume_throwing(lucet_instance *instance, lucet_exception *exception, lucet_outcome *outcome,
                                         lucet_error *error);
/* Stop what runs in the instance's group: the run ends with trap INTERRUPTED, at once in guest code, else when the host
 * function returns. False if nothing runs there. */
bool lucet_instance_interrupt(lucet_instance *instance);
/* A limit for the wall-clock time of each later run of the instance (the time while it is suspended does not end it, but counts);
 * the run ends with trap TIMED_OUT. 0: none. Generated code pays nothing for it. */
void lucet_instance_set_timeout(lucet_instance *instance, uint64_t nanoseconds);
uint64_t lucet_instance_timeout(const lucet_instance *instance);
/* A run that computes for so long is suspended with LUCET_PREEMPTED, wherever it is in guest code, and goes on with lucet_resume for as
 * long again. Time in host functions counts, too, but nothing is suspended before one returns, nor, unless
 * lucet_instance_let_inner_runs_wait says so, a run that it makes in the same group. 0: never. Generated code pays nothing for it. */
void lucet_instance_set_time_slice(lucet_instance *instance, uint64_t nanoseconds);
uint64_t lucet_instance_time_slice(const lucet_instance *instance);
/* Whether a run that a host function makes in the same group has a time slice, too. When it is suspended, the host function is to return
 * LUCET_HOST_SUSPEND: then lucet_resume goes on with the inner run first, and, when that is over, with the outer one. And whether
 * such a run may be begun while a host function has its guest suspended. */
void lucet_instance_let_inner_runs_wait(lucet_instance *instance, bool yes);
/* Called in the signal handler when generated code faults in a way that no trap explains: a defect of the compiler or the machine,
 * after which the process cannot be trusted. Then whoever had the signal before is called. pc, address: of the fault. */
typedef void (*lucet_fatal_hook)(lucet_instance *instance, int signal, const void *pc, const void *address);
void lucet_set_fatal_hook(lucet_fatal_hook hook);
/* For a host that holds a lock of its own while guests run: lucet_poke makes the thread call `poked` in a signal handler if it is
 * running guest code just then, which holds nothing of the host's; else nothing happens. `poked` is also called, not in a handler,
 * on a thread whose guest is going to sleep in memory.atomic.wait. */
void lucet_set_poked(void (*poked)(void));
void lucet_poke(pthread_t thread);
/* From now on, when a thread gets this signal (SIGINT for Ctrl-C) while it runs guest code, the run ends with trap INTERRUPTED,
 * after whoever had the signal before has been called. Again when someone else has taken the signal since. */
bool lucet_interrupt_on(int signal, lucet_error *error);
/* The same for that signal, if a handler other than the default has taken it meanwhile. One system call. */
void lucet_interrupt_again(void);

/* ---- tags and exceptions ---- */

/* A tag of the host's, to be imported: its type's parameters are what exceptions carry, and it has no results. The type is copied;
 * its id must be that of such a function type (as those of a module's functions and tags are). */
lucet_tag *lucet_tag_new(const lucet_functype *type, lucet_error *error);
void lucet_tag_retain(lucet_tag *tag);
void lucet_tag_release(lucet_tag *tag);
const lucet_functype *lucet_tag_type(const lucet_tag *tag);
/* Tag `index` of the instance's index space; NULL if there is none. Retain it to have it longer than the instance lives. */
lucet_tag *lucet_instance_tag(const lucet_instance *instance, uint32_t index);

/* An exception of the host's, with its values: one slot each, v128 two. References in it belong to the group that they come from. */
lucet_exception *lucet_exception_new(lucet_tag *tag, const uint64_t *slots, lucet_error *error);
void lucet_exception_retain(lucet_exception *exception);
void lucet_exception_release(lucet_exception *exception);
lucet_tag *lucet_exception_tag(const lucet_exception *exception);
const uint64_t *lucet_exception_slots(const lucet_exception *exception);
/* Throw it at the guest: a host function that was called with this instance must return what this returns. */
lucet_host_result lucet_throw(lucet_instance *instance, lucet_exception *exception);
/* Values of type exnref are copies: the exception that a guest's value, not null, stands for; and one as a value for guests of the
 * instance's group, written to *value. Nothing keeps a value of which guests have no reference once guest code of the group runs,
 * on whatever thread, but slots of lucet_slots_new. Error while the group runs on another thread, or is suspended by its time slice. */
lucet_exception *lucet_exnref_get(uint64_t value, lucet_error *error);
bool lucet_exnref_new(lucet_instance *instance, lucet_exception *exception, uint64_t *value, lucet_error *error);
/* Slots, zero, for arguments and results of calls and other values of type exnref, which are kept as long as they stand there. NULL:
 * out of memory. */
uint64_t *lucet_slots_new(uint32_t count);
void lucet_slots_free(uint64_t *slots);

/* ---- counting instructions: only in modules that were compiled with count_instructions ----
 *
 * Each instance has its own count and fuel, for the code of its own module. Once it has counted more instructions than there was
 * fuel for, it stops at the next turn of a loop or call of a function; the run is suspended with LUCET_OUT_OF_FUEL, and
 * outcome.suspended_instance is the one that needs fuel. Set its fuel and lucet_resume, or terminate. What exactly is counted,
 * and when it is looked at: docs/fuel.md. */
#define LUCET_FUEL_UNLIMITED INT64_MAX
bool lucet_module_counts_instructions(const lucet_module *module);
/* How many instructions the instance may execute from now on. Not while it runs, but for its host functions. False if its module
 * does not count: then it has no effect. */
bool lucet_instance_set_fuel(lucet_instance *instance, int64_t fuel);
/* What is left of it; negative after what could not be stopped in time. LUCET_FUEL_UNLIMITED if there is no bound. */
int64_t lucet_instance_fuel(const lucet_instance *instance);
/* Instructions executed since the instance was new, or reset. */
uint64_t lucet_instance_fuel_used(const lucet_instance *instance);

/* ---- what an instance contains; index spaces include imports ---- */

/* The function as a reference; NULL if the index is out of range. */
const lucet_funcref *lucet_instance_funcref(lucet_instance *instance, uint32_t function);
const lucet_functype *lucet_funcref_type(const lucet_funcref *ref);
lucet_instance *lucet_funcref_instance(const lucet_funcref *ref);
uint32_t lucet_funcref_function(const lucet_funcref *ref);

/* Whether the two are in one group: only then may one hold a reference to a function of the other. */
bool lucet_instances_linked(const lucet_instance *a, const lucet_instance *b);

/* NULL if there is none of that index. Lives as long as the group of the instance that it belongs to; the functions below take
 * NULL for a memory without bytes. */
lucet_memory *lucet_instance_memory(const lucet_instance *instance, uint32_t memory);
uint8_t *lucet_memory_base(const lucet_memory *memory);
uint64_t lucet_memory_size(const lucet_memory *memory);         /* bytes */
lucet_externtype lucet_memory_type(const lucet_memory *memory); /* with the minimum and maximum that were declared */
/* Pages before, or UINT64_MAX if the memory cannot grow by so much, or the instance that has it is busy. */
uint64_t lucet_memory_grow(lucet_memory *memory, uint64_t delta_pages);
/* Declare that the host, or the kernel for it, is going to write these bytes. Required before a system call writes there (it
 * would fail with EFAULT); plain stores by host code need no declaration. False if the range is not in the memory. */
bool lucet_memory_will_write(lucet_memory *memory, uint64_t offset, uint64_t size);

/* A shared memory belongs to no instance and joins none to a group: any number of instances may import it, and run on threads
 * at the same time. The type has kind LUCET_MEMORY and a maximum, for which address space is reserved at once. What a module
 * defines as shared is such a memory too. Whoever keeps one retains it; retain and release do nothing for other memories.
 * budget: NULL for none; the memory keeps a reference. */
lucet_memory *lucet_shared_memory_new(const lucet_externtype *type, lucet_budget *budget, lucet_error *error);
void lucet_memory_retain(lucet_memory *memory);
void lucet_memory_release(lucet_memory *memory);
/* Wake at most count threads that wait there in memory.atomic.wait; how many it was. 0 if the memory is not shared, or the offset
 * no multiple of 4 inside of it. */
uint32_t lucet_memory_notify(lucet_memory *memory, uint64_t offset, uint32_t count);

/* Guest code runs, in the instance or one that is linked to it, on another thread: then its tables cannot be looked at or changed,
 * and its memories, but for shared ones, not be grown. */
bool lucet_instance_is_busy(const lucet_instance *instance);

uint64_t *lucet_global_cell(const lucet_instance *instance, uint32_t global); /* NULL if out of range */
/* Its value, to one slot, or two for a v128. False if it is out of range, or the instance runs on another thread. */
bool lucet_instance_global_get(lucet_instance *instance, uint32_t global, uint64_t *slots);
/* NULL if out of range or if the table is static: then only lucet_instance_table_get works. */
lucet_table *lucet_instance_table(const lucet_instance *instance, uint32_t table);
uint64_t lucet_instance_table_size(const lucet_instance *instance, uint32_t table);
bool lucet_instance_table_get(lucet_instance *instance, uint32_t table, uint64_t i, void **reference);
bool lucet_instance_table_set(lucet_instance *instance, uint32_t table, uint64_t i, void *reference);
/* UINT64_MAX, too, while a time slice is over: code that is suspended anywhere may know where the entries are. */
uint64_t lucet_instance_table_grow(lucet_instance *instance, uint32_t table, uint64_t delta, void *reference);

/* ---- waiting: for host functions ---- */

struct pollfd;
struct timespec;
/* ppoll for host functions that `instance` (or NULL) has called: -1 with errno EINTR too, and at once, when the run is to end: by
 * lucet_instance_interrupt, or its time is up. Then the host function is to return soon; what it returns does not matter. */
int lucet_wait(const lucet_instance *instance, struct pollfd *fds, size_t count, const struct timespec *timeout);
/* Whether the run that called the host function under way is to end as soon as that returns. */
bool lucet_instance_is_ending(const lucet_instance *instance);

/* ---- WASI preview 1: the calls that programs make most, and the table of file descriptors ----
 *
 * A lucet_wasi is the world of one guest: descriptors, arguments, environment, clocks. Its functions are bound as host functions are:
 *     lucet_wasi_call call = {.wasi = wasi};
 *     import.function = lucet_wasi_function("wasi_snapshot_preview1", "fd_write", type); import.data = &call;
 * What a function does not do itself, which is whatever is rare, and every refusal, it leaves to `otherwise`; without one it
 * answers the error number. What has no function here (NULL) is the host's to write. Guest pointers are checked; paths are resolved
 * by the kernel beneath the directory (openat2). No call holds a lock while it waits, so all of this may be used, and the guest's
 * descriptors closed, from any thread at any time. Whoever has a pointer to a file keeps a reference to it. */
typedef struct lucet_wasi lucet_wasi;
typedef struct lucet_wasi_file lucet_wasi_file;

typedef struct lucet_wasi_call {
    lucet_wasi *wasi;
    lucet_host_function otherwise; /* gets the slots as the guest filled them; or NULL */
    void *data;                    /* for it */
} lucet_wasi_call;

typedef enum lucet_wasi_kind {
    LUCET_WASI_OTHER,  /* reading and writing is not the core's */
    LUCET_WASI_FILE,   /* a descriptor of the host that is nobody else's: its flags are the guest's */
    LUCET_WASI_STREAM, /* shared with others: whether the guest's reads wait is decided by the guest's flags alone */
    LUCET_WASI_DIRECTORY,
    LUCET_WASI_DISCARD /* output that nobody wants */
} lucet_wasi_kind;

typedef struct lucet_wasi_info {
    lucet_wasi_kind kind;
    int fd;           /* of the host; -1 for none */
    uint8_t filetype; /* as preview 1 has it, and so on */
    uint16_t flags;
    uint64_t rights, inheriting;
} lucet_wasi_info;

/* The file owns info->fd from then on, unless NULL is returned: it is closed with the last descriptor that stands for the file. */
lucet_wasi_file *lucet_wasi_file_new(const lucet_wasi_info *info, lucet_error *error);
void lucet_wasi_file_retain(lucet_wasi_file *file);
void lucet_wasi_file_release(lucet_wasi_file *file);
lucet_wasi_info lucet_wasi_file_info(const lucet_wasi_file *file);
void lucet_wasi_file_set_rights(lucet_wasi_file *file, uint64_t rights, uint64_t inheriting);
void lucet_wasi_file_set_flags(lucet_wasi_file *file, uint16_t flags);

/* At most so many descriptors at once. */
lucet_wasi *lucet_wasi_new(uint32_t max_descriptors, lucet_error *error);
void lucet_wasi_retain(lucet_wasi *wasi);
void lucet_wasi_release(lucet_wasi *wasi); /* the last one closes what is open */
/* strings: one after the other, each terminated by a NUL. */
bool lucet_wasi_set_arguments(lucet_wasi *wasi, const char *strings, size_t size, lucet_error *error);
bool lucet_wasi_set_environment(lucet_wasi *wasi, const char *strings, size_t size, lucet_error *error);
/* The guest's clock of that number shows the host's less `start`, in ns. Without it, clock_time_get is not the core's. */
bool lucet_wasi_set_clock(lucet_wasi *wasi, uint32_t clock, uint64_t start);
/* random_get gives the kernel's random bytes; false: it is not the core's. */
void lucet_wasi_set_random(lucet_wasi *wasi, bool from_host);
/* Before a call may wait, and when a signal has interrupted one (true: the run is to end, with LUCET_TERMINATED); NULL for none.
 * For the whole process. */
void lucet_wasi_set_hooks(void (*about_to_wait)(void), bool (*interrupted)(void));

/* Give the file the lowest free descriptor; -1: there is none. */
int64_t lucet_wasi_add(lucet_wasi *wasi, lucet_wasi_file *file);
/* A new reference to what a descriptor stands for; NULL if it is not open. */
lucet_wasi_file *lucet_wasi_get(lucet_wasi *wasi, uint32_t descriptor);
/* From now on only lucet_wasi_close closes it: the guest's fd_close is left to `otherwise`. False if that descriptor does not stand
 * for that file. */
bool lucet_wasi_own(lucet_wasi *wasi, uint32_t descriptor, const lucet_wasi_file *file);
/* 0, or the error number of the host's close; EBADF if it is not open. */
int lucet_wasi_close(lucet_wasi *wasi, uint32_t descriptor);
void lucet_wasi_close_all(lucet_wasi *wasi);
/* `to` stands for what `from` stood for, which is closed; what `to` stood for is. EBADF if either is not open. */
int lucet_wasi_renumber(lucet_wasi *wasi, uint32_t from, uint32_t to);
bool lucet_wasi_is_full(lucet_wasi *wasi);

/* module: "wasi_snapshot_preview1" or "wasi_unstable"; type: as it is imported. NULL: not the core's, or not its type. */
lucet_host_function lucet_wasi_function(const char *module, const char *name, const lucet_functype *type);
/* What the guest gave to proc_exit, if it was not left to `otherwise`. */
uint32_t lucet_wasi_exit_status(const lucet_wasi *wasi);

#ifdef __cplusplus
}
#endif
#endif
