#include "listings.h"

#include <string.h>

#include "known_files.h"
#include "leaves.h"
#include "prefetched.h"
#include "reads.h"
#include "session.h"

/* What one reply has at most; programs ask for 32 KiB. */
#define REPLY_BYTES (128u * 1024)

static struct {
    _Alignas(struct fuse_direntplus) uint8_t bytes[REPLY_BYTES];
    size_t count;
} reply;

/* Adds an entry that was counted, with the position behind it; there is room. */
static void add(const struct entry *entry, const uint8_t *name, uint64_t ino, uint64_t position)
{
    struct fuse_attr attr = entry_attributes(entry, ino, 1);
    struct fuse_direntplus listed = {
        .entry_out = names_entry_out(&attr),
        .dirent = {.ino = ino, .off = position + 1, .namelen = entry->name_bytes, .type = attr.mode >> 12},
    };
    memcpy(reply.bytes + reply.count, &listed, FUSE_NAME_OFFSET_DIRENTPLUS);
    memcpy(reply.bytes + reply.count + FUSE_NAME_OFFSET_DIRENTPLUS, name, entry->name_bytes);
    size_t bytes = FUSE_DIRENTPLUS_SIZE(&listed);
    memset(reply.bytes + reply.count + FUSE_NAME_OFFSET_DIRENTPLUS + entry->name_bytes, 0,
           bytes - FUSE_NAME_OFFSET_DIRENTPLUS - entry->name_bytes);
    reply.count += bytes;
}

/* Adds the entries from a position on that are in its leaf, and moves the position behind them. Returns false at one that
 * does not fit, or that Python has to look at. */
static bool add_leaf(const struct leaf *leaf, uint64_t directory, uint64_t *position, size_t room)
{
    while (leaf && *position - leaf->position < leaf->count) {
        uint8_t name[ENTRY_NAME_BYTES_MAX];
        struct entry entry;
        leaf_decode(leaf, (uint32_t)(*position - leaf->position), &entry);
        if (entry.kind > ENTRY_LINK || entry.is_linked ||
            reply.count + FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + entry.name_bytes) > room)
            return false;
        memcpy(name, entry.name, entry.name_bytes);
        uint64_t ino = 0;
        if (entry.kind == ENTRY_DIRECTORY) {
            /* Python records the directory's name behind those of files before it. */
            names_end();
            ino = names_admit_directory(directory, *position, &entry);
            names_begin();
            if (!ino)
                return false;
            /* Python may have dropped it. */
            leaf = leaves_at(directory, *position);
        } else {
            uint32_t check = 0;
            if (!leaf_derive(leaf, &entry, &ino, &check) || !names_tell(leaf, *position, &entry, ino, check))
                return false;
            prefetched_confirm(ino, check);
        }
        add(&entry, name, ino, *position);
        ++*position;
    }
    return true;
}

bool listings_answer(int connection, const struct fuse_in_header *in, const struct fuse_read_in *read, bool may_ask)
{
    size_t room = read->size < sizeof reply.bytes ? read->size : sizeof reply.bytes;
    uint64_t position = read->offset;
    enum leaf_found found = LEAF_FOUND;
    reply.count = 0;
    if (!names_begin())
        return false;
    while (found == LEAF_FOUND) {
        struct leaf *leaf = NULL;
        found = names_leaf_at(in->nodeid, position, &leaf, may_ask);
        if (found == LEAF_FOUND &&
            ((leaf->has_directories && !may_ask) || !add_leaf(leaf, in->nodeid, &position, room)))
            break;
    }
    names_end();
    if (!read->offset)
        names_are_listed(in->nodeid);
    if (!reply.count && found != LEAF_BEHIND)
        return false;
    reply_to(connection, in->unique, 0, reply.bytes, reply.count);
    return true;
}
