/* Where chunks of larger files lie, as Python has told: READs of the same part of a file are answered without asking.
 * Used by the event loop's thread alone. */

#ifndef VFS_PLACES_H
#define VFS_PLACES_H

#include <stdbool.h>
#include <stdint.h>

#include "session.h"

/* The part of a place that a READ is answered from. `skipped` bytes of its first chunk are not. */
struct session_part {
    const struct session_piece *pieces;
    uint32_t count;
    uint32_t skipped;
    uint32_t answered;
};

/* The most packs that one place is kept for, or one READ answered from: of a file that many versions have changed, each
 * chunk may lie in another one. */
#define PACKS_MAX 16

/* Descriptors of the packs that some chunks lie in. */
struct open_packs {
    int descriptors[PACKS_MAX];
    uint32_t count;
};

/* Finds the chunks of a READ in a place. False if it does not name all of them, or if they are too many. */
bool places_part(const struct session_place *place, uint64_t offset, uint32_t bytes, struct session_part *part);

/* The same, in what is kept. */
bool places_find(uint64_t ino, uint64_t offset, uint32_t bytes, struct session_part *part);

/* Counts a READ of a window that is kept. True with the one that shows that a program reads it in small pieces, of which
 * the kernel reads nothing ahead: `part` is all of the window. */
bool places_read_in_pieces(uint64_t ino, uint64_t offset, uint32_t bytes, struct session_part *part);

/* Keeps the place of a window; its packs are open until it is dropped. */
void places_keep(uint64_t ino, uint64_t offset, const struct session_place *place);

/* Drops a file that the kernel may forget: its number can become another file's. */
void places_forget(uint64_t ino);
void places_drop(void);

/* Gives chunks descriptors of their own, one for each pack. False if there are too many. */
bool packs_open(struct open_packs *packs, struct session_piece *pieces, uint32_t count);
void packs_close(const struct open_packs *packs);

/* Has the disk begin to read the blocks of some chunks. */
void places_hint(const struct session_piece *pieces, uint32_t count);

#endif
