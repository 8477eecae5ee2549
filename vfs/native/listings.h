/* Listings of versions' directories, with the attributes of what is in them. */

#ifndef VFS_LISTINGS_H
#define VFS_LISTINGS_H

#include <linux/fuse.h>
#include <stdbool.h>

#include "names.h"

/* Answers a READDIRPLUS of a version's directory. False if the binding has to, or if Python has to be asked and `may_ask`
 * is not set. */
bool listings_answer(int connection, const struct fuse_in_header *in, const struct fuse_read_in *read, bool may_ask);

#endif
