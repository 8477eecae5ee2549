/* BLAKE3 of a chunk of a file, or of a small node of a tree: its id (vfs/model/ids.py). */

#ifndef VFS_HASH_H
#define VFS_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_BYTES 32

/* The most bytes that are hashed at once: the largest file that is read natively. */
#define HASH_INPUT_MAX ((size_t)256 * 1024)

/* Puts the hash of up to HASH_INPUT_MAX bytes into `hash`. */
void hash_bytes(const uint8_t *input, size_t bytes, uint8_t hash[HASH_BYTES]);

/* The most bytes of a node that is hashed. */
#define HASH_NODE_MAX ((size_t)1024)

/* Puts the id of a node of up to HASH_NODE_MAX bytes into `id`. */
void hash_node(const uint8_t *node, size_t bytes, uint8_t id[HASH_BYTES]);

#endif
