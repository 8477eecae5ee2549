#include "leaves.h"

#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "leaf_places.h"
#include "prefetched.h"
#include "prepared.h"

/* Leaves that are kept, all together; their bytes count. */
#define LEAVES_BYTES_MAX ((size_t)16 << 20)
#define BUCKETS 2048u
/* What an inode's number is derived from: a prefix of its directory and its entry. A longer one is left to Python. */
#define KEY_BYTES_MAX 8192u
/* At the first look-up of a leaf's file that is probably read, the places of all are worth looking up, and again at one of a
 * file whose list was left out; not for some such leaves after one whose places were dropped before so many look-ups, of
 * which the first counts twice: then a program reads more leaves than are kept. */
#define WORTH_IT 8u
#define LEFT_OUT_MAX 256u
/* How often removed packs are looked for before all places are dropped, as Python does every 10 s: a pack may be removed
 * and have another name. */
#define TIMES_KEPT 12u
/* As vfs/fuse/prefetch/prefetch_policy.py has them: files behind another that may follow it in a stream, and so many
 * entries. */
#define NEIGHBOURS 2u
#define NEIGHBOUR_DISTANCE 64u

static struct {
    struct leaf *buckets[BUCKETS];
    struct leaf *newest, *oldest;
    size_t bytes;
} leaves;

/* Places that are looked up for a leaf. */
static struct leaf_places *begun;

/* How often no pack was found removed. */
static unsigned times_kept;

/* Leaves whose places are not looked up: how many follow, and how many did after the last that was not worth it. */
static struct {
    uint32_t left, last;
} left_out;

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

static void use(struct leaf *leaf)
{
    if (leaf != leaves.newest) {
        unlink_by_use(leaf);
        link_as_newest(leaf);
    }
}

static void drop_places(struct leaf *leaf)
{
    if (leaf->places) {
        size_t bytes = leaf_places_bytes(leaf->places);
        leaf->bytes -= bytes;
        leaves.bytes -= bytes;
        leaf_places_free(leaf->places);
    }
    leaf->places = NULL;
}

static void drop(struct leaf *leaf)
{
    drop_places(leaf);
    struct leaf **link = bucket(leaf->directory);
    while (*link != leaf)
        link = &(*link)->next;
    *link = leaf->next;
    unlink_by_use(leaf);
    leaves.bytes -= leaf->bytes;
    free(leaf);
}

/* Drops the leaves that were not used for longest. */
static void make_room(size_t bytes)
{
    while (leaves.oldest && leaves.bytes + bytes > LEAVES_BYTES_MAX) {
        if (leaves.oldest->places && leaves.oldest->wanted < WORTH_IT)
            left_out.left = left_out.last = left_out.last < LEFT_OUT_MAX ? 2 * left_out.last + 1 : LEFT_OUT_MAX;
        else if (leaves.oldest->places)
            left_out.last /= 2;
        drop(leaves.oldest);
    }
}

void leaf_decode(const struct leaf *leaf, uint32_t at, struct entry *entry)
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

/* Returns the leaf that an entry's position is in, or NULL. */
static struct leaf *leaf_at(uint64_t directory, uint64_t position)
{
    struct leaf *leaf = *bucket(directory);
    while (leaf && (leaf->directory != directory || position < leaf->position ||
                    position - leaf->position >= leaf->count))
        leaf = leaf->next;
    return leaf;
}

/* Returns the leaf of a directory that a name has to be in, if it is there at all; NULL if none is kept. */
struct leaf *leaves_find(uint64_t directory, const char *name, size_t bytes)
{
    struct leaf *leaf = *bucket(directory);
    while (leaf && (leaf->directory != directory || compare(name, bytes, leaf, 0) < 0 ||
                    compare(name, bytes, leaf, leaf->count - 1) > 0))
        leaf = leaf->next;
    if (leaf)
        use(leaf);
    return leaf;
}

struct leaf *leaves_at(uint64_t directory, uint64_t position)
{
    struct leaf *leaf = leaf_at(directory, position);
    if (leaf)
        use(leaf);
    return leaf;
}

const struct leaf *leaves_of(uint64_t directory)
{
    const struct leaf *leaf = *bucket(directory);
    while (leaf && leaf->directory != directory)
        leaf = leaf->next;
    return leaf;
}

static struct entries entries_of(const struct leaf *leaf)
{
    return (struct entries){leaf->node, leaf->starts, leaf->count};
}

/* Returns the place of a name in a leaf, or `count`. */
uint32_t leaf_search(const struct leaf *leaf, const char *name, size_t bytes)
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

