#include "names.h"

#include <stdlib.h>
#include <string.h>

#include "entries.h"
#include "first_reads.h"
#include "leaves.h"
#include "prefetched.h"
#include "prepared.h"
#include "reads.h"
#include "session.h"

/* Inodes whose attributes are kept, one at each place of the table. */
#define KEPT 32768u
/* As long as the kernel has the inode. */
#define FOREVER_S 1000000000u

/* A free place has the number 0. */
struct kept_attributes {
    uint64_t ino;
    struct fuse_attr attr;
};

static struct kept_attributes *kept;

static struct {
    session_open_leaf *open_leaf;
    session_admit *admit;
    session_find_attributes *find_attributes;
    session_admitted *admitted;
} names;

static void keep(uint64_t ino, const struct fuse_attr *attr)
{
    if (!kept)
        kept = calloc(KEPT, sizeof *kept);
    if (kept)
        kept[ino % KEPT] = (struct kept_attributes){ino, *attr};
}

static const struct fuse_attr *find_kept(uint64_t ino)
{
    return kept && kept[ino % KEPT].ino == ino ? &kept[ino % KEPT].attr : NULL;
}

static bool answer(int connection, const struct fuse_in_header *in, const char *name, struct leaf *leaf, uint32_t at)
{
    struct entry entry;
    leaf_decode(leaf, at, &entry);
    if (entry.kind > ENTRY_LINK || entry.is_linked)
        return false;
    uint64_t ino = 0;
    uint32_t check = 0;
    if (entry.kind != ENTRY_DIRECTORY && !leaf_derive(leaf, &entry, &ino, &check))
        return false;
    bool is_file = entry.kind == ENTRY_FILE && entry.size;
    uint64_t position = leaf->position + at;
    int prepared = entry.kind == ENTRY_DIRECTORY ? SESSION_NOT_PREPARED : SESSION_PREPARED;
    if (is_file && !prefetched_confirm(ino, check) && first_reads_expect(ino))
        /* First of all the disk begins to read. */
        prepared = leaf_prepare(leaf, at, ino);
    uint64_t admitted = names.admit(in->nodeid, position, ino, check, name, entry.bytes, (uint32_t)entry.count);
    if (!admitted) {
        /* The number may be another file's. */
        prepared_forget(ino);
        prefetched_forget(ino);
        return false;
    }
    ino = admitted;
    /* Python may have dropped the leaf. */
    struct fuse_attr attr = entry_attributes(&entry, ino, 1);
    struct fuse_entry_out out = {.nodeid = ino, .entry_valid = FOREVER_S, .attr_valid = FOREVER_S, .attr = attr};
    reply_to(connection, in->unique, 0, &out, sizeof out);
    keep(ino, &attr);
    if (prepared != SESSION_PREPARED)
        names.admitted(prepared);
    return true;
}

bool names_answer_lookup(int connection, const struct fuse_in_header *in, const char *name, size_t bytes)
{
    size_t length = strnlen(name, bytes);
    if (!names.admit || !length || length == bytes)
        return false;
    struct leaf *leaf = leaves_find(in->nodeid, name, length);
    if (!leaf && names.open_leaf(in->nodeid, name))
        leaf = leaves_find(in->nodeid, name, length);
    uint32_t at = leaf ? leaf_search(leaf, name, length) : 0;
    return leaf && at < leaf->count && answer(connection, in, name, leaf, at);
}

bool names_answer_attributes(int connection, const struct fuse_in_header *in, bool may_ask)
{
    const struct fuse_attr *attr = find_kept(in->nodeid);
    if (!attr && may_ask && names.find_attributes && names.find_attributes(in->nodeid))
        attr = find_kept(in->nodeid);
    if (!attr)
        return false;
    struct fuse_attr_out out = {.attr_valid = FOREVER_S, .attr = *attr};
    reply_to(connection, in->unique, 0, &out, sizeof out);
    return true;
}

void names_forget(uint64_t ino)
{
    if (find_kept(ino))
        kept[ino % KEPT].ino = 0;
}

void names_drop(void)
{
    leaves_drop();
    free(kept);
    kept = NULL;
    memset(&names, 0, sizeof names);
}

SESSION_EXPORT int session_keep_attributes(uint64_t ino, uint32_t links, const void *encoded, uint32_t bytes)
{
    struct entry entry;
    if (!ino || !entry_decode(encoded, bytes, &entry) || entry.kind > ENTRY_LINK)
        return 0;
    struct fuse_attr attr = entry_attributes(&entry, ino, links);
    keep(ino, &attr);
    return 1;
}

SESSION_EXPORT void session_serve_names(session_open_leaf *open_leaf, session_admit *admit,
                                        session_find_attributes *find_attributes, session_admitted *admitted)
{
    names.open_leaf = open_leaf;
    names.admit = admit;
    names.find_attributes = find_attributes;
    names.admitted = admitted;
}
