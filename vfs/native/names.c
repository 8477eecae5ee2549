#include "names.h"

#include <stdlib.h>
#include <string.h>

#include "entries.h"
#include "hash.h"
#include "reads.h"
#include "session.h"

/* Leaves that are kept, all together; their bytes count. */
#define LEAVES_BYTES_MAX ((size_t)8 << 20)
#define BUCKETS 2048u
/* Inodes whose attributes are kept, one at each place of the table. */
#define KEPT 32768u
/* What an inode's number is derived from: a prefix of its directory and its entry. A longer one is left to Python. */
#define KEY_BYTES_MAX 8192u
/* As long as the kernel has the inode. */
#define FOREVER_S 1000000000u

struct leaf {
    struct leaf *next;           /* in its bucket */
    struct leaf *newer, *older;  /* by use */
    uint64_t directory, position; /* of its first entry in the directory */
    size_t bytes;
    uint32_t count, prefix_bytes;
    uint8_t *node, *prefix;
    uint32_t starts[];
};

static struct {
    struct leaf *buckets[BUCKETS];
    struct leaf *newest, *oldest;
    size_t bytes;
} leaves;

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

static struct leaf **bucket(uint64_t directory)
{
    return &leaves.buckets[directory % BUCKETS];
}

static void unlink_by_use(struct leaf *leaf)
{
    *(leaf->newer ? &leaf->newer->older : &leaves.newest) = leaf->older;
    *(leaf->older ? &leaf->older->newer : &leaves.oldest) = leaf->newer;
}

static void link_as_newest(struct leaf *leaf)
{
    leaf->newer = NULL;
    leaf->older = leaves.newest;
    *(leaves.newest ? &leaves.newest->newer : &leaves.oldest) = leaf;
    leaves.newest = leaf;
}

static void drop(struct leaf *leaf)
{
    struct leaf **link = bucket(leaf->directory);
    while (*link != leaf)
        link = &(*link)->next;
    *link = leaf->next;
    unlink_by_use(leaf);
    leaves.bytes -= leaf->bytes;
    free(leaf);
}

static void decode(const struct leaf *leaf, uint32_t at, struct entry *entry)
{
    /* They were decoded before. */
    if (!entry_decode(leaf->node + leaf->starts[at], leaf->starts[at + 1] - leaf->starts[at], entry))
        abort();
}

static int compare(const char *name, size_t bytes, const struct leaf *leaf, uint32_t at)
{
    size_t other_bytes;
    const uint8_t *other = entry_name(leaf->node + leaf->starts[at], &other_bytes);
    int order = memcmp(name, other, bytes < other_bytes ? bytes : other_bytes);
    return order ? order : (bytes > other_bytes) - (bytes < other_bytes);
}

/* Returns the leaf of a directory that a name has to be in, if it is there at all; NULL if none is kept. */
static struct leaf *find(uint64_t directory, const char *name, size_t bytes)
{
    struct leaf *leaf = *bucket(directory);
    while (leaf && (leaf->directory != directory || compare(name, bytes, leaf, 0) < 0 ||
                    compare(name, bytes, leaf, leaf->count - 1) > 0))
        leaf = leaf->next;
    if (leaf && leaf != leaves.newest) {
        unlink_by_use(leaf);
        link_as_newest(leaf);
    }
    return leaf;
}

/* Returns the place of a name in a leaf, or `count`. */
static uint32_t search(const struct leaf *leaf, const char *name, size_t bytes)
{
    uint32_t low = 0, high = leaf->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        int order = compare(name, bytes, leaf, middle);
        if (!order)
            return middle;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return leaf->count;
}

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

