/* heap.c: the memory of a slot, and knowing which of its pages a guest may have changed.
 *
 * A page is write-protected until its first write, which faults once; from then on it is hot: it stays writable and is restored
 * by copying when the instance ends, so the next instance that writes it pays neither fault nor system call. A guest that
 * writes many pages gets larger and larger blocks writable at once (extents); which pages of those were really touched is
 * then read from /proc/self/pagemap, where present and swapped pages both count, until most of them are.
 *
 * A page that guests used to write, but no longer do, would cost a copy at every reset. So now and then pages are compared
 * instead (an audit), and what was found unchanged often enough is protected again; by then it has cost about as much as the fault
 * that it will cost if it is written after all. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"

enum {
    SINGLE_FAULTS = 64,          /* as many pages are made writable one by one */
    BLOCK_PAGES_MAX = 256,       /* then blocks of 2, 4, 8 ... pages, up to 1 MiB */
    COPIED_IMAGE_MAX = 64 << 10, /* a larger image is mapped copy-on-write */
    MAPPED_RUNS_MAX = 16,        /* an image in more runs than this is copied: each mapping costs the kernel a VMA */
    RESTORED_PAGES_MAX = 4 << 8, /* 4 MiB: beyond, pages of an extent are given back instead of restored */
    AUDIT_PERIOD = 4,            /* resets */
    AUDITED_MIN = 4,             /* fewer hot pages are not worth an audit */
    CLEAN_AUDITS_MAX = 8,        /* then a page cools down */
};

static bool protect(struct heap *heap, u64 from, u64 to, int protection) {
    return heap->packed || from >= to || mprotect(heap->base + from, to - from, protection) == 0;
}

/* Make writable, in the signal handler: past the sanitizer, which would take locks of its own. */
NO_TSAN static bool protect_unseen(struct heap *heap, u64 from, u64 to) {
#ifdef __SANITIZE_THREAD__
    return from >= to || syscall(SYS_mprotect, heap->base + from, to - from, PROT_READ | PROT_WRITE) == 0;
#else
    return from >= to || mprotect(heap->base + from, to - from, PROT_READ | PROT_WRITE) == 0;
#endif
}

/* ---- the image ---- */

/* What a page contains in a new instance; NULL for zeros. */
static const u8 *image_page(const lucet_module *module, u64 page) {
    u32 low = 0, high = module->header->images_count;
    u64 offset = page * HOST_PAGE;
    while (low < high) {
        u32 middle = low + (high - low) / 2;
        const struct abi_image *run = &module->images[middle];
        if (offset < run->heap_offset)
            high = middle;
        else if (offset >= run->heap_offset + run->size)
            low = middle + 1;
        else
            return module->base + run->rva + (offset - run->heap_offset);
    }
    return NULL;
}

static void restore_page(struct heap *heap, u64 page) {
    const u8 *source = image_page(heap->module, page);
    if (source)
        memcpy(heap->base + page * HOST_PAGE, source, HOST_PAGE);
    else
        memset(heap->base + page * HOST_PAGE, 0, HOST_PAGE);
}

static void restore_pages(struct heap *heap, u64 first, u64 end) {
    if (heap->module->header->images_count == 0)
        memset(heap->base + first * HOST_PAGE, 0, (end - first) * HOST_PAGE);
    else
        for (u64 page = first; page < end; page++)
            restore_page(heap, page);
}

static bool is_unchanged(const struct heap *heap, u64 page) {
    static const u8 zeros[HOST_PAGE];
    const u8 *source = image_page(heap->module, page);
    return memcmp(heap->base + page * HOST_PAGE, source ? source : zeros, HOST_PAGE) == 0;
}

static bool map_image(struct heap *heap, const lucet_module *module, int protection) {
    for (u32 i = 0; i < module->header->images_count; i++) {
        const struct abi_image *run = &module->images[i];
        if (mmap(heap->base + run->heap_offset, run->size, protection, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE,
                 module->fd, (off_t)(run->rva + module->image_file_delta)) == MAP_FAILED)
            return false;
    }
    return true;
}

