#include "entries.h"

#include <string.h>
#include <sys/stat.h>

#include "hash.h"

/* As vfs/model/validation.py and vfs/model/objects.py have them. */
#define TARGET_BYTES_MAX 4095u
#define ATTRIBUTE_NAME_BYTES_MAX 255u
#define ATTRIBUTES_BYTES_MAX (64u * 1024)
#define ENTRY_FIELDS 15u
#define FORMS 4u
#define KINDS 7u
#define CHARACTER_DEVICE 6u
#define NODE_OF_ENTRIES 1u
#define NODE_OF_RUNS 3u
#define NODE_BYTES_MAX (1024u * 1024)

#define BLOCK_BYTES 512u
#define PREFERRED_BYTES 4096u
#define NS_A_SECOND 1000000000

/* A place in MessagePack, of which every value has to be in its shortest form. `is_wrong` stays set. */
struct reader {
    const uint8_t *at, *end;
    bool is_wrong;
};

struct text {
    const uint8_t *bytes;
    uint32_t count;
};

static uint64_t take(struct reader *from, unsigned bytes)
{
    uint64_t number = 0;
    if (from->is_wrong || (size_t)(from->end - from->at) < bytes) {
        from->is_wrong = true;
        return 0;
    }
    while (bytes--)
        number = number << 8 | *from->at++;
    return number;
}

/* A number of `bytes` bytes that does not fit into half of them. */
static uint64_t take_long(struct reader *from, unsigned bytes)
{
    uint64_t number = take(from, bytes);
    if (bytes == 1 ? number < 0x80 : !(number >> (bytes * 4)))
        from->is_wrong = true;
    return number;
}

static uint64_t take_number(struct reader *from, uint64_t most)
{
    uint64_t number = take(from, 1);
    if (number >= 0xcc && number <= 0xcf)
        number = take_long(from, 1u << (number - 0xcc));
    else if (number > 0x7f)
        from->is_wrong = true;
    if (number > most)
        from->is_wrong = true;
    return number;
}

/* Numbers above INT64_MAX are left to Python. */
static int64_t take_time(struct reader *from)
{
    if (from->at == from->end || *from->at <= 0x7f || (*from->at >= 0xcc && *from->at <= 0xcf))
        return (int64_t)take_number(from, INT64_MAX);
    uint64_t head = take(from, 1);
    if (head >= 0xe0)
        return (int64_t)head - 0x100;
    if (head < 0xd0 || head > 0xd3) {
        from->is_wrong = true;
        return 0;
    }
    unsigned bytes = 1u << (head - 0xd0);
    uint64_t number = take(from, bytes);
    unsigned shift = 64 - 8 * bytes;
    int64_t value = (int64_t)(number << shift) >> shift;
    if (bytes == 1 ? value >= -32 : value >= -((int64_t)1 << (bytes * 4 - 1)))
        from->is_wrong = true;
    return value;
}

static struct text take_text(struct reader *from, uint32_t most)
{
    struct text text = {from->at, 0};
    uint64_t head = take(from, 1), count = 0;
    if (head < 0xc4 || head > 0xc6) {
        from->is_wrong = true;
        return text;
    }
    unsigned bytes = 1u << (head - 0xc4);
    count = take(from, bytes);
    if ((bytes > 1 && !(count >> (bytes * 4))) || count > most || count > (size_t)(from->end - from->at))
        from->is_wrong = true;
    if (from->is_wrong)
        return text;
    text = (struct text){from->at, (uint32_t)count};
    from->at += count;
    return text;
}

static uint32_t take_array(struct reader *from)
{
    uint64_t head = take(from, 1), count = head & 0x0f;
    if (head == 0xdc || head == 0xdd)
        count = take(from, head == 0xdc ? 2 : 4);
    else if (head >> 4 != 0x9)
        from->is_wrong = true;
    if ((head == 0xdc && count < 16) || (head == 0xdd && count <= UINT16_MAX))
        from->is_wrong = true;
    return (uint32_t)count;
}

static int compare(struct text left, struct text right)
{
    int order = memcmp(left.bytes, right.bytes, left.count < right.count ? left.count : right.count);
    return order ? order : (left.count > right.count) - (left.count < right.count);
}

static bool has_nul(struct text text)
{
    return memchr(text.bytes, 0, text.count) != NULL;
}

static bool is_name(struct text name)
{
    return name.count && !has_nul(name) && !memchr(name.bytes, '/', name.count) &&
           !(name.bytes[0] == '.' && (name.count == 1 || (name.count == 2 && name.bytes[1] == '.')));
}

static void take_attributes(struct reader *from)
{
    struct text before = {NULL, 0};
    uint32_t count = take_array(from);
    size_t bytes = 0;
    for (uint32_t at = 0; at < count && !from->is_wrong; at++) {
        if (take_array(from) != 2)
            from->is_wrong = true;
        struct text name = take_text(from, ATTRIBUTE_NAME_BYTES_MAX);
        struct text value = take_text(from, ATTRIBUTES_BYTES_MAX);
        bytes += name.count + value.count;
        if (from->is_wrong || !name.count || has_nul(name) || (at && compare(before, name) >= 0) ||
            bytes > ATTRIBUTES_BYTES_MAX)
            from->is_wrong = true;
        before = name;
    }
}

