#include "reads.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "blocks.h"
#include "places.h"

/* More reads under way than the kernel sends for readahead, and than programs usually read at a time. */
#define READS 64

/* Without a request (`unique` 0): bytes that will be asked for in a moment, which the disk begins to read. */
struct begun_read {
    struct session_read asked;
    int connection;
    uint32_t count, skipped, answered;
    struct open_packs packs;
    struct session_piece pieces[];
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t is_filled;
    pthread_t threads[SESSION_READERS];
    unsigned running;
    bool ends;
    session_locate *locate;
    struct begun_read *queue[READS];
    unsigned first, waiting;
    /* Those that Python has to answer. `busy` counts reads that were begun and are not answered, here or there. */
    struct session_read returned[READS];
    unsigned returned_first, returned_waiting, busy;
    int returned_event;
} reads = {.lock = PTHREAD_MUTEX_INITIALIZER, .is_filled = PTHREAD_COND_INITIALIZER, .returned_event = -1};

/* Reads, checks and answers. False if Python has to. */
static bool answer(const struct begun_read *begun, struct workspace *space)
{
    const uint8_t *found[SESSION_READ_PIECES];
    struct iovec parts[SESSION_READ_PIECES + 1];
    const struct session_piece *last = &begun->pieces[begun->count - 1];
    uint64_t end = (uint64_t)begun->skipped + begun->answered, plain = 0;
    for (uint32_t at = 0; at < begun->count; at++)
        plain += begun->pieces[at].bytes;
    bool is_whole[2] = {!begun->skipped, end == plain};
    if (!blocks_read(space, begun->pieces, begun->count, is_whole, found))
        return false;
    for (uint32_t at = 0; at < begun->count; at++)
        parts[at + 1] = (struct iovec){(void *)(uintptr_t)found[at], begun->pieces[at].bytes};
    parts[begun->count].iov_len = last->bytes - (size_t)(plain - end);
    parts[1].iov_base = (uint8_t *)parts[1].iov_base + begun->skipped;
    parts[1].iov_len -= begun->skipped;
    reply_with(begun->connection, begun->asked.unique, parts, begun->count, begun->answered);
    return true;
}

static void hint(const struct begun_read *begun)
{
    const struct session_piece *pieces = begun->pieces;
    for (uint32_t at = 0, next; at < begun->count; at = next) {
        uint64_t end = pieces[at].offset + pieces[at].block_bytes - pieces[at].rest_bytes;
        if (pieces[at].rest_bytes)
            posix_fadvise(pieces[at].descriptor, (off_t)pieces[at].rest_offset, pieces[at].rest_bytes,
                          POSIX_FADV_WILLNEED);
        for (next = at + 1; next < begun->count && pieces[next].offset == end && !pieces[next].rest_bytes &&
                            pieces[next].descriptor == pieces[at].descriptor;)
            end += pieces[next++].block_bytes;
        posix_fadvise(pieces[at].descriptor, (off_t)pieces[at].offset, (off_t)(end - pieces[at].offset),
                      POSIX_FADV_WILLNEED);
    }
}

/* Leaves a read to Python, which finds out what is wrong, and says so. */
static void give_back(const struct session_read *asked)
{
    pthread_mutex_lock(&reads.lock);
    reads.returned[(reads.returned_first + reads.returned_waiting++) % READS] = *asked;
    pthread_mutex_unlock(&reads.lock);
    uint64_t one = 1;
    ssize_t written = write(reads.returned_event, &one, sizeof one);
    (void)written;
}

static void *serve(void *given)
{
    struct workspace *space = given;
    pthread_mutex_lock(&reads.lock);
    for (;;) {
        while (!reads.waiting && !reads.ends)
            pthread_cond_wait(&reads.is_filled, &reads.lock);
        if (!reads.waiting)
            break;
        struct begun_read *begun = reads.queue[reads.first];
        reads.first = (reads.first + 1) % READS;
        reads.waiting--;
        pthread_mutex_unlock(&reads.lock);
        bool is_done = true;
        if (!begun->asked.unique)
            hint(begun);
        else
            is_done = answer(begun, space);
        blocks_release(space);
        packs_close(&begun->packs);
        if (!is_done)
            give_back(&begun->asked);
        free(begun);
        pthread_mutex_lock(&reads.lock);
        reads.busy -= is_done;
    }
    pthread_mutex_unlock(&reads.lock);
    workspace_free(space);
    return NULL;
}

