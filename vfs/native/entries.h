/* Entries of directories in the leaves of trees (docs/format.md, "Nodes"). */

#ifndef VFS_ENTRIES_H
#define VFS_ENTRIES_H

#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The most entries that a node has. */
#define ENTRIES_MAX 2048u

/* As vfs/model/validation.py has it. */
#define ENTRY_NAME_BYTES_MAX 255u

#define ENTRY_FILE 1u
#define ENTRY_DIRECTORY 2u
#define ENTRY_LINK 3u

/* Forms of a file's content: one chunk, or a list of them. */
#define FORM_CHUNK 2u
#define FORM_LIST 3u

struct entry {
    const uint8_t *bytes, *name, *content;
    size_t count;
    uint32_t name_bytes, kind, mode, uid, gid, form;
    int64_t mtime_ns;
    uint64_t size, hole_bytes, files;
    bool is_linked;
};

/* Finds where each entry of a leaf begins, and behind the last where that ends. Returns how many there are; 0 if the
 * node is no leaf of entries, or one that Python has to look at: it can be wrong, or is not encoded as Python does. */
uint32_t entries_find(const uint8_t *node, size_t bytes, uint32_t starts[ENTRIES_MAX + 1], bool *has_directories);

/* Decodes an entry; false if it is wrong, or not encoded as Python does. */
bool entry_decode(const uint8_t *bytes, size_t count, struct entry *entry);

/* Returns the name of an entry that was decoded before. */
const uint8_t *entry_name(const uint8_t *bytes, size_t *count);

/* A chunk of a file. */
struct run {
    const uint8_t *id;
    uint32_t bytes;
};

/* Finds the chunks that a leaf of a chunk list names, if they are up to `most`, none is a hole, and they have so many bytes
 * together. Returns how many there are; 0 if Python has to look at it. */
uint32_t runs_find(const uint8_t *node, size_t bytes, uint64_t size, struct run *runs, uint32_t most);

/* What `stat` shows of a file, directory or symbolic link. */
struct fuse_attr entry_attributes(const struct entry *entry, uint64_t ino, uint32_t links);

#endif
