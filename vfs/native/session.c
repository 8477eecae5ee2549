/* The native session layer: answers requests of the kernel that need no Python, before the binding sees them.
 *
 * The library defines libfuse's `fuse_session_receive_buf` and is loaded before the binding, so that the binding's event
 * loop calls it in place of libfuse's. It reads the next request; answers it, and reads on, or hands it to the binding
 * as libfuse would. docs/native-session.md says which requests it answers and from what state.
 *
 * One thread calls all functions here: the one that runs the binding's event loop. Nothing here keeps a pointer into
 * memory of Python but functions that it calls; the request's buffer belongs to the binding, which frees it.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/fuse.h>
#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "contents.h"
#include "first_reads.h"
#include "listings.h"
#include "names.h"
#include "places.h"
#include "prefetched.h"
#include "prepared.h"
#include "reads.h"
#include "recording.h"
#include "session.h"

/* The beginning of libfuse's `struct fuse_buf`, which is the same in all its versions since 3.0. */
struct request_buf {
    size_t size;
    int flags;
    void *mem;
};

struct fuse_session;
typedef int receive_function(struct fuse_session *, struct request_buf *);
typedef void *save_thread_function(void);
typedef void restore_thread_function(void *);

/* Of Linux 5.16: `close` of a file that is never written waits for nothing. */
#ifndef FOPEN_NOFLUSH
#define FOPEN_NOFLUSH (1u << 5)
#endif

/* The kernel refuses to read a request into less than its largest write and two headers. */
#define REQUEST_BYTES ((size_t)(1 << 20) + (1 << 16))

static struct {
    int fd;
    uint32_t modes;
    uint32_t spin_ns;
    uint64_t committed_end;
    receive_function *receive;
    save_thread_function *save_thread;
    restore_thread_function *restore_thread;
} session = {.fd = -1};

/* Requests that wait for Python, oldest first: those that need none are answered before. */
#define QUEUED 32u
static struct {
    struct {
        void *memory;
        ssize_t bytes;
    } requests[QUEUED];
    unsigned first, count;
    void *spare[QUEUED + 1];
    unsigned spares;
} queue;

static struct session_counts counts;

/* What the interpreter's lock was released with, while requests are answered. */
static void *released;

static uint64_t now_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void reply_with(int connection, uint64_t unique, struct iovec *parts, uint32_t count, size_t body_bytes)
{
    struct fuse_out_header out = {.len = (uint32_t)(sizeof out + body_bytes), .unique = unique};
    parts[0] = (struct iovec){&out, sizeof out};
    ssize_t written = writev(connection, parts, (int)count + 1);
    (void)written;
}

void reply_to(int connection, uint64_t unique, int error, const void *body, size_t body_bytes)
{
    struct fuse_out_header out = {
        .len = (uint32_t)(sizeof out + body_bytes),
        .error = -error,
        .unique = unique,
    };
    struct iovec parts[2] = {{&out, sizeof out}, {(void *)(uintptr_t)body, body_bytes}};
    ssize_t written = writev(connection, parts, body_bytes ? 2 : 1);
    (void)written;
}

static void reply(const struct fuse_in_header *in, int error, const void *body, size_t body_bytes)
{
    reply_to(session.fd, in->unique, error, body, body_bytes);
}

void let_python_run(void)
{
    if (!released && session.save_thread)
        released = session.save_thread();
}

static bool answer_open(const struct fuse_in_header *in, const struct fuse_open_in *open)
{
    if (session.modes & SESSION_NO_OPEN) {
        reply(in, ENOSYS, NULL, 0);
        return true;
    }
    if (!(session.modes & SESSION_OPEN) || (open->flags & (O_ACCMODE | O_TRUNC)) != O_RDONLY ||
        !recording_permits(in->pid, in->nodeid))
        return false;
    struct fuse_open_out out = {.fh = in->nodeid | SESSION_HANDLE, .open_flags = FOPEN_KEEP_CACHE | FOPEN_NOFLUSH};
    reply(in, 0, &out, sizeof out);
    recording_note(in->pid, in->nodeid, SESSION_FILE);
    return true;
}

static bool answer_opendir(const struct fuse_in_header *in)
{
    if (session.modes & SESSION_NO_OPENDIR) {
        reply(in, ENOSYS, NULL, 0);
        return true;
    }
    if (!(session.modes & SESSION_OPENDIR) || in->nodeid < SESSION_VERSION_DIRECTORIES ||
        in->nodeid >= SESSION_VERSION_FILES || !recording_permits(in->pid, in->nodeid))
        return false;
    bool is_stale = session.modes & SESSION_RELIST && names_are_stale(in->nodeid);
    struct fuse_open_out out = {
        .fh = in->nodeid | SESSION_HANDLE,
        .open_flags = FOPEN_CACHE_DIR | (is_stale ? 0 : FOPEN_KEEP_CACHE),
    };
    reply(in, 0, &out, sizeof out);
    recording_note(in->pid, in->nodeid, SESSION_DIRECTORY);
    return true;
}