static bool has_room(void)
{
    pthread_mutex_lock(&reads.lock);
    bool has_room = reads.running && reads.busy < READS;
    pthread_mutex_unlock(&reads.lock);
    return has_room;
}

bool reads_are_under_way(void)
{
    pthread_mutex_lock(&reads.lock);
    bool are_under_way = reads.busy;
    pthread_mutex_unlock(&reads.lock);
    return are_under_way;
}

/* Gives a read whose place is found to a thread, with descriptors of its own: Python may close the others. */
static bool begin(int connection, const struct session_read *asked, const struct session_part *part)
{
    size_t pieces_bytes = part->count * sizeof part->pieces[0];
    struct begun_read *begun = malloc(sizeof *begun + pieces_bytes);
    if (!begun)
        return false;
    *begun = (struct begun_read){*asked, connection, part->count, part->skipped, part->answered, {.count = 0}};
    memcpy(begun->pieces, part->pieces, pieces_bytes);
    if (!packs_open(&begun->packs, begun->pieces, begun->count)) {
        free(begun);
        return false;
    }
    pthread_mutex_lock(&reads.lock);
    reads.queue[(reads.first + reads.waiting++) % READS] = begun;
    reads.busy++;
    pthread_cond_signal(&reads.is_filled);
    pthread_mutex_unlock(&reads.lock);
    return true;
}

/* Asks Python where bytes lie, and keeps the answer if it is one for later READs. */
static bool locate(uint64_t ino, uint64_t offset, uint32_t bytes, struct session_part *part)
{
    static struct session_place place;
    if (!reads.locate(ino, offset, bytes, &place) || !places_part(&place, offset, bytes, part))
        return false;
    if (place.is_kept)
        places_keep(ino, offset, &place);
    return true;
}

bool reads_begin(int connection, uint64_t unique, uint64_t ino, uint64_t offset, uint32_t bytes)
{
    struct session_read asked = {unique, ino, offset, bytes, 0};
    struct session_part part;
    return unique && has_room() && (places_find(ino, offset, bytes, &part) || locate(ino, offset, bytes, &part)) &&
           begin(connection, &asked, &part);
}

SESSION_EXPORT void session_hint(const struct session_place *place)
{
    struct session_read asked = {0};
    struct session_part part;
    if (has_room() && places_part(place, place->start, UINT32_MAX, &part))
        begin(-1, &asked, &part);
}

SESSION_EXPORT void session_drop_places(void)
{
    places_drop();
}

SESSION_EXPORT int session_serve_reads(session_locate *locate)
{
    bool can_unpack = blocks_load();
    if (reads.returned_event < 0)
        reads.returned_event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (reads.returned_event < 0)
        return can_unpack;
    reads.locate = locate;
    reads.ends = false;
    while (reads.running < SESSION_READERS) {
        struct workspace *space = workspace_new();
        if (!space)
            break;
        if (pthread_create(&reads.threads[reads.running], NULL, serve, space)) {
            workspace_free(space);
            break;
        }
        reads.running++;
    }
    return can_unpack;
}

void reads_stop(void)
{
    pthread_mutex_lock(&reads.lock);
    reads.ends = true;
    pthread_cond_broadcast(&reads.is_filled);
    pthread_mutex_unlock(&reads.lock);
    while (reads.running)
        pthread_join(reads.threads[--reads.running], NULL);
    places_drop();
    blocks_drop();
    reads.returned_waiting = reads.busy = 0;
}

SESSION_EXPORT int session_returned_event(void)
{
    return reads.returned_event;
}

SESSION_EXPORT int session_take_returned(struct session_read *taken)
{
    uint64_t count;
    ssize_t got = read(reads.returned_event, &count, sizeof count);
    (void)got;
    pthread_mutex_lock(&reads.lock);
    bool is_there = reads.returned_waiting;
    if (is_there) {
        *taken = reads.returned[reads.returned_first];
        reads.returned_first = (reads.returned_first + 1) % READS;
        reads.returned_waiting--;
        reads.busy--;
    }
    pthread_mutex_unlock(&reads.lock);
    /* What was copied there may lie elsewhere by now. */
    if (is_there)
        places_forget(taken->ino);
    return is_there;
}
