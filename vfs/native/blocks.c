#include "blocks.h"

#include <dlfcn.h>
#include <endian.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hash.h"

#define HEAD_BYTES ((size_t)20)
#define RECORD_BYTES ((size_t)37)
#define SINGLE_BYTES (HEAD_BYTES + RECORD_BYTES)
#define RAW 0
#define ZSTD 1
#define CHUNK 1
#define MAGIC "VBK1"

/* Blocks of several chunks, and those of which a READ has answered a part, are wanted again soon: by readahead of the
 * same file, or of its neighbours. */
#define KEPT_BLOCKS 16
#define KEPT_BYTES (BLOCK_BYTES_MAX + BLOCK_PLAIN_MAX)
#define HELD_MAX 8

typedef void *make_context(void);
typedef size_t free_context(void *);
typedef size_t unpack(void *, void *, size_t, const void *, size_t);

static struct {
    make_context *make;
    free_context *free;
    unpack *unpack;
} zstd;

/* A decompressed block: its header, and behind it its objects. */
struct kept_block {
    uint8_t *bytes;
    uint64_t offset, used;
    uint32_t pack, block_bytes, users;
    bool is_filled;
};

static struct {
    pthread_mutex_t lock;
    struct kept_block blocks[KEPT_BLOCKS];
    uint64_t clock;
} kept = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct workspace {
    uint8_t *packed, *plain;
    size_t plain_used;
    void *context;
    struct kept_block *held[HELD_MAX];
    unsigned held_count;
};

struct header {
    uint32_t codec, count, stored, plain;
    size_t bytes;
};

