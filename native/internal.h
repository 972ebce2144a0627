/* internal.h: what the C files of the runtime share. Not installed. */
#ifndef LUCET_INTERNAL_H
#define LUCET_INTERNAL_H

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "lucet.h"

#define LUCET_INTERNAL __attribute__((visibility("hidden")))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* ThreadSanitizer cannot follow frames that are dropped, and must not touch signal handlers. */
#ifdef __SANITIZE_THREAD__
#define NO_TSAN __attribute__((no_sanitize_thread))
#else
#define NO_TSAN
#endif

/* Named places at which a test stops a thread: tests/native/sync.h. Nothing in an ordinary build. */
#ifdef LUCET_SYNC_POINTS
void lucet_sync_point(const char *name);
#define SYNC_POINT(name) lucet_sync_point(name)
#else
#define SYNC_POINT(name) ((void)0)
#endif

/* A build in which tests make any allocation or system call fail: tests/native/inject.h. */
#ifdef LUCET_INJECT
#include "inject.h"
#endif

/* ---- facts shared with the compiler: src/lucet/abi ---- */

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int16_t i16;
typedef int32_t i32;
typedef int64_t i64;
typedef u8 hash[32];

#define STRUCT(name, size) struct abi_##name {
#define FIELD(in, type, name, offset) type name;
#define END(name)                                                                                                      \
    }                                                                                                                  \
    ;
#include "artifact.def"
#undef STRUCT
#undef FIELD
#undef END

enum {
#define VMCTX(name, offset) VMCTX_##name = (offset),
#include "instance.def"
#undef VMCTX
#define TRAP(name, code, text) TRAP_##name = (code),
#include "traps.def"
#undef TRAP
    HOST_PAGE = 4096,
    WASM_PAGE = 65536
};

/* How lucet_switch_* came back to the host. */
enum {
    SWITCH_RETURNED,
    SWITCH_SUSPENDED,
    SWITCH_TERMINATED,
    SWITCH_TRAPPED,
    SWITCH_OUT_OF_FUEL,
    SWITCH_THREW,
    SWITCH_PREEMPTED
};

/* ---- modules ---- */

struct lucet_module {
    atomic_uint refs;
    u64 serial; /* never reused: a slot remembers whose image it holds by it */
    void *handle;
    int fd; /* of the artifact, for mapping images; -1 if none is mapped */

    const u8 *base;
    u64 image_file_delta; /* file offset = rva + delta, for image runs */
    const u8 *text, *text_end;
    const struct abi_artifact_header *header;
    const struct abi_type *types;
    const struct abi_function *functions;
    const struct abi_import *imports;
    const struct abi_export *exports;
    const struct abi_memory *memories;
    const struct abi_global *globals;
    const struct abi_table *tables;
    const struct abi_ref *refs_table;
    const struct abi_elem *elems;
    const struct abi_data *datas;
    const struct abi_image *images;
    lucet_functype *functypes; /* by canonical type */
    u32 *exports_by_name;      /* export indices in the order of their names */
    u32 imported_functions;
    /* What a guest may change below vmctx, in bytes below it: own globals, up to the fixed words, and lengths of segments. */
    u32 globals_low, segments_low, segments_high;
    u64 image_size;     /* bytes in all image runs */
    u64 memory_minimum; /* bytes of the memory in the slot; 0 if there is none */
    bool has_slot_memory;
    u32 other_memories; /* how many own ones have a mapping of their own */
    const struct abi_tag *tags;
    u64 unwind_low;                        /* rva of the segment that unwinding information is in */
    _Atomic(struct unwind_table *) unwind; /* what has been expanded of it */
};

LUCET_INTERNAL const char *module_string(const lucet_module *module, u32 string, u32 *size);
/* What this machine has: LUCET_CPU_*. */
LUCET_INTERNAL u64 cpu_features(void);
/* Which function of the module contains pc, and where in the .wasm; false if none does. */
LUCET_INTERNAL bool module_locate(const lucet_module *module, const u8 *pc, u32 *function, u32 *wasm_offset);
static inline bool module_has_code(const lucet_module *module, const void *pc) {
    return (const u8 *)pc >= module->text && (const u8 *)pc < module->text_end;
}

