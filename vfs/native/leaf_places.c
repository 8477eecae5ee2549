#include "leaf_places.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "entries.h"
#include "hash.h"

/* A row of the index: a checksum, which the chunk's own hash replaces, the pack, the block, the object's size and type
 * (docs/format.md, "Index"). */
#define ROW_BYTES 21u
#define ROW_AT 4u
#define TYPE_CHUNK 1u

#define PACKS 256u
#define NO_PACK UINT32_MAX

struct piece {
    uint64_t offset;
    uint32_t block_bytes, bytes, pack;
    uint8_t id[HASH_BYTES];
};

struct leaf_places {
    uint32_t count, pieces;
    /* Of each entry, where its pieces end, and the pieces. */
    uint32_t *ends;
    struct piece all[];
};

/* Packs that are open for places, and how many pieces lie in each. One that is free has none. */
static struct {
    uint32_t number, users;
    int descriptor;
} packs[PACKS];

struct leaf_places *leaf_places_new(const struct entries *entries, uint8_t *ids, uint32_t *id_count)
{
    static struct chunk all[SESSION_LEAF_CHUNKS];
    static uint32_t ends[ENTRIES_MAX];
    uint32_t list = 0, count = 0;
    struct entry entry;
    for (uint32_t at = 0; at < entries->count; at++) {
        uint32_t room = SESSION_LEAF_CHUNKS - count;
        ends[at] = count;
        if (!small_file_at(entries, at, &entry))
            continue;
        if (entry.form == FORM_LIST) {
            uint32_t found;
            const struct chunk *chunks = leaf_lists_chunks(list++, entry.content, &found);
            if (found && found <= room) {
                memcpy(all + count, chunks, found * sizeof *chunks);
                count += found;
            }
        } else if (room) {
            all[count].bytes = (uint32_t)entry.size;
            memcpy(all[count++].id, entry.content, HASH_BYTES);
        }
        ends[at] = count;
    }
    size_t pieces_bytes = count * sizeof(struct piece);
    struct leaf_places *places =
        count ? malloc(sizeof *places + pieces_bytes + entries->count * sizeof ends[0]) : NULL;
    if (!places)
        return NULL;
    places->count = entries->count;
    places->pieces = count;
    places->ends = (uint32_t *)(places->all + count);
    memcpy(places->ends, ends, entries->count * sizeof ends[0]);
    for (uint32_t at = 0; at < count; at++) {
        places->all[at] = (struct piece){.bytes = all[at].bytes, .pack = NO_PACK};
        memcpy(places->all[at].id, all[at].id, HASH_BYTES);
        memcpy(ids + HASH_BYTES * at, all[at].id, HASH_BYTES);
    }
    *id_count = count;
    return places;
}

void leaf_places_keep_lists(const struct leaf_places *places, const struct entries *entries)
{
    uint32_t list = 0;
    struct entry entry;
    for (uint32_t at = 0; at < entries->count; at++) {
        if (!small_file_at(entries, at, &entry) || entry.form != FORM_LIST)
            continue;
        for (uint32_t piece = at ? places->ends[at - 1] : 0; piece < places->ends[at]; piece++)
            leaf_lists_add(list, places->all[piece].id, places->all[piece].bytes);
        list++;
    }
}

static uint32_t number_at(const uint8_t *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* Returns the place of a pack that is open, PACKS if none is; opens it if there is room. */
static uint32_t open_pack(uint32_t number, const struct session_pack *given, uint32_t given_count)
{
    uint32_t free_one = PACKS, from = 0;
    for (uint32_t pack = 0; pack < PACKS; pack++) {
        if (packs[pack].users && packs[pack].number == number)
            return pack;
        if (!packs[pack].users && free_one == PACKS)
            free_one = pack;
    }
    while (from < given_count && given[from].number != number)
        from++;
    if (free_one == PACKS || from == given_count)
        return PACKS;
    packs[free_one].descriptor = fcntl(given[from].descriptor, F_DUPFD_CLOEXEC, 0);
    if (packs[free_one].descriptor < 0)
        return PACKS;
    packs[free_one].number = number;
    return free_one;
}

bool leaf_places_locate(struct leaf_places *places, uint32_t entries, const uint8_t *rows, uint32_t row_count,
                        const struct session_pack *given, uint32_t given_count)
{
    if (entries != places->count || row_count != places->pieces)
        return false;
    uint32_t pack = PACKS;
    for (uint32_t at = 0; at < places->pieces; at++) {
        const uint8_t *row = rows + ROW_BYTES * at + ROW_AT;
        struct piece *piece = &places->all[at];
        /* Of an object that is missing all is 0. */
        if (number_at(row + 12) != piece->bytes || row[16] != TYPE_CHUNK)
            continue;
        if (pack == PACKS || packs[pack].number != number_at(row))
            pack = open_pack(number_at(row), given, given_count);
        if (pack == PACKS)
            continue;
        packs[pack].users++;
        piece->pack = pack;
        piece->offset = number_at(row + 4);
        piece->block_bytes = number_at(row + 8);
    }
    return true;
}

void leaf_places_free(struct leaf_places *places)
{
    for (uint32_t at = 0; places && at < places->pieces; at++) {
        uint32_t pack = places->all[at].pack;
        if (pack != NO_PACK && !--packs[pack].users)
            close(packs[pack].descriptor);
    }
    free(places);
}

size_t leaf_places_bytes(const struct leaf_places *places)
{
    return sizeof *places + places->pieces * sizeof places->all[0] + places->count * sizeof places->ends[0];
}

bool leaf_places_get(const struct leaf_places *places, uint32_t at, struct session_place *place)
{
    uint32_t first = at ? places->ends[at - 1] : 0;
    place->start = place->size = place->is_kept = 0;
    place->count = places->ends[at] - first;
    if (!place->count || place->count > SESSION_PIECES)
        return false;
    for (uint32_t piece = 0; piece < place->count; piece++) {
        const struct piece *from = &places->all[first + piece];
        if (from->pack == NO_PACK)
            return false;
        place->pieces[piece] = (struct session_piece){
            .offset = from->offset,
            .block_bytes = from->block_bytes,
            .bytes = from->bytes,
            .pack = packs[from->pack].number,
            .descriptor = packs[from->pack].descriptor,
        };
        memcpy(place->pieces[piece].id, from->id, HASH_BYTES);
        place->size += from->bytes;
    }
    return true;
}

bool leaf_places_are_of_removed_packs(void)
{
    struct stat found;
    for (uint32_t pack = 0; pack < PACKS; pack++)
        if (packs[pack].users && (fstat(packs[pack].descriptor, &found) || !found.st_nlink))
            return true;
    return false;
}
