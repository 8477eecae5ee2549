/* The record of opens that are answered natively: what session.c asks for each of them. */

#ifndef VFS_RECORDING_H
#define VFS_RECORDING_H

#include <stdbool.h>
#include <stdint.h>

/* False if Python has to answer an open. Else `recording_note` is called next, once it is answered. */
bool recording_permits(uint32_t thread, uint64_t ino);

/* Records an open, if its thread belongs to a run. */
void recording_note(uint32_t thread, uint64_t ino, uint32_t kind);

bool recording_is_on(void);

/* Forgets everything. */
void recording_reset(void);

#endif
