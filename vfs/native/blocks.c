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

/* A block of a READ: of `count` of its chunks, the first being `pieces[0]`. Its bytes are in memory, or kept. */
struct read_block {
    const struct session_piece *pieces;
    const uint8_t *packed;
    struct kept_block *kept;
    uint32_t first, count;
    bool is_whole;
};

struct workspace {
    uint8_t *packed, *plain;
    struct read_block blocks[SESSION_READ_PIECES];
    /* Under the lock of `kept`, since threads share them. */
    size_t plain_used;
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
    if (space->packed && space->plain)
        return space;
    workspace_free(space);
    return NULL;
}

void workspace_free(struct workspace *space)
{
    free(space->packed);
    free(space->plain);
    free(space);
}

bool context_new(void **context)
{
    *context = zstd.unpack ? zstd.make() : NULL;
    return *context || !zstd.unpack;
}

void context_free(void *context)
{
    if (context)
        zstd.free(context);
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
    pthread_mutex_lock(&kept.lock);
    space->plain_used = 0;
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

/* Returns room for `bytes` of a READ; NULL if it is used up. */
static uint8_t *take_plain(struct workspace *space, size_t bytes)
{
    uint8_t *found = NULL;
    pthread_mutex_lock(&kept.lock);
    if (bytes <= READ_PLAIN_MAX - space->plain_used) {
        found = space->plain + space->plain_used;
        space->plain_used += bytes;
    }
    pthread_mutex_unlock(&kept.lock);
    return found;
}

/* Finds the chunks of a block that is decompressed. */
static bool find_chunks(const struct read_block *block, const uint8_t *bytes, const struct header *header,
                        const uint8_t *plain, const uint8_t **found)
{
    for (uint32_t at = 0; at < block->count; at++) {
        found[block->first + at] = checked(bytes, header, plain, &block->pieces[at]);
        if (!found[block->first + at])
            return false;
    }
    return true;
}

/* One whose chunk is wrong is not found again: the block may have been fetched anew. */
static bool unpack_kept(const struct read_block *block, struct kept_block *from, const uint8_t **found)
{
    struct header header;
    if (read_header(from->bytes, from->block_bytes, &header) &&
        find_chunks(block, from->bytes, &header, from->bytes + header.bytes, found))
        return true;
    pthread_mutex_lock(&kept.lock);
    from->is_filled = false;
    pthread_mutex_unlock(&kept.lock);
    return false;
}

bool blocks_unpack(struct workspace *space, void *context, uint32_t number, const uint8_t **found)
{
    const struct read_block *block = &space->blocks[number];
    if (block->kept)
        return unpack_kept(block, block->kept, found);
    struct header header;
    if (!read_header(block->packed, block->pieces->block_bytes, &header))
        return false;
    const uint8_t *stored = block->packed + header.bytes;
    if (header.codec == RAW)
        return find_chunks(block, block->packed, &header, stored, found);
    struct kept_block *room = NULL;
    if (!block->is_whole || header.count > 1) {
        /* The READ before this one may have kept it since the blocks were read. */
        struct kept_block *other = find_kept(space, block->pieces);
        if (other)
            return unpack_kept(block, other, found);
        room = take_room(space);
    }
    uint8_t *plain = room ? room->bytes + header.bytes : take_plain(space, header.plain);
    if (!plain || !zstd.unpack || zstd.unpack(context, plain, header.plain, stored, header.stored) != header.plain ||
        !find_chunks(block, block->packed, &header, plain, found))
        return false;
    if (room) {
        memcpy(room->bytes, block->packed, header.bytes);
        keep(room, block->pieces);
    }
    return true;
}

static bool is_same_block(const struct session_piece *one, const struct session_piece *other)
{
    return one->descriptor == other->descriptor && one->pack == other->pack && one->offset == other->offset &&
           one->block_bytes == other->block_bytes;
}

/* Whether a block lies behind another one in the same file, and neither of them in two parts. */
static bool is_adjacent(const struct session_piece *one, const struct session_piece *next)
{
    return one->descriptor == next->descriptor && one->offset + one->block_bytes == next->offset && !one->rest_bytes &&
           !next->rest_bytes;
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

/* Reads the blocks that are not kept, those that follow one another at once. */
static bool read_blocks(struct workspace *space, uint32_t count)
{
    uint8_t *packed = space->packed;
    for (uint32_t at = 0, end; at < count; at = end) {
        struct read_block *blocks = space->blocks;
        size_t bytes = 0, room = READ_PACKED_MAX - (size_t)(packed - space->packed);
        for (end = at; end < count && !blocks[end].kept; end++) {
            size_t next = blocks[end].pieces->block_bytes;
            if (next > room - bytes || (end > at && !is_adjacent(blocks[end - 1].pieces, blocks[end].pieces)))
                break;
            blocks[end].packed = packed + bytes;
            bytes += next;
        }
        if (end == at && blocks[at].kept)
            end++;
        else if (end == at || !read_packed(blocks[at].pieces, packed, bytes))
            return false;
        packed += bytes;
    }
    return true;
}

uint32_t blocks_read(struct workspace *space, const struct session_piece *pieces, uint32_t count, const bool is_whole[2])
{
    uint32_t blocks = 0;
    for (uint32_t at = 0; at < count; at++) {
        bool is_all = (at || is_whole[0]) && (at < count - 1 || is_whole[1]);
        if (at && is_same_block(&pieces[at - 1], &pieces[at])) {
            space->blocks[blocks - 1].count++;
            continue;
        }
        struct kept_block *found = find_kept(space, &pieces[at]);
        space->blocks[blocks++] = (struct read_block){&pieces[at], NULL, found, at, 1, is_all};
    }
    return read_blocks(space, blocks) ? blocks : 0;
}