static bool take_entry(struct reader *from, struct entry *entry)
{
    entry->bytes = from->at;
    if (take(from, 1) != (0x90 | ENTRY_FIELDS))
        return false;
    struct text name = take_text(from, ENTRY_NAME_BYTES_MAX);
    entry->name = name.bytes;
    entry->name_bytes = name.count;
    entry->kind = (uint32_t)take_number(from, KINDS);
    entry->mode = (uint32_t)take_number(from, 07777);
    entry->uid = (uint32_t)take_number(from, UINT32_MAX);
    entry->gid = (uint32_t)take_number(from, UINT32_MAX);
    entry->mtime_ns = take_time(from);
    entry->size = take_number(from, INT64_MAX);
    struct text content = take_text(from, TARGET_BYTES_MAX);
    uint64_t form = take_number(from, FORMS - 1);
    entry->content = content.bytes;
    entry->form = (uint32_t)form;
    struct text tiny = take_text(from, HASH_BYTES);
    entry->files = take_number(from, INT64_MAX);
    entry->hole_bytes = take_number(from, INT64_MAX);
    uint64_t device = take_number(from, INT64_MAX);
    uint64_t is_linked = take(from, 1);
    entry->is_linked = is_linked == 0xc3;
    take_attributes(from);
    if (from->is_wrong || !is_name(name) || !entry->kind || (is_linked & 0xfe) != 0xc2)
        return false;
    entry->count = (size_t)(from->at - entry->bytes);
    if ((entry->kind != ENTRY_DIRECTORY && (tiny.count || entry->files)) || (device && entry->kind < CHARACTER_DEVICE))
        return false;
    if (entry->kind == ENTRY_FILE)
        return form ? content.count == HASH_BYTES && entry->size && (!entry->hole_bytes || form == FORM_LIST) &&
                          entry->hole_bytes <= entry->size
                    : !content.count && !entry->size && !entry->hole_bytes;
    if (form || entry->hole_bytes)
        return false;
    if (entry->kind == ENTRY_DIRECTORY)
        return (!content.count || content.count == HASH_BYTES) && (!tiny.count || tiny.count == HASH_BYTES) &&
               !entry->is_linked;
    if (entry->kind == ENTRY_LINK)
        return content.count && !has_nul(content) && content.count == entry->size;
    return !content.count && !entry->size;
}

uint32_t entries_find(const uint8_t *node, size_t bytes, uint32_t starts[ENTRIES_MAX + 1], bool *has_directories)
{
    if (bytes < 3 || bytes > NODE_BYTES_MAX || node[0] != NODE_OF_ENTRIES || node[1])
        return 0;
    struct reader from = {node + 2, node + bytes, false};
    struct text before = {NULL, 0};
    uint64_t size = 0, files = 0;
    uint32_t count = take_array(&from);
    if (!count || count > ENTRIES_MAX)
        return 0;
    for (uint32_t at = 0; at < count; at++) {
        struct entry entry;
        starts[at] = (uint32_t)(from.at - node);
        if (!take_entry(&from, &entry))
            return 0;
        struct text name = {entry.name, entry.name_bytes};
        size += entry.size;
        files += entry.files;
        *has_directories |= entry.kind == ENTRY_DIRECTORY;
        if ((at && compare(before, name) >= 0) || size > INT64_MAX || files > INT64_MAX)
            return 0;
        before = name;
    }
    starts[count] = (uint32_t)(from.at - node);
    return from.at == from.end ? count : 0;
}

bool entry_decode(const uint8_t *bytes, size_t count, struct entry *entry)
{
    struct reader from = {bytes, bytes + count, false};
    return take_entry(&from, entry) && from.at == from.end;
}

const uint8_t *entry_name(const uint8_t *bytes, size_t *count)
{
    /* Behind the heads of the array and of the name, whose length takes a byte. */
    *count = bytes[2];
    return bytes + 3;
}

uint32_t runs_find(const uint8_t *node, size_t bytes, uint64_t size, struct run *runs, uint32_t most)
{
    if (bytes < 3 || bytes > NODE_BYTES_MAX || node[0] != NODE_OF_RUNS || node[1])
        return 0;
    struct reader from = {node + 2, node + bytes, false};
    uint32_t count = take_array(&from);
    if (count > most)
        return 0;
    for (uint32_t at = 0; at < count && !from.is_wrong; at++) {
        if (take_array(&from) != 2)
            return 0;
        struct text id = take_text(&from, HASH_BYTES);
        uint64_t run = take_number(&from, UINT32_MAX);
        if (id.count != HASH_BYTES || !run || run > size)
            return 0;
        size -= run;
        runs[at] = (struct run){id.bytes, (uint32_t)run};
    }
    return !from.is_wrong && from.at == from.end && !size ? count : 0;
}

struct fuse_attr entry_attributes(const struct entry *entry, uint64_t ino, uint32_t links)
{
    static const uint32_t types[] = {0, S_IFREG, S_IFDIR, S_IFLNK};
    int64_t seconds = entry->mtime_ns / NS_A_SECOND, rest = entry->mtime_ns % NS_A_SECOND;
    if (rest < 0) {
        seconds--;
        rest += NS_A_SECOND;
    }
    struct fuse_attr attr = {
        .ino = ino,
        .size = entry->kind == ENTRY_DIRECTORY ? 0 : entry->size,
        .atime = (uint64_t)seconds,
        .mtime = (uint64_t)seconds,
        .ctime = (uint64_t)seconds,
        .atimensec = (uint32_t)rest,
        .mtimensec = (uint32_t)rest,
        .ctimensec = (uint32_t)rest,
        .mode = types[entry->kind] | entry->mode,
        .nlink = links,
        .uid = entry->uid,
        .gid = entry->gid,
        .blksize = PREFERRED_BYTES,
    };
    if (entry->kind == ENTRY_FILE)
        attr.blocks = (entry->size - entry->hole_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
    return attr;
}
