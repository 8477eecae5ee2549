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
#define SESSION_RELIST 16u    /* ... and listed again by the kernel, if many of their files were read */

/* A handle that was given out here, or filled in: this bit and the inode's number. */
#define SESSION_HANDLE (1ull << 63)

/* The first inode numbers of versions' directories, and behind them those of their other entries (vfs/fuse/inodes.py). */
#define SESSION_VERSION_DIRECTORIES (1ull << 59)
#define SESSION_VERSION_FILES (2 * SESSION_VERSION_DIRECTORIES)

#define SESSION_RING_RECORDS 65536

/* How long to wait for the next request after an answer, and how long to answer in a row: the event loop waits. */
#define SESSION_WAIT_NS 400000u
#define SESSION_TURN_NS 2000000u

/* How long of that without sleeping, where there is another processor for the program: longer than it takes to copy a
 * file of 150 KB and close it. For how many answers not at all, when that did not help. */
#define SESSION_SPIN_NS 60000u
#define SESSION_SPINS_SKIPPED 15u

/* Threads, and opens of an inode by a run, that are remembered. */
#define SESSION_THREADS 4096
#define SESSION_REPEATS 65536

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

/* A READ: of which request, of which bytes. */
struct session_read {
    uint64_t unique;
    uint64_t ino;
    uint64_t offset;
    uint32_t bytes;
    uint32_t unused;
};

/* The most chunks that Python names at once, and the most that one READ is answered from. */
#define SESSION_PIECES 640
#define SESSION_READ_PIECES 64
#define SESSION_READERS 4

/* The bytes of a file of which all chunks are named at once, if more than one READ asks for them. */
#define SESSION_WINDOW_BYTES (16ull << 20)

/* A chunk of a file: the block that it lies in, of an open file, how long it is, and its BLAKE3. The last `rest_bytes`
 * of the block are at `rest_offset`. */
struct session_piece {
    uint64_t offset;
    uint32_t block_bytes;
    uint32_t bytes;
    uint32_t pack; /* a number of the pack */
    int32_t descriptor;
    uint8_t id[32];
    uint64_t rest_offset;
    uint32_t rest_bytes;
    uint32_t unused;
};

/* Where the bytes of a file of `size` lie, from `start` on: so many chunks, one behind the other. They are kept for
 * later READs if they are those of a whole window. */
struct session_place {
    uint64_t start;
    uint64_t size;
    uint32_t count;
    uint32_t is_kept;
    struct session_piece pieces[SESSION_PIECES];
};

/* Finds the place of a file's bytes; 0 if Python has to answer. The descriptors are duplicated at once. */
typedef int session_locate(uint64_t ino, uint64_t offset, uint32_t bytes, struct session_place *place);

/* The most bytes of a file that Python gives as they are: what one page has, and one READ asks for. */
#define SESSION_CONTENT_BYTES 4096u

/* Called after each `locate`, when the read is begun or answered: what else Python does then delays it no more; and when
 * first reads have to be taken. */
typedef void session_located(void);

/* Begins to answer requests of a connection, whose handshake is over. Nothing is recorded at first. */
SESSION_EXPORT void session_attach(int fd, uint32_t modes, uint64_t committed_end);

/* Leaves all requests to libfuse again. */
SESSION_EXPORT void session_detach(void);

/* Sets whether opens are recorded, and forgets all threads. While the ring is full, Python gets the requests. */
SESSION_EXPORT void session_set_recording(int is_recording);

/* Sets to which run a thread belongs, whose number never means another one; 0: none, its opens are not recorded. Of a
 * run's opens of one inode the first is recorded, others may be. Python gets the requests of a thread that is not
 * known, which can be one that was: a few thousand are. */
SESSION_EXPORT void session_know_thread(uint32_t thread, uint32_t run);

SESSION_EXPORT void session_forget_thread(uint32_t thread);

/* Moves up to `most` records, oldest first, out of the ring; returns how many. */
SESSION_EXPORT size_t session_take_records(struct open_record *records, size_t most);

SESSION_EXPORT struct session_counts session_get_counts(void);

/* Whether requests were read that the binding has not got yet. */
SESSION_EXPORT int session_has_requests(void);

/* Begins to answer reads of versions' files, in threads. `locate` is called by the thread of the event loop. Returns 0
 * if compressed blocks are left to Python, since the system has no libzstd. */
