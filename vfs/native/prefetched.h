/* Contents of small files that will be read soon, since a program reads their directory in order: a thread reads,
 * decompresses and verifies them before the kernel asks. */

#ifndef VFS_PREFETCHED_H
#define VFS_PREFETCHED_H

#include <stdbool.h>
#include <stdint.h>

#include "session.h"

/* Answers a READ, or has the thread do so. False if the content is not there; then its place may be prepared. */
bool prefetched_answer(int connection, const struct session_read *asked);

/* Tells that a number was given to the kernel, and what its check is: content that was prefetched before answers READs
 * from now on, unless the check is another one, so that it is another file's. Whether there is such content. */
bool prefetched_confirm(uint64_t ino, uint32_t check);

/* Adds a file, whose `place` and descriptors are copied, and drops the oldest ones if there are too many. `tells`: its
 * first read is noted with its position. False if it is not kept. */
bool prefetched_add(const struct session_file *file, uint64_t directory, const struct session_place *place, bool tells);

/* Lets the thread begin with what was added. */
void prefetched_begin(void);

void prefetched_forget(uint64_t ino);
void prefetched_drop(void);

/* Ends the thread. */
void prefetched_stop(void);

#endif
