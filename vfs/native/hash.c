/* BLAKE3, as its paper describes it: a tree over pieces of 1,024 bytes, eight or 16 of whose nodes are computed side by
 * side, with the best vector instructions of the processor.
 */

#include "hash.h"

#include <endian.h>
#include <stdbool.h>
#include <string.h>

#define PIECE_BYTES ((size_t)1024)
#define BLOCK_BYTES ((size_t)64)
#define LANES_MAX 16
#define PIECES_MAX (HASH_INPUT_MAX / PIECE_BYTES)

#define PIECE_START 1u
#define PIECE_END 2u
#define PARENT 4u
#define ROOT 8u
#define CONTEXT 32u
#define IN_CONTEXT 64u

/* As vfs/model/ids.py has it. */
#define NODE_CONTEXT "vfs format 1 tree node"

static const uint32_t start_words[8] = {
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
};

/* Both for words and for vectors of them. */
#define TURN(x, bits) (((x) >> (bits)) | ((x) << (32 - (bits))))
#define MIX(s, a, b, c, d, x, y)                                                                                       \
    do {                                                                                                               \
        s[a] += s[b] + (x);                                                                                            \
        s[d] = TURN(s[d] ^ s[a], 16);                                                                                  \
        s[c] += s[d];                                                                                                  \
        s[b] = TURN(s[b] ^ s[c], 12);                                                                                  \
        s[a] += s[b] + (y);                                                                                            \
        s[d] = TURN(s[d] ^ s[a], 8);                                                                                   \
        s[c] += s[d];                                                                                                  \
        s[b] = TURN(s[b] ^ s[c], 7);                                                                                   \
    } while (0)

/* With the order of the words as a constant, so that vectors stay in registers. */
#define ROUND(s, m, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, b0, b1, b2, b3, b4, b5)                                    \
    do {                                                                                                               \
        MIX(s, 0, 4, 8, 12, m[a0], m[a1]);                                                                             \
        MIX(s, 1, 5, 9, 13, m[a2], m[a3]);                                                                             \
        MIX(s, 2, 6, 10, 14, m[a4], m[a5]);                                                                            \
        MIX(s, 3, 7, 11, 15, m[a6], m[a7]);                                                                            \
        MIX(s, 0, 5, 10, 15, m[a8], m[a9]);                                                                            \
        MIX(s, 1, 6, 11, 12, m[b0], m[b1]);                                                                            \
        MIX(s, 2, 7, 8, 13, m[b2], m[b3]);                                                                             \
        MIX(s, 3, 4, 9, 14, m[b4], m[b5]);                                                                             \
    } while (0)
#define ALL_ROUNDS(s, m)                                                                                               \
    do {                                                                                                               \
        ROUND(s, m, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);                                             \
        ROUND(s, m, 2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8);                                             \
        ROUND(s, m, 3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1);                                             \
        ROUND(s, m, 10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6);                                             \
        ROUND(s, m, 12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4);                                             \
        ROUND(s, m, 9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7);                                             \
        ROUND(s, m, 11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13);                                             \
    } while (0)

/* Steps of the transposition of a square of words: blocks of `step` rows and columns change places. */
#if defined(__has_builtin) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#if __has_builtin(__builtin_shufflevector)
#define CAN_TRANSPOSE 1
#endif
#endif
#define UPPER(i, step, lanes) ((i) & (step) ? (lanes) + (i) - (step) : (i))
#define LOWER(i, step, lanes) ((i) & (step) ? (lanes) + (i) : (i) + (step))
#define EIGHT(which, from, step, lanes)                                                                                \
    which(from, step, lanes), which(from + 1, step, lanes), which(from + 2, step, lanes),                              \
        which(from + 3, step, lanes), which(from + 4, step, lanes), which(from + 5, step, lanes),                      \
        which(from + 6, step, lanes), which(from + 7, step, lanes)
#define SWAP_8(a, b, step)                                                                                             \
    do {                                                                                                               \
        __typeof__(a) upper = (a), lower = (b);                                                                        \
        (a) = __builtin_shufflevector(upper, lower, EIGHT(UPPER, 0, step, 8));                                         \
        (b) = __builtin_shufflevector(upper, lower, EIGHT(LOWER, 0, step, 8));                                         \
    } while (0)
#define SWAP_16(a, b, step)                                                                                            \
    do {                                                                                                               \
        __typeof__(a) upper = (a), lower = (b);                                                                        \
        (a) = __builtin_shufflevector(upper, lower, EIGHT(UPPER, 0, step, 16), EIGHT(UPPER, 8, step, 16));             \
        (b) = __builtin_shufflevector(upper, lower, EIGHT(LOWER, 0, step, 16), EIGHT(LOWER, 8, step, 16));             \
    } while (0)

static inline uint32_t load(const uint8_t *bytes)
{
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    return le32toh(word);
}

/* Replaces the eight words of a node by those that follow from its next block. */
static void compress(uint32_t node[8], const uint8_t *block, uint32_t bytes, uint32_t counter, uint32_t flags)
{
    uint32_t m[16], s[16];
    for (int i = 0; i < 16; i++)
        m[i] = load(block + 4 * i);
    for (int i = 0; i < 8; i++)
        s[i] = node[i];
    for (int i = 0; i < 4; i++)
        s[8 + i] = start_words[i];
    s[12] = counter;
    s[13] = 0;
    s[14] = bytes;
    s[15] = flags;
    ALL_ROUNDS(s, m);
    for (int i = 0; i < 8; i++)
        node[i] = s[i] ^ s[8 + i];
}

