/* Names and attributes in versions' directories: look-ups are answered from leaves of entries that Python hands over. */

#ifndef VFS_NAMES_H
#define VFS_NAMES_H

#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Answers a LOOKUP in a version's directory. False if the binding has to. */
bool names_answer_lookup(int connection, const struct fuse_in_header *in, const char *name, size_t bytes);

/* Answers a GETATTR of something in a version. False if the binding has to, or if Python has to be asked and `may_ask`
 * is not set. */
bool names_answer_attributes(int connection, const struct fuse_in_header *in, bool may_ask);

/* The kernel forgets an inode. */
void names_forget(uint64_t ino);

void names_drop(void);

#endif
