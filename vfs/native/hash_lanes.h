/* A part of hash.c, included once for each set of instructions: TOGETHER is the function, LANES how many nodes it
 * computes side by side, TARGET the attribute that names the instructions. */

#define JOINED(name, lanes) name##lanes
#define NAMED(name, lanes) JOINED(name, lanes)
#define WORDS NAMED(words_, TOGETHER)

typedef uint32_t WORDS __attribute__((vector_size(4 * LANES)));

/* Computes the nodes of `count` inputs, 1 to LANES, of as many whole blocks each, which lie side by side. */
TARGET static void TOGETHER(const uint8_t *input, size_t count, size_t blocks, uint32_t counter, uint32_t counts,
                            uint32_t first, uint32_t every, uint32_t last, uint32_t nodes[][8])
{
    WORDS node[8], m[16], s[16], number = {0};
    for (int i = 0; i < 8; i++)
        node[i] = start_words[i] - (WORDS){0};
    for (uint32_t lane = 0; lane < LANES; lane++)
        number[lane] = counter + counts * lane;
    for (size_t block = 0; block < blocks; block++) {
        uint32_t flags = every | (block == 0 ? first : 0) | (block == blocks - 1 ? last : 0);
        const uint8_t *from = input + block * BLOCK_BYTES;
        /* Lanes too many repeat the last input. */
        size_t step = blocks * BLOCK_BYTES;
#if CAN_TRANSPOSE && LANES == 16
        for (size_t lane = 0; lane < 16; lane++)
            memcpy(&m[lane], from + (lane < count ? lane : count - 1) * step, sizeof m[lane]);
        for (int i = 0; i < 16; i += 2)
            SWAP_16(m[i], m[i + 1], 1);
        for (int i = 0; i < 16; i += i % 4 == 1 ? 3 : 1)
            SWAP_16(m[i], m[i + 2], 2);
        for (int i = 0; i < 16; i += i % 8 == 3 ? 5 : 1)
            SWAP_16(m[i], m[i + 4], 4);
        for (int i = 0; i < 8; i++)
            SWAP_16(m[i], m[i + 8], 8);
#elif CAN_TRANSPOSE
        for (size_t lane = 0; lane < 8; lane++) {
            memcpy(&m[lane], from + (lane < count ? lane : count - 1) * step, sizeof m[lane]);
            memcpy(&m[8 + lane], from + (lane < count ? lane : count - 1) * step + sizeof m[lane], sizeof m[lane]);
        }
        for (int half = 0; half < 16; half += 8) {
            for (int i = half; i < half + 8; i += 2)
                SWAP_8(m[i], m[i + 1], 1);
            for (int i = half; i < half + 8; i += i % 4 == 1 ? 3 : 1)
                SWAP_8(m[i], m[i + 2], 2);
            for (int i = half; i < half + 4; i++)
                SWAP_8(m[i], m[i + 4], 4);
        }
#else
        for (size_t lane = 0; lane < LANES; lane++)
            for (int i = 0; i < 16; i++)
                m[i][lane] = load(from + (lane < count ? lane : count - 1) * step + 4 * i);
#endif
        for (int i = 0; i < 8; i++)
            s[i] = node[i];
        for (int i = 0; i < 4; i++)
            s[8 + i] = start_words[i] - (WORDS){0};
        s[12] = number;
        s[13] = (WORDS){0};
        s[14] = (uint32_t)BLOCK_BYTES - (WORDS){0};
        s[15] = flags - (WORDS){0};
        ALL_ROUNDS(s, m);
        for (int i = 0; i < 8; i++)
            node[i] = s[i] ^ s[8 + i];
    }
    for (size_t lane = 0; lane < count; lane++)
        for (int i = 0; i < 8; i++)
            nodes[lane][i] = node[i][lane];
}

#undef JOINED
#undef NAMED
#undef WORDS
#undef TOGETHER
#undef LANES
#undef TARGET