/* ---- unwinding: unwind.c ---- */

/* The registers that functions preserve. */
enum { UNWIND_RBX, UNWIND_RBP, UNWIND_R12, UNWIND_R13, UNWIND_R14, UNWIND_R15, UNWIND_REGISTERS };

/* A frame at some call: CFA, its caller's stack pointer, is the stack pointer or rbp plus cfa; of those registers that are saved
 * (bits) the caller's values stand at the CFA plus at[]. The return address is right below the CFA. */
struct unwind_row {
    u32 start; /* from the function's start */
    i32 cfa;
    u32 arguments; /* bytes that are popped on the way to a landing pad */
    bool from_rbp;
    u8 saved;
    i16 at[UNWIND_REGISTERS];
};

/* Of the frame that a call in the module's code returns to; landing: of what the call throws, or NULL. NULL if memory is short. */
LUCET_INTERNAL const struct unwind_row *module_unwind(lucet_module *module, const u8 *return_address,
                                                      const u8 **landing);
LUCET_INTERNAL void module_forget_unwind(lucet_module *module);

/* ---- linkages ---- */

struct linked_import {
    lucet_import import;
    u64 birth; /* of import.instance */
};

struct lucet_linkage {
    atomic_uint refs;
    lucet_module *module;
    u32 count;
    bool links_instances, has_memories, has_globals; /* has_memories: shared ones */
    u32 *by_function;                                /* import index of each imported function */
    struct linked_import imports[];                  /* by import index */
};

/* ---- types: types.c ---- */

LUCET_INTERNAL bool types_register(const lucet_module *module, lucet_error *error);
LUCET_INTERNAL bool is_funcref_type(u8 valtype);

/* ---- tables ---- */

struct lucet_table {
    struct abi_table_head head; /* what generated code reads */
    u64 capacity, maximum, limit;
    bool refused; /* the limit, not its maximum, has kept it from growing */
    u8 reftype;
    u64 type_id;
};

/* ---- slots' heaps: heap.c ---- */

enum { HEAP_HOT_MAX = 128, HEAP_EXTENTS_MAX = 32 };

struct heap_extent {
    u32 first, end; /* pages */
    bool dense;     /* most of its pages were touched: all are restored, without asking which */
    u8 clean;       /* audits in a row that found nothing changed */
};

/* What is writable in a heap that is tracked: single pages, and extents. Extents do not overlap each other; hot pages may be in one. */
struct heap_writable {
    u32 hot[HEAP_HOT_MAX];
    u8 clean[HEAP_HOT_MAX]; /* as in an extent */
    struct heap_extent extents[HEAP_EXTENTS_MAX];
};

/* Own memory 0 of one slot. Pages that the guest may have changed are known exactly: every page is read-only until its first
 * write, unless it is hot or in an extent. Those stay writable and are restored, whoever comes next, until they cool down. */
struct heap {
    u8 *base;
    u64 size;          /* bytes the guest may use: also stands at base + VMCTX_MEMORY_SIZE */
    u64 accessible;    /* bytes not PROT_NONE; equal to size between operations */
    u64 used;          /* whatever has failed, fresh inaccessible pages begin here at the latest */
    u64 below;         /* bytes of the instance area, below base, in a slot that has never been prepared; then 0 */
    atomic_flag lock;  /* a guest's fault against will_write, or another fault, on another thread */
    u64 module_serial; /* whose image stands in the pages; 0: fresh zero pages */
    const lucet_module *module;
    bool mapped_image; /* image runs are file mappings: giving a page back restores it */
    bool tracked;      /* pages are write-protected until written; else all are writable */
    bool packed;       /* in a packed region: always writable, and not even aligned to pages */
    u32 faults, resets, hot_count, extents_count;
    struct heap_writable *writable; /* NULL in a region that does not track writes */
};

