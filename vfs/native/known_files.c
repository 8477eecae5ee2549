#include "known_files.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "entries.h"

/* A shard moves at once when it grows. */
#define SHARDS SESSION_SHARDS
#define ROOM_MIN 16u
/* A row's count of look-ups stands above its mark. */
#define MARK 1u
#define LOOKUP 2u
/* Names that are written at once. */
#define RECORDS_BYTES (64u * 1024)
/* To list so many entries takes as long as `stat` of one; less than some is not worth it. */
#define STALE_ENTRIES 24u
#define STALE_READS_MIN 4u

/* A free one has no look-ups. */
struct row {
    uint64_t ino, position, lookups;
    uint64_t record; /* where its name is recorded, and 1; 0: nowhere */
    uint32_t check, slot;
};

struct shard {
    struct row *rows;
    uint32_t room, count;
};

/* A directory that rows refer to. */
struct directory {
    uint64_t references;
    uint64_t reads;   /* since the kernel listed it */
    uint64_t entries; /* at least */
};

struct known_files {
    struct shard shards[SHARDS];
    struct directory *directories;
    uint32_t directories_room;
    bool is_derived, is_begun, takes_forgets;
    session_crossed *crossed;
    session_freed *freed;
    struct session_known_count count;
    /* Of names: the file, up to where they are written here, where the next one belongs. */
    int records;
    uint64_t records_until, records_start;
    uint32_t records_bytes;
    uint8_t text[RECORDS_BYTES];
};

static struct shard *shard_of(struct known_files *files, uint64_t ino)
{
    return &files->shards[ino % SHARDS];
}

static uint32_t home(uint64_t ino, uint32_t room)
{
    /* Numbers are hashes, but for those of tests. */
    uint64_t mixed = (ino / SHARDS) * 0x9e3779b97f4a7c15u >> 32;
    return (uint32_t)(mixed * room >> 32);
}

static uint32_t next(const struct shard *shard, uint32_t at)
{
    return at + 1 < shard->room ? at + 1 : 0;
}

static uint32_t distance(const struct shard *shard, uint32_t from, uint32_t to)
{
    return to >= from ? to - from : to + shard->room - from;
}

/* Returns the row of a number, or the free one where it belongs; NULL if the shard has none. */
static struct row *find_place(const struct shard *shard, uint64_t ino)
{
    if (!shard->room)
        return NULL;
    uint32_t at = home(ino, shard->room);
    while (shard->rows[at].lookups && shard->rows[at].ino != ino)
        at = next(shard, at);
    return &shard->rows[at];
}

static struct row *find(struct known_files *files, uint64_t ino)
{
    struct row *row = find_place(shard_of(files, ino), ino);
    return row && row->lookups ? row : NULL;
}

static bool resize(struct shard *shard, uint32_t room)
{
    struct shard made = {calloc(room, sizeof(struct row)), room, shard->count};
    if (!made.rows)
        return false;
    for (uint32_t at = 0; at < shard->room; at++)
        if (shard->rows[at].lookups)
            *find_place(&made, shard->rows[at].ino) = shard->rows[at];
    free(shard->rows);
    *shard = made;
    return true;
}

static void cross(struct known_files *files)
{
    if (files->crossed)
        files->crossed();
}

static bool insert(struct known_files *files, const struct row *row)
{
    struct shard *shard = shard_of(files, row->ino);
    /* A fifth is free at least, so that runs stay short. */
    if (5 * ((uint64_t)shard->count + 1) > 4 * (uint64_t)shard->room &&
        !resize(shard, shard->room + shard->room / 4 + ROOM_MIN))
        return false;
    *find_place(shard, row->ino) = *row;
    shard->count++;
    struct directory *directory = &files->directories[row->slot];
    directory->references++;
    if (row->position >= directory->entries)
        directory->entries = row->position + 1;
    files->count.added++;
    files->count.count++;
    if (files->count.count > files->count.limit)
        cross(files);
    return true;
}

static void remove_row(struct known_files *files, struct row *row)
{
    struct shard *shard = shard_of(files, row->ino);
    uint32_t hole = (uint32_t)(row - shard->rows);
    /* What follows the hole, and would be found through it, moves there. */
    for (uint32_t at = next(shard, hole); shard->rows[at].lookups; at = next(shard, at))
        if (distance(shard, home(shard->rows[at].ino, shard->room), at) >= distance(shard, hole, at)) {
            shard->rows[hole] = shard->rows[at];
            hole = at;
        }
    memset(&shard->rows[hole], 0, sizeof shard->rows[hole]);
    shard->count--;
    if (shard->room > 4 * ROOM_MIN && 4 * shard->count < shard->room)
        resize(shard, shard->room / 2);
    files->count.count--;
    if (files->count.count == files->count.floor)
        cross(files);
}

