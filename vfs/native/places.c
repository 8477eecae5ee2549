#include "places.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blocks.h"

#define WINDOWS 128

/* So many READs of few bytes: the disk then reads a window's blocks faster at once than one after the other. */
#define SMALL_READS 8
#define SMALL_READ_BYTES 65536u

/* Of one hint the kernel reads no more than it reads ahead at once: 128 KiB unless it is told otherwise. */
#define HINT_BYTES ((uint64_t)64 * 1024)

struct window {
    uint64_t ino, number, used;
    struct session_place *place;
    struct open_packs packs;
    unsigned small_reads;
};

static struct window windows[WINDOWS];
static uint64_t clock_of_use;

bool packs_open(struct open_packs *packs, struct session_piece *pieces, uint32_t count)
{
    int given[PACKS_MAX];
    packs->count = 0;
    for (uint32_t at = 0; at < count; at++) {
        uint32_t pack = 0;
        while (pack < packs->count && given[pack] != pieces[at].descriptor)
            pack++;
        if (pack == packs->count) {
            int own = pack < PACKS_MAX ? fcntl(pieces[at].descriptor, F_DUPFD_CLOEXEC, 0) : -1;
            if (own < 0) {
                packs_close(packs);
                return false;
            }
            given[pack] = pieces[at].descriptor;
            packs->descriptors[packs->count++] = own;
        }
        pieces[at].descriptor = packs->descriptors[pack];
    }
    return true;
}

void packs_close(const struct open_packs *packs)
{
    for (uint32_t pack = 0; pack < packs->count; pack++)
        close(packs->descriptors[pack]);
}

bool places_part(const struct session_place *place, uint64_t offset, uint32_t bytes, struct session_part *part)
{
    if (place->count > SESSION_PIECES || offset < place->start || offset >= place->size)
        return false;
    uint64_t end = place->size - offset < bytes ? place->size : offset + bytes;
    uint64_t start = place->start;
    uint32_t first = 0, plain = 0;
    while (first < place->count && start + place->pieces[first].bytes <= offset)
        start += place->pieces[first++].bytes;
    *part = (struct session_part){&place->pieces[first], 0, (uint32_t)(offset - start), (uint32_t)(end - offset)};
    while (start < end) {
        if (first + part->count == place->count || part->count == SESSION_READ_PIECES)
            return false;
        const struct session_piece *piece = &part->pieces[part->count++];
        if (!blocks_can_read(piece))
            return false;
        plain += piece->bytes;
        start += piece->bytes;
    }
    return part->count && plain <= READ_PLAIN_MAX;
}

static void drop(struct window *window)
{
    if (window->place) {
        packs_close(&window->packs);
        free(window->place);
    }
    *window = (struct window){0};
}

static struct window *find(uint64_t ino, uint64_t offset)
{
    for (unsigned at = 0; at < WINDOWS; at++)
        if (windows[at].ino == ino && windows[at].number == offset / SESSION_WINDOW_BYTES && windows[at].place)
            return &windows[at];
    return NULL;
}

bool places_find(uint64_t ino, uint64_t offset, uint32_t bytes, struct session_part *part)
{
    struct window *window = find(ino, offset);
    if (!window || !places_part(window->place, offset, bytes, part))
        return false;
    window->used = ++clock_of_use;
    return true;
}

bool places_read_in_pieces(uint64_t ino, uint64_t offset, uint32_t bytes, struct session_part *part)
{
    struct window *window = bytes <= SMALL_READ_BYTES ? find(ino, offset) : NULL;
    if (!window || ++window->small_reads != SMALL_READS)
        return false;
    *part = (struct session_part){window->place->pieces, window->place->count, 0, 0};
    return true;
}

/* One that is empty was never used. */
static struct window *least_used(void)
{
    struct window *found = windows;
    for (unsigned at = 1; at < WINDOWS; at++)
        if (windows[at].used < found->used)
            found = &windows[at];
    return found;
}

void places_keep(uint64_t ino, uint64_t offset, const struct session_place *place)
{
    struct window *window = find(ino, offset);
    if (!window)
        window = least_used();
    drop(window);
    size_t bytes = offsetof(struct session_place, pieces) + place->count * sizeof place->pieces[0];
    struct session_place *own = malloc(bytes);
    if (!own)
        return;
    memcpy(own, place, bytes);
    if (!packs_open(&window->packs, own->pieces, own->count)) {
        free(own);
        return;
    }
    window->ino = ino;
    window->number = offset / SESSION_WINDOW_BYTES;
    window->used = ++clock_of_use;
    window->place = own;
}

void places_forget(uint64_t ino)
{
    for (unsigned at = 0; at < WINDOWS; at++)
        if (windows[at].ino == ino)
            drop(&windows[at]);
}

void places_drop(void)
{
    for (unsigned at = 0; at < WINDOWS; at++)
        drop(&windows[at]);
}

void places_hint(const struct session_piece *pieces, uint32_t count)
{
    for (uint32_t at = 0, next; at < count; at = next) {
        uint64_t end = pieces[at].offset + pieces[at].block_bytes - pieces[at].rest_bytes;
        if (pieces[at].rest_bytes)
            posix_fadvise(pieces[at].descriptor, (off_t)pieces[at].rest_offset, pieces[at].rest_bytes,
                          POSIX_FADV_WILLNEED);
        for (next = at + 1; next < count && pieces[next].offset == end && !pieces[next].rest_bytes &&
                            pieces[next].descriptor == pieces[at].descriptor && end - pieces[at].offset < HINT_BYTES;)
            end += pieces[next++].block_bytes;
        posix_fadvise(pieces[at].descriptor, (off_t)pieces[at].offset, (off_t)(end - pieces[at].offset),
                      POSIX_FADV_WILLNEED);
    }
}
