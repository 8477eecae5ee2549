/* Chunks in the blocks of packs (docs/format.md, "Packs"): found, decompressed and compared with their ids. */

#ifndef VFS_BLOCKS_H
#define VFS_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "session.h"

/* The largest block that is decompressed here. */
#define BLOCK_PLAIN_MAX ((size_t)256 * 1024)
#define BLOCK_BYTES_MAX (BLOCK_PLAIN_MAX + 64 * 1024)

/* The bytes of all chunks of a READ: of the largest one, with a part of a chunk at both ends. */
#define READ_PLAIN_MAX ((size_t)(1 << 20) + 2 * BLOCK_PLAIN_MAX)
#define READ_PACKED_MAX (READ_PLAIN_MAX + 64 * 1024)

/* The memory of one READ: its blocks as they were read, and decompressed. */
struct workspace;

/* Looks for the system's libzstd. False without: only chunks that lie alone and uncompressed can be read. */
bool blocks_load(void);

/* Whether a chunk can be read here at all. */
bool blocks_can_read(const struct session_piece *piece);

/* NULL if there is no memory for one. */
struct workspace *workspace_new(void);
void workspace_free(struct workspace *space);

/* What a thread decompresses with. False if there is no memory for it; NULL without libzstd. */
bool context_new(void **context);
void context_free(void *context);

/* Reads the blocks of chunks that follow one another in a file; returns how many, 0 if one cannot be read. `is_whole`
 * tells of the first and the last chunk whether all of it is answered: other blocks are kept for the next READ. */
uint32_t blocks_read(struct workspace *space, const struct session_piece *pieces, uint32_t count, const bool is_whole[2]);

/* Decompresses one of these blocks, and puts the address of each chunk's bytes into `found`, at the place of its piece.
 * They are valid until `blocks_release`. Threads may do so with several blocks of a READ at once. False if a chunk has
 * another id. */
bool blocks_unpack(struct workspace *space, void *context, uint32_t block, const uint8_t **found);

void blocks_release(struct workspace *space);

/* Frees what is kept, when no thread reads. */
void blocks_drop(void);

#endif
