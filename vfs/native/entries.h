/* Entries of directories in the leaves of trees (docs/format.md, "Nodes"). */

#ifndef VFS_ENTRIES_H
#define VFS_ENTRIES_H

#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The most entries that a node has. */
#define ENTRIES_MAX 2048u

#define ENTRY_FILE 1u
#define ENTRY_DIRECTORY 2u
#define ENTRY_LINK 3u

struct entry {
    const uint8_t *bytes, *name;
    size_t count;
    uint32_t name_bytes, kind, mode, uid, gid;
    int64_t mtime_ns;
    uint64_t size, hole_bytes, files;
    bool is_linked;
};

/* Finds where each entry of a leaf begins, and behind the last where that ends. Returns how many there are; 0 if the
 * node is no leaf of entries, or one that Python has to look at: it can be wrong, or is not encoded as Python does. */
uint32_t entries_find(const uint8_t *node, size_t bytes, uint32_t starts[ENTRIES_MAX + 1]);

/* Decodes an entry; false if it is wrong, or not encoded as Python does. */
bool entry_decode(const uint8_t *bytes, size_t count, struct entry *entry);

/* Returns the name of an entry that was decoded before. */
const uint8_t *entry_name(const uint8_t *bytes, size_t *count);

/* What `stat` shows of a file, directory or symbolic link. */
struct fuse_attr entry_attributes(const struct entry *entry, uint64_t ino, uint32_t links);

#endif