SESSION_EXPORT int session_serve_reads(session_locate *locate, session_located *located);

/* Gives the verified content of a file, of up to SESSION_CONTENT_BYTES: the next READ is answered with it, unless others
 * replace it before. `locate` may do so too. */
SESSION_EXPORT void session_give(uint64_t ino, const void *content, uint32_t bytes);

/* Drops all places that are kept: packs that were removed are closed, and Python is asked again. */
SESSION_EXPORT void session_drop_places(void);

/* Gives the place of a small file that will probably be read in a moment: its READs are answered without asking, until
 * others take its room, or the places are dropped. The disk begins to read. Returns 0 if it is not kept. */
SESSION_EXPORT int session_prepare(uint64_t ino, uint64_t directory, uint64_t position,
                                   const struct session_place *place);

/* A pack by its number, and a descriptor of it, which is duplicated. */
struct session_pack {
    uint32_t number;
    int32_t descriptor;
};

/* The largest file whose place is given before it is read. Of one leaf, so many chunk lists and chunks are looked up. */
#define SESSION_SMALL_BYTES (256u * 1024)
#define SESSION_LEAF_LISTS 256u
#define SESSION_LEAF_CHUNKS 1024u

#define SESSION_NOT_PREPARED 0
#define SESSION_PREPARED 1
#define SESSION_WORTH_LOCATING 2

/* As `session_prepare`, for the file at a position of a directory, if its place is kept. If not, SESSION_WORTH_LOCATING
 * may say that it is time to give the places of its leaf's files, by what follows. */
SESSION_EXPORT int session_prepare_at(uint64_t directory, uint64_t position, uint64_t ino);

/* Begins to look up the places of the small files of a leaf; 0 if it is not kept. Its chunk lists are given next, without
 * those of files that have a place, and that of the file at the position first. */
SESSION_EXPORT int session_leaf_begin(uint64_t directory, uint64_t position);

#define SESSION_NO_LIST 0
#define SESSION_BLOCK 1
#define SESSION_LIST 2

/* Puts the id of the chunk list that is wanted next into `id`; SESSION_NO_LIST if there is none. Says whether the block
 * of nodes that it lies in is to be given, or the list itself, which was in the last block, but is large or names others. */
SESSION_EXPORT int session_leaf_next_list(uint8_t *id);

/* Takes the lists that are wanted out of a block, and verifies them: ids one behind the other, and where each node ends in
 * the plain bytes. */
SESSION_EXPORT void session_leaf_take_block(const uint8_t *ids, const uint32_t *ends, uint32_t count,
                                            const uint8_t *plain, uint32_t bytes);

/* Takes the list that is wanted next, verified, as a leaf; one of no bytes stands for one that is left out. */
SESSION_EXPORT void session_leaf_take_list(const uint8_t *node, uint32_t bytes);

/* Puts the ids of all chunks of small files one behind the other, and returns how many. `is_partial`: lists were left
 * out that can be read; if others were new, the leaf's files without a place are SESSION_NOT_LOCATED then. */
SESSION_EXPORT uint32_t session_leaf_chunks(uint64_t directory, uint64_t position, int is_partial, uint8_t *ids);

/* Takes the index's rows of these chunks, 0 for missing ones, and the packs that they name. Returns 0 if they are not so
 * many: then the leaf's files have no places. */
SESSION_EXPORT int session_locate_leaf(uint64_t directory, uint64_t position, const void *rows, uint32_t row_count,
                                       const struct session_pack *packs, uint32_t pack_count);

/* A small file in a leaf that is kept: what its number and check are derived to be, and whether it has a place. */
struct session_file {
    uint64_t position;
    uint64_t ino;
    uint32_t check;
    uint32_t found;
};

#define SESSION_NOT_LOCATED 0u
#define SESSION_NO_PLACE 1u
#define SESSION_PLACE 2u
#define SESSION_KNOWN 3u

/* Fills in what is found at the positions of a directory: SESSION_NOT_LOCATED if no leaf whose files
 * were all located is kept there, and the file has no place. */
SESSION_EXPORT void session_find_files(uint64_t directory, struct session_file *files, uint32_t count);

