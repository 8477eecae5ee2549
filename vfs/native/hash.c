/* BLAKE3, as its paper describes it: a tree over pieces of 1,024 bytes, eight of whose nodes are computed side by side.
 *
 * The compiler makes vector instructions of arrays of eight words, for the best instruction set of the processor.
 */

#include "hash.h"

#include <endian.h>
#include <stdbool.h>
#include <string.h>

#define PIECE_BYTES ((size_t)1024)
#define BLOCK_BYTES ((size_t)64)
#define LANES 8
#define PIECES_MAX (HASH_INPUT_MAX / PIECE_BYTES)

#define PIECE_START 1u
#define PIECE_END 2u
#define PARENT 4u
#define ROOT 8u

#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
#define FOR_ALL_PROCESSORS __attribute__((target_clones("avx2", "default")))
#else
#define FOR_ALL_PROCESSORS
#endif

typedef uint32_t words __attribute__((vector_size(4 * LANES)));

static const uint32_t start_words[8] = {
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
};

static const uint8_t schedule[7][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8},
    {3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1},
    {10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6},
    {12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4},
    {9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7},
    {11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13},
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
#define MIX_ALL(s, m, order)                                                                                           \
    do {                                                                                                               \
        MIX(s, 0, 4, 8, 12, m[order[0]], m[order[1]]);                                                                 \
        MIX(s, 1, 5, 9, 13, m[order[2]], m[order[3]]);                                                                 \
        MIX(s, 2, 6, 10, 14, m[order[4]], m[order[5]]);                                                                \
        MIX(s, 3, 7, 11, 15, m[order[6]], m[order[7]]);                                                                \
        MIX(s, 0, 5, 10, 15, m[order[8]], m[order[9]]);                                                                \
        MIX(s, 1, 6, 11, 12, m[order[10]], m[order[11]]);                                                              \
        MIX(s, 2, 7, 8, 13, m[order[12]], m[order[13]]);                                                               \
        MIX(s, 3, 4, 9, 14, m[order[14]], m[order[15]]);                                                               \
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
    for (int round = 0; round < 7; round++)
        MIX_ALL(s, m, schedule[round]);
    for (int i = 0; i < 8; i++)
        node[i] = s[i] ^ s[8 + i];
}

/* Computes the nodes of `count` inputs, 1 to LANES, of as many whole blocks each, which lie side by side. */
FOR_ALL_PROCESSORS
static void compress_together(const uint8_t *input, size_t count, size_t blocks, uint32_t counter, uint32_t counts,
                              uint32_t first, uint32_t every, uint32_t last, uint32_t nodes[][8])
{
    words node[8], m[16], s[16], number = {0};
    for (int i = 0; i < 8; i++)
        node[i] = start_words[i] - (words){0};
    for (uint32_t lane = 0; lane < LANES; lane++)
        number[lane] = counter + counts * lane;
    for (size_t block = 0; block < blocks; block++) {
        uint32_t flags = every | (block == 0 ? first : 0) | (block == blocks - 1 ? last : 0);
        for (size_t lane = 0; lane < LANES; lane++) {
            /* Lanes too many repeat the last input. */
            const uint8_t *from = input + ((lane < count ? lane : count - 1) * blocks + block) * BLOCK_BYTES;
            for (int i = 0; i < 16; i++)
                m[i][lane] = load(from + 4 * i);
        }
        for (int i = 0; i < 8; i++)
            s[i] = node[i];
        for (int i = 0; i < 4; i++)
            s[8 + i] = start_words[i] - (words){0};
        s[12] = number;
        s[13] = (words){0};
        s[14] = (uint32_t)BLOCK_BYTES - (words){0};
        s[15] = flags - (words){0};
        for (int round = 0; round < 7; round++)
            MIX_ALL(s, m, schedule[round]);
        for (int i = 0; i < 8; i++)
            node[i] = s[i] ^ s[8 + i];
    }
    for (size_t lane = 0; lane < count; lane++)
        for (int i = 0; i < 8; i++)
            nodes[lane][i] = node[i][lane];
}

/* Computes the node of one piece that may end within a block. */
static void hash_piece(const uint8_t *input, size_t bytes, uint32_t counter, uint32_t root, uint32_t node[8])
{
    memcpy(node, start_words, sizeof start_words);
    uint32_t flags = PIECE_START;
    for (; bytes > BLOCK_BYTES; input += BLOCK_BYTES, bytes -= BLOCK_BYTES, flags = 0)
        compress(node, input, (uint32_t)BLOCK_BYTES, counter, flags);
    uint8_t block[BLOCK_BYTES] = {0};
    if (bytes)
        memcpy(block, input, bytes);
    compress(node, block, (uint32_t)bytes, counter, flags | PIECE_END | root);
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
    size_t count = 0;
    for (size_t whole = bytes / PIECE_BYTES, done; count < whole; count += done) {
        done = whole - count < LANES ? whole - count : LANES;
        compress_together(input + count * PIECE_BYTES, done, PIECE_BYTES / BLOCK_BYTES, (uint32_t)count, 1, PIECE_START,
                          0, PIECE_END, nodes + count);
    }
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
        for (size_t at = 0, done; at < count / 2; at += done) {
            done = count / 2 - at < LANES ? count / 2 - at : LANES;
            compress_together(pairs[2 * at], done, 1, 0, 0, 0, PARENT, 0, nodes + at);
        }
        /* One without a partner goes up a level as it is. */
        if (count % 2)
            memcpy(nodes[count / 2], nodes[count - 1], sizeof nodes[0]);
        count = count / 2 + count % 2;
    }
    memcpy(nodes[0], start_words, sizeof start_words);
    compress(nodes[0], pairs[0], (uint32_t)BLOCK_BYTES, 0, PARENT | ROOT);
    store(nodes[0], hash);
}
