#include "leaf_lists.h"

#include <string.h>

#include "entries.h"
#include "session.h"

/* A node's kind and level come first. */
#define LEVEL_AT 1

static struct {
    struct list {
        uint8_t id[HASH_BYTES];
        uint64_t size;
        uint32_t first, count;
        bool is_done, is_alone;
    } all[SESSION_LEAF_LISTS];
    struct chunk chunks[SESSION_LEAF_CHUNKS];
    uint32_t count, chunk_count, own;
    bool are_new;
} lists;

bool is_small_file(const struct entry *entry)
{
    return entry->kind == ENTRY_FILE && (entry->form == FORM_CHUNK || entry->form == FORM_LIST) &&
           entry->size <= SESSION_SMALL_BYTES && !entry->hole_bytes && !entry->is_linked;
}

bool small_file_at(const struct entries *entries, uint32_t at, struct entry *entry)
{
    uint32_t start = entries->starts[at];
    return entry_decode(entries->node + start, entries->starts[at + 1] - start, entry) && is_small_file(entry);
}

void leaf_lists_begin(const struct entries *entries, uint32_t own)
{
    struct entry entry;
    lists.count = lists.chunk_count = 0;
    lists.own = SESSION_LEAF_LISTS;
    lists.are_new = false;
    for (uint32_t at = 0; at < entries->count && lists.count < SESSION_LEAF_LISTS; at++) {
        if (!small_file_at(entries, at, &entry) || entry.form != FORM_LIST)
            continue;
        if (at == own)
            lists.own = lists.count;
        struct list *list = &lists.all[lists.count++];
        *list = (struct list){.size = entry.size};
        memcpy(list->id, entry.content, HASH_BYTES);
    }
}

static void add(struct list *list, const uint8_t id[HASH_BYTES], uint32_t bytes)
{
    if (!list->count++)
        list->first = lists.chunk_count;
    struct chunk *chunk = &lists.chunks[lists.chunk_count++];
    memcpy(chunk->id, id, HASH_BYTES);
    chunk->bytes = bytes;
}

void leaf_lists_add(uint32_t number, const uint8_t id[HASH_BYTES], uint32_t bytes)
{
    if (number >= lists.count || lists.chunk_count == SESSION_LEAF_CHUNKS)
        return;
    add(&lists.all[number], id, bytes);
    lists.all[number].is_done = true;
}

bool leaf_lists_are_new(void)
{
    return lists.are_new;
}

const struct chunk *leaf_lists_chunks(uint32_t number, const uint8_t id[HASH_BYTES], uint32_t *count)
{
    bool is_there = number < lists.count && !memcmp(lists.all[number].id, id, HASH_BYTES);
    *count = is_there ? lists.all[number].count : 0;
    return is_there ? &lists.chunks[lists.all[number].first] : NULL;
}

/* Returns the list that is asked for next, or NULL: first those that the last block had. */
static struct list *wanted(void)
{
    struct list *next = NULL;
    for (uint32_t number = 0; number < lists.count; number++) {
        struct list *list = &lists.all[number];
        if (!list->is_done && list->is_alone)
            return list;
        if (!list->is_done && (!next || number == lists.own))
            next = list;
    }
    return next;
}

static void take(struct list *list, const uint8_t *node, size_t bytes)
{
    static struct run runs[SESSION_LEAF_CHUNKS];
    list->is_done = true;
    uint32_t count = runs_find(node, bytes, list->size, runs, SESSION_LEAF_CHUNKS - lists.chunk_count);
    for (uint32_t at = 0; at < count; at++)
        add(list, runs[at].id, runs[at].bytes);
    lists.are_new |= count > 0;
}

/* Takes a list from the node that a block has by its id, if its hash is right. A large one, and one that names others, is
 * left to Python. */
static void take_if_right(struct list *list, const uint8_t *node, size_t bytes)
{
    uint8_t id[HASH_BYTES];
    list->is_alone = bytes > HASH_NODE_MAX || (bytes > LEVEL_AT && node[LEVEL_AT]);
    if (list->is_alone)
        return;
    hash_node(node, bytes, id);
    if (memcmp(id, list->id, HASH_BYTES))
        list->is_done = true;
    else
        take(list, node, bytes);
}

SESSION_EXPORT int session_leaf_next_list(uint8_t *id)
{
    const struct list *list = wanted();
    if (!list)
        return SESSION_NO_LIST;
    memcpy(id, list->id, HASH_BYTES);
    return list->is_alone ? SESSION_LIST : SESSION_BLOCK;
}

SESSION_EXPORT void session_leaf_take_block(const uint8_t *ids, const uint32_t *ends, uint32_t count,
                                            const uint8_t *plain, uint32_t bytes)
{
    struct list *first = wanted();
    /* The lists of neighbours mostly are neighbours. */
    uint32_t at = 0;
    for (uint32_t number = 0; number < lists.count; number++) {
        struct list *list = &lists.all[number];
        uint32_t looked = 0;
        if (list->is_done || list->is_alone)
            continue;
        while (looked < count && memcmp(ids + HASH_BYTES * at, list->id, HASH_BYTES)) {
            at = at + 1 < count ? at + 1 : 0;
            looked++;
        }
        if (looked == count)
            continue;
        uint32_t start = at ? ends[at - 1] : 0;
        if (start <= ends[at] && ends[at] <= bytes)
            take_if_right(list, plain + start, ends[at] - start);
    }
    /* It was to be there. */
    if (first && !first->is_alone)
        first->is_done = true;
}

SESSION_EXPORT void session_leaf_take_list(const uint8_t *node, uint32_t bytes)
{
    struct list *list = wanted();
    if (list)
        take(list, node, bytes);
}
