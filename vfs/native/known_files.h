/* The inodes of versions' files that the kernel knows, and the names that a daemon leaves to the one that takes its mount
 * over (vfs/fuse/session/takeover_state.py). */

#ifndef VFS_KNOWN_FILES_H
#define VFS_KNOWN_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "session.h"

/* As vfs/fuse/session/takeover_state.py has it: kind, two numbers, the length of the bytes that follow. */
#define RECORD_OF_INODE 2u
#define RECORD_HEAD_BYTES 19u

/* A file that the kernel is told of: its number and check, and its name at a position of a directory. */
struct told_file {
    uint64_t ino, directory, position;
    uint32_t check, slot; /* the directory's in the table */
    const uint8_t *name;
    uint32_t name_bytes;
};

/* Begins to tell the kernel of files. False if Python has to. */
bool known_begin(struct known_files *files);

/* Counts a look-up of a file. False if Python has to: the number may be another file's, or memory is full. */
bool known_tell(struct known_files *files, const struct told_file *told);

/* Writes the names of those that were told since `known_begin`: before the kernel gets the answer. */
void known_end(struct known_files *files);

/* Takes a FORGET of a file. False if Python has to. */
bool known_forget(struct known_files *files, uint64_t ino, uint64_t lookups);

/* Calls a function with each number, and where its name is recorded, and 1; 0: nowhere. */
typedef void known_visitor(void *state, uint64_t ino, uint64_t *record);
void known_visit(struct known_files *files, known_visitor *visit, void *state);

/* Counts that a file was read: then the kernel has forgotten its access time, if the mount is writable. */
void known_count_read(struct known_files *files, uint64_t ino);

/* Whether so many files of a directory were, since it was listed, that the kernel had better list it again than ask for
 * each. A file counts for the directory that it was found in first. */
bool known_is_stale(const struct known_files *files, uint32_t slot);
void known_count_listing(struct known_files *files, uint32_t slot);

#endif
