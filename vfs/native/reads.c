#include "reads.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hash.h"

/* More reads under way than the kernel sends for readahead, and than programs usually read at a time. */
#define READS 64

/* Without a request (`unique` 0): bytes that will be asked for in a moment, which the disk begins to read. */
struct begun_read {
    struct session_read asked;
    struct session_place place;
    int connection;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t is_filled;
    pthread_t threads[SESSION_READERS];
    unsigned running;
    bool ends;
    session_locate *locate;
    struct begun_read queue[READS];
    unsigned first, waiting;
    /* Those that Python has to answer. `busy` counts reads that were begun and are not answered, here or there. */
    struct session_read returned[READS];
    unsigned returned_first, returned_waiting, busy;
    int returned_event;
} reads = {.lock = PTHREAD_MUTEX_INITIALIZER, .is_filled = PTHREAD_COND_INITIALIZER, .returned_event = -1};

/* Reads a file's pieces into a buffer, each checked against its id. */
static bool fetch(const struct session_place *place, uint8_t *buffer)
{
    for (uint32_t at = 0; at < place->count; at++) {
        const struct session_piece *piece = &place->pieces[at];
        ssize_t got = pread(piece->descriptor, buffer, piece->bytes, (off_t)piece->offset);
        if (got != (ssize_t)piece->bytes)
            return false;
        uint8_t hash[HASH_BYTES];
        hash_bytes(buffer, piece->bytes, hash);
        if (memcmp(hash, piece->id, HASH_BYTES))
            return false;
        buffer += piece->bytes;
    }
    return true;
}

static void release(const struct session_place *place)
{
    for (uint32_t at = 0; at < place->count; at++)
        close(place->pieces[at].descriptor);
}

static void hint(const struct session_place *place)
{
    for (uint32_t at = 0; at < place->count; at++)
        posix_fadvise(place->pieces[at].descriptor, (off_t)place->pieces[at].offset, (off_t)place->pieces[at].bytes,
                      POSIX_FADV_WILLNEED);
    release(place);
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

static void *serve(void *buffer)
{
    pthread_mutex_lock(&reads.lock);
    for (;;) {
        while (!reads.waiting && !reads.ends)
            pthread_cond_wait(&reads.is_filled, &reads.lock);
        if (!reads.waiting)
            break;
        struct begun_read begun = reads.queue[reads.first];
        reads.first = (reads.first + 1) % READS;
        reads.waiting--;
        pthread_mutex_unlock(&reads.lock);
        if (!begun.asked.unique) {
            hint(&begun.place);
            pthread_mutex_lock(&reads.lock);
            reads.busy--;
            continue;
        }
        bool is_right = fetch(&begun.place, buffer);
        release(&begun.place);
        if (is_right)
            reply_to(begun.connection, begun.asked.unique, 0, (uint8_t *)buffer + begun.place.skipped, begun.place.answered);
        else
            give_back(&begun.asked);
        pthread_mutex_lock(&reads.lock);
        reads.busy -= is_right;
    }
    pthread_mutex_unlock(&reads.lock);
    free(buffer);
    return NULL;
}

/* False for a place that does not fit in the buffers. */
static bool is_valid(const struct session_place *place)
{
    size_t bytes = 0;
    if (!place->count || place->count > SESSION_PIECES)
        return false;
    for (uint32_t at = 0; at < place->count; at++) {
        if (place->pieces[at].bytes > HASH_INPUT_MAX)
            return false;
        bytes += place->pieces[at].bytes;
    }
    return bytes <= HASH_INPUT_MAX && (size_t)place->skipped + place->answered <= bytes;
}

static bool has_room(void)
{
    pthread_mutex_lock(&reads.lock);
    bool has_room = reads.running && reads.busy < READS;
    pthread_mutex_unlock(&reads.lock);
    return has_room;
}

/* Gives a read whose place is found to a thread, with descriptors of its own: Python may close the others. */
static bool begin(struct begun_read *begun)
{
    struct session_place *place = &begun->place;
    for (uint32_t at = 0; at < place->count; at++) {
        int own = fcntl(place->pieces[at].descriptor, F_DUPFD_CLOEXEC, 0);
        if (own < 0) {
            place->count = at;
            release(place);
            return false;
        }
        place->pieces[at].descriptor = own;
    }
    pthread_mutex_lock(&reads.lock);
    reads.queue[(reads.first + reads.waiting++) % READS] = *begun;
    reads.busy++;
    pthread_cond_signal(&reads.is_filled);
    pthread_mutex_unlock(&reads.lock);
    return true;
}

bool reads_begin(int connection, uint64_t unique, uint64_t ino, uint64_t offset, uint32_t bytes)
{
    struct begun_read begun = {.asked = {unique, ino, offset, bytes, 0}, .connection = connection};
    return unique && has_room() && reads.locate(ino, offset, bytes, &begun.place) && is_valid(&begun.place) && begin(&begun);
}

SESSION_EXPORT void session_hint(const struct session_place *place)
{
    struct begun_read begun = {.place = *place};
    if (has_room() && is_valid(place))
        begin(&begun);
}

SESSION_EXPORT void session_serve_reads(session_locate *locate)
{
    if (reads.returned_event < 0)
        reads.returned_event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (reads.returned_event < 0)
        return;
    reads.locate = locate;
    reads.ends = false;
    while (reads.running < SESSION_READERS) {
        void *buffer = malloc(HASH_INPUT_MAX);
        if (!buffer)
            return;
        if (pthread_create(&reads.threads[reads.running], NULL, serve, buffer)) {
            free(buffer);
            return;
        }
        reads.running++;
    }
}

void reads_stop(void)
{
    pthread_mutex_lock(&reads.lock);
    reads.ends = true;
    pthread_cond_broadcast(&reads.is_filled);
    pthread_mutex_unlock(&reads.lock);
    while (reads.running)
        pthread_join(reads.threads[--reads.running], NULL);
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
    return is_there;
}