static bool make_directory(struct known_files *files, uint32_t slot)
{
    if (slot < files->directories_room)
        return true;
    uint32_t room = slot + slot / 4 + ROOM_MIN;
    struct directory *made = realloc(files->directories, room * sizeof *made);
    if (!made)
        return false;
    memset(made + files->directories_room, 0, (room - files->directories_room) * sizeof *made);
    files->directories = made;
    files->directories_room = room;
    return true;
}

/* Removes a reference of a directory. Returns whether it was the last one. */
static bool release(struct known_files *files, uint32_t slot)
{
    struct directory *directory = &files->directories[slot];
    if (--directory->references)
        return false;
    directory->reads = directory->entries = 0;
    return true;
}

/* As `session_files_hold`. */
static int hold(struct known_files *files, uint64_t ino, uint32_t check, uint32_t slot, uint64_t position)
{
    struct row *row = find(files, ino);
    if (row) {
        row->lookups += LOOKUP;
        return 1;
    }
    struct row added = {.ino = ino, .position = position, .lookups = LOOKUP, .check = check, .slot = slot};
    return make_directory(files, slot) && insert(files, &added) ? SESSION_INSERTED : 0;
}

/* Decrements a count of look-ups, and removes the row at 0. Returns whether nothing refers to its slot then. */
static bool forget(struct known_files *files, struct row *row, uint64_t lookups)
{
    if (row->lookups / LOOKUP > lookups) {
        row->lookups -= LOOKUP * lookups;
        return false;
    }
    uint32_t slot = row->slot;
    remove_row(files, row);
    return release(files, slot);
}

bool known_forget(struct known_files *files, uint64_t ino, uint64_t lookups)
{
    struct row *row = files->takes_forgets ? find(files, ino) : NULL;
    /* Python reports what cannot be, and knows where it has recorded a name itself. */
    if (!row || row->lookups / LOOKUP < lookups || (files->records >= 0 && !row->record))
        return false;
    uint32_t slot = row->slot;
    if (forget(files, row, lookups))
        files->freed(slot);
    return true;
}

bool known_begin(struct known_files *files)
{
    files->records_bytes = 0;
    if (files->records >= 0) {
        off_t place = lseek(files->records, 0, SEEK_CUR);
        files->records_start = (uint64_t)place;
        files->is_begun = place >= 0 && files->records_start < files->records_until;
    } else {
        files->is_begun = true;
    }
    return files->is_begun;
}

static void put(struct known_files *files, uint64_t number, unsigned bytes)
{
    for (unsigned at = 0; at < bytes; at++)
        files->text[files->records_bytes++] = (uint8_t)(number >> 8 * at);
}

bool known_tell(struct known_files *files, const struct told_file *told)
{
    struct row *row = find(files, told->ino);
    if (!files->is_begun || !files->is_derived || (row && row->check != told->check))
        return false;
    bool is_recorded = files->records >= 0 && !(row && row->record);
    if (is_recorded && files->records_bytes + RECORD_HEAD_BYTES + ENTRY_NAME_BYTES_MAX > sizeof files->text)
        return false;
    if (!hold(files, told->ino, told->check, told->slot, told->position))
        return false;
    if (is_recorded) {
        row = find(files, told->ino);
        row->record = files->records_start + files->records_bytes + 1;
        put(files, RECORD_OF_INODE, 1);
        put(files, told->ino, 8);
        put(files, told->directory, 8);
        put(files, told->name_bytes, 2);
        memcpy(files->text + files->records_bytes, told->name, told->name_bytes);
        files->records_bytes += told->name_bytes;
    }
    return true;
}

/* Lets those that were told since `known_begin` be recorded with the next answer about them. */
static void forget_records(struct known_files *files)
{
    for (uint32_t at = 0; at < files->records_bytes;) {
        uint64_t ino;
        uint16_t bytes;
        memcpy(&ino, files->text + at + 1, sizeof ino);
        memcpy(&bytes, files->text + at + RECORD_HEAD_BYTES - sizeof bytes, sizeof bytes);
        find(files, ino)->record = 0;
        at += RECORD_HEAD_BYTES + bytes;
    }
}