/* Whether the module's image is mapped from its file, not copied. */
/* CRC-32 of size bytes, those at [hole, hole + 4) taken as 0; portable: without special instructions. checksum.c */
LUCET_INTERNAL u32 artifact_checksum(const u8 *bytes, u64 size, u64 hole, bool portable);
/* Whether the checksum of a file with this status was found right, as far as that is remembered; remember it. */
LUCET_INTERNAL bool was_whole(const struct stat *status);
LUCET_INTERNAL void is_whole(const struct stat *status);
LUCET_INTERNAL bool module_maps_image(const lucet_module *module);
LUCET_INTERNAL bool heap_prepare(struct heap *heap, const lucet_module *module, bool track);
LUCET_INTERNAL bool heap_reset(struct heap *heap);
/* Back to no pages at all: the module whose image they show may go away. */
LUCET_INTERNAL void heap_discard(struct heap *heap);
LUCET_INTERNAL bool heap_grow(struct heap *heap, u64 size);
LUCET_INTERNAL bool heap_write_fault(struct heap *heap, const u8 *address);
LUCET_INTERNAL bool heap_will_write(struct heap *heap, u64 offset, u64 size);

/* ---- locks of the whole process: forks.c ---- */

/* In the order in which a thread may hold several. The locks of regions come last. */
#define EACH_PROCESS_LOCK                                                                                              \
    PROCESS_LOCK(SIGNALS_LOCK)                                                                                         \
    PROCESS_LOCK(GROUPS_LOCK)                                                                                          \
    PROCESS_LOCK(DEADLINES_LOCK)                                                                                       \
    PROCESS_LOCK(TYPES_LOCK)                                                                                           \
    PROCESS_LOCK(WAITERS_LOCK)                                                                                         \
    PROCESS_LOCK(MEMORIES_LOCK)                                                                                        \
    PROCESS_LOCK(REGISTRY_LOCK)                                                                                        \
    PROCESS_LOCK(KEPT_STACKS_LOCK)                                                                                     \
    PROCESS_LOCK(WHOLE_FILES_LOCK)                                                                                     \
    PROCESS_LOCK(SLOTS_LOCK)
#define PROCESS_LOCK(name) name,
enum process_lock { EACH_PROCESS_LOCK PROCESS_LOCKS };
#undef PROCESS_LOCK

LUCET_INTERNAL pthread_mutex_t *process_lock(enum process_lock lock);
LUCET_INTERNAL void process_unlock(enum process_lock lock);
LUCET_INTERNAL void forks_install(void);
/* Around a fork, with all locks of the process held. */
LUCET_INTERNAL void regions_lock(void);
LUCET_INTERNAL void regions_unlock(void);
LUCET_INTERNAL void deadlines_in_child(void);
LUCET_INTERNAL void kept_stacks_in_child(void);
LUCET_INTERNAL void waiters_in_child(void);
/* ---- memories: memory.c ---- */

struct lucet_activation;

struct memory_type {
    u64 minimum, maximum; /* pages; UINT64_MAX: no maximum */
    bool is_64, is_shared;
    u8 page_size_log2;
    u64 cap; /* bytes that its instance's code allows */
};

struct lucet_memory {
    u8 *base;              /* the size, in bytes, stands at base + VMCTX_MEMORY_SIZE */
    lucet_instance *owner; /* whose limits count; NULL for a shared one, which belongs to all that have a reference */
    struct memory_type type;
    u64 reserved, guard; /* bytes of address space from the base, and of what faults behind them */
    u64 accessible;      /* bytes not PROT_NONE; of one that is not in a slot */
    /* Of a shared one only: */
    atomic_uint refs;
    u64 limit; /* bytes */
    lucet_budget *budget;
};

LUCET_INTERNAL struct memory_type memory_type_of(const struct abi_memory *abi);
LUCET_INTERNAL u64 memtype_minimum(const struct memory_type *type); /* bytes */
LUCET_INTERNAL u64 memtype_maximum(const struct memory_type *type);
LUCET_INTERNAL bool memory_relies_on_space(const struct memory_type *type);
LUCET_INTERNAL lucet_memory *memory_new(const struct memory_type *type, u64 reserved, u64 guard, lucet_error *error);
LUCET_INTERNAL void memory_free(lucet_memory *memory);
LUCET_INTERNAL u64 memory_grow(lucet_memory *memory, u64 delta); /* for guest code */
LUCET_INTERNAL bool memory_reset(lucet_memory *memory);
LUCET_INTERNAL lucet_memory *shared_memory_new(const struct memory_type *type, u64 limit, lucet_budget *budget,
                                               lucet_error *error);
