/* The small files of a leaf, and their chunk lists, which Python finds in blocks of nodes. Of one leaf at a time; used by
 * the event loop's thread alone. */

#ifndef VFS_LEAF_LISTS_H
#define VFS_LEAF_LISTS_H

#include <stdbool.h>
#include <stdint.h>

#include "hash.h"

struct entry;

/* A leaf: where each entry begins, and behind the last where that ends. The entries were decoded before. */
struct entries {
    const uint8_t *node;
    const uint32_t *starts;
    uint32_t count;
};

struct chunk {
    uint8_t id[HASH_BYTES];
    uint32_t bytes;
};

/* Whether a file's place is given before it is read. */
bool is_small_file(const struct entry *entry);

/* Decodes an entry; whether it is a small file. */
bool small_file_at(const struct entries *entries, uint32_t at, struct entry *entry);

/* Begins with the lists of a leaf, of which none is there yet. That of the entry `own` is asked for first. */
void leaf_lists_begin(const struct entries *entries, uint32_t own);

/* Adds a chunk that is known to the leaf's list `number`, which is not asked for then. */
void leaf_lists_add(uint32_t number, const uint8_t id[HASH_BYTES], uint32_t bytes);

/* Returns the chunks of the leaf's list `number`, if it has this id; none if it was not given, is wrong, or there was no
 * room. */
const struct chunk *leaf_lists_chunks(uint32_t number, const uint8_t id[HASH_BYTES], uint32_t *count);

/* Whether chunks were found that were not known. */
bool leaf_lists_are_new(void);

#endif