void known_end(struct known_files *files)
{
    files->is_begun = false;
    if (!files->records_bytes)
        return;
    ssize_t written = write(files->records, files->text, files->records_bytes);
    if (written != (ssize_t)files->records_bytes) {
        /* Memory is full: a takeover does not know these files. Python reports it when it records the next directory. */
        if (written > 0 && !ftruncate(files->records, (off_t)files->records_start))
            lseek(files->records, (off_t)files->records_start, SEEK_SET);
        forget_records(files);
    }
    files->records_bytes = 0;
}

void known_visit(struct known_files *files, known_visitor *visit, void *state)
{
    for (uint32_t number = 0; number < SHARDS; number++)
        for (uint32_t at = 0; at < files->shards[number].room; at++)
            if (files->shards[number].rows[at].lookups)
                visit(state, files->shards[number].rows[at].ino, &files->shards[number].rows[at].record);
}

void known_count_read(struct known_files *files, uint64_t ino)
{
    const struct row *row = find(files, ino);
    if (row)
        files->directories[row->slot].reads++;
}

bool known_is_stale(const struct known_files *files, uint32_t slot)
{
    const struct directory *directory = slot < files->directories_room ? &files->directories[slot] : NULL;
    return directory && directory->reads >= STALE_READS_MIN && directory->reads * STALE_ENTRIES >= directory->entries;
}

void known_count_listing(struct known_files *files, uint32_t slot)
{
    if (slot < files->directories_room)
        files->directories[slot].reads = 0;
}

SESSION_EXPORT struct known_files *session_files_new(session_crossed *crossed, session_freed *freed)
{
    struct known_files *files = calloc(1, sizeof *files);
    if (files) {
        files->crossed = crossed;
        files->freed = freed;
        files->count = (struct session_known_count){.limit = INT64_MAX, .floor = -1};
        files->records = -1;
    }
    return files;
}

SESSION_EXPORT void session_files_free(struct known_files *files)
{
    for (uint32_t at = 0; at < SHARDS; at++)
        free(files->shards[at].rows);
    free(files->directories);
    free(files);
}

SESSION_EXPORT void session_files_are_derived(struct known_files *files, int are_derived)
{
    files->is_derived = are_derived;
}

SESSION_EXPORT struct session_known_count *session_files_count(struct known_files *files)
{
    return &files->count;
}

SESSION_EXPORT int session_files_hold(struct known_files *files, uint64_t ino, uint32_t check, uint32_t slot,
                                      uint64_t position)
{
    return hold(files, ino, check, slot, position);
}

SESSION_EXPORT int session_files_find(struct known_files *files, uint64_t ino, struct session_known *known)
{
    const struct row *row = find(files, ino);
    if (!row)
        return 0;
    *known = (struct session_known){
        .position = row->position,
        .lookups = row->lookups / LOOKUP,
        .record = row->record,
        .check = row->check,
        .slot = row->slot,
        .is_marked = row->lookups & MARK,
    };
    return 1;
}

SESSION_EXPORT int session_files_forget(struct known_files *files, uint64_t ino, uint64_t lookups)
{
    struct row *row = find(files, ino);
    return row && forget(files, row, lookups);
}

SESSION_EXPORT void session_files_take_forgets(struct known_files *files, int are_taken)
{
    files->takes_forgets = are_taken;
}

SESSION_EXPORT void session_files_mark(struct known_files *files, uint64_t ino)
{
    struct row *row = find(files, ino);
    if (row)
        row->lookups |= MARK;
}

SESSION_EXPORT int session_files_hold_directory(struct known_files *files, uint32_t slot)
{
    if (!make_directory(files, slot))
        return 0;
    files->directories[slot].references++;
    return 1;
}

SESSION_EXPORT int session_files_forget_directory(struct known_files *files, uint32_t slot)
{
    return release(files, slot);
}

SESSION_EXPORT uint32_t session_files_list(struct known_files *files, uint32_t shard, uint64_t *inos, uint32_t most)
{
    const struct shard *listed = &files->shards[shard % SHARDS];
    for (uint32_t at = 0, count = 0; at < listed->room && count < most; at++)
        if (listed->rows[at].lookups)
            inos[count++] = listed->rows[at].ino;
    return listed->count;
}

SESSION_EXPORT void session_files_record(struct known_files *files, int descriptor, uint64_t until)
{
    files->records = descriptor;
    files->records_until = until;
}

SESSION_EXPORT int session_files_set_record(struct known_files *files, uint64_t ino, uint64_t record)
{
    struct row *row = find(files, ino);
    if (row)
        row->record = record;
    return row != NULL;
}