/* memory.atomic.wait and notify, at an aligned address of a shared memory: wait.c */
LUCET_INTERNAL u32 memory_wait(struct lucet_activation *activation, const u8 *address, u64 expected, bool is_64,
                               i64 timeout);
LUCET_INTERNAL u32 memory_notify(const u8 *address, u32 count);
LUCET_INTERNAL void wait_interrupt(struct lucet_activation *activation);

static inline u64 memory_size(const lucet_memory *memory) {
    return __atomic_load_n((u64 *)(void *)(memory->base + VMCTX_MEMORY_SIZE), __ATOMIC_SEQ_CST);
}

static inline void memory_set_size(lucet_memory *memory, u64 size) {
    __atomic_store_n((u64 *)(void *)(memory->base + VMCTX_MEMORY_SIZE), size, __ATOMIC_RELEASE);
}

/* ---- groups: instances that are linked to each other ---- */

struct lucet_activation;

/* Only the thread that owns the group runs guest code in it, and changes its members. */
struct group {
    atomic_flag lock;                       /* one visitor at a time */
    atomic_bool visited;                    /* somebody looks at top from outside: its owner waits after changing it */
    atomic_uintptr_t owner;                 /* the thread that runs in the group, 0 if none */
    _Atomic(struct lucet_activation *) top; /* innermost, running or suspended */
    lucet_instance *members;                /* linked by group_next */
    u32 live;                               /* members not yet freed by their owner */
    u64 crossings;                          /* between host and guest, counted */
    struct group *merged;                   /* allocated groups that became part of this one and are freed with it */
};

/* ---- instances ---- */

struct lucet_instance {
    u8 *vmctx;
    lucet_module *module;
    lucet_linkage *linkage;
    lucet_region *region;
    _Atomic(struct group *) group; /* &own_group while it is alone */
    lucet_instance *group_next;
    u32 slot;
    u32 next_free;
    atomic_int state; /* FREE, NOT_STARTED, READY or FAULTED; running and suspended are the group's */
    bool released;    /* lucet_instance_free was called, the group still lives */
    bool initialised; /* the initialisers have run: only the start function may still be due */
    void *context;
    lucet_memory **memories; /* by index: &only_memory where that is enough */
    lucet_memory *only_memory;
    struct lucet_table **tables; /* by index, NULL for static ones; the own ones are owned */
    struct lucet_table *own_tables;
    struct abi_funcref **host_refs; /* made for the host, by function index */
    lucet_tag **tags;               /* by index; each is a reference */
    struct exceptions *exceptions;  /* NULL until the first */
    lucet_exception *thrown;        /* by the host function that is about to return */
    lucet_linkage *area_linkage; /* whose pointers stand in the instance area; the slot keeps it, and so its module */
    u64 births;                  /* instances that the slot has had */
    u64 birth;                   /* which of them this is; 0: none */
    u64 memory_limit, table_limit;
    u64 memory_bytes; /* of all own memories together, which the limit is for */
    u64 exception_bytes;
    i64 host_calls_left;
    u64 host_calls_base; /* what would be left if there had been none */
    bool host_calls_are_bounded;
    bool memory_refused; /* a limit, not the module's own maximum, has kept a memory from growing */
    u64 shared_bytes;    /* of that limit, what shared memories may grow to */
    u64 charged;         /* to the region's budget */
    u64 timeout;         /* of each run, in ns; 0 for none */
    u64 time_slice;      /* likewise: after it a run is suspended */
    bool inner_runs_wait;
    u64 fuel_base; /* what the word FUEL would be if nothing had been counted */
    bool fuel_is_bounded;
    struct group own_group;
    struct heap heap;
    struct lucet_memory slot_memory; /* the heap as a memory, if the module has one there */
};