/* Has files that were found prefetched in this order, and returns how many: fewer if there is no room, or one is not found
 * any more. Of their reads that of `told` is noted as others are. They are SESSION_KNOWN if the kernel knows their number
 * with their check; if it does not know the number, a look-up that is answered here has to give it first. */
SESSION_EXPORT uint32_t session_prefetch(uint64_t directory, const struct session_file *files, uint32_t count,
                                         uint64_t told);

/* A file that was read without asking, once each time that it was prepared or its content given: in a watched directory;
 * prefetched, but not the told one; as the second of two, since one of the two files before it in its directory was read
 * lately, which is noted no more; or else as one that others may follow: `begun` counts these. */
struct session_first_read {
    uint64_t ino; /* 0 if the kernel has forgotten it */
    uint32_t kind;
    uint32_t begun;
};

#define SESSION_BEGIN 0u
#define SESSION_SECOND 1u
#define SESSION_WATCHED 2u
#define SESSION_PREFETCHED 3u

/* Moves up to `most` of them, oldest first; returns how many. Of more than a few hundred the later ones are not noted. */
SESSION_EXPORT uint32_t session_take_first_reads(struct session_first_read *reads, uint32_t most);

/* Records a look-up of a file that Python has answered; whether it will probably be read. */
SESSION_EXPORT int session_looked_up(uint64_t ino);

/* Records that it is opened, or read for the first time. */
SESSION_EXPORT void session_opened(uint64_t ino);

/* Forgets all of this, and which directories are watched. */
SESSION_EXPORT void session_forget_first_reads(void);

/* Sets whether Python is told of each first read in a directory. */
SESSION_EXPORT void session_watch(uint64_t directory, int is_watched);

/* A table of the files of versions that the kernel knows: by number a check, how often it was looked up, a mark, the slot of
 * the directory that it was found in, the position there, and where its name is recorded. The caller frees it. */
struct known_files;

/* How many are known, how many ever were, and when to call: once there are more than `limit`, and at `floor` when one was
 * forgotten. */
struct session_known_count {
    int64_t count, added, limit, floor;
};

struct session_known {
    uint64_t position, lookups, record;
    uint32_t check, slot;
    uint32_t is_marked, unused;
};

typedef void session_crossed(void);

/* Called when nothing refers to a directory's slot any more, after a FORGET that Python does not get. */
typedef void session_freed(uint32_t slot);

/* Makes an empty table; NULL if there is no memory. */
SESSION_EXPORT struct known_files *session_files_new(session_crossed *crossed, session_freed *freed);
SESSION_EXPORT void session_files_free(struct known_files *files);

/* Sets whether a file's number is the derived one if that is free: else Python tells the kernel of files. */
SESSION_EXPORT void session_files_are_derived(struct known_files *files, int are_derived);

/* Returns the count, which the caller reads and sets. */
SESSION_EXPORT struct session_known_count *session_files_count(struct known_files *files);

/* Counts a look-up; the first one keeps the rest, and returns SESSION_INSERTED. Returns 0 if there is no memory. */
#define SESSION_INSERTED 2
SESSION_EXPORT int session_files_hold(struct known_files *files, uint64_t ino, uint32_t check, uint32_t slot,
                                      uint64_t position);

SESSION_EXPORT int session_files_find(struct known_files *files, uint64_t ino, struct session_known *known);

/* Decrements the count of look-ups of a number, and removes it at 0. Returns whether nothing refers to its slot then. */
SESSION_EXPORT int session_files_forget(struct known_files *files, uint64_t ino, uint64_t lookups);

/* Sets whether the kernel's FORGETs of what is known here are taken natively, unless opens are recorded. */
SESSION_EXPORT void session_files_take_forgets(struct known_files *files, int are_taken);

/* Sets the mark of a number that is known. */
SESSION_EXPORT void session_files_mark(struct known_files *files, uint64_t ino);

/* Counts a reference to a slot, or removes it and returns whether it was the last one. */
SESSION_EXPORT int session_files_hold_directory(struct known_files *files, uint32_t slot);
SESSION_EXPORT int session_files_forget_directory(struct known_files *files, uint32_t slot);

/* Lists the numbers of one of SESSION_SHARDS parts, and returns how many there are. */
#define SESSION_SHARDS 64u
SESSION_EXPORT uint32_t session_files_list(struct known_files *files, uint32_t shard, uint64_t *inos, uint32_t most);

