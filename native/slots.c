/* slots.c: slots of the host's in which values of type exnref may stand. The collector of exceptions looks at all of them: so nobody has
 * to hold a guest still, or its instance's group, between the moment when such a value is made and the one when it is looked at. */

#include <stddef.h>
#include <stdlib.h>

#include "internal.h"

struct slots {
    struct slots *next, *previous;
    u32 count;
    u64 words[];
};

static struct slots all = {&all, &all, 0};

uint64_t *lucet_slots_new(uint32_t count) {
    struct slots *slots = calloc(1, sizeof *slots + (count + 1ULL) * sizeof *slots->words);
    if (!slots)
        return NULL;
    slots->count = count;
    process_lock(SLOTS_LOCK);
    *slots = (struct slots){&all, all.previous, count};
    all.previous->next = slots;
    all.previous = slots;
    process_unlock(SLOTS_LOCK);
    return slots->words;
}

void lucet_slots_free(uint64_t *words) {
    if (!words)
        return;
    struct slots *slots = (void *)((u8 *)words - offsetof(struct slots, words));
    process_lock(SLOTS_LOCK);
    slots->previous->next = slots->next;
    slots->next->previous = slots->previous;
    process_unlock(SLOTS_LOCK);
    free(slots);
}

void slots_each(void (*look)(const struct group *group, const u64 *begin, const u64 *end), const struct group *group) {
    process_lock(SLOTS_LOCK);
    for (const struct slots *slots = all.next; slots != &all; slots = slots->next)
        look(group, slots->words, slots->words + slots->count);
    process_unlock(SLOTS_LOCK);
}