bool blocks_load(void)
{
    if (zstd.unpack)
        return true;
    void *library = dlopen("libzstd.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return false;
    zstd.make = (make_context *)(uintptr_t)dlsym(library, "ZSTD_createDCtx");
    zstd.free = (free_context *)(uintptr_t)dlsym(library, "ZSTD_freeDCtx");
    unpack *found = (unpack *)(uintptr_t)dlsym(library, "ZSTD_decompressDCtx");
    if (zstd.make && zstd.free)
        zstd.unpack = found;
    return zstd.unpack != NULL;
}

bool blocks_can_read(const struct session_piece *piece)
{
    if (!piece->bytes || piece->bytes > BLOCK_PLAIN_MAX || piece->block_bytes > BLOCK_BYTES_MAX)
        return false;
    return zstd.unpack || piece->block_bytes == SINGLE_BYTES + piece->bytes;
}

struct workspace *workspace_new(void)
{
    struct workspace *space = calloc(1, sizeof *space);
    if (!space)
        return NULL;
    space->packed = malloc(READ_PACKED_MAX);
    space->plain = malloc(READ_PLAIN_MAX);
    space->context = zstd.unpack ? zstd.make() : NULL;
    if (space->packed && space->plain && (space->context || !zstd.unpack))
        return space;
    workspace_free(space);
    return NULL;
}

void workspace_free(struct workspace *space)
{
    if (space->context)
        zstd.free(space->context);
    free(space->packed);
    free(space->plain);
    free(space);
}

static uint32_t number_at(const uint8_t *bytes)
{
    uint32_t number;
    memcpy(&number, bytes, sizeof number);
    return le32toh(number);
}

/* Reads a header whose lengths fit the block. Its checksum is not needed: what is answered has its id. */
static bool read_header(const uint8_t *block, size_t bytes, struct header *header)
{
    if (bytes < SINGLE_BYTES || memcmp(block, MAGIC, strlen(MAGIC)))
        return false;
    header->codec = block[4];
    header->count = (uint32_t)(block[6] | block[7] << 8);
    header->stored = number_at(block + 8);
    header->plain = number_at(block + 12);
    header->bytes = HEAD_BYTES + header->count * RECORD_BYTES;
    return header->bytes <= bytes && header->stored == bytes - header->bytes && header->plain <= BLOCK_PLAIN_MAX &&
           (header->codec == ZSTD || (header->codec == RAW && header->stored == header->plain));
}

/* Returns a chunk's bytes among those of its block; NULL if they are not there, or have another id. */
static const uint8_t *checked(const uint8_t *block, const struct header *header, const uint8_t *plain,
                              const struct session_piece *piece)
{
    size_t at = 0;
    for (uint32_t number = 0; number < header->count; number++) {
        const uint8_t *record = block + HEAD_BYTES + number * RECORD_BYTES;
        uint32_t size = number_at(record + 1);
        if (size > header->plain - at)
            return NULL;
        if (size == piece->bytes && record[0] == CHUNK && !memcmp(record + 5, piece->id, HASH_BYTES)) {
            uint8_t hash[HASH_BYTES];
            hash_bytes(plain + at, size, hash);
            return memcmp(hash, piece->id, HASH_BYTES) ? NULL : plain + at;
        }
        at += size;
    }
    return NULL;
}

/* Returns a block that is kept, for this thread to use until `blocks_release`; NULL if it is not. */
static struct kept_block *find_kept(struct workspace *space, const struct session_piece *piece)
{
    struct kept_block *found = NULL;
    pthread_mutex_lock(&kept.lock);
    for (unsigned at = 0; at < KEPT_BLOCKS && !found && space->held_count < HELD_MAX; at++) {
        struct kept_block *one = &kept.blocks[at];
        if (one->is_filled && one->offset == piece->offset && one->pack == piece->pack &&
            one->block_bytes == piece->block_bytes)
            found = one;
    }
    if (found) {
        found->users++;
        found->used = ++kept.clock;
        space->held[space->held_count++] = found;
    }
    pthread_mutex_unlock(&kept.lock);
    return found;
}

/* Returns room for a block, as `find_kept` does; the block that was used longest ago leaves. NULL if there is none. */
static struct kept_block *take_room(struct workspace *space)
{
    struct kept_block *found = NULL;
    pthread_mutex_lock(&kept.lock);
    for (unsigned at = 0; at < KEPT_BLOCKS && space->held_count < HELD_MAX; at++) {
        struct kept_block *one = &kept.blocks[at];
        if (!one->users && (!found || one->used < found->used))
            found = one;
    }
    if (found && !found->bytes)
        found->bytes = malloc(KEPT_BYTES);
    if (found && !found->bytes)
        found = NULL;
    if (found) {
        found->is_filled = false;
        found->users = 1;
        space->held[space->held_count++] = found;
    }
    pthread_mutex_unlock(&kept.lock);
    return found;
}

static void keep(struct kept_block *filled, const struct session_piece *piece)
{
    pthread_mutex_lock(&kept.lock);
    filled->offset = piece->offset;
    filled->pack = piece->pack;
    filled->block_bytes = piece->block_bytes;
    filled->used = ++kept.clock;
    filled->is_filled = true;
    pthread_mutex_unlock(&kept.lock);
}

void blocks_release(struct workspace *space)
{
    space->plain_used = 0;
    if (!space->held_count)
        return;
    pthread_mutex_lock(&kept.lock);
    while (space->held_count)
        space->held[--space->held_count]->users--;
    pthread_mutex_unlock(&kept.lock);
}

void blocks_drop(void)
{
    pthread_mutex_lock(&kept.lock);
    for (unsigned at = 0; at < KEPT_BLOCKS; at++) {
        free(kept.blocks[at].bytes);
        kept.blocks[at] = (struct kept_block){0};
    }
    pthread_mutex_unlock(&kept.lock);
}

static const uint8_t *from_kept(struct workspace *space, const struct session_piece *piece)
{
    const struct kept_block *block = find_kept(space, piece);
    struct header header;
    if (!block || !read_header(block->bytes, block->block_bytes, &header))
        return NULL;
    return checked(block->bytes, &header, block->bytes + header.bytes, piece);
}

/* Returns the bytes of a chunk whose block was read; NULL if it is damaged. */
static const uint8_t *from_block(struct workspace *space, const uint8_t *block, const struct session_piece *piece,
                                 bool is_whole)
{
    struct header header;
    if (!read_header(block, piece->block_bytes, &header))
        return NULL;
    const uint8_t *stored = block + header.bytes;
    if (header.codec == RAW)
        return checked(block, &header, stored, piece);
    struct kept_block *room = NULL;
    if (!is_whole || header.count > 1)
        room = take_room(space);
    uint8_t *plain = room ? room->bytes + header.bytes : space->plain + space->plain_used;
    size_t most = room ? BLOCK_PLAIN_MAX : READ_PLAIN_MAX - space->plain_used;
    if (header.plain > most || !zstd.unpack ||
        zstd.unpack(space->context, plain, header.plain, stored, header.stored) != header.plain)
        return NULL;
    const uint8_t *found = checked(block, &header, plain, piece);
    if (!room) {
        space->plain_used += header.plain;
    } else if (found) {
        memcpy(room->bytes, block, header.bytes);
        keep(room, piece);
    }
    return found;
}

/* Returns how many chunks lie in blocks that follow one another in one pack, as far as there is room for them. */
static uint32_t adjacent(const struct session_piece *pieces, uint32_t count, size_t room, size_t *bytes)
{
    uint32_t found = 0;
    for (*bytes = 0; found < count && pieces[found].block_bytes <= room - *bytes; found++) {
        if (found && (pieces[found].descriptor != pieces->descriptor || pieces[found].offset != pieces->offset + *bytes ||
                      pieces[found].rest_bytes || pieces->rest_bytes))
            break;
        *bytes += pieces[found].block_bytes;
    }
    return found;
}

static bool read_at(int descriptor, uint8_t *bytes, size_t count, uint64_t offset)
{
    return pread(descriptor, bytes, count, (off_t)offset) == (ssize_t)count;
}

/* Reads blocks that follow one another, or one of two parts. */
static bool read_packed(const struct session_piece *first, uint8_t *packed, size_t bytes)
{
    size_t rest = first->rest_bytes;
    return rest < bytes && read_at(first->descriptor, packed, bytes - rest, first->offset) &&
           (!rest || read_at(first->descriptor, packed + bytes - rest, rest, first->rest_offset));
}

bool blocks_read(struct workspace *space, const struct session_piece *pieces, uint32_t count, const bool is_whole[2],
                 const uint8_t **found)
{
    uint8_t *packed = space->packed;
    for (uint32_t at = 0; at < count;) {
        found[at] = from_kept(space, &pieces[at]);
        if (found[at]) {
            at++;
            continue;
        }
        size_t bytes;
        uint32_t end = at + adjacent(&pieces[at], count - at, READ_PACKED_MAX - (size_t)(packed - space->packed), &bytes);
        if (end == at || !read_packed(&pieces[at], packed, bytes))
            return false;
        for (; at < end; packed += pieces[at++].block_bytes) {
            bool is_all = (at || is_whole[0]) && (at < count - 1 || is_whole[1]);
            found[at] = from_block(space, packed, &pieces[at], is_all);
            if (!found[at])
                return false;
        }
    }
    return true;
}