#define VMCTX_WORD(vmctx, offset) (*(u64 *)((vmctx) + (offset)))

static inline struct group *group_of(const lucet_instance *instance) {
    return atomic_load_explicit(&((lucet_instance *)instance)->group, memory_order_acquire);
}

static inline struct lucet_activation *group_top(const struct group *group) {
    return atomic_load_explicit(&((struct group *)group)->top, memory_order_acquire);
}

static inline lucet_instance *instance_of_vmctx(const u8 *vmctx) {
    return (lucet_instance *)VMCTX_WORD(vmctx, VMCTX_INSTANCE);
}

/* Nothing has been counted yet. */
static inline void instance_begin_fuel(lucet_instance *instance, i64 fuel) {
    VMCTX_WORD(instance->vmctx, VMCTX_FUEL) = instance->fuel_base = ~(u64)fuel;
    instance->fuel_is_bounded = fuel != LUCET_FUEL_UNLIMITED;
}

LUCET_INTERNAL bool functype_has_exnrefs(const lucet_functype *type);
LUCET_INTERNAL bool instance_make_tags(lucet_instance *instance, lucet_error *error);
LUCET_INTERNAL void instance_forget_tags(lucet_instance *instance, const lucet_module *module);
LUCET_INTERNAL void instance_drop_exceptions(lucet_instance *instance);
/* Called for all slots of lucet_slots_new. */
LUCET_INTERNAL void slots_each(void (*look)(const struct group *group, const u64 *begin, const u64 *end),
                               const struct group *group);
LUCET_INTERNAL void instance_drop_thrown(lucet_instance *instance);
/* Bytes of all own memories of a new instance, with or without the shared ones; UINT64_MAX if they are too many to count. */
LUCET_INTERNAL u64 memories_minimum(const lucet_module *module, bool with_shared);
/* The own memories that are not there yet. */
LUCET_INTERNAL bool memories_new(lucet_instance *instance, lucet_error *error);
/* As in a new instance; the heap resets itself. */
LUCET_INTERNAL bool memories_reset(lucet_instance *instance);
LUCET_INTERNAL void memories_free(lucet_instance *instance, const lucet_module *module);
LUCET_INTERNAL u64 table_grow(struct lucet_table *table, u64 delta, u64 value);
LUCET_INTERNAL const struct abi_funcref *instance_funcref(lucet_instance *instance, u32 function);
/* The value of item `item` (see abi elem) of an element segment. */
LUCET_INTERNAL u64 instance_elem_value(lucet_instance *instance, i32 item);

/* ---- stacks and activations ---- */

/* What switch_x86_64.S goes to a handler with, in this order. */
struct landing {
    u64 registers[UNWIND_REGISTERS];
    u64 sp; /* the landing pad's address stands there */
    u64 exception;
};

struct lucet_activation {
#define ACTIVATION(name, offset) u64 name;
#include "context.def"
#undef ACTIVATION
    struct lucet_activation *previous; /* the activation that this thread was in before */
    struct lucet_activation *outer;    /* of the same group: a host function of it called the guest again */
    lucet_instance *instance;          /* that was called */
    pthread_t thread;
    u8 *stack_low;                /* lowest usable byte; the guard lies below */
    u64 deadline;                 /* of the run, CLOCK_MONOTONIC in ns; 0 for none */
    u64 time_slice;               /* in ns; 0 for none */
    u64 slice_end;                /* when it is to be suspended */
    u64 due;                      /* the earlier of both */
    bool watched;                 /* there is one of them, or was */
    u32 deadline_index;           /* among those being watched; 0 if it is not */
    u32 preempt;                  /* not 0: the time slice is over */
    _Atomic(_Atomic u32 *) waits; /* what its thread sleeps on in memory.atomic.wait; NULL if it does not */
    atomic_bool suspended;
    u32 host_mxcsr; /* 0 when it was the default */
    /* how it ended, or where it is suspended */
    u32 trap;
    const u8 *trap_pc;
    u64 trap_sp; /* at trap_pc; 0: the registers are where the last stub has put them, else here */
    u64 trap_registers[UNWIND_REGISTERS];
    struct abi_exception *exception; /* that nobody caught */
    lucet_exception *thrown;         /* by a host function, or when it is resumed */
    int suspended_how;               /* SWITCH_SUSPENDED and so on */
    struct landing landing;
    lucet_instance *suspended_instance;
    u64 *suspended_slots;
    u32 suspended_function;
    u64 suspended_run;
    struct lucet_activation *next_free, *next_made;
};

