#define _GNU_SOURCE
#include "reads.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "blocks.h"
#include "contents.h"
#include "first_reads.h"
#include "leaves.h"
#include "places.h"
#include "prefetched.h"
#include "prepared.h"

/* More reads under way than the kernel sends for readahead, and than programs usually read at a time. */
#define READS 64

/* How long the event loop's thread may take for a read that it answers itself, and how many threads answer next if it
 * has taken longer: the disk is slow, and other requests wait. */
#define ALONE_NS 2000000u
#define ALONE_SKIPPED 64u

/* The largest READ that the event loop's thread answers itself where there are several processors: of more bytes, threads
 * decompress several blocks at once. */
#define ALONE_BYTES ((size_t)256 * 1024)

/* Without a request (`unique` 0): bytes that will be asked for in a moment, which the disk begins to read. */
struct begun_read {
    struct session_read asked;
    int connection;
    struct session_part part;
    struct open_packs packs;
    /* From here on under the lock of `reads`: once its blocks are read, `next` of them are decompressed, or being
     * decompressed by `users` threads. */
    struct workspace *space;
    uint32_t blocks, next, users;
    bool is_wrong;
    const uint8_t *found[SESSION_READ_PIECES];
    struct session_piece pieces[];
};

/* What the event loop's thread answers with. */
static struct {
    struct workspace *space;
    void *context;
    bool has_context;
    unsigned skipped;
} alone;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t is_filled;
    pthread_t threads[SESSION_READERS];
    void *contexts[SESSION_READERS];
    unsigned running;
    bool ends;
    session_locate *locate;
    session_located *located;
    struct begun_read *queue[READS];
    unsigned first, waiting;
    /* READs whose blocks are read, oldest first, and the memory of others. All threads decompress blocks of the oldest: a
     * program waits for that one first. They are one more than processors, since one of them may be replying. */
    struct begun_read *read[SESSION_READERS];
    struct workspace *spaces[SESSION_READERS];
    unsigned reads, free_spaces, processors, unpacking;
    /* Those that Python has to answer. `busy` counts reads that were begun and are not answered, here or there, and
     * hints, which `hints` counts alone. */
    struct session_read returned[READS];
    unsigned returned_first, returned_waiting, busy, hints;
    int returned_event;
} reads = {.lock = PTHREAD_MUTEX_INITIALIZER, .is_filled = PTHREAD_COND_INITIALIZER, .returned_event = -1};

static size_t plain_bytes(const struct session_part *part)
{
    size_t plain = 0;
    for (uint32_t at = 0; at < part->count; at++)
        plain += part->pieces[at].bytes;
    return plain;
}

/* Reads the blocks of an answer; returns how many, or 0. */
static uint32_t read_blocks(struct workspace *space, const struct session_part *part)
{
    bool is_whole[2] = {!part->skipped, (size_t)part->skipped + part->answered == plain_bytes(part)};
    return blocks_read(space, part->pieces, part->count, is_whole);
}

static void reply_found(int connection, uint64_t unique, const struct session_part *part, const uint8_t **found)
{
    struct iovec parts[SESSION_READ_PIECES + 1];
    for (uint32_t at = 0; at < part->count; at++)
        parts[at + 1] = (struct iovec){(void *)(uintptr_t)found[at], part->pieces[at].bytes};
    parts[part->count].iov_len -= plain_bytes(part) - part->skipped - part->answered;
    parts[1].iov_base = (uint8_t *)parts[1].iov_base + part->skipped;
    parts[1].iov_len -= part->skipped;
    reply_with(connection, unique, parts, part->count, part->answered);
}

