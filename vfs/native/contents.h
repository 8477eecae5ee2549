/* Contents of tiny files, which Python has read and verified, until the kernel asks for them. */

#ifndef VFS_CONTENTS_H
#define VFS_CONTENTS_H

#include <stdbool.h>
#include <stdint.h>

/* Answers a READ. False if the content is not there. */
bool contents_answer(int connection, uint64_t unique, uint64_t ino, uint64_t offset, uint32_t bytes);

/* Drops the content of a file that the kernel may forget: its number can become another file's. */
void contents_forget(uint64_t ino);
void contents_drop(void);

#endif