/* Has the names of files that the kernel is told of natively written to a descriptor's end, while its position is below
 * `until`; then Python tells the kernel. Below 0: nowhere. */
SESSION_EXPORT void session_files_record(struct known_files *files, int descriptor, uint64_t until);

/* Sets where the name of a number is recorded, and 1; 0: nowhere. Returns 0 if the number is not known. */
SESSION_EXPORT int session_files_set_record(struct known_files *files, uint64_t ino, uint64_t record);

/* Returns how many bytes the recorded names of what is known take that are in one part of a file; UINT64_MAX if it cannot
 * be read. */
SESSION_EXPORT uint64_t session_files_records_bytes(struct known_files *files, int descriptor, uint64_t start,
                                                    uint64_t end);

/* Writes these to another place of the file, where they are recorded from then on; others are nowhere. Returns 0, and
 * changes none of that, if they cannot be written. `start` is a multiple of the size of a page. */
SESSION_EXPORT int session_files_write_records(struct known_files *files, int descriptor, uint64_t start, uint64_t end,
                                               uint64_t to);

/* Hands over the leaf that a name belongs in, by `session_keep_leaf`; 0 if Python has to answer. */
typedef int session_open_leaf(uint64_t directory, const char *name);

#define SESSION_BEHIND 2

/* Does so for the leaf that a position is in; SESSION_BEHIND if it is known that the directory has fewer entries. */
typedef int session_open_leaf_at(uint64_t directory, uint64_t position);

/* Counts a look-up of the directory at a position among a directory's entries; returns the number of the inode, 0 if
 * Python has to answer. The entry is valid during the call. */
typedef uint64_t session_admit_directory(uint64_t directory, uint64_t position, const void *entry, uint32_t entry_bytes);

/* Hands over the attributes of an inode, by `session_keep_attributes`; 0 if Python has to answer. */
typedef int session_find_attributes(uint64_t ino);

/* Called when a look-up is answered, if it is of a directory (SESSION_NOT_PREPARED), or of a file that will probably be
 * read (what `session_prepare_at` says, but for SESSION_PREPARED). */
typedef void session_admitted(uint64_t ino, int prepared);

struct session_name_source {
    session_open_leaf *open_leaf;
    session_open_leaf_at *open_leaf_at;
    session_admit_directory *admit_directory;
    session_find_attributes *find_attributes;
    session_admitted *admitted;
};

/* Begins to answer look-ups in versions' directories, listings of them, and requests for attributes; until
 * `session_detach`. Look-ups of files are counted in a table, which has to last as long. All of these functions are called
 * by the thread of the event loop. */
SESSION_EXPORT void session_serve_names(const struct session_name_source *source, struct known_files *files);

/* Keeps a verified node, if it is a leaf of entries, of a directory; `slot`: its number in the table of known files,
 * which the caller holds; `position` is that of its first entry. The number of a file is derived from `prefix` and the
 * file's entry. `is_last`: the directory ends with it. Returns 0 if it is not kept. */
SESSION_EXPORT int session_keep_leaf(uint64_t directory, uint32_t slot, uint64_t position, const void *prefix,
                                     uint32_t prefix_bytes, const void *node, uint32_t node_bytes, int is_last);

/* Returns the entry of a file in a leaf that is kept, if its number is derived to be `ino`; NULL else. It is valid until
 * the next call of a function here. */
SESSION_EXPORT const void *session_find_entry(uint64_t directory, uint64_t position, uint64_t ino, uint32_t *bytes);

SESSION_EXPORT void session_drop_leaves(uint64_t directory);

/* Keeps what `stat` shows of an inode with so many names, until the kernel forgets it, or room is needed. */
SESSION_EXPORT int session_keep_attributes(uint64_t ino, uint32_t links, const void *encoded, uint32_t bytes);

/* A descriptor that is readable when there is a read that Python has to answer: its bytes were not what they must be. */
SESSION_EXPORT int session_returned_event(void);

/* Takes the next of these reads; 0 if there is none. */
SESSION_EXPORT int session_take_returned(struct session_read *taken);

/* Answers one of them. */
SESSION_EXPORT void session_answer(uint64_t unique, int error, const void *body, size_t bytes);

#endif