/* Reads, checks and answers. False if Python has to. */
static bool answer(int connection, uint64_t unique, const struct session_part *part)
{
    const uint8_t *found[SESSION_READ_PIECES];
    uint32_t blocks = read_blocks(alone.space, part), done = 0;
    while (done < blocks && blocks_unpack(alone.space, alone.context, done, found))
        done++;
    bool is_read = blocks && done == blocks;
    if (is_read)
        reply_found(connection, unique, part, found);
    blocks_release(alone.space);
    return is_read;
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

static void end(struct begun_read *begun, bool is_done)
{
    bool is_hint = !begun->asked.unique;
    packs_close(&begun->packs);
    if (!is_done)
        give_back(&begun->asked);
    free(begun);
    pthread_mutex_lock(&reads.lock);
    reads.busy -= is_done;
    reads.hints -= is_hint;
}

/* Does the next thing that waits; false if there is none. With the lock, as the following. */
static bool begin_next(void)
{
    if (!reads.waiting || (reads.queue[reads.first]->asked.unique && !reads.free_spaces))
        return false;
    struct begun_read *begun = reads.queue[reads.first];
    bool is_hint = !begun->asked.unique;
    struct workspace *space = is_hint ? NULL : reads.spaces[--reads.free_spaces];
    reads.first = (reads.first + 1) % READS;
    reads.waiting--;
    pthread_mutex_unlock(&reads.lock);
    if (is_hint) {
        places_hint(begun->pieces, begun->part.count);
        end(begun, true);
        return true;
    }
    begun->space = space;
    begun->blocks = read_blocks(space, &begun->part);
    begun->is_wrong = !begun->blocks;
    if (begun->is_wrong) {
        blocks_release(space);
        end(begun, false);
        reads.spaces[reads.free_spaces++] = space;
        return true;
    }
    pthread_mutex_lock(&reads.lock);
    reads.read[reads.reads++] = begun;
    for (unsigned helpers = reads.unpacking + 1; helpers <= reads.processors && helpers < begun->blocks; helpers++)
        pthread_cond_signal(&reads.is_filled);
    return true;
}

/* Answers a READ whose last block is decompressed. */
static void finish(struct begun_read *begun)
{
    struct workspace *space = begun->space;
    pthread_mutex_unlock(&reads.lock);
    if (!begun->is_wrong)
        reply_found(begun->connection, begun->asked.unique, &begun->part, begun->found);
    blocks_release(space);
    end(begun, !begun->is_wrong);
    reads.spaces[reads.free_spaces++] = space;
    if (reads.waiting)
        pthread_cond_signal(&reads.is_filled);
}

/* Decompresses a block of the oldest READ that has one left; false if there is none, or if enough threads do so. */
static bool unpack_next(void *context)
{
    if (!reads.reads || reads.unpacking > reads.processors)
        return false;
    struct begun_read *begun = reads.read[0];
    /* The first one last: it is often the last one of the READ before this, which may be kept by then. */
    uint32_t block = ++begun->next % begun->blocks;
    if (begun->next == begun->blocks)
        memmove(reads.read, reads.read + 1, --reads.reads * sizeof reads.read[0]);
    begun->users++;
    reads.unpacking++;
    pthread_mutex_unlock(&reads.lock);
    bool is_right = blocks_unpack(begun->space, context, block, begun->found);
    pthread_mutex_lock(&reads.lock);
    begun->is_wrong |= !is_right;
    if (!--begun->users && begun->next == begun->blocks)
        finish(begun);
    reads.unpacking--;
    return true;
}

static void *serve(void *context)
{
    pthread_mutex_lock(&reads.lock);
    for (;;) {
        if (unpack_next(context) || begin_next())
            continue;
        if (reads.ends && !reads.waiting)
            break;
        pthread_cond_wait(&reads.is_filled, &reads.lock);
    }
    /* Others may have waited for what this one has done. */
    pthread_cond_broadcast(&reads.is_filled);
    pthread_mutex_unlock(&reads.lock);
    return NULL;
}

static bool has_room(void)
{
    pthread_mutex_lock(&reads.lock);
    bool has_room = reads.running && reads.busy < READS;
    pthread_mutex_unlock(&reads.lock);
    return has_room;
}

void reads_tell(void)
{
    if (first_reads_are_due() && reads.located)
        reads.located();
}

bool reads_are_under_way(void)
{
    pthread_mutex_lock(&reads.lock);
    bool are_under_way = reads.busy;
    pthread_mutex_unlock(&reads.lock);
    return are_under_way;
}

bool reads_begin_waiting(void)
{
    pthread_mutex_lock(&reads.lock);
    bool has_room = reads.running && reads.returned_event >= 0 && reads.busy < READS;
    reads.busy += has_room;
    pthread_mutex_unlock(&reads.lock);
    return has_room;
}

void reads_end_waiting(const struct session_read *asked, bool is_answered)
{
    if (!is_answered)
        give_back(asked);
    pthread_mutex_lock(&reads.lock);
    reads.busy -= is_answered;
    pthread_mutex_unlock(&reads.lock);
}

static bool threads_answer(void)
{
    pthread_mutex_lock(&reads.lock);
    bool do_answer = reads.busy > reads.hints;
    pthread_mutex_unlock(&reads.lock);
    return do_answer;
}

/* Gives a read whose place is found to a thread, with descriptors of its own: Python may close the others. */
static bool begin(int connection, const struct session_read *asked, const struct session_part *part)
{
    size_t pieces_bytes = part->count * sizeof part->pieces[0];
    struct begun_read *begun = malloc(sizeof *begun + pieces_bytes);
    if (!begun)
        return false;
    *begun = (struct begun_read){.asked = *asked, .connection = connection, .part = *part};
    memcpy(begun->pieces, part->pieces, pieces_bytes);
    begun->part.pieces = begun->pieces;
    if (!packs_open(&begun->packs, begun->pieces, part->count)) {
        free(begun);
        return false;
    }
    pthread_mutex_lock(&reads.lock);
    reads.queue[(reads.first + reads.waiting++) % READS] = begun;
    reads.busy++;
    reads.hints += !asked->unique;
    pthread_mutex_unlock(&reads.lock);
    /* Without the lock, which the thread needs first. */
    pthread_cond_signal(&reads.is_filled);
    return true;
}

static void begin_hint(const struct session_part *part)
{
    static const struct session_read none;
    begin(-1, &none, part);
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

/* Whether a program waits for this read alone: then nothing is gained by a thread, which has to be woken first. */
static bool is_alone(void)
{
    if (alone.skipped) {
        alone.skipped--;
        return false;
    }
    return alone.has_context && !threads_answer() && !requests_wait();
}

static bool answer_alone(int connection, uint64_t unique, const struct session_part *part)
{
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    bool is_done = answer(connection, unique, part);
    clock_gettime(CLOCK_MONOTONIC, &after);
    if ((after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec > ALONE_NS)
        alone.skipped = ALONE_SKIPPED;
    return is_done;
}

static bool read_part(int connection, const struct session_read *asked, const struct session_part *part)
{
    if (!is_alone())
        return begin(connection, asked, part);
    if (reads.processors > 1 && plain_bytes(part) > ALONE_BYTES && begin(connection, asked, part))
        return true;
    let_python_run();
    if (answer_alone(connection, asked->unique, part))
        return true;
    prepared_forget(asked->ino);
    places_forget(asked->ino);
    return false;
}

bool reads_begin(int connection, uint64_t unique, uint64_t ino, uint64_t offset, uint32_t bytes, bool may_ask)
{
    struct session_read asked = {unique, ino, offset, bytes, 0};
    struct session_part part;
    if (!unique)
        return false;
    if (contents_answer(connection, unique, ino, offset, bytes))
        return true;
    if (prefetched_answer(connection, &asked))
        return true;
    if (!has_room())
        return false;
    if (prepared_find(ino, offset, bytes, &part))
        return read_part(connection, &asked, &part);
    if (places_find(ino, offset, bytes, &part)) {
        bool is_begun = read_part(connection, &asked, &part);
        if (places_read_in_pieces(ino, offset, bytes, &part) && has_room())
            begin_hint(&part);
        return is_begun;
    }
    if (!may_ask)
        return false;
    bool is_begun = locate(ino, offset, bytes, &part) ? read_part(connection, &asked, &part)
                                                       : contents_answer(connection, unique, ino, offset, bytes);
    reads.located();
    return is_begun;
}

SESSION_EXPORT void session_drop_places(void)
{
    leaves_drop_old_places();
    prefetched_drop();
    prepared_drop();
    places_drop();
}

static bool begin_thread(void)
{
    struct workspace *space = workspace_new();
    void **context = &reads.contexts[reads.running];
    if (space && context_new(context)) {
        pthread_mutex_lock(&reads.lock);
        bool is_begun = !pthread_create(&reads.threads[reads.running], NULL, serve, *context);
        if (is_begun)
            reads.spaces[reads.free_spaces++] = space;
        pthread_mutex_unlock(&reads.lock);
        if (is_begun)
            return true;
        context_free(*context);
    }
    if (space)
        workspace_free(space);
    return false;
}

SESSION_EXPORT int session_serve_reads(session_locate *locate, session_located *located)
{
    bool can_unpack = blocks_load();
    if (reads.returned_event < 0)
        reads.returned_event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (reads.returned_event < 0)
        return can_unpack;
    reads.locate = locate;
    reads.located = located;
    reads.ends = false;
    cpu_set_t processors;
    bool is_known = !sched_getaffinity(0, sizeof processors, &processors);
    reads.processors = is_known ? (unsigned)CPU_COUNT(&processors) : 1;
    while (reads.running < SESSION_READERS && begin_thread())
        reads.running++;
    if (!alone.space)
        alone.space = workspace_new();
    if (alone.space && !alone.has_context)
        alone.has_context = context_new(&alone.context);
    alone.skipped = 0;
    return can_unpack;
}

void reads_stop(void)
{
    prefetched_stop();
    pthread_mutex_lock(&reads.lock);
    reads.ends = true;
    pthread_cond_broadcast(&reads.is_filled);
    pthread_mutex_unlock(&reads.lock);
    while (reads.running) {
        pthread_join(reads.threads[--reads.running], NULL);
        context_free(reads.contexts[reads.running]);
    }
    while (reads.free_spaces)
        workspace_free(reads.spaces[--reads.free_spaces]);
    if (alone.space)
        workspace_free(alone.space);
    if (alone.has_context)
        context_free(alone.context);
    alone.space = NULL;
    alone.has_context = false;
    contents_drop();
    prepared_drop();
    first_reads_forget();
    places_drop();
    blocks_drop();
    reads.returned_waiting = reads.busy = reads.hints = 0;
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
    if (is_there) {
        prepared_forget(taken->ino);
        places_forget(taken->ino);
    }
    return is_there;
}