/* Derives the number of a file or link as vfs/fuse/inodes.py does. */
static bool derive(const struct leaf *leaf, const struct entry *entry, uint64_t *ino, uint32_t *check)
{
    static uint8_t key[KEY_BYTES_MAX];
    uint8_t hash[HASH_BYTES];
    size_t bytes = leaf->prefix_bytes + entry->count;
    if (bytes > sizeof key)
        return false;
    memcpy(key, leaf->prefix, leaf->prefix_bytes);
    memcpy(key + leaf->prefix_bytes, entry->bytes, entry->count);
    hash_bytes(key, bytes, hash);
    for (unsigned at = 8; at--;)
        *ino = *ino << 8 | hash[at];
    for (unsigned at = 12; at-- > 8;)
        *check = *check << 8 | hash[at];
    *ino = SESSION_VERSION_FILES | (*ino & (SESSION_VERSION_FILES - 1));
    return true;
}

static bool answer(int connection, const struct fuse_in_header *in, const char *name, const struct leaf *leaf,
                   uint32_t at)
{
    struct entry entry;
    decode(leaf, at, &entry);
    if (entry.kind > ENTRY_LINK || entry.is_linked)
        return false;
    uint64_t ino = 0;
    uint32_t check = 0;
    if (entry.kind != ENTRY_DIRECTORY && !derive(leaf, &entry, &ino, &check))
        return false;
    ino = names.admit(in->nodeid, leaf->position + at, ino, check, name, entry.bytes, (uint32_t)entry.count);
    if (!ino)
        return false;
    /* Python may have dropped the leaf. */
    struct fuse_attr attr = entry_attributes(&entry, ino, 1);
    struct fuse_entry_out out = {.nodeid = ino, .entry_valid = FOREVER_S, .attr_valid = FOREVER_S, .attr = attr};
    reply_to(connection, in->unique, 0, &out, sizeof out);
    keep(ino, &attr);
    names.admitted();
    return true;
}

bool names_answer_lookup(int connection, const struct fuse_in_header *in, const char *name, size_t bytes)
{
    size_t length = strnlen(name, bytes);
    if (!names.admit || !length || length == bytes)
        return false;
    const struct leaf *leaf = find(in->nodeid, name, length);
    if (!leaf && names.open_leaf(in->nodeid, name))
        leaf = find(in->nodeid, name, length);
    uint32_t at = leaf ? search(leaf, name, length) : 0;
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
    while (leaves.oldest)
        drop(leaves.oldest);
    free(kept);
    kept = NULL;
    memset(&names, 0, sizeof names);
}

SESSION_EXPORT int session_keep_leaf(uint64_t directory, uint64_t position, const void *prefix, uint32_t prefix_bytes,
                                     const void *node, uint32_t node_bytes)
{
    static uint32_t starts[ENTRIES_MAX + 1];
    uint32_t count = entries_find(node, node_bytes, starts);
    if (!count)
        return 0;
    size_t starts_bytes = (count + 1) * sizeof starts[0];
    size_t bytes = sizeof(struct leaf) + starts_bytes + prefix_bytes + node_bytes;
    struct leaf *leaf = bytes <= LEAVES_BYTES_MAX ? malloc(bytes) : NULL;
    if (!leaf)
        return 0;
    for (struct leaf *old = *bucket(directory), *next; old; old = next) {
        next = old->next;
        if (old->directory == directory && old->position == position)
            drop(old);
    }
    while (leaves.bytes + bytes > LEAVES_BYTES_MAX)
        drop(leaves.oldest);
    memcpy(leaf->starts, starts, starts_bytes);
    leaf->node = (uint8_t *)leaf->starts + starts_bytes;
    memcpy(leaf->node, node, node_bytes);
    leaf->prefix = leaf->node + node_bytes;
    memcpy(leaf->prefix, prefix, prefix_bytes);
    leaf->directory = directory;
    leaf->position = position;
    leaf->bytes = bytes;
    leaf->count = count;
    leaf->prefix_bytes = prefix_bytes;
    leaf->next = *bucket(directory);
    *bucket(directory) = leaf;
    link_as_newest(leaf);
    leaves.bytes += bytes;
    return 1;
}

SESSION_EXPORT void session_drop_leaves(uint64_t directory)
{
    for (struct leaf *leaf = *bucket(directory), *next; leaf; leaf = next) {
        next = leaf->next;
        if (leaf->directory == directory)
            drop(leaf);
    }
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
