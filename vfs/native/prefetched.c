#include "prefetched.h"

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "first_reads.h"
#include "places.h"
#include "prepared.h"
#include "reads.h"

/* Files, and their bytes, that are kept: of some programs that read at the same time. */
#define FILES 512u
#define HINTED 256u
#define BYTES_MAX ((size_t)16 << 20)

enum state { IS_FREE, IS_WAITING, IS_READ, IS_READY };

struct file {
    uint64_t ino, directory, position;
    enum state state;
    uint32_t check;
    bool is_known, tells, is_hinted, is_dropped, was_asked;
    uint8_t *content;
    struct session_place *place;
    struct open_packs packs;
    /* A READ that came before its content, or 0. */
    struct session_read asked;
    int connection;
};

/* `state`, `is_dropped`, `asked` and `content` of a file are read and written under the lock, but for one that is
 * ready: then the thread is done with it. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t is_filled;
    pthread_t thread;
    bool runs, ends, has_failed;
    struct file files[FILES];
    /* `count` places from the oldest on are used; `live` files are there. */
    unsigned oldest, count, live;
    size_t bytes;
    struct workspace *space;
    void *context;
} ahead = {.lock = PTHREAD_MUTEX_INITIALIZER, .is_filled = PTHREAD_COND_INITIALIZER};

static struct file *at(unsigned number)
{
    return &ahead.files[(ahead.oldest + number) % FILES];
}

/* Frees a file. With the lock; the thread does not read it. */
static void release(struct file *file)
{
    if (file->state == IS_FREE)
        return;
    ahead.bytes -= file->place->size;
    ahead.live--;
    packs_close(&file->packs);
    free(file->place);
    free(file->content);
    *file = (struct file){0};
}

/* Drops a file; the thread does so with one that it reads. With the lock. */
static void drop(struct file *file)
{
    if (file->state == IS_READ)
        file->is_dropped = true;
    else
        release(file);
}

static struct file *find(uint64_t ino)
{
    if (!ahead.live)
        return NULL;
    for (unsigned number = 0; number < ahead.count; number++)
        if (at(number)->ino == ino && !at(number)->is_dropped)
            return at(number);
    return NULL;
}

/* Reads, decompresses and verifies; returns the content, or NULL. */
static uint8_t *read_content(const struct session_place *place)
{
    static const bool is_whole[2] = {true, true};
    const uint8_t *found[SESSION_READ_PIECES];
    uint8_t *content = malloc(place->size);
    uint32_t blocks = content ? blocks_read(ahead.space, place->pieces, place->count, is_whole) : 0, done = 0;
    while (done < blocks && blocks_unpack(ahead.space, ahead.context, done, found))
        done++;
    bool is_right = blocks && done == blocks;
    size_t end = 0;
    for (uint32_t piece = 0; is_right && piece < place->count; piece++) {
        memcpy(content + end, found[piece], place->pieces[piece].bytes);
        end += place->pieces[piece].bytes;
    }
    blocks_release(ahead.space);
    if (is_right)
        return content;
    free(content);
    return NULL;
}

static void reply_part(int connection, const struct session_read *asked, const uint8_t *content, uint64_t size)
{
    uint64_t rest = asked->offset < size ? size - asked->offset : 0;
    reply_to(connection, asked->unique, 0, content + (rest ? asked->offset : 0), rest < asked->bytes ? rest : asked->bytes);
}

/* Whether a READ is the last one of a file: the kernel keeps the pages. */
static bool is_last(const struct session_read *asked, uint64_t size)
{
    return asked->offset >= size || size - asked->offset <= asked->bytes;
}

/* Reads a file. With the lock. */
static void read_file(struct file *file)
{
    file->state = IS_READ;
    pthread_mutex_unlock(&ahead.lock);
    uint8_t *content = read_content(file->place);
    pthread_mutex_lock(&ahead.lock);
    struct session_read asked = file->asked;
    if (asked.unique) {
        pthread_mutex_unlock(&ahead.lock);
        if (content)
            reply_part(file->connection, &asked, content, file->place->size);
        reads_end_waiting(&asked, content != NULL);
        pthread_mutex_lock(&ahead.lock);
    }
    packs_close(&file->packs);
    file->packs.count = 0;
    file->content = content;
    file->state = IS_READY;
    if (file->is_dropped || !content || (asked.unique && is_last(&asked, file->place->size)))
        release(file);
}

static struct file *next_waiting(void)
{
    for (unsigned number = 0; number < ahead.count; number++)
        if (at(number)->state == IS_WAITING)
            return at(number);
    return NULL;
}

/* Has the disk begin to read all that waits. With the lock. A file may be dropped meanwhile, and its descriptor be
 * another file's: a hint changes nothing. */
static void hint_waiting(void)
{
    static struct session_piece pieces[HINTED];
    uint32_t count = 0;
    for (unsigned number = 0; number < ahead.count; number++) {
        struct file *file = at(number);
        if (file->state != IS_WAITING || file->is_hinted || file->place->count > HINTED - count)
            continue;
        memcpy(pieces + count, file->place->pieces, file->place->count * sizeof pieces[0]);
        count += file->place->count;
        file->is_hinted = true;
    }
    pthread_mutex_unlock(&ahead.lock);
    places_hint(pieces, count);
    pthread_mutex_lock(&ahead.lock);
}

static void *serve(void *unused)
{
    pthread_mutex_lock(&ahead.lock);
    while (!ahead.ends) {
        struct file *file = next_waiting();
        if (file && !file->is_hinted)
            hint_waiting();
        else if (file)
            read_file(file);
        else
            pthread_cond_wait(&ahead.is_filled, &ahead.lock);
    }
    pthread_mutex_unlock(&ahead.lock);
    return unused;
}

