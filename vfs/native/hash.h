/* BLAKE3 of a chunk of a file: its id. */

#ifndef VFS_HASH_H
#define VFS_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_BYTES 32

/* The most bytes that are hashed at once: the largest file that is read natively. */
#define HASH_INPUT_MAX ((size_t)256 * 1024)

/* Puts the hash of up to HASH_INPUT_MAX bytes into `hash`. */
void hash_bytes(const uint8_t *input, size_t bytes, uint8_t hash[HASH_BYTES]);

#endif