/* Without an open there is no handle: the inode's number takes its place, as in a handle that is given out here. */
static void put_handle(const struct fuse_in_header *in, uint64_t *handle)
{
    if (!*handle)
        *handle = in->nodeid | SESSION_HANDLE;
}

static bool answer_read(const struct fuse_in_header *in, struct fuse_read_in *read, bool may_ask)
{
    put_handle(in, &read->fh);
    /* Each is tried without a question first. */
    if (!read->offset && !may_ask && session.modes & SESSION_RELIST)
        names_count_read(in->nodeid);
    return in->nodeid >= SESSION_VERSION_FILES && read->fh & SESSION_HANDLE &&
           reads_begin(session.fd, in->unique, in->nodeid, read->offset, read->size, may_ask);
}

static bool answer_list(const struct fuse_in_header *in, struct fuse_read_in *read, bool may_ask)
{
    put_handle(in, &read->fh);
    return in->nodeid >= SESSION_VERSION_DIRECTORIES && in->nodeid < SESSION_VERSION_FILES && read->fh & SESSION_HANDLE &&
           listings_answer(session.fd, in, read, may_ask);
}

/* Returns whether the binding need not forget it. */
static bool forget(uint64_t ino, uint64_t lookups)
{
    places_forget(ino);
    contents_forget(ino);
    prepared_forget(ino);
    prefetched_forget(ino);
    first_reads_drop(ino);
    return names_forget(ino, lookups);
}

/* Leaves in the request what the binding has to forget. Returns whether that is nothing. */
static bool forget_all(struct fuse_batch_forget_in *forgotten, size_t bytes)
{
    struct fuse_forget_one *files = (struct fuse_forget_one *)(forgotten + 1);
    uint32_t left = 0;
    if (bytes < sizeof *forgotten || (bytes - sizeof *forgotten) / sizeof *files < forgotten->count)
        return false;
    for (uint32_t at = 0; at < forgotten->count; at++)
        if (files[at].nodeid >= session.committed_end || !forget(files[at].nodeid, files[at].nlookup))
            files[left++] = files[at];
    forgotten->count = left;
    return !left;
}

/* Answers a request. Returns false if the binding has to, which may find a handle filled in; unless `may_ask`, also if
 * Python has to be asked for the answer. */
static bool answer(char *request, size_t bytes, bool may_ask)
{
    const struct fuse_in_header *in = (const struct fuse_in_header *)request;
    void *body = request + sizeof *in;
    size_t body_bytes = bytes - sizeof *in;
    /* As libfuse would: the kernel makes it ENOTTY. A Python program asks of each file that it opens whether that is a
     * terminal, whatever the kernel knows of the file. */
    if (in->opcode == FUSE_IOCTL) {
        reply(in, ENOSYS, NULL, 0);
        return true;
    }
    /* A working layer's inodes have state that only Python knows. */
    if (in->nodeid >= session.committed_end)
        return false;
    switch (in->opcode) {
    case FUSE_LOOKUP:
        return may_ask && in->nodeid >= SESSION_VERSION_DIRECTORIES && in->nodeid < SESSION_VERSION_FILES &&
               names_answer_lookup(session.fd, in, body, body_bytes);
    case FUSE_GETATTR:
        return in->nodeid >= SESSION_VERSION_DIRECTORIES && names_answer_attributes(session.fd, in, may_ask);
    case FUSE_OPEN:
        return body_bytes >= sizeof(struct fuse_open_in) && answer_open(in, body);
    case FUSE_OPENDIR:
        return answer_opendir(in);
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
        if (body_bytes < sizeof(struct fuse_release_in) || !(((struct fuse_release_in *)body)->fh & SESSION_HANDLE))
            return false;
        reply(in, 0, NULL, 0);
        return true;
    case FUSE_FSYNC:
    case FUSE_FSYNCDIR:
        if (body_bytes < sizeof(struct fuse_fsync_in))
            return false;
        put_handle(in, &((struct fuse_fsync_in *)body)->fh);
        if (!(((struct fuse_fsync_in *)body)->fh & SESSION_HANDLE))
            return false;
        reply(in, 0, NULL, 0);
        return true;
    case FUSE_FORGET:
        return body_bytes >= sizeof(struct fuse_forget_in) &&
               forget(in->nodeid, ((struct fuse_forget_in *)body)->nlookup);
    case FUSE_BATCH_FORGET:
        return forget_all(body, body_bytes);
    case FUSE_READ:
        return body_bytes >= sizeof(struct fuse_read_in) && answer_read(in, body, may_ask);
    case FUSE_READDIR:
        if (body_bytes >= sizeof(struct fuse_read_in))
            put_handle(in, &((struct fuse_read_in *)body)->fh);
        return false;
    case FUSE_READDIRPLUS:
        return body_bytes >= sizeof(struct fuse_read_in) && answer_list(in, body, may_ask);
    default:
        return false;
    }
}

