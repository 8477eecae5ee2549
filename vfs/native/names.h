/* Names and attributes in versions' directories: look-ups are answered from leaves of entries that Python hands over. */

#ifndef VFS_NAMES_H
#define VFS_NAMES_H

#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "leaves.h"

/* Answers a LOOKUP in a version's directory. False if the binding has to. */
bool names_answer_lookup(int connection, const struct fuse_in_header *in, const char *name, size_t bytes);

/* A leaf of a directory: kept, missing where Python has to answer, or none as the position is behind the last entry. */
enum leaf_found { LEAF_FOUND, LEAF_MISSING, LEAF_BEHIND };

/* Finds the leaf that a position of a directory is in; Python hands it over if `may_ask`. */
enum leaf_found names_leaf_at(uint64_t directory, uint64_t position, struct leaf **leaf, bool may_ask);

/* Begins to tell the kernel of entries, and ends it, before the kernel gets the answer. False if Python has to. */
bool names_begin(void);
void names_end(void);

/* Counts a look-up of a file, whose number and check are derived. False if Python has to. */
bool names_tell(const struct leaf *leaf, uint64_t position, const struct entry *entry, uint64_t ino, uint32_t check);

/* Has Python count a look-up of a directory, which may drop leaves. Returns its number, 0 if Python has to answer. */
uint64_t names_admit_directory(uint64_t directory, uint64_t position, const struct entry *entry);

/* What the kernel is told of an inode with these attributes: for ever. */
struct fuse_entry_out names_entry_out(const struct fuse_attr *attr);

/* As `known_count_read`, and `known_is_stale` and `known_count_listing` for a directory, if a leaf of it is kept. */
void names_count_read(uint64_t ino);
bool names_are_stale(uint64_t directory);
void names_are_listed(uint64_t directory);

/* Answers a GETATTR of something in a version. False if the binding has to, or if Python has to be asked and `may_ask`
 * is not set. */
bool names_answer_attributes(int connection, const struct fuse_in_header *in, bool may_ask);

/* Drops what is kept of an inode that the kernel forgets, and counts that. False if the binding has to count it. */
bool names_forget(uint64_t ino, uint64_t lookups);

void names_drop(void);

#endif