LUCET_INTERNAL struct lucet_activation *region_take_stack(lucet_region *region);
LUCET_INTERNAL void region_give_stack(lucet_region *region, struct lucet_activation *activation);

/* ---- regions ---- */

struct lucet_region {
    atomic_uint refs;
    lucet_region_config config;
    atomic_bool lock; /* of all that follows */
    u8 *base;
    u64 size, stride; /* of a slot: area, memory, guard */
    bool packed;      /* no protection anywhere, so one mapping for all slots: modules check their bounds themselves */
    lucet_instance *slots;
    struct heap_writable *writable; /* for each slot; NULL if writes are not tracked */
    u32 free_head, slots_made;
    atomic_uint used;   /* slots that hold an instance: each keeps the region as a reference does */
    u64 random, secret; /* secret: of the canaries */
    struct lucet_activation *free_stacks, *made_stacks;
    u32 stacks_made;
    struct registered *registered; /* its entry in the registry; NULL if it has none */
};

/* In a packed region nothing faults, however much is reserved. */
static inline u64 faulting_space(const lucet_region *region) {
    return region->packed ? 0 : region->config.memory_reserved;
}

enum { STACK_GUARD = 1 << 16, NO_SLOT = 0xffffffff };

static inline u64 canary_of(const lucet_instance *instance) {
    return instance->region->secret ^ (instance->slot * 0x9e3779b97f4a7c15ULL);
}

/* The instance has so many bytes of memory from now on, beside its exceptions; false if the region's budget does not allow it. */
LUCET_INTERNAL bool budget_charge(lucet_instance *instance, u64 memory);
LUCET_INTERNAL bool budget_take(lucet_budget *budget, u64 size); /* NULL: no limit */
LUCET_INTERNAL void budget_give(lucet_budget *budget, u64 size);
LUCET_INTERNAL lucet_instance *region_take_slot(lucet_region *region, u64 module_serial);
LUCET_INTERNAL void region_give_slot(lucet_region *region, lucet_instance *instance);
/* Free what a slot's instance left for the next one. */
LUCET_INTERNAL void instance_forget(lucet_instance *instance);

/* The instance whose own memory, guard included, contains the address; NULL if none does. Async-signal-safe. */
LUCET_INTERNAL lucet_instance *region_instance_at(const void *address);

/* ---- running ---- */

enum { MXCSR_DEFAULT = 0x1f80, MXCSR_FLAGS = 0x3f }; /* rounding to nearest, all exceptions masked; the sticky flags */

extern LUCET_INTERNAL _Thread_local struct lucet_activation *lucet_current __attribute__((tls_model("initial-exec")));
LUCET_INTERNAL bool signals_install(lucet_error *error);
LUCET_INTERNAL bool signals_prepare_thread(lucet_error *error);
LUCET_INTERNAL void signals_interrupt(struct lucet_activation *activation);
/* The thread is going to wait, and holds nothing of the host's: see lucet_set_poked. */
LUCET_INTERNAL void before_blocking(void);
/* The instance of the group whose generated code has the address; NULL if it is nobody's. Async-signal-safe. */
LUCET_INTERNAL const lucet_instance *code_owner(const struct lucet_activation *activation, const u8 *pc);
/* End the activation with trap TIMED_OUT at activation->deadline, and suspend it after its instance's time slice, unless it is cleared
 * before. One of both must be there. */
