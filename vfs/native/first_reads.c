#include "first_reads.h"

#include <string.h>

#include "leaves.h"
#include "session.h"

/* As vfs/fuse/prefetch/prefetch_policy.py has them. */
#define WAITING 16u
#define CONFIDENCE_MIN 4u
#define CONFIDENCE_MAX 8u
#define BEGINS 16u

#define NOTES 256u
#define NOTES_DUE 128u
#define WATCHED 64u

/* Files that were looked up and may yet be read, oldest first. */
static struct {
    uint64_t inos[WAITING];
    unsigned count, confidence;
} looked_up;

/* Reads that may each be the first one of a stream. */
static struct {
    struct {
        uint64_t directory, position;
    } all[BEGINS];
    unsigned next;
} begins;

static struct session_first_read notes[NOTES];
static uint32_t noted, begun;
static bool is_due;

static uint64_t watched[WATCHED];

static void remove_waiting(unsigned at)
{
    looked_up.count--;
    memmove(&looked_up.inos[at], &looked_up.inos[at + 1], (looked_up.count - at) * sizeof looked_up.inos[0]);
}

/* Returns the place of a file among these, or their number. */
static unsigned find_waiting(uint64_t ino)
{
    unsigned at = 0;
    while (at < looked_up.count && looked_up.inos[at] != ino)
        at++;
    return at;
}

bool first_reads_expect(uint64_t ino)
{
    if (find_waiting(ino) == looked_up.count) {
        if (looked_up.count == WAITING) {
            remove_waiting(0);
            looked_up.confidence -= looked_up.confidence > 0;
        }
        looked_up.inos[looked_up.count++] = ino;
    }
    return looked_up.confidence >= CONFIDENCE_MIN;
}

static void opened(uint64_t ino)
{
    unsigned at = find_waiting(ino);
    if (at == looked_up.count)
        return;
    remove_waiting(at);
    looked_up.confidence += looked_up.confidence < CONFIDENCE_MAX;
}

SESSION_EXPORT void session_opened(uint64_t ino)
{
    opened(ino);
}

SESSION_EXPORT int session_looked_up(uint64_t ino)
{
    return first_reads_expect(ino);
}

static bool is_watched_directory(uint64_t directory)
{
    for (unsigned at = 0; at < WATCHED; at++)
        if (watched[at] == directory)
            return true;
    return false;
}

/* Takes away the read that this one follows, if there is one. */
static bool is_second(uint64_t directory, uint64_t position)
{
    for (unsigned at = 0; at < BEGINS; at++) {
        if (begins.all[at].directory == directory && leaves_are_neighbours(directory, begins.all[at].position, position)) {
            begins.all[at].directory = 0;
            return true;
        }
    }
    return false;
}

/* Adds a note, if there is room. */
static void add(uint64_t ino, uint32_t kind)
{
    begun += kind == SESSION_BEGIN;
    if (noted < NOTES)
        notes[noted++] = (struct session_first_read){ino, kind, begun};
    is_due |= kind == SESSION_SECOND || kind == SESSION_WATCHED || noted >= NOTES_DUE;
}

void first_reads_note(uint64_t ino, uint64_t directory, uint64_t position)
{
    opened(ino);
    if (position == NO_POSITION) {
        add(ino, SESSION_PREFETCHED);
    } else if (is_watched_directory(directory)) {
        add(ino, SESSION_WATCHED);
    } else if (is_second(directory, position)) {
        add(ino, SESSION_SECOND);
    } else {
        unsigned at = begins.next++ % BEGINS;
        begins.all[at].directory = directory;
        begins.all[at].position = position;
        add(ino, SESSION_BEGIN);
    }
}

void first_reads_drop(uint64_t ino)
{
    for (uint32_t at = 0; at < noted; at++)
        if (notes[at].ino == ino)
            notes[at].ino = 0;
}

bool first_reads_are_due(void)
{
    return is_due;
}

void first_reads_forget(void)
{
    memset(&looked_up, 0, sizeof looked_up);
    memset(&begins, 0, sizeof begins);
    memset(watched, 0, sizeof watched);
    noted = begun = 0;
    is_due = false;
}

SESSION_EXPORT void session_forget_first_reads(void)
{
    first_reads_forget();
}

SESSION_EXPORT void session_watch(uint64_t directory, int is_watched)
{
    if (is_watched_directory(directory) == is_watched)
        return;
    unsigned at = 0;
    while (at < WATCHED && watched[at] != (is_watched ? 0 : directory))
        at++;
    if (at < WATCHED)
        watched[at] = is_watched ? directory : 0;
}

SESSION_EXPORT uint32_t session_take_first_reads(struct session_first_read *reads, uint32_t most)
{
    uint32_t count = noted < most ? noted : most;
    memcpy(reads, notes, count * sizeof notes[0]);
    memmove(notes, notes + count, (noted - count) * sizeof notes[0]);
    noted -= count;
    is_due = noted;
    return count;
}
