/* Places of small files that were looked up, and are probably read next. */

#ifndef VFS_PREPARED_H
#define VFS_PREPARED_H

#include <stdbool.h>
#include <stdint.h>

#include "places.h"

/* As `places_find`, for a file whose place was given at its look-up; notes that it is read. */
bool prepared_find(uint64_t ino, uint64_t offset, uint32_t bytes, struct session_part *part);

/* Notes that a file is read for the first time since its look-up: Python chooses what to prefetch by that. */
void prepared_note(uint64_t ino);

void prepared_forget(uint64_t ino);
void prepared_drop(void);

/* Forgets what was noted. */
void prepared_forget_reads(void);

#endif
