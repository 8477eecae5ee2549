#include "contents.h"

#include <stddef.h>
#include <string.h>

#include "first_reads.h"
#include "reads.h"
#include "session.h"

#define CONTENTS 64u

/* A free place has the number 0. */
static uint64_t inos[CONTENTS];
static uint32_t sizes[CONTENTS];
static uint8_t contents[CONTENTS][SESSION_CONTENT_BYTES];
static unsigned next;

/* Returns a file's place, or CONTENTS. */
static unsigned find(uint64_t ino)
{
    unsigned at = 0;
    while (at < CONTENTS && inos[at] != ino)
        at++;
    return at;
}

bool contents_answer(int connection, uint64_t unique, uint64_t ino, uint64_t offset, uint32_t bytes)
{
    unsigned at = find(ino);
    if (at == CONTENTS || offset >= sizes[at])
        return false;
    uint32_t rest = sizes[at] - (uint32_t)offset;
    reply_to(connection, unique, 0, contents[at] + offset, bytes < rest ? bytes : rest);
    /* The kernel keeps the page. */
    inos[at] = 0;
    first_reads_note(ino, 0, NO_POSITION);
    return true;
}

void contents_forget(uint64_t ino)
{
    unsigned at = find(ino);
    if (at < CONTENTS)
        inos[at] = 0;
}

void contents_drop(void)
{
    memset(inos, 0, sizeof inos);
}

SESSION_EXPORT void session_give(uint64_t ino, const void *content, uint32_t bytes)
{
    if (!ino || bytes > SESSION_CONTENT_BYTES)
        return;
    unsigned at = find(ino);
    if (at == CONTENTS)
        at = next++ % CONTENTS;
    memcpy(contents[at], content, bytes);
    inos[at] = ino;
    sizes[at] = bytes;
}
