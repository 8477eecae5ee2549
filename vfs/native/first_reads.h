/* First reads of files after their look-ups: whether programs read what they look up, and whether in the order of a
 * directory. vfs/fuse/prefetch/prefetch_policy.py decides what follows from it. */

#ifndef VFS_FIRST_READS_H
#define VFS_FIRST_READS_H

#include <stdbool.h>
#include <stdint.h>

/* Stands for the position of a file that has none. */
#define NO_POSITION UINT64_MAX

/* Records a look-up of a file; whether it will probably be read. */
bool first_reads_expect(uint64_t ino);

/* Records the first read of a file at a position of a directory; without one it is noted only that it was read. */
void first_reads_note(uint64_t ino, uint64_t directory, uint64_t position);

/* Whether Python has to take what is noted now. */
bool first_reads_are_due(void);

/* Drops the notes of a file that the kernel may forget: its number can become another file's. */
void first_reads_drop(uint64_t ino);

void first_reads_forget(void);

#endif
