/* Leaves of directories' entries, which Python hands over, and where the small files in them lie. */

#ifndef VFS_LEAVES_H
#define VFS_LEAVES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "entries.h"

struct leaf {
    struct leaf *next;           /* in its bucket */
    struct leaf *newer, *older;  /* by use */
    uint64_t directory, position; /* of its first entry in the directory */
    size_t bytes;
    uint32_t count, prefix_bytes;
    uint32_t slot; /* the directory's in the table of known files */
    uint8_t *node, *prefix;
    struct leaf_places *places;
    uint32_t wanted; /* how often a place was */
    bool has_none;   /* they were looked up in vain */
    bool is_partial; /* not all were looked up */
    bool is_last;    /* the directory ends with it */
    bool has_directories;
    uint32_t starts[];
};

/* Returns the leaf of a directory that a name has to be in, if it is there at all; NULL if none is kept. */
struct leaf *leaves_find(uint64_t directory, const char *name, size_t bytes);

/* Returns the leaf that an entry's position is in, or NULL. */
struct leaf *leaves_at(uint64_t directory, uint64_t position);

/* Returns any leaf of a directory, or NULL. */
const struct leaf *leaves_of(uint64_t directory);

/* Returns the place of a name in a leaf, or `count`. */
uint32_t leaf_search(const struct leaf *leaf, const char *name, size_t bytes);

void leaf_decode(const struct leaf *leaf, uint32_t at, struct entry *entry);

/* Derives the number of a file or link as vfs/fuse/inodes.py does; false for one that is left to Python. */
bool leaf_derive(const struct leaf *leaf, const struct entry *entry, uint64_t *ino, uint32_t *check);

/* As `session_prepare_at`. */
int leaf_prepare(struct leaf *leaf, uint32_t at, uint64_t ino);

/* Whether the entry at one position of a directory is one of the next two files behind another that have chunks; by their
 * distance alone, where no leaf has both. */
bool leaves_are_neighbours(uint64_t directory, uint64_t before, uint64_t after);

/* Drops the places of leaves' files if a pack was removed, or after so many calls in any case. */
void leaves_drop_old_places(void);

void leaves_drop(void);

#endif