/* Derives the number of a file or link as vfs/fuse/inodes.py does. */
bool leaf_derive(const struct leaf *leaf, const struct entry *entry, uint64_t *ino, uint32_t *check)
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

/* Whether an inode's number is that of the entry at a position: a hostile tree may have two there. */
static bool is_number(const struct leaf *leaf, uint64_t position, uint64_t ino)
{
    struct entry entry;
    uint64_t derived = 0;
    uint32_t check = 0;
    leaf_decode(leaf, (uint32_t)(position - leaf->position), &entry);
    return leaf_derive(leaf, &entry, &derived, &check) && derived == ino;
}

static bool is_worth_locating(const struct leaf *leaf)
{
    if (leaf->is_partial)
        return true;
    if (leaf->places || leaf->has_none || leaf->wanted > 1)
        return false;
    if (!left_out.left)
        return true;
    left_out.left--;
    return false;
}

/* As `session_prepare_at`. */
int leaf_prepare(struct leaf *leaf, uint32_t at, uint64_t ino)
{
    static struct session_place place;
    struct entry entry;
    leaf_decode(leaf, at, &entry);
    if (!is_small_file(&entry))
        return SESSION_NOT_PREPARED;
    leaf->wanted++;
    if (leaf->places && leaf_places_get(leaf->places, at, &place) &&
        prepared_add(ino, leaf->directory, leaf->position + at, &place, false))
        return SESSION_PREPARED;
    return is_worth_locating(leaf) ? SESSION_WORTH_LOCATING : SESSION_NOT_PREPARED;
}

bool leaves_are_neighbours(uint64_t directory, uint64_t before, uint64_t after)
{
    if (after <= before || after - before > NEIGHBOUR_DISTANCE)
        return false;
    const struct leaf *leaf = leaf_at(directory, before);
    if (!leaf || leaf != leaf_at(directory, after))
        return after - before <= NEIGHBOURS;
    uint32_t files = 0;
    struct entry entry;
    for (uint64_t at = before + 1; at < after && files < NEIGHBOURS; at++) {
        leaf_decode(leaf, (uint32_t)(at - leaf->position), &entry);
        files += entry.kind == ENTRY_FILE && (entry.form == FORM_CHUNK || entry.form == FORM_LIST);
    }
    return files < NEIGHBOURS;
}

void leaves_drop_old_places(void)
{
    if (++times_kept < TIMES_KEPT && !leaf_places_are_of_removed_packs())
        return;
    times_kept = 0;
    for (struct leaf *leaf = leaves.oldest; leaf; leaf = leaf->newer) {
        drop_places(leaf);
        leaf->wanted = 0;
        leaf->has_none = leaf->is_partial = false;
    }
}

void leaves_drop(void)
{
    leaf_places_free(begun);
    begun = NULL;
    memset(&left_out, 0, sizeof left_out);
    times_kept = 0;
    while (leaves.oldest)
        drop(leaves.oldest);
}

SESSION_EXPORT int session_keep_leaf(uint64_t directory, uint32_t slot, uint64_t position, const void *prefix,
                                     uint32_t prefix_bytes, const void *node, uint32_t node_bytes, int is_last)
{
    static uint32_t starts[ENTRIES_MAX + 1];
    bool has_directories = false;
    uint32_t count = entries_find(node, node_bytes, starts, &has_directories);
    if (!count)
        return 0;
    size_t starts_bytes = (count + 1) * sizeof starts[0];
    size_t bytes = sizeof(struct leaf) + starts_bytes + prefix_bytes + node_bytes;
    struct leaf *known = leaf_at(directory, position);
    if (known && known->slot == slot && known->position == position && known->count == count &&
        known->is_last == is_last && known->prefix_bytes == prefix_bytes && known->starts[count] == starts[count] &&
        !memcmp(known->node, node, node_bytes) && !memcmp(known->prefix, prefix, prefix_bytes))
        return 1;
    struct leaf *leaf = bytes <= LEAVES_BYTES_MAX ? malloc(bytes) : NULL;
    if (!leaf)
        return 0;
    /* One position has one entry, whatever a hostile tree says. */
    for (struct leaf *old = *bucket(directory), *next; old; old = next) {
        next = old->next;
        if (old->directory == directory && old->position < position + count && position < old->position + old->count)
            drop(old);
    }
    make_room(bytes);
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
    leaf->slot = slot;
    leaf->places = NULL;
    leaf->wanted = 0;
    leaf->has_none = leaf->is_partial = false;
    leaf->is_last = is_last;
    leaf->has_directories = has_directories;
    leaf->next = *bucket(directory);
    *bucket(directory) = leaf;
    link_as_newest(leaf);
    leaves.bytes += bytes;
    return 1;
}