/* Into zero bytes: without writing the zeros of the image, which would make a page resident for nothing. */
static void copy_sparsely(u8 *to, const u8 *from, u64 size) {
    enum { BLOCK = 64 };
    static const u8 zeros[BLOCK];
    for (u64 i = 0; i < size; i += BLOCK) {
        u64 count = size - i < BLOCK ? size - i : BLOCK;
        if (memcmp(from + i, zeros, count) != 0)
            memcpy(to + i, from + i, count);
    }
}

static void copy_image(struct heap *heap, const lucet_module *module, u64 from, u64 to) {
    for (u32 i = 0; i < module->header->images_count; i++) {
        const struct abi_image *run = &module->images[i];
        u64 start = run->heap_offset > from ? run->heap_offset : from;
        u64 end = run->heap_offset + run->size < to ? run->heap_offset + run->size : to;
        if (start < end)
            copy_sparsely(heap->base + start, module->base + run->rva + (start - run->heap_offset), end - start);
    }
}

static void forget_writes(struct heap *heap) {
    heap->faults = heap->hot_count = heap->extents_count = 0;
}

/* Of this process: a forked child must not read its parent's. */
static int pagemap(void) {
    static _Atomic u64 shared; /* process id << 32 | descriptor + 1; 0 if there is none yet */
    u64 known = atomic_load(&shared), mine = (u64)getpid() << 32;
    if (known && (known >> 32) == mine >> 32)
        return (int)(u32)known - 1;
    int descriptor = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return -1;
    if (atomic_compare_exchange_strong(&shared, &known, mine | ((u32)descriptor + 1))) {
        if (known)
            close((int)(u32)known - 1); /* inherited */
        return descriptor;
    }
    close(descriptor); /* another thread was faster */
    return (int)(u32)known - 1;
}

static void restore_bytes(struct heap *heap, const lucet_module *module, u64 from, u64 to) {
    memset(heap->base + from, 0, to - from);
    if (module)
        copy_image(heap, module, from, to);
}

/* The memory of a packed region: only pages that were ever touched are written, so that reset makes none resident; and the
 * neighbours' part of the first and last page stays as it is. module: NULL for zeros. */
static bool restore_packed(struct heap *heap, const lucet_module *module) {
    enum { BATCH = 512 };
    u64 entries[BATCH], start = (u64)(uintptr_t)heap->base, end = start + heap->used, budget = RESTORED_PAGES_MAX;
    for (u64 page = start / HOST_PAGE; page * HOST_PAGE < end;) {
        u64 left = (end - page * HOST_PAGE + HOST_PAGE - 1) / HOST_PAGE, count = left < BATCH ? left : BATCH;
        ssize_t size = (ssize_t)(count * 8);
        bool known = pread(pagemap(), entries, (size_t)size, (off_t)(page * 8)) == size;
        for (u64 i = 0; i < count; i++, page++) {
            u64 low = page * HOST_PAGE, high = low + HOST_PAGE;
            bool whole = low >= start && high <= end;
            if (known && !(entries[i] >> 62))
                continue;
            if (whole && (!known || budget == 0)) {
                if (madvise((void *)(uintptr_t)low, HOST_PAGE, MADV_DONTNEED) < 0)
                    return false;
                if (module)
                    copy_image(heap, module, low - start, high - start);
                continue;
            }
            budget -= budget > 0;
            restore_bytes(heap, module, (low > start ? low : start) - start, (high < end ? high : end) - start);
        }
    }
    return true;
}

