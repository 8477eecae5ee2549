#include "prepared.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "first_reads.h"

#define PREPARED 64u

/* How long a hint to the disk may take; so many are left out after one that took longer. */
#define HINT_NS 2000000
#define HINTS_SKIPPED 64u

/* A free one has the number 0. */
static struct prepared {
    uint64_t ino, directory, position;
    struct session_place *place;
    struct open_packs packs;
    bool is_read;
} prepared[PREPARED];
static unsigned next;

static struct prepared *find(uint64_t ino)
{
    for (unsigned at = 0; at < PREPARED; at++)
        if (prepared[at].ino == ino)
            return &prepared[at];
    return NULL;
}

static void drop(struct prepared *one)
{
    if (one->ino) {
        packs_close(&one->packs);
        free(one->place);
    }
    *one = (struct prepared){0};
}

bool prepared_find(uint64_t ino, uint64_t offset, uint32_t bytes, struct session_part *part)
{
    struct prepared *one = find(ino);
    if (!one || !places_part(one->place, offset, bytes, part))
        return false;
    if (!one->is_read)
        first_reads_note(ino, one->directory, one->position);
    one->is_read = true;
    return true;
}

void prepared_forget(uint64_t ino)
{
    struct prepared *one = find(ino);
    if (one)
        drop(one);
}

void prepared_drop(void)
{
    for (unsigned at = 0; at < PREPARED; at++)
        drop(&prepared[at]);
}

/* Has the disk begin to read, unless that takes as long as to read. */
static void hint(const struct session_place *place)
{
    static unsigned skipped;
    struct timespec before, after;
    if (skipped) {
        skipped--;
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &before);
    places_hint(place->pieces, place->count);
    clock_gettime(CLOCK_MONOTONIC, &after);
    if ((after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec > HINT_NS)
        skipped = HINTS_SKIPPED;
}

bool prepared_add(uint64_t ino, uint64_t directory, uint64_t position, const struct session_place *place, bool is_read)
{
    struct session_part part;
    if (!ino || !places_part(place, place->start, UINT32_MAX, &part))
        return false;
    struct prepared *one = find(ino);
    if (!one)
        one = &prepared[next++ % PREPARED];
    drop(one);
    size_t bytes = offsetof(struct session_place, pieces) + place->count * sizeof place->pieces[0];
    struct session_place *own = malloc(bytes);
    if (!own)
        return false;
    memcpy(own, place, bytes);
    if (!packs_open(&one->packs, own->pieces, own->count)) {
        free(own);
        return false;
    }
    one->ino = ino;
    one->directory = directory;
    one->position = position;
    one->place = own;
    one->is_read = is_read;
    hint(own);
    return true;
}

SESSION_EXPORT int session_prepare(uint64_t ino, uint64_t directory, uint64_t position,
                                   const struct session_place *place)
{
    return prepared_add(ino, directory, position, place, false);
}
