/* heap.c: the memory of a slot, and knowing which of its pages a guest may have changed.
 *
 * A page is write-protected until its first write, which faults once; from then on it is hot: it stays writable and is restored
 * by copying when the instance ends, so the next instance that writes it pays neither fault nor system call. A guest that
 * writes many pages gets larger and larger blocks writable at once (extents); which pages of those were really written is
 * then read from /proc/self/pagemap, where present and swapped pages both count. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

enum {
    SINGLE_FAULTS = 64,          /* as many pages are made writable one by one */
    BLOCK_PAGES_MAX = 256,       /* then blocks of 2, 4, 8 ... pages, up to 1 MiB */
    COPIED_IMAGE_MAX = 64 << 10, /* a larger image is mapped copy-on-write */
    MAPPED_RUNS_MAX = 16,        /* an image in more runs than this is copied: each mapping costs the kernel a VMA */
    RESTORED_PAGES_MAX = 4 << 8, /* 4 MiB: beyond, pages of an extent are given back instead of restored */
};

static bool protect(struct heap *heap, u64 from, u64 to, int protection) {
    return from >= to || mprotect(heap->base + from, to - from, protection) == 0;
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
    const u8 *source = heap->module ? image_page(heap->module, page) : NULL;
    if (source)
        memcpy(heap->base + page * HOST_PAGE, source, HOST_PAGE);
    else
        memset(heap->base + page * HOST_PAGE, 0, HOST_PAGE);
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

static void copy_image(struct heap *heap, const lucet_module *module, u64 from, u64 to) {
    for (u32 i = 0; i < module->header->images_count; i++) {
        const struct abi_image *run = &module->images[i];
        u64 start = run->heap_offset > from ? run->heap_offset : from;
        u64 end = run->heap_offset + run->size < to ? run->heap_offset + run->size : to;
        if (start < end)
            memcpy(heap->base + start, module->base + run->rva + (start - run->heap_offset), end - start);
    }
}

static void forget_writes(struct heap *heap) {
    heap->overflowed = false;
    heap->faults = heap->hot_count = heap->extents_count = 0;
}

/* Fresh zero pages, nothing accessible. */
static bool make_fresh(struct heap *heap) {
    if (heap->accessible && mmap(heap->base, heap->accessible, PROT_NONE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
        return false;
    heap->accessible = heap->size = heap->module_serial = 0;
    heap->module = NULL;
    heap->mapped_image = false;
    forget_writes(heap);
    return true;
}

void heap_discard(struct heap *heap) {
    if (!make_fresh(heap)) {
        /* Nothing was unmapped: the pages stay, but belong to nobody, so the next user tries again. */
        heap->module_serial = 0;
        heap->module = NULL;
    }
}

/* The initial memory of an instance of the module. Nothing to do when the slot's last instance was of the same module. */
bool heap_prepare(struct heap *heap, const lucet_module *module, bool track) {
    if (LIKELY(heap->module_serial == module->serial))
        return true;
    u64 size = module->memory_minimum;
    if (!make_fresh(heap) || !protect(heap, 0, size, PROT_READ | PROT_WRITE))
        return false;
    heap->accessible = size; /* before anything can fail: make_fresh must know what to undo */
    heap->mapped_image = module->image_size > COPIED_IMAGE_MAX && module->header->images_count <= MAPPED_RUNS_MAX;
    if (heap->mapped_image) {
        if (!map_image(heap, module, PROT_READ | PROT_WRITE))
            return false;
    } else {
        copy_image(heap, module, 0, size);
    }
    heap->tracked = track;
    heap->overflowed = !track;
    if (track && !protect(heap, 0, size, PROT_READ))
        return false;
    heap->size = size;
    heap->module = module;
    heap->module_serial = module->serial;
    return true;
}

bool heap_grow(struct heap *heap, u64 size) {
    /* New pages are zero and writable; reset gives them back. */
    if (!protect(heap, heap->accessible, size, PROT_READ | PROT_WRITE))
        return false;
    heap->accessible = heap->size = size;
    return true;
}

/* ---- the first write to a page ---- */

static bool make_writable(struct heap *heap, u64 first, u64 end) {
    if (protect(heap, first * HOST_PAGE, end * HOST_PAGE, PROT_READ | PROT_WRITE))
        return true;
    /* Most likely the process has no more VMAs: one protection for all needs fewer. */
    heap->overflowed = protect(heap, 0, heap->accessible, PROT_READ | PROT_WRITE);
    return heap->overflowed;
}

static bool add_extent(struct heap *heap, u64 first, u64 end) {
    struct heap_extent *last = heap->extents_count ? &heap->extents[heap->extents_count - 1] : NULL;
    if (last && first <= last->end && end >= last->first) {
        last->first = first < last->first ? (u32)first : last->first;
        last->end = end > last->end ? (u32)end : last->end;
    } else if (heap->extents_count < HEAP_EXTENTS_MAX) {
        heap->extents[heap->extents_count++] = (struct heap_extent){(u32)first, (u32)end};
    } else {
        heap->overflowed = true;
        return make_writable(heap, 0, heap->accessible / HOST_PAGE);
    }
    return make_writable(heap, first, end);
}

static bool known_writable(const struct heap *heap, u64 page) {
    for (u32 i = 0; i < heap->hot_count; i++)
        if (heap->hot[i] == page)
            return true;
    for (u32 i = 0; i < heap->extents_count; i++)
        if (page >= heap->extents[i].first && page < heap->extents[i].end)
            return true;
    return false;
}

/* Called in the signal handler: true if the page was write-protected and is writable now. */
bool heap_write_fault(struct heap *heap, const u8 *address) {
    u64 offset = (u64)(address - heap->base), page = offset / HOST_PAGE;
    u64 initial = heap->module ? heap->module->memory_minimum : 0;
    if (!heap->tracked || heap->overflowed || offset >= initial || offset >= heap->accessible)
        return false;
    if (known_writable(heap, page))
        return true; /* another thread was faster; the access is tried again */
    u32 fault = heap->faults++;
    if (fault < SINGLE_FAULTS && heap->hot_count < HEAP_HOT_MAX) {
        heap->hot[heap->hot_count++] = (u32)page;
        return make_writable(heap, page, page + 1);
    }
    u32 step = (fault - SINGLE_FAULTS) / 4 + 1;
    u64 block = step < 8 ? 1U << step : BLOCK_PAGES_MAX;
    u64 first = page / block * block, end = first + block;
    return add_extent(heap, first, end * HOST_PAGE < initial ? end : initial / HOST_PAGE);
}

bool heap_will_write(struct heap *heap, u64 offset, u64 size) {
    if (offset > heap->size || size > heap->size - offset)
        return false;
    u64 initial = heap->module ? heap->module->memory_minimum : 0;
    if (size == 0 || !heap->tracked || heap->overflowed || offset >= initial)
        return true;
    u64 last = offset + size - 1 < initial ? offset + size - 1 : initial - 1;
    u64 first_page = offset / HOST_PAGE, end_page = last / HOST_PAGE + 1;
    if (end_page - first_page > 8)
        return add_extent(heap, first_page, end_page);
    for (u64 page = first_page; page < end_page && !heap->overflowed; page++)
        if (!heap_write_fault(heap, heap->base + page * HOST_PAGE))
            return false;
    return true;
}

/* ---- reset ---- */

static int pagemap(void) {
    static atomic_int descriptor = -2; /* of this process; a forked child opens its own */
    static atomic_int owner;
    int pid = getpid();
    if (atomic_load(&descriptor) == -2 || atomic_load(&owner) != pid) {
        atomic_store(&descriptor, open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
        atomic_store(&owner, pid);
    }
    return atomic_load(&descriptor);
}

/* Give all pages of an extent back; the kernel shows zeros or the mapped image afterwards. */
static bool give_back(struct heap *heap, u64 first, u64 end) {
    if (madvise(heap->base + first * HOST_PAGE, (end - first) * HOST_PAGE, MADV_DONTNEED) < 0)
        return false;
    if (heap->module && !heap->mapped_image)
        copy_image(heap, heap->module, first * HOST_PAGE, end * HOST_PAGE);
    return true;
}

static bool restore_extent(struct heap *heap, u64 first, u64 end, u64 *budget) {
    enum { BATCH = 512 };
    u64 entries[BATCH];
    for (u64 at = first; at < end;) {
        u64 count = end - at < BATCH ? end - at : BATCH;
        u64 address = (u64)(uintptr_t)heap->base / HOST_PAGE + at;
        ssize_t size = (ssize_t)(count * 8);
        if (pread(pagemap(), entries, (size_t)size, (off_t)(address * 8)) != size)
            return give_back(heap, at, end);
        for (u64 i = 0; i < count; i++) {
            if (!(entries[i] >> 62)) /* neither present nor swapped: never touched */
                continue;
            if (*budget == 0)
                return give_back(heap, at + i, end);
            --*budget;
            restore_page(heap, at + i);
        }
        at += count;
    }
    return true;
}

/* The memory as in a new instance of the module whose image the slot holds. False: the slot must be made fresh. */
bool heap_reset(struct heap *heap) {
    u64 initial = heap->module ? heap->module->memory_minimum : 0, budget = RESTORED_PAGES_MAX;
    if (UNLIKELY(heap->accessible > initial)) {
        if (madvise(heap->base + initial, heap->accessible - initial, MADV_DONTNEED) < 0 ||
            !protect(heap, initial, heap->accessible, PROT_NONE))
            return make_fresh(heap);
        heap->accessible = initial;
    }
    heap->size = initial;
    if (UNLIKELY(heap->overflowed)) {
        if (initial && !restore_extent(heap, 0, initial / HOST_PAGE, &budget))
            return make_fresh(heap);
        return true;
    }
    for (u32 i = 0; i < heap->hot_count; i++)
        restore_page(heap, heap->hot[i]);
    for (u32 i = 0; i < heap->extents_count; i++)
        if (!restore_extent(heap, heap->extents[i].first, heap->extents[i].end, &budget))
            return make_fresh(heap);
    return true;
}
