/* What Python calls in the native session layer (vfs/native/session.py), and the numbers that both sides use. */

#ifndef VFS_SESSION_H
#define VFS_SESSION_H

#include <stddef.h>
#include <stdint.h>

#define SESSION_EXPORT __attribute__((visibility("default")))

/* Modes of a connection. */
#define SESSION_NO_OPEN 1u    /* the kernel opens files without a request, for ever */
#define SESSION_NO_OPENDIR 2u /* ... and directories */
#define SESSION_OPEN 4u       /* files of versions are opened here */
#define SESSION_OPENDIR 8u    /* directories of versions are opened here */

/* A handle that was given out here, or filled in: this bit and the inode's number. */
#define SESSION_HANDLE (1ull << 63)

/* The first inode number of the directories of versions; they end before its double (vfs/fuse/inodes.py). */
#define SESSION_VERSION_DIRECTORIES (1ull << 59)

#define SESSION_RING_RECORDS 65536

/* How long to wait for the next request after an answer, and how long to answer in a row: the event loop waits. */
#define SESSION_WAIT_NS 100000u
#define SESSION_TURN_NS 1000000u

#define SESSION_THREADS 4096

/* Roles of threads: opens are recorded, or not. */
#define SESSION_MEMBER 1u
#define SESSION_OUTSIDER 2u

/* Kinds of records. */
#define SESSION_FILE 1u
#define SESSION_DIRECTORY 2u

/* An open that was answered here. */
struct open_record {
    uint64_t time_ns; /* of the wall clock */
    uint64_t ino;
    uint32_t thread; /* the caller's thread id, in the daemon's pid namespace; 0 outside of it */
    uint32_t kind;
};

struct session_counts {
    uint64_t answered;
    uint64_t passed_on;
};

/* Begins to answer requests of a connection, whose handshake is over. Nothing is recorded at first. */
SESSION_EXPORT void session_attach(int fd, uint32_t modes, uint64_t committed_end);

/* Leaves all requests to libfuse again. */
SESSION_EXPORT void session_detach(void);

/* Sets whether opens are recorded, and forgets all threads. While the ring is full, Python gets the requests. */
SESSION_EXPORT void session_set_recording(int is_recording);

/* Sets whether opens of a thread are recorded; 0 forgets it. Python gets the requests of a thread that is not known,
 * which can be one that was: a few thousand are. */
SESSION_EXPORT void session_set_role(uint32_t thread, uint32_t role);

/* Moves up to `most` records, oldest first, out of the ring; returns how many. */
SESSION_EXPORT size_t session_take_records(struct open_record *records, size_t most);

SESSION_EXPORT struct session_counts session_get_counts(void);

#endif
