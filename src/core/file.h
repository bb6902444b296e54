/* file.h — whole files: mapped for reading, read at once, written so that a name never holds half a file.
 *
 * Every message names the path. Writers go to "<path>.tmp", sync, rename and sync the folder: after file_write returns, a
 * crash leaves the new content; before, the old.
 */
#ifndef CORE_FILE_H
#define CORE_FILE_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct file_map {
    const uint8_t *data; /* borrowed until file_unmap; NULL for an empty file */
    size_t size;
} file_map;

err_code file_map_open(const char *path, file_map *out, err *e);
void file_map_close(file_map *m);

/* The whole pages of a part of the map may leave memory; whoever looks at them again has them read from the file. */
void file_map_forget(const file_map *m, const void *part, size_t size);

/* The whole file as bytes with a NUL behind them; refuses files over max_size. Owned by the caller, free with free(). */
err_code file_read(const char *path, size_t max_size, char **out, size_t *size, err *e);

err_code file_write(const char *path, const void *bytes, size_t size, err *e);

/* The last step of a writer of its own: syncs tmp, renames it to path, syncs the folder. */
err_code file_commit(const char *tmp, const char *path, err *e);

err_code file_make_dirs(const char *path, err *e); /* mkdir -p */
bool file_exists(const char *path);
bool file_is_dir(const char *path);

/* ERR_NOSPACE unless the file system that holds path (which need not exist yet) has `bytes` free. */
err_code file_check_space(const char *path, uint64_t bytes, err *e);

/* SHA-256 of a file's content as 64 hex digits and a NUL. */
enum { SHA256_HEX = 65 };
err_code file_sha256(const char *path, char out[SHA256_HEX], err *e);
void file_map_sha256(const file_map *m, char out[SHA256_HEX]); /* forgets what it has read */
void bytes_sha256(const void *bytes, size_t size, char out[SHA256_HEX]);

/* dir + "/" + name. Owned by the caller, free with free(). */
err_code path_join(const char *dir, const char *name, char **out, err *e);
const char *path_base(const char *path); /* borrowed: the part behind the last slash */

#endif
