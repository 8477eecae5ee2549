#include "recording.h"

#include <stddef.h>
#include <string.h>
#include <time.h>

#include "session.h"

static bool is_on;

static struct open_record ring[SESSION_RING_RECORDS];
static uint64_t ring_written, ring_read;

/* What Python knows of the threads whose opens it has seen, by the last bits of their ids. */
static struct {
    uint32_t thread;
    uint32_t run;
} known[SESSION_THREADS];

/* Opens that the ring got before, by inode and run. Python keeps the first open of an inode by a run, whichever thread
 * makes it, and drops the others, so they need no record. An entry says what is true for ever, as a run's number is not
 * used again: none has to be removed, and one that made room for another costs a record that Python drops. Most of the
 * cost is waiting for memory, so it is fetched while the kernel gets the answer. */
#define WAYS 4u
#define GROUPS (SESSION_REPEATS / WAYS)
static struct recorded {
    uint64_t ino;
    uint32_t run;
} recorded[GROUPS][WAYS];

static struct recorded *group_of(uint64_t ino, uint32_t run)
{
    uint64_t hash = (ino + run * 0xd1342543de82ef95u) * 0x9e3779b97f4a7c15u;
    return recorded[(hash >> 32) % GROUPS];
}

static bool is_in(const struct recorded *group, uint64_t ino, uint32_t run)
{
    for (uint32_t way = 0; way < WAYS; way++)
        if (group[way].ino == ino && group[way].run == run)
            return true;
    return false;
}

bool recording_is_on(void)
{
    return is_on;
}

bool recording_permits(uint32_t thread, uint64_t ino)
{
    if (!is_on)
        return true;
    /* Python learns to whom an unknown thread belongs while that waits. */
    uint32_t slot = thread % SESSION_THREADS;
    if (!thread || known[slot].thread != thread)
        return false;
    if (!known[slot].run)
        return true;
    __builtin_prefetch(group_of(ino, known[slot].run));
    return ring_written - ring_read < SESSION_RING_RECORDS;
}

void recording_note(uint32_t thread, uint64_t ino, uint32_t kind)
{
    uint32_t run = known[thread % SESSION_THREADS].run;
    if (!is_on || !run)
        return;
    struct recorded *group = group_of(ino, run);
    if (is_in(group, ino, run))
        return;
    group[ring_written % WAYS] = (struct recorded){ino, run};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    ring[ring_written % SESSION_RING_RECORDS] = (struct open_record){
        .time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
        .ino = ino,
        .thread = thread,
        .kind = kind,
    };
    ring_written++;
}

/* Not called by its exported name, which may be that of another copy of the library. */
static void set_recording(bool is_recording)
{
    memset(known, 0, sizeof known);
    is_on = is_recording;
}

void recording_reset(void)
{
    if (ring_written)
        memset(recorded, 0, sizeof recorded);
    ring_written = ring_read = 0;
    set_recording(false);
}

SESSION_EXPORT void session_set_recording(int is_recording)
{
    set_recording(is_recording);
}

SESSION_EXPORT void session_know_thread(uint32_t thread, uint32_t run)
{
    known[thread % SESSION_THREADS].thread = thread;
    known[thread % SESSION_THREADS].run = run;
}

SESSION_EXPORT void session_forget_thread(uint32_t thread)
{
    uint32_t slot = thread % SESSION_THREADS;
    if (known[slot].thread == thread)
        known[slot].thread = 0;
}

SESSION_EXPORT size_t session_take_records(struct open_record *records, size_t most)
{
    size_t taken = 0;
    while (taken < most && ring_read != ring_written)
        records[taken++] = ring[ring_read++ % SESSION_RING_RECORDS];
    return taken;
}