/* Fresh zero pages, nothing accessible. When that fails, the pages belong to nobody and the next user must try again. */
static bool make_fresh(struct heap *heap) {
    heap->size = heap->module_serial = 0;
    heap->module = NULL;
    heap->tracked = false;
    if (heap->packed) {
        if (!restore_packed(heap, NULL))
            return false;
    } else if (heap->used && mmap(heap->base, heap->used, PROT_NONE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
        return false;
    heap->accessible = heap->used = 0;
    heap->mapped_image = false;
    forget_writes(heap);
    return true;
}

void heap_discard(struct heap *heap) {
    make_fresh(heap);
}

bool module_maps_image(const lucet_module *module) {
    return module->image_size > COPIED_IMAGE_MAX && module->header->images_count <= MAPPED_RUNS_MAX;
}

static bool is_hot(const struct heap *heap, u64 page) {
    for (u32 i = 0; i < heap->hot_count; i++)
        if (heap->writable->hot[i] == page)
            return true;
    return false;
}

/* It is writable. */
NO_TSAN static bool record_hot(struct heap *heap, u64 page) {
    heap->writable->clean[heap->hot_count] = 0;
    heap->writable->hot[heap->hot_count++] = (u32)page;
    return true;
}

static bool add_hot(struct heap *heap, u64 page) {
    if (heap->hot_count == HEAP_HOT_MAX ||
        !protect(heap, page * HOST_PAGE, (page + 1) * HOST_PAGE, PROT_READ | PROT_WRITE))
        return false;
    return record_hot(heap, page);
}

static bool make_image_hot(struct heap *heap, const lucet_module *module) {
    for (u32 i = 0; i < module->header->images_count; i++) {
        const struct abi_image *run = &module->images[i];
        for (u64 page = run->heap_offset / HOST_PAGE; page * HOST_PAGE < run->heap_offset + run->size; page++)
            if (!is_hot(heap, page) && !add_hot(heap, page))
                return false;
    }
    return true;
}

/* From one module with a small image to another, without new pages: the pages in which either has data become hot, and
 * restoring gives every hot page what the new module has there. False: nothing is lost, but it must be done otherwise. */
static bool switch_module(struct heap *heap, const lucet_module *module) {
    const lucet_module *old = heap->module;
    if (!old || !heap->tracked || heap->extents_count || module->memory_minimum != heap->accessible ||
        heap->used != heap->accessible || old->image_size > COPIED_IMAGE_MAX || module->image_size > COPIED_IMAGE_MAX ||
        !make_image_hot(heap, old) || !make_image_hot(heap, module))
        return false;
    heap->module = module;
    heap->module_serial = module->serial;
    for (u32 i = 0; i < heap->hot_count; i++)
        restore_page(heap, heap->writable->hot[i]);
    return true;
}

/* The initial memory of an instance of the module. Nothing to do when the slot's last instance was of the same module. */
bool heap_prepare(struct heap *heap, const lucet_module *module, bool track) {
    if (LIKELY(heap->module_serial == module->serial))
        return true;
    if (switch_module(heap, module))
        return true;
    u64 size = module->memory_minimum;
    if (!make_fresh(heap))
        return false;
    heap->used = size; /* before anything can fail: make_fresh must know what to undo */
    if (!heap->packed && mprotect(heap->base - heap->below, heap->below + size, PROT_READ | PROT_WRITE) < 0)
        return false;
    heap->below = 0;
    heap->accessible = size;
    heap->mapped_image = !heap->packed && module_maps_image(module);
    if (heap->mapped_image) {
        if (!map_image(heap, module, PROT_READ | PROT_WRITE))
            return false;
    } else {
        copy_image(heap, module, 0, size);
    }
    if (track && !protect(heap, 0, size, PROT_READ))
        return false;
    heap->tracked = track;
    heap->size = size;
    heap->module = module;
    heap->module_serial = module->serial;
    return true;
}

/* Held for a moment, by code that does not fault: so the signal handler may wait for it. */
NO_TSAN static void lock(struct heap *heap) {
    while (atomic_flag_test_and_set_explicit(&heap->lock, memory_order_acquire))
        __builtin_ia32_pause();
}

NO_TSAN static void unlock(struct heap *heap) {
    atomic_flag_clear_explicit(&heap->lock, memory_order_release);
}

bool heap_grow(struct heap *heap, u64 size) {
    lock(heap);
    if (size > heap->used)
        heap->used = size;
    /* New pages are zero and writable; reset gives them back. */
    bool ok = protect(heap, heap->accessible, size, PROT_READ | PROT_WRITE);
    if (ok)
        heap->accessible = heap->size = size;
    else
        protect(heap, heap->accessible, size, PROT_NONE); /* a part may have succeeded */
    unlock(heap);
    return ok;
}

/* ---- the first write to a page ---- */

/* All pages are one extent. */
NO_TSAN static bool overflow(struct heap *heap) {
    if (!protect_unseen(heap, 0, heap->accessible))
        return false;
    heap->writable->extents[0] = (struct heap_extent){.end = (u32)(heap->module->memory_minimum / HOST_PAGE)};
    heap->extents_count = 1;
    heap->hot_count = 0;
    return true;
}

/* What is recorded here is writable: reset stores to it. So nothing is recorded that could not be made so; most likely the process
 * has no more VMAs then, and one protection for all pages needs fewer. */
NO_TSAN static bool add_page(struct heap *heap, u64 page) {
    if (!protect_unseen(heap, page * HOST_PAGE, (page + 1) * HOST_PAGE))
        return overflow(heap);
    return record_hot(heap, page);
}

NO_TSAN static const struct heap_extent *extent_at(const struct heap *heap, u64 page) {
    for (u32 i = 0; i < heap->extents_count; i++)
        if (page >= heap->writable->extents[i].first && page < heap->writable->extents[i].end)
            return &heap->writable->extents[i];
    return NULL;
}

/* The extent that another becomes part of: a neighbour, so that both together are still small enough to cool down as one, or any
 * if there is no room for one more. */
NO_TSAN static struct heap_extent *extent_beside(struct heap *heap, u64 first, u64 end) {
    for (u32 i = 0; i < heap->extents_count; i++) {
        struct heap_extent *extent = &heap->writable->extents[i];
        bool small = extent->end - extent->first + (end - first) <= BLOCK_PAGES_MAX;
        if ((small || heap->extents_count == HEAP_EXTENTS_MAX) && (first == extent->end || end == extent->first))
            return extent;
    }
    return NULL;
}

/* Around a page that is in none: without those that are in another. */
NO_TSAN static bool add_extent(struct heap *heap, u64 page, u64 first, u64 end) {
    struct heap_extent *extents = heap->writable->extents;
    for (u32 i = 0; i < heap->extents_count; i++) {
        if (extents[i].end <= page && extents[i].end > first)
            first = extents[i].end;
        if (extents[i].first > page && extents[i].first < end)
            end = extents[i].first;
    }
    struct heap_extent *beside = extent_beside(heap, first, end);
    if ((!beside && heap->extents_count == HEAP_EXTENTS_MAX) ||
        !protect_unseen(heap, first * HOST_PAGE, end * HOST_PAGE))
        return overflow(heap);
    if (beside) {
        beside->dense = false;
        beside->clean = 0;
        beside->first = first < beside->first ? (u32)first : beside->first;
        beside->end = end > beside->end ? (u32)end : beside->end;
    } else {
        extents[heap->extents_count++] = (struct heap_extent){.first = (u32)first, .end = (u32)end};
    }
    return true;
}

NO_TSAN static bool note_write(struct heap *heap, u64 page, u64 initial) {
    if (extent_at(heap, page) || is_hot(heap, page)) /* another thread was faster */
        return true;
    u32 fault = heap->faults++;
    if (fault < SINGLE_FAULTS && heap->hot_count < HEAP_HOT_MAX)
        return add_page(heap, page);
    u32 step = (fault - SINGLE_FAULTS) / 4 + 1;
    u64 block = step < 8 ? 1U << step : BLOCK_PAGES_MAX;
    u64 first = page / block * block, end = first + block;
    return add_extent(heap, page, first, end * HOST_PAGE < initial ? end : initial / HOST_PAGE);
}

static bool note_writes(struct heap *heap, u64 first, u64 end, u64 initial) {
    enum { FEW = 8 };
    bool few = end - first <= FEW;
    for (u64 page = first; page < end; page++) {
        const struct heap_extent *extent = extent_at(heap, page);
        if (extent)
            page = extent->end - 1;
        else if (!(few ? note_write(heap, page, initial) : add_extent(heap, page, page, end)))
            return false;
    }
    return true;
}

/* Called in the signal handler: true if the page was write-protected and is writable now. */
NO_TSAN bool heap_write_fault(struct heap *heap, const u8 *address) {
    u64 offset = (u64)(address - heap->base);
    if (!heap->tracked)
        return false;
    lock(heap);
    u64 initial = heap->module ? heap->module->memory_minimum : 0;
    bool ours = heap->tracked && offset < initial && offset < heap->accessible;
    ours = ours && note_write(heap, offset / HOST_PAGE, initial);
    unlock(heap);
    return ours;
}

bool heap_will_write(struct heap *heap, u64 offset, u64 size) {
    lock(heap);
    bool ok = offset <= heap->size && size <= heap->size - offset;
    u64 initial = heap->module ? heap->module->memory_minimum : 0;
    if (ok && size && heap->tracked && offset < initial) {
        u64 last = offset + size - 1 < initial ? offset + size - 1 : initial - 1;
        ok = note_writes(heap, offset / HOST_PAGE, last / HOST_PAGE + 1, initial);
    }
    unlock(heap);
    return ok;
}

/* ---- reset ---- */

/* Give all pages of an extent back; the kernel shows zeros or the mapped image afterwards. */
static bool give_back(struct heap *heap, u64 first, u64 end) {
    if (madvise(heap->base + first * HOST_PAGE, (end - first) * HOST_PAGE, MADV_DONTNEED) < 0)
        return false;
    if (!heap->mapped_image)
        copy_image(heap, heap->module, first * HOST_PAGE, end * HOST_PAGE);
    return true;
}

/* What a reset does with the pages that may have been written. */
struct reset {
    bool audit;
    u64 budget;           /* pages that may yet be restored rather than given back */
    u64 touched, changed; /* of the extent; changed: with audit only */
};

static bool restore_touched(struct heap *heap, u64 first, u64 end, struct reset *reset) {
    enum { BATCH = 512 };
    u64 entries[BATCH];
    reset->touched = reset->changed = 0;
    for (u64 at = first; at < end;) {
        u64 count = end - at < BATCH ? end - at : BATCH;
        u64 address = (u64)(uintptr_t)heap->base / HOST_PAGE + at;
        ssize_t size = (ssize_t)(count * 8);
        if (pread(pagemap(), entries, (size_t)size, (off_t)(address * 8)) != size) {
            reset->changed++;
            return give_back(heap, at, end);
        }
        for (u64 i = 0; i < count; i++) {
            if (!(entries[i] >> 62)) /* neither present nor swapped: never touched */
                continue;
            reset->touched++;
            if (reset->audit && is_unchanged(heap, at + i))
                continue;
            reset->changed++;
            if (reset->budget == 0)
                return give_back(heap, at + i, end);
            reset->budget--;
            restore_page(heap, at + i);
        }
        at += count;
    }
    return true;
}

/* Protect pages that are as in the image. False: nobody knows how they are protected now. */
static bool cool(struct heap *heap, u64 first, u64 end, bool *cold) {
    *cold = protect(heap, first * HOST_PAGE, end * HOST_PAGE, PROT_READ);
    return *cold || protect(heap, first * HOST_PAGE, end * HOST_PAGE, PROT_READ | PROT_WRITE);
}

static void restore_hot(struct heap *heap, bool audit) {
    struct heap_writable *writable = heap->writable;
    for (u32 i = 0; i < heap->hot_count; i++) {
        bool clean = UNLIKELY(audit) && is_unchanged(heap, writable->hot[i]);
        if (!clean)
            restore_page(heap, writable->hot[i]);
        if (UNLIKELY(audit))
            writable->clean[i] = clean ? (u8)(writable->clean[i] + 1) : 0;
    }
}

/* How many hot pages from i on cool down together: neighbours, and no extent goes on needing them writable. */
static u32 cold_run(const struct heap *heap, u32 i) {
    const struct heap_writable *writable = heap->writable;
    u32 end = i;
    while (end < heap->hot_count && writable->clean[end] >= CLEAN_AUDITS_MAX &&
           writable->hot[end] == writable->hot[i] + (end - i) && !extent_at(heap, writable->hot[end]))
        end++;
    return end - i;
}

static bool cool_hot(struct heap *heap) {
    struct heap_writable *writable = heap->writable;
    u32 kept = 0, before = heap->hot_count;
    for (u32 i = 0, run; i < before; i += run ? run : 1) {
        bool cold = false;
        run = cold_run(heap, i);
        if (run && !cool(heap, writable->hot[i], writable->hot[i] + run, &cold))
            return false;
        if (cold || (writable->clean[i] >= CLEAN_AUDITS_MAX && !run)) /* cold, or in an extent: that restores it */
            continue;
        for (u32 j = i; j < i + (run ? run : 1); j++) {
            writable->clean[kept] = run ? 0 : writable->clean[j];
            writable->hot[kept++] = writable->hot[j];
        }
    }
    heap->hot_count = kept;
    heap->faults -= heap->faults < before - kept ? heap->faults : before - kept;
    return true;
}

static void forget_hot(struct heap *heap, u64 first, u64 end) {
    struct heap_writable *writable = heap->writable;
    u32 kept = 0;
    for (u32 i = 0; i < heap->hot_count; i++)
        if (writable->hot[i] < first || writable->hot[i] >= end) {
            writable->clean[kept] = writable->clean[i];
            writable->hot[kept++] = writable->hot[i];
        }
    heap->hot_count = kept;
}

static bool restore_extent(struct heap *heap, struct heap_extent *extent, struct reset *reset, bool *cold) {
    u64 size = extent->end - extent->first;
    *cold = false;
    if (extent->dense && size <= reset->budget && !reset->audit) {
        reset->budget -= size;
        restore_pages(heap, extent->first, extent->end);
        return true;
    }
    if (!restore_touched(heap, extent->first, extent->end, reset))
        return false;
    extent->dense = reset->touched >= size / 2;
    if (!reset->audit)
        return true;
    extent->clean = reset->changed ? 0 : (u8)(extent->clean + 1);
    if (extent->clean < CLEAN_AUDITS_MAX)
        return true;
    extent->clean = 0;
    return cool(heap, extent->first, extent->end, cold);
}

static bool restore_extents(struct heap *heap, struct reset *reset) {
    struct heap_extent *extents = heap->writable->extents;
    u32 kept = 0;
    for (u32 i = 0; i < heap->extents_count; i++) {
        bool cold;
        if (!restore_extent(heap, &extents[i], reset, &cold))
            return false;
        if (cold)
            forget_hot(heap, extents[i].first, extents[i].end);
        else
            extents[kept++] = extents[i];
    }
    if (!kept) /* pages one by one again */
        heap->faults = heap->hot_count;
    heap->extents_count = kept;
    return true;
}

static bool restore_writable(struct heap *heap) {
    bool worth_it = heap->hot_count >= AUDITED_MIN || heap->extents_count;
    struct reset reset = {.audit = ++heap->resets % AUDIT_PERIOD == 0 && worth_it, .budget = RESTORED_PAGES_MAX};
    if (UNLIKELY(!heap->tracked))
        return restore_touched(heap, 0, heap->accessible / HOST_PAGE, &reset);
    restore_hot(heap, reset.audit);
    if (UNLIKELY(reset.audit) && !cool_hot(heap))
        return false;
    return LIKELY(!heap->extents_count) || restore_extents(heap, &reset);
}

/* The memory as in a new instance of the module whose image the slot holds. False: the slot must be made fresh. */
bool heap_reset(struct heap *heap) {
    if (UNLIKELY(!heap->module))
        return make_fresh(heap);
    u64 initial = heap->module->memory_minimum;
    if (heap->packed) {
        if (!restore_packed(heap, heap->module))
            return make_fresh(heap);
        heap->accessible = heap->used = heap->size = initial;
        return true;
    }
    if (UNLIKELY(heap->used > initial)) {
        if (madvise(heap->base + initial, heap->used - initial, MADV_DONTNEED) < 0 ||
            !protect(heap, initial, heap->used, PROT_NONE))
            return make_fresh(heap);
        heap->accessible = heap->used = initial;
    }
    heap->size = initial;
    return LIKELY(restore_writable(heap)) || make_fresh(heap);
}