SESSION_EXPORT int session_prepare_at(uint64_t directory, uint64_t position, uint64_t ino)
{
    struct leaf *leaf = leaf_at(directory, position);
    return leaf && is_number(leaf, position, ino) ? leaf_prepare(leaf, (uint32_t)(position - leaf->position), ino)
                                                  : SESSION_NOT_PREPARED;
}

SESSION_EXPORT int session_leaf_begin(uint64_t directory, uint64_t position)
{
    struct leaf *leaf = leaf_at(directory, position);
    if (!leaf)
        return 0;
    /* Unless what follows finds some. */
    leaf->has_none = !leaf->places;
    leaf->is_partial = false;
    struct entries entries = entries_of(leaf);
    leaf_lists_begin(&entries, (uint32_t)(position - leaf->position));
    if (leaf->places)
        leaf_places_keep_lists(leaf->places, &entries);
    return 1;
}

SESSION_EXPORT uint32_t session_leaf_chunks(uint64_t directory, uint64_t position, int is_partial, uint8_t *ids)
{
    struct leaf *leaf = leaf_at(directory, position);
    leaf_places_free(begun);
    begun = NULL;
    if (!leaf)
        return 0;
    struct entries entries = entries_of(leaf);
    uint32_t count = 0;
    /* What finds none is not tried again. */
    leaf->is_partial = is_partial && leaf_lists_are_new();
    begun = leaf_places_new(&entries, ids, &count);
    return count;
}

SESSION_EXPORT int session_locate_leaf(uint64_t directory, uint64_t position, const void *rows, uint32_t row_count,
                                       const struct session_pack *packs, uint32_t pack_count)
{
    struct leaf *leaf = leaf_at(directory, position);
    struct leaf_places *places = begun;
    begun = NULL;
    if (!leaf || !places || !leaf_places_locate(places, leaf->count, rows, row_count, packs, pack_count)) {
        leaf_places_free(places);
        return 0;
    }
    drop_places(leaf);
    size_t bytes = leaf_places_bytes(places);
    leaf->places = places;
    leaf->has_none = false;
    leaf->bytes += bytes;
    leaves.bytes += bytes;
    make_room(0);
    return 1;
}

SESSION_EXPORT void session_find_files(uint64_t directory, struct session_file *files, uint32_t count)
{
    static struct session_place place;
    for (uint32_t number = 0; number < count; number++) {
        struct session_file *file = &files[number];
        const struct leaf *leaf = leaf_at(directory, file->position);
        file->ino = file->check = 0;
        bool is_located = leaf && !leaf->is_partial && (leaf->places || leaf->has_none);
        file->found = is_located ? SESSION_NO_PLACE : SESSION_NOT_LOCATED;
        if (!leaf || !leaf->places)
            continue;
        uint32_t at = (uint32_t)(file->position - leaf->position);
        struct entry entry;
        leaf_decode(leaf, at, &entry);
        if (leaf_places_get(leaf->places, at, &place) && leaf_derive(leaf, &entry, &file->ino, &file->check))
            file->found = SESSION_PLACE;
    }
}

SESSION_EXPORT uint32_t session_prefetch(uint64_t directory, const struct session_file *files, uint32_t count,
                                         uint64_t told)
{
    static struct session_place place;
    uint32_t added = 0;
    for (; added < count; added++) {
        const struct session_file *file = &files[added];
        struct leaf *leaf = leaf_at(directory, file->position);
        if (!leaf || !leaf->places || !is_number(leaf, file->position, file->ino) ||
            !leaf_places_get(leaf->places, (uint32_t)(file->position - leaf->position), &place) ||
            !prefetched_add(file, directory, &place, file->ino == told))
            break;
        leaf->wanted++;
    }
    prefetched_begin();
    return added;
}

SESSION_EXPORT void session_drop_leaves(uint64_t directory)
{
    for (struct leaf *leaf = *bucket(directory), *next; leaf; leaf = next) {
        next = leaf->next;
        if (leaf->directory == directory)
            drop(leaf);
    }
}

SESSION_EXPORT const void *session_find_entry(uint64_t directory, uint64_t position, uint64_t ino, uint32_t *bytes)
{
    const struct leaf *leaf = leaf_at(directory, position);
    if (!leaf || !is_number(leaf, position, ino))
        return NULL;
    struct entry entry;
    leaf_decode(leaf, (uint32_t)(position - leaf->position), &entry);
    *bytes = (uint32_t)entry.count;
    return entry.bytes;
}