LUCET_INTERNAL bool deadline_set(struct lucet_activation *activation, lucet_error *error);
LUCET_INTERNAL void deadline_clear(struct lucet_activation *activation);
LUCET_INTERNAL u64 time_now(void); /* CLOCK_MONOTONIC in ns */
LUCET_INTERNAL u64 deadline_after(u64 timeout);
LUCET_INTERNAL void preemption_install(void);
/* While visited, what group_top shows stays there. The owner pays nothing for it: see run.c. */
LUCET_INTERNAL void group_visit(struct group *group);
LUCET_INTERNAL void group_unvisit(struct group *group);
LUCET_INTERNAL void visits_install(void);
/* Not 0 once the run that called the host function under way is to end. */
LUCET_INTERNAL const u64 *interrupt_word(const lucet_instance *instance);
LUCET_INTERNAL _Noreturn void builtin_trap(u32 trap);
/* Called from switch_x86_64.S: where to go on. */
LUCET_INTERNAL struct landing *builtin_throw(u8 *vmctx, u32 tag, const u64 *slots) __attribute__((used));
LUCET_INTERNAL struct landing *builtin_throw_ref(u8 *vmctx, struct abi_exception *exception) __attribute__((used));
LUCET_INTERNAL struct landing *activation_throw(struct lucet_activation *activation) __attribute__((used));
LUCET_INTERNAL bool group_enter(lucet_instance *instance, lucet_error *error);
LUCET_INTERNAL void group_leave(lucet_instance *instance);
LUCET_INTERNAL bool group_borrow(lucet_instance *instance, bool moves);
/* Drop what is suspended in the group, down to (not including) the given activation. */
LUCET_INTERNAL void drop_activations(struct group *group, struct lucet_activation *down_to);
/* Held while instances change groups, and by who looks at a group without owning it. */
LUCET_INTERNAL void groups_hold(void);
LUCET_INTERNAL void groups_release(void);

/* switch_x86_64.S */
LUCET_INTERNAL int lucet_switch_enter(struct lucet_activation *activation, void *stack_top, const void *entry,
                                      void *vmctx, const void *code, u64 *slots);
LUCET_INTERNAL int lucet_switch_enter_many(struct lucet_activation *activation, void *stack_top, const void *entry,
                                           void *vmctx, const void *code, lucet_rows *rows);
LUCET_INTERNAL int lucet_switch_resume(struct lucet_activation *activation);
LUCET_INTERNAL _Noreturn void lucet_switch_leave(struct lucet_activation *activation, int how);
extern LUCET_INTERNAL const u8 lucet_stubs_begin[], lucet_stubs_end[];
/* Where the interrupt flag may have been looked at already, but no guest code runs yet. */
extern LUCET_INTERNAL const u8 lucet_entering_begin[], lucet_entering_end[];
extern LUCET_INTERNAL const u8 lucet_repeating_begin[], lucet_repeating_called[], lucet_repeating_end[];
extern LUCET_INTERNAL const u8 lucet_unpreempting_begin[], lucet_unpreempting_end[];
LUCET_INTERNAL void lucet_stub_preempted(void); /* never called: the signal handler makes guest code go there */
extern LUCET_INTERNAL const u8 lucet_returning_begin[], lucet_returning_end[];
extern LUCET_INTERNAL const void *const lucet_builtins[];
/* The kernel's answer, or -EINTR once *interrupt is set. */
LUCET_INTERNAL long lucet_switch_syscall(const u64 *interrupt, long number, long a, long b, long c, long d, long e);
extern LUCET_INTERNAL const u8 lucet_syscall_begin[], lucet_syscall_end[], lucet_syscall_cancelled[];
#ifdef LUCET_INJECT
#define lucet_switch_syscall(...) (lucet_inject("syscall") ? -(long)errno : lucet_switch_syscall(__VA_ARGS__))
#endif

/* ---- where a run ended: backtrace.c ---- */

LUCET_INTERNAL void backtrace_take(const struct lucet_activation *activation, const u8 *pc);

/* ---- errors ---- */

LUCET_INTERNAL bool fail(lucet_error *error, lucet_error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
LUCET_INTERNAL bool fail_system(lucet_error *error, const char *what);

#endif