#define TOGETHER compress_8
#define LANES 8
#define TARGET
#include "hash_lanes.h"

#if defined(__x86_64__)
#define TOGETHER compress_8_avx2
#define LANES 8
#define TARGET __attribute__((target("avx2")))
#include "hash_lanes.h"

#define TOGETHER compress_8_avx512
#define LANES 8
#define TARGET __attribute__((target("avx2,avx512f,avx512vl")))
#include "hash_lanes.h"

#define TOGETHER compress_16_avx512
#define LANES 16
#define TARGET __attribute__((target("avx2,avx512f,avx512vl")))
#include "hash_lanes.h"
#endif

/* Computes the nodes of `count` inputs of as many whole blocks each, which lie side by side. */
static void compress_all(const uint8_t *input, size_t count, size_t blocks, uint32_t counts, uint32_t first,
                         uint32_t every, uint32_t last, uint32_t nodes[][8])
{
    for (size_t at = 0, done; at < count; at += done, input += done * blocks * BLOCK_BYTES) {
        size_t left = count - at;
        uint32_t counter = counts * (uint32_t)at;
        done = left < 8 ? left : 8;
#if defined(__x86_64__)
        if (__builtin_cpu_supports("avx512vl")) {
            if (left > 8) {
                done = left < LANES_MAX ? left : LANES_MAX;
                compress_16_avx512(input, done, blocks, counter, counts, first, every, last, nodes + at);
            } else {
                compress_8_avx512(input, done, blocks, counter, counts, first, every, last, nodes + at);
            }
            continue;
        }
        if (__builtin_cpu_supports("avx2")) {
            compress_8_avx2(input, done, blocks, counter, counts, first, every, last, nodes + at);
            continue;
        }
#endif
        compress_8(input, done, blocks, counter, counts, first, every, last, nodes + at);
    }
}

/* Computes the node of one piece that may end within a block; `every`: flags of each of its blocks. */
static void hash_piece_from(const uint32_t start[8], const uint8_t *input, size_t bytes, uint32_t counter, uint32_t every,
                            uint32_t root, uint32_t node[8])
{
    memcpy(node, start, sizeof start_words);
    uint32_t flags = every | PIECE_START;
    for (; bytes > BLOCK_BYTES; input += BLOCK_BYTES, bytes -= BLOCK_BYTES, flags = every)
        compress(node, input, (uint32_t)BLOCK_BYTES, counter, flags);
    uint8_t block[BLOCK_BYTES] = {0};
    if (bytes)
        memcpy(block, input, bytes);
    compress(node, block, (uint32_t)bytes, counter, flags | PIECE_END | root);
}

static void hash_piece(const uint8_t *input, size_t bytes, uint32_t counter, uint32_t root, uint32_t node[8])
{
    hash_piece_from(start_words, input, bytes, counter, 0, root, node);
}

static void store(const uint32_t node[8], uint8_t *bytes)
{
    for (int i = 0; i < 8; i++) {
        uint32_t word = htole32(node[i]);
        memcpy(bytes + 4 * i, &word, sizeof word);
    }
}

void hash_bytes(const uint8_t *input, size_t bytes, uint8_t hash[HASH_BYTES])
{
    uint32_t nodes[PIECES_MAX][8];
    if (bytes <= PIECE_BYTES) {
        hash_piece(input, bytes, 0, ROOT, nodes[0]);
        store(nodes[0], hash);
        return;
    }
    size_t count = bytes / PIECE_BYTES;
    compress_all(input, count, PIECE_BYTES / BLOCK_BYTES, 1, PIECE_START, 0, PIECE_END, nodes);
    if (bytes % PIECE_BYTES) {
        hash_piece(input + count * PIECE_BYTES, bytes % PIECE_BYTES, (uint32_t)count, 0, nodes[count]);
        count++;
    }
    uint8_t pairs[PIECES_MAX][HASH_BYTES];
    for (;;) {
        for (size_t i = 0; i < count; i++)
            store(nodes[i], pairs[i]);
        if (count == 2)
            break;
        compress_all(pairs[0], count / 2, 1, 0, 0, PARENT, 0, nodes);
        /* One without a partner goes up a level as it is. */
        if (count % 2)
            memcpy(nodes[count / 2], nodes[count - 1], sizeof nodes[0]);
        count = count / 2 + count % 2;
    }
    memcpy(nodes[0], start_words, sizeof start_words);
    compress(nodes[0], pairs[0], (uint32_t)BLOCK_BYTES, 0, PARENT | ROOT);
    store(nodes[0], hash);
}

void hash_node(const uint8_t *node, size_t bytes, uint8_t id[HASH_BYTES])
{
    uint32_t key[8], words[8];
    hash_piece_from(start_words, (const uint8_t *)NODE_CONTEXT, sizeof NODE_CONTEXT - 1, 0, CONTEXT, ROOT, key);
    hash_piece_from(key, node, bytes, 0, IN_CONTEXT, ROOT, words);
    store(words, id);
}
