/* Where the small files of a leaf of entries lie, looked up all together: a program that reads some of a directory, in
 * whatever order, mostly reads the others too. */

#ifndef VFS_LEAF_PLACES_H
#define VFS_LEAF_PLACES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "leaf_lists.h"
#include "session.h"

struct leaf_places;

/* Returns places without places in packs yet, given the leaf's lists (leaf_lists.h), and puts the ids of all chunks one
 * behind the other; NULL if there is no memory, or no small file. */
struct leaf_places *leaf_places_new(const struct entries *entries, uint8_t *ids, uint32_t *id_count);

/* Adds the chunks of lists whose files have places to the leaf's lists, which were begun. */
void leaf_places_keep_lists(const struct leaf_places *places, const struct entries *entries);

/* Takes where the chunks lie, in the order of their ids; of packs for which there is no room none is kept. False if they
 * are not so many, or the leaf has another number of entries. */
bool leaf_places_locate(struct leaf_places *places, uint32_t entries, const uint8_t *rows, uint32_t row_count,
                        const struct session_pack *packs, uint32_t pack_count);

/* Frees them, and closes packs that no others lie in. NULL is fine. */
void leaf_places_free(struct leaf_places *places);

size_t leaf_places_bytes(const struct leaf_places *places);

/* Fills in the place of a file; false if it has none. The descriptors are borrowed. */
bool leaf_places_get(const struct leaf_places *places, uint32_t at, struct session_place *place);

/* Whether a pack that is open for places was removed. */
bool leaf_places_are_of_removed_packs(void);

#endif
