/* Places of small files that were looked up, and are probably read next. */

#ifndef VFS_PREPARED_H
#define VFS_PREPARED_H

#include <stdbool.h>
#include <stdint.h>

#include "places.h"

/* As `places_find`, for a file whose place was given at its look-up; notes that it is read. */
bool prepared_find(uint64_t ino, uint64_t offset, uint32_t bytes, struct session_part *part);

/* Adds a place, as `session_prepare`; `is_read`: the first read was noted. */
bool prepared_add(uint64_t ino, uint64_t directory, uint64_t position, const struct session_place *place, bool is_read);

void prepared_forget(uint64_t ino);
void prepared_drop(void);

#endif
