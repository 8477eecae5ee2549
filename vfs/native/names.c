#include "names.h"

#include <stdlib.h>
#include <string.h>

#include "entries.h"
#include "first_reads.h"
#include "known_files.h"
#include "leaves.h"
#include "prefetched.h"
#include "prepared.h"
#include "reads.h"
#include "recording.h"
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
    session_open_leaf_at *open_leaf_at;
    session_admit_directory *admit_directory;
    session_find_attributes *find_attributes;
    session_admitted *admitted;
    struct known_files *files;
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

struct fuse_entry_out names_entry_out(const struct fuse_attr *attr)
{
    return (struct fuse_entry_out){
        .nodeid = attr->ino, .entry_valid = FOREVER_S, .attr_valid = FOREVER_S, .attr = *attr};
}

bool names_begin(void)
{
    return names.files && known_begin(names.files);
}

bool names_tell(const struct leaf *leaf, uint64_t position, const struct entry *entry, uint64_t ino, uint32_t check)
{
    struct told_file told = {
        .ino = ino,
        .directory = leaf->directory,
        .position = position,
        .check = check,
        .slot = leaf->slot,
        .name = entry->name,
        .name_bytes = entry->name_bytes,
    };
    return known_tell(names.files, &told);
}

void names_end(void)
{
    known_end(names.files);
}

uint64_t names_admit_directory(uint64_t directory, uint64_t position, const struct entry *entry)
{
    return names.admit_directory(directory, position, entry->bytes, (uint32_t)entry->count);
}

static bool is_behind(uint64_t directory, uint64_t position)
{
    const struct leaf *before = position ? leaves_at(directory, position - 1) : NULL;
    return before && before->is_last && position - before->position == before->count;
}

enum leaf_found names_leaf_at(uint64_t directory, uint64_t position, struct leaf **leaf, bool may_ask)
{
    *leaf = leaves_at(directory, position);
    if (*leaf)
        return LEAF_FOUND;
    if (is_behind(directory, position))
        return LEAF_BEHIND;
    int found = may_ask ? names.open_leaf_at(directory, position) : 0;
    *leaf = found ? leaves_at(directory, position) : NULL;
    if (*leaf)
        return LEAF_FOUND;
    return found == SESSION_BEHIND || (found && is_behind(directory, position)) ? LEAF_BEHIND : LEAF_MISSING;
}

static bool answer(int connection, const struct fuse_in_header *in, struct leaf *leaf, uint32_t at)
{
    struct entry entry;
    leaf_decode(leaf, at, &entry);
    if (entry.kind > ENTRY_LINK || entry.is_linked)
        return false;
    uint64_t ino = 0, position = leaf->position + at;
    int prepared = SESSION_PREPARED;
    if (entry.kind == ENTRY_DIRECTORY) {
        ino = names_admit_directory(in->nodeid, position, &entry);
        prepared = SESSION_NOT_PREPARED;
    } else {
        uint32_t check = 0;
        if (!leaf_derive(leaf, &entry, &ino, &check))
            return false;
        if (entry.kind == ENTRY_FILE && entry.size && !prefetched_confirm(ino, check) && first_reads_expect(ino))
            /* First of all the disk begins to read. */
            prepared = leaf_prepare(leaf, at, ino);
        if (!names_begin() || !names_tell(leaf, position, &entry, ino, check)) {
            /* The number may be another file's. */
            prepared_forget(ino);
            prefetched_forget(ino);
            return false;
        }
        names_end();
    }
    if (!ino)
        return false;
    /* Python may have dropped the leaf. */
    struct fuse_attr attr = entry_attributes(&entry, ino, 1);
    struct fuse_entry_out out = names_entry_out(&attr);
    reply_to(connection, in->unique, 0, &out, sizeof out);
    keep(ino, &attr);
    if (prepared != SESSION_PREPARED)
        names.admitted(ino, prepared);
    return true;
}

bool names_answer_lookup(int connection, const struct fuse_in_header *in, const char *name, size_t bytes)
{
    size_t length = strnlen(name, bytes);
    if (!names.files || !length || length == bytes)
        return false;
    struct leaf *leaf = leaves_find(in->nodeid, name, length);
    if (!leaf && names.open_leaf(in->nodeid, name))
        leaf = leaves_find(in->nodeid, name, length);
    uint32_t at = leaf ? leaf_search(leaf, name, length) : 0;
    return leaf && at < leaf->count && answer(connection, in, leaf, at);
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

bool names_forget(uint64_t ino, uint64_t lookups)
{
    if (find_kept(ino))
        kept[ino % KEPT].ino = 0;
    return names.files && !recording_is_on() && known_forget(names.files, ino, lookups);
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

void names_count_read(uint64_t ino)
{
    if (names.files)
        known_count_read(names.files, ino);
}

bool names_are_stale(uint64_t directory)
{
    const struct leaf *leaf = names.files ? leaves_of(directory) : NULL;
    return leaf && known_is_stale(names.files, leaf->slot);
}

void names_are_listed(uint64_t directory)
{
    const struct leaf *leaf = leaves_of(directory);
    if (leaf)
        known_count_listing(names.files, leaf->slot);
}

SESSION_EXPORT void session_serve_names(const struct session_name_source *source, struct known_files *files)
{
    names.open_leaf = source->open_leaf;
    names.open_leaf_at = source->open_leaf_at;
    names.admit_directory = source->admit_directory;
    names.find_attributes = source->find_attributes;
    names.admitted = source->admitted;
    names.files = files;
}
