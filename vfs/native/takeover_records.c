/* Records of names, as vfs/fuse/session/takeover_state.py has them, written anew: those of files that the kernel
 * knows. */

#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "known_files.h"

#define PIECE_BYTES ((size_t)1 << 18)

/* A part of the file, whose offset in it is `start`, and what is written of it. */
struct copy {
    const uint8_t *bytes;
    uint64_t start, end;
    int descriptor;
    uint64_t to;
    uint8_t *piece;
    size_t piece_bytes;
    bool has_failed;
};

static uint64_t number_at(const uint8_t *bytes, unsigned count)
{
    uint64_t number = 0;
    while (count--)
        number = number << 8 | bytes[count];
    return number;
}

/* Returns the bytes of the record at a place, 0 if there is none of this inode. */
static size_t record_bytes(const struct copy *copy, uint64_t ino, uint64_t place)
{
    if (place < copy->start || place > copy->end || copy->end - place < RECORD_HEAD_BYTES)
        return 0;
    const uint8_t *record = copy->bytes + (place - copy->start);
    size_t bytes = RECORD_HEAD_BYTES + number_at(record + RECORD_HEAD_BYTES - 2, 2);
    return record[0] == RECORD_OF_INODE && number_at(record + 1, 8) == ino && bytes <= copy->end - place ? bytes : 0;
}

static void count(void *counted, uint64_t ino, uint64_t *record)
{
    struct copy *copy = counted;
    copy->to += *record ? record_bytes(copy, ino, *record - 1) : 0;
}

static void flush(struct copy *copy)
{
    for (size_t at = 0; at < copy->piece_bytes && !copy->has_failed;) {
        off_t place = (off_t)(copy->to - copy->piece_bytes + at);
        ssize_t written = pwrite(copy->descriptor, copy->piece + at, copy->piece_bytes - at, place);
        copy->has_failed = written <= 0;
        at += copy->has_failed ? 0 : (size_t)written;
    }
    copy->piece_bytes = 0;
}

static void write_record(void *written, uint64_t ino, uint64_t *record)
{
    struct copy *copy = written;
    size_t bytes = *record ? record_bytes(copy, ino, *record - 1) : 0;
    if (copy->piece_bytes + bytes > PIECE_BYTES)
        flush(copy);
    if (bytes)
        memcpy(copy->piece + copy->piece_bytes, copy->bytes + (*record - 1 - copy->start), bytes);
    copy->piece_bytes += bytes;
    copy->to += bytes;
}

/* The same order as `write_record`. */
static void move(void *moved, uint64_t ino, uint64_t *record)
{
    struct copy *copy = moved;
    size_t bytes = *record ? record_bytes(copy, ino, *record - 1) : 0;
    *record = bytes ? copy->to + 1 : 0;
    copy->to += bytes;
}

static bool map(struct copy *copy)
{
    if (copy->start == copy->end)
        return true;
    void *bytes = mmap(NULL, copy->end - copy->start, PROT_READ, MAP_SHARED, copy->descriptor, (off_t)copy->start);
    copy->bytes = bytes;
    return bytes != MAP_FAILED;
}

static void unmap(struct copy *copy)
{
    if (copy->start != copy->end)
        munmap((void *)(uintptr_t)copy->bytes, copy->end - copy->start);
}

SESSION_EXPORT uint64_t session_files_records_bytes(struct known_files *files, int descriptor, uint64_t start,
                                                    uint64_t end)
{
    struct copy copy = {.start = start, .end = end, .descriptor = descriptor};
    if (!map(&copy))
        return UINT64_MAX;
    known_visit(files, count, &copy);
    unmap(&copy);
    return copy.to;
}

SESSION_EXPORT int session_files_write_records(struct known_files *files, int descriptor, uint64_t start, uint64_t end,
                                               uint64_t to)
{
    struct copy copy = {.start = start, .end = end, .descriptor = descriptor, .to = to, .piece = malloc(PIECE_BYTES)};
    if (!copy.piece || !map(&copy)) {
        free(copy.piece);
        return 0;
    }
    known_visit(files, write_record, &copy);
    flush(&copy);
    if (!copy.has_failed) {
        copy.to = to;
        known_visit(files, move, &copy);
    }
    unmap(&copy);
    free(copy.piece);
    return !copy.has_failed;
}