/* Sleeps until there is a request, for a moment. */
static bool wait_for_request(uint64_t wait_ns)
{
    /* A program whose read is under way asks again when it has its answer. */
    if (wait_ns > SESSION_WAIT_NS && !reads_are_under_way())
        wait_ns = SESSION_WAIT_NS;
    struct timespec wait = {.tv_nsec = (long)wait_ns};
    struct pollfd polled = {.fd = session.fd, .events = POLLIN};
    return ppoll(&polled, 1, &wait, NULL) > 0;
}

/* Reads the request after an answer, if it comes in a moment and before `until_ns`; -1 with EAGAIN else. To sleep and
 * be woken takes as long as the next request often does, so the first part of the moment is waited without; not if none
 * came in it after the last answer of that kind, for some of them. */
static ssize_t read_next(void *request, size_t room, bool was_open, uint64_t until_ns)
{
    static unsigned skipped[2];
    ssize_t bytes = -1;
    uint64_t now = now_ns(CLOCK_MONOTONIC);
    errno = EAGAIN;
    if (now >= until_ns)
        return -1;
    if (skipped[was_open]) {
        skipped[was_open]--;
    } else {
        uint64_t spin_until_ns = now + session.spin_ns;
        do
            bytes = read(session.fd, request, room);
        while (bytes < 0 && errno == EAGAIN && (now = now_ns(CLOCK_MONOTONIC)) < spin_until_ns);
        if (bytes < 0 && errno == EAGAIN)
            skipped[was_open] = SESSION_SPINS_SKIPPED;
    }
    if (bytes < 0 && errno == EAGAIN && now < until_ns && wait_for_request(until_ns - now))
        bytes = read(session.fd, request, room);
    return bytes;
}

bool requests_wait(void)
{
    struct pollfd polled = {.fd = session.fd, .events = POLLIN};
    return queue.count || poll(&polled, 1, 0);
}

static ssize_t read_request(struct request_buf *buf)
{
    return read(session.fd, buf->mem, malloc_usable_size(buf->mem));
}

/* Queues a request with its memory. Returns false if no other can be read now. */
static bool enqueue(struct request_buf *buf, ssize_t bytes)
{
    unsigned at = (queue.first + queue.count++) % QUEUED;
    queue.requests[at].memory = buf->mem;
    queue.requests[at].bytes = bytes;
    buf->mem = queue.spares ? queue.spare[--queue.spares] : malloc(REQUEST_BYTES);
    return queue.count < QUEUED && buf->mem;
}

static ssize_t dequeue(struct request_buf *buf)
{
    if (buf->mem)
        queue.spare[queue.spares++] = buf->mem;
    ssize_t bytes = queue.requests[queue.first].bytes;
    buf->mem = queue.requests[queue.first].memory;
    queue.first = (queue.first + 1) % QUEUED;
    queue.count--;
    return bytes;
}

static void empty_queue(void)
{
    struct request_buf buf = {.mem = NULL};
    while (queue.count)
        dequeue(&buf);
    free(buf.mem);
    while (queue.spares)
        free(queue.spare[--queue.spares]);
}

static bool answers(struct request_buf *buf, ssize_t bytes, bool may_ask)
{
    if (!answer(buf->mem, (size_t)bytes, may_ask))
        return false;
    counts.answered++;
    let_python_run();
    return true;
}

/* Reads requests, and answers them, until one is for the binding: returns its size, or a negative error, of which
 * -EAGAIN says that there is none now. Requests that need no Python are answered before those that do. After the first
 * answer other threads of Python run. */
