#include "prepared.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PREPARED 64u
#define NOTES 256u

/* How long a hint to the disk may take; so many are left out after one that took longer. */
#define HINT_NS 2000000
#define HINTS_SKIPPED 64u

/* A free one has the number 0. */
static struct prepared {
    uint64_t ino;
    struct session_place *place;
    struct open_packs packs;
    bool is_read;
} prepared[PREPARED];
static unsigned next;

static uint64_t notes[NOTES];
static uint32_t noted;

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
        prepared_note(ino);
    one->is_read = true;
    return true;
}

void prepared_note(uint64_t ino)
{
    if (noted < NOTES)
        notes[noted++] = ino;
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

void prepared_forget_reads(void)
{
    noted = 0;
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
    for (uint32_t at = 0; at < place->count; at++) {
        const struct session_piece *piece = &place->pieces[at];
        posix_fadvise(piece->descriptor, (off_t)piece->offset, piece->block_bytes - piece->rest_bytes,
                      POSIX_FADV_WILLNEED);
        if (piece->rest_bytes)
            posix_fadvise(piece->descriptor, (off_t)piece->rest_offset, piece->rest_bytes, POSIX_FADV_WILLNEED);
    }
    clock_gettime(CLOCK_MONOTONIC, &after);
    if ((after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec > HINT_NS)
        skipped = HINTS_SKIPPED;
}

SESSION_EXPORT int session_prepare(uint64_t ino, const struct session_place *place)
{
    struct session_part part;
    if (!ino || !places_part(place, place->start, UINT32_MAX, &part))
        return 0;
    struct prepared *one = find(ino);
    if (!one)
        one = &prepared[next++ % PREPARED];
    drop(one);
    size_t bytes = offsetof(struct session_place, pieces) + place->count * sizeof place->pieces[0];
    struct session_place *own = malloc(bytes);
    if (!own)
        return 0;
    memcpy(own, place, bytes);
    if (!packs_open(&one->packs, own->pieces, own->count)) {
        free(own);
        return 0;
    }
    one->ino = ino;
    one->place = own;
    hint(own);
    return 1;
}

SESSION_EXPORT uint32_t session_take_first_reads(uint64_t *inos, uint32_t most)
{
    uint32_t count = noted < most ? noted : most;
    memcpy(inos, notes, count * sizeof notes[0]);
    memmove(notes, notes + count, (noted - count) * sizeof notes[0]);
    noted -= count;
    return count;
}