static bool begin_thread(void)
{
    if (ahead.runs || ahead.has_failed)
        return ahead.runs;
    ahead.ends = false;
    ahead.space = workspace_new();
    bool has_context = ahead.space && context_new(&ahead.context);
    ahead.runs = has_context && !pthread_create(&ahead.thread, NULL, serve, NULL);
    ahead.has_failed = !ahead.runs;
    if (ahead.has_failed && has_context)
        context_free(ahead.context);
    if (ahead.has_failed && ahead.space)
        workspace_free(ahead.space);
    return ahead.runs;
}

/* Notes the first read of a file. */
static void note(struct file *file)
{
    if (!file->was_asked)
        first_reads_note(file->ino, file->directory, file->tells ? file->position : NO_POSITION);
    file->was_asked = true;
}

/* The program is as fast as the thread, which goes on with the next file: this one is read at once. */
static void prepare(const struct file *taken)
{
    prepared_add(taken->ino, taken->directory, taken->position, taken->place, true);
    packs_close(&taken->packs);
    free(taken->place);
}

bool prefetched_answer(int connection, const struct session_read *asked)
{
    struct file taken = {0};
    pthread_mutex_lock(&ahead.lock);
    struct file *file = find(asked->ino);
    if (file && !file->is_known)
        file = NULL;
    bool is_ready = file && file->state == IS_READY;
    bool waits = file && file->state == IS_READ && !file->asked.unique && reads_begin_waiting();
    if (file)
        note(file);
    if (waits) {
        file->asked = *asked;
        file->connection = connection;
    } else if (file && file->state == IS_WAITING) {
        taken = *file;
        ahead.bytes -= file->place->size;
        ahead.live--;
        *file = (struct file){0};
    }
    pthread_mutex_unlock(&ahead.lock);
    if (taken.place)
        prepare(&taken);
    if (!is_ready)
        return waits;
    /* The thread is done with it, and this one alone drops it. */
    let_python_run();
    reply_part(connection, asked, file->content, file->place->size);
    if (is_last(asked, file->place->size))
        prefetched_forget(asked->ino);
    return true;
}

/* Makes room for a file of so many bytes, of which there may be none with the number. With the lock. */
static bool make_room(uint64_t ino, uint64_t bytes)
{
    struct file *other = find(ino);
    if (other)
        drop(other);
    for (unsigned number = 0; number < ahead.count && ahead.bytes + bytes > BYTES_MAX; number++)
        if (at(number)->state != IS_READ)
            release(at(number));
    if (ahead.count == FILES && at(0)->state != IS_READ)
        release(at(0));
    while (ahead.count && at(0)->state == IS_FREE) {
        ahead.oldest = (ahead.oldest + 1) % FILES;
        ahead.count--;
    }
    return ahead.count < FILES && ahead.bytes + bytes <= BYTES_MAX;
}

bool prefetched_add(const struct session_file *file, uint64_t directory, const struct session_place *place, bool tells)
{
    struct session_part part;
    size_t bytes = offsetof(struct session_place, pieces) + place->count * sizeof place->pieces[0];
    if (!places_part(place, 0, SESSION_SMALL_BYTES, &part) || part.count != place->count || !begin_thread())
        return false;
    struct file added = {
        .ino = file->ino,
        .directory = directory,
        .position = file->position,
        .check = file->check,
        .state = IS_WAITING,
        .is_known = file->found == SESSION_KNOWN,
        .tells = tells,
        .place = malloc(bytes),
    };
    if (!added.place)
        return false;
    memcpy(added.place, place, bytes);
    if (!packs_open(&added.packs, added.place->pieces, added.place->count)) {
        free(added.place);
        return false;
    }
    pthread_mutex_lock(&ahead.lock);
    bool has_room = make_room(added.ino, place->size);
    if (has_room) {
        *at(ahead.count++) = added;
        ahead.live++;
        ahead.bytes += place->size;
    }
    pthread_mutex_unlock(&ahead.lock);
    if (!has_room) {
        packs_close(&added.packs);
        free(added.place);
    }
    return has_room;
}

void prefetched_begin(void)
{
    pthread_cond_signal(&ahead.is_filled);
}

bool prefetched_confirm(uint64_t ino, uint32_t check)
{
    pthread_mutex_lock(&ahead.lock);
    struct file *file = find(ino);
    if (file && file->check != check) {
        drop(file);
        file = NULL;
    }
    if (file)
        file->is_known = true;
    pthread_mutex_unlock(&ahead.lock);
    return file;
}

void prefetched_forget(uint64_t ino)
{
    pthread_mutex_lock(&ahead.lock);
    struct file *file = find(ino);
    if (file)
        drop(file);
    pthread_mutex_unlock(&ahead.lock);
}

void prefetched_drop(void)
{
    pthread_mutex_lock(&ahead.lock);
    for (unsigned number = 0; number < ahead.count; number++)
        drop(at(number));
    pthread_mutex_unlock(&ahead.lock);
}

void prefetched_stop(void)
{
    if (ahead.runs) {
        pthread_mutex_lock(&ahead.lock);
        ahead.ends = true;
        pthread_cond_signal(&ahead.is_filled);
        pthread_mutex_unlock(&ahead.lock);
        pthread_join(ahead.thread, NULL);
        context_free(ahead.context);
        workspace_free(ahead.space);
        ahead.runs = false;
    }
    prefetched_drop();
    ahead.oldest = ahead.count = 0;
    ahead.has_failed = false;
}
