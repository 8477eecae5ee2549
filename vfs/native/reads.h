/* Reads of versions' files that lie on this machine: threads read, decompress, verify and answer, without Python. */

#ifndef VFS_READS_H
#define VFS_READS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "session.h"

/* Answers a READ, or lets a thread do so if other requests wait. False if the binding has to, or if Python has to be
 * asked and `may_ask` is not set. */
bool reads_begin(int connection, uint64_t unique, uint64_t ino, uint64_t offset, uint32_t bytes, bool may_ask);

/* Whether there are requests that are not answered, and that no thread answers. */
bool requests_wait(void);

bool reads_are_under_way(void);

/* Tells Python of first reads, if they are due. */
void reads_tell(void);

/* Counts a READ that another thread will answer. False if there are too many. */
bool reads_begin_waiting(void);

/* It is answered, or left to Python. */
void reads_end_waiting(const struct session_read *asked, bool is_answered);

/* Answers what is under way, and ends the threads. */
void reads_stop(void);

/* Releases the interpreter's lock until the event loop goes on. */
void let_python_run(void);

/* Sends a reply. Errors are the kernel's business: ENOENT if the request was interrupted, ENODEV after an unmount. */
void reply_to(int connection, uint64_t unique, int error, const void *body, size_t body_bytes);

/* Sends bytes that lie in `count` parts, behind the first part, which is for the reply's header. */
void reply_with(int connection, uint64_t unique, struct iovec *parts, uint32_t count, size_t body_bytes);

#endif