static int serve(struct request_buf *buf)
{
    uint64_t until_ns = now_ns(CLOCK_MONOTONIC) + SESSION_TURN_NS;
    ssize_t bytes = read_request(buf);
    int error = errno;
    bool was_open = false;
    for (;;) {
        /* As many as can be queued, and as many others. */
        for (unsigned taken = 1; bytes >= (ssize_t)sizeof(struct fuse_in_header); taken++) {
            uint32_t opcode = ((const struct fuse_in_header *)buf->mem)->opcode;
            was_open = opcode == FUSE_OPEN || opcode == FUSE_OPENDIR;
            if (!answers(buf, bytes, false) && !enqueue(buf, bytes))
                break;
            bytes = -1;
            error = EAGAIN;
            if (taken == 2 * QUEUED)
                break;
            bytes = read_request(buf);
            error = errno;
        }
        if (queue.count) {
            bytes = dequeue(buf);
            if (!answers(buf, bytes, true))
                break;
            was_open = false;
            bytes = -1;
            error = EAGAIN;
            if (now_ns(CLOCK_MONOTONIC) >= until_ns)
                break;
            bytes = read_request(buf);
            error = errno;
            if (bytes >= 0 || queue.count)
                continue;
        }
        if (bytes >= 0 || error != EAGAIN || !released)
            break;
        reads_tell();
        bytes = read_next(buf->mem, malloc_usable_size(buf->mem), was_open, until_ns);
        error = errno;
        if (bytes < 0)
            break;
    }
    reads_tell();
    if (released)
        session.restore_thread(released);
    released = NULL;
    return bytes < 0 ? -error : (int)bytes;
}

static int find_libfuse(struct dl_phdr_info *library, size_t size, void *found)
{
    (void)size;
    const char *name = library->dlpi_name ? strrchr(library->dlpi_name, '/') : NULL;
    if (!name || strncmp(name, "/libfuse3", strlen("/libfuse3")))
        return 0;
    *(void **)found = dlopen(library->dlpi_name, RTLD_LAZY | RTLD_NOLOAD);
    return 1;
}

/* Calls libfuse's own function. The binding has loaded libfuse for itself alone, so the dynamic linker's RTLD_NEXT does
 * not find it; a wheel may contain it, under a longer name. */
static int receive_by_libfuse(struct fuse_session *se, struct request_buf *buf)
{
    if (!session.receive) {
        void *libfuse = NULL;
        dl_iterate_phdr(find_libfuse, &libfuse);
        if (libfuse)
            session.receive = (receive_function *)(uintptr_t)dlsym(libfuse, "fuse_session_receive_buf");
    }
    return session.receive ? session.receive(se, buf) : -ENOSYS;
}

static bool make_room(struct request_buf *buf)
{
    if (buf->mem && malloc_usable_size(buf->mem) < REQUEST_BYTES) {
        free(buf->mem);
        buf->mem = NULL;
    }
    if (!buf->mem)
        buf->mem = malloc(REQUEST_BYTES);
    return buf->mem != NULL;
}

SESSION_EXPORT int fuse_session_receive_buf(struct fuse_session *se, struct request_buf *buf)
{
    if (session.fd < 0)
        return receive_by_libfuse(se, buf);
    if (!make_room(buf))
        return -ENOMEM;
    int received = serve(buf);
    /* ENOENT: the request was interrupted before it was read. */
    if (received == -EAGAIN || received == -EINTR || received == -ENOENT)
        return -EINTR;
    /* libfuse meets the same error, and knows what it means for its session. */
    if (received < 0)
        return receive_by_libfuse(se, buf);
    if (received < (int)sizeof(struct fuse_in_header))
        return -EIO;
    counts.passed_on++;
    buf->size = (size_t)received;
    buf->flags = 0;
    return received;
}

SESSION_EXPORT void session_attach(int fd, uint32_t modes, uint64_t committed_end)
{
    session.save_thread = (save_thread_function *)(uintptr_t)dlsym(RTLD_DEFAULT, "PyEval_SaveThread");
    session.restore_thread = (restore_thread_function *)(uintptr_t)dlsym(RTLD_DEFAULT, "PyEval_RestoreThread");
    if (!session.restore_thread)
        session.save_thread = NULL;
    memset(&counts, 0, sizeof counts);
    recording_reset();
    session.modes = modes;
    cpu_set_t processors;
    bool alone = !sched_getaffinity(0, sizeof processors, &processors) && CPU_COUNT(&processors) == 1;
    session.spin_ns = alone ? 0 : SESSION_SPIN_NS;
    session.committed_end = committed_end;
    /* A read never waits: `read_next` does, for a moment. */
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0)
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    session.fd = fd;
}

SESSION_EXPORT void session_detach(void)
{
    reads_stop();
    names_drop();
    empty_queue();
    session.fd = -1;
}

SESSION_EXPORT int session_has_requests(void)
{
    return queue.count > 0;
}

SESSION_EXPORT void session_answer(uint64_t unique, int error, const void *body, size_t bytes)
{
    reply_to(session.fd, unique, error, body, bytes);
}

SESSION_EXPORT struct session_counts session_get_counts(void)
{
    return counts;
}
