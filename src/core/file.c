#define _GNU_SOURCE
#include "core/file.h"
#include "core/mem.h"
#include "core/strbuf.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* ---- reading ---- */

static err_code open_regular(const char *path, int *fd, size_t *size, err *e) {
    struct stat st;
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0) return err_set_errno(e, "%s: cannot open", path);
    if (fstat(*fd, &st)) {
        err_code rc = err_set_errno(e, "%s: cannot stat", path);
        close(*fd);
        return rc;
    }
    if (!S_ISREG(st.st_mode)) {
        close(*fd);
        return err_set(e, ERR_FORMAT, "%s: expected a file, found %s", path, S_ISDIR(st.st_mode) ? "a folder" : "a device");
    }
    *size = (size_t)st.st_size;
    return ERR_OK;
}

err_code file_map_open(const char *path, file_map *out, err *e) {
    int fd;
    *out = (file_map){0};
    err_code rc = open_regular(path, &fd, &out->size, e);
    if (rc) return rc;
    if (out->size) {
        void *p = mmap(NULL, out->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            rc = err_set_errno(e, "%s: cannot map", path);
            *out = (file_map){0};
        } else {
            out->data = p;
        }
    }
    close(fd);
    return rc;
}

void file_map_close(file_map *m) {
    if (m->data) munmap((void *)m->data, m->size);
    *m = (file_map){0};
}

void file_map_forget(const file_map *m, const void *part, size_t size) {
    const uint8_t *begin = part;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (!size || begin < m->data || size > m->size || begin > m->data + (m->size - size)) return;
    size_t first = (size_t)(begin - m->data) + page - 1, end = (size_t)(begin - m->data) + size;
    first -= first % page; /* the map begins with a page */
    end -= end == m->size ? 0 : end % page;
    if (first < end) madvise((void *)(m->data + first), end - first, MADV_DONTNEED); /* refused: it stays, nothing is lost */
}

err_code file_read(const char *path, size_t max_size, char **out, size_t *size, err *e) {
    int fd;
    char *bytes = NULL;
    size_t n = 0, expected = 0;
    *out = NULL;
    err_code rc = open_regular(path, &fd, &expected, e);
    if (rc) return rc;
    if (expected > max_size) {
        rc = err_set(e, ERR_FORMAT, "%s: expected at most %zu bytes, found %zu", path, max_size, expected);
        goto done;
    }
    TRY(mem_new(&bytes, expected + 1, 1, path, e));
    while (n < expected) {
        ssize_t got = read(fd, bytes + n, expected - n);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            rc = err_set_errno(e, "%s: cannot read", path);
            goto done;
        }
        if (got == 0) break;
        n += (size_t)got;
    }
    bytes[n] = '\0';
    *out = bytes;
    *size = n;
    bytes = NULL;
done:
    free(bytes);
    close(fd);
    return rc;
}

/* ---- writing ---- */

static err_code sync_folder_of(const char *path, err *e) {
    const char *slash = strrchr(path, '/');
    char *dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    if (!dir) return err_nomem(e, "path", strlen(path));
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    err_code rc = ERR_OK;
    if (fd < 0 || fsync(fd)) rc = err_set_errno(e, "%s: cannot sync the folder", dir);
    if (fd >= 0) close(fd);
    free(dir);
    return rc;
}

err_code file_commit(const char *tmp, const char *path, err *e) {
    int fd = open(tmp, O_RDWR | O_CLOEXEC);
    if (fd < 0) return err_set_errno(e, "%s: cannot open", tmp);
    err_code rc = fsync(fd) ? err_set_errno(e, "%s: cannot sync", tmp) : ERR_OK;
    close(fd);
    if (!rc && rename(tmp, path)) rc = err_set_errno(e, "%s: cannot rename to %s", tmp, path);
    return rc ? rc : sync_folder_of(path, e);
}

static err_code write_all(int fd, const char *bytes, size_t size, const char *path, err *e) {
    while (size) {
        ssize_t n = write(fd, bytes, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_set_errno(e, "%s: cannot write", path);
        bytes += n;
        size -= (size_t)n;
    }
    return ERR_OK;
}

err_code file_write(const char *path, const void *bytes, size_t size, err *e) {
    err_code rc;
    strbuf tmp = STRBUF_INIT;
    strbuf_addf(&tmp, "%s.tmp", path);
    int fd = -1;
    TRY(strbuf_check(&tmp, e));
    fd = open(tmp.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        rc = err_set_errno(e, "%s: cannot create", tmp.data);
        goto done;
    }
    rc = write_all(fd, bytes, size, path, e);
    if (close(fd) && !rc) rc = err_set_errno(e, "%s: cannot write", path);
    if (!rc) rc = file_commit(tmp.data, path, e);
    if (rc) unlink(tmp.data);
done:
    strbuf_release(&tmp);
    return rc;
}

err_code file_make_dirs(const char *path, err *e) {
    char *copy = strdup(path);
    if (!copy) return err_nomem(e, "path", strlen(path));
    err_code rc = ERR_OK;
    for (char *p = copy + 1; !rc; p++) {
        if (*p && *p != '/') continue;
        char end = *p;
        *p = '\0';
        if (mkdir(copy, 0777) && errno != EEXIST) rc = err_set_errno(e, "%s: cannot make the folder", copy);
        *p = end;
        if (!end) break;
    }
    if (!rc && !file_is_dir(path)) rc = err_set(e, ERR_IO, "%s: expected a folder, found a file", path);
    free(copy);
    return rc;
}

bool file_exists(const char *path) { return access(path, F_OK) == 0; }

bool file_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The file system of the nearest folder on the way up that exists. Shortens path. */
static int nearest_file_system(char *path, struct statvfs *fs) {
    while (statvfs(path, fs)) {
        char *slash = strrchr(path, '/');
        if (!slash) return statvfs(".", fs);
        if (slash == path) return statvfs("/", fs);
        *slash = '\0';
    }
    return 0;
}

err_code file_check_space(const char *path, uint64_t bytes, err *e) {
    char *copy = strdup(path);
    if (!copy) return err_nomem(e, "path", strlen(path));
    struct statvfs fs;
    int failed = nearest_file_system(copy, &fs);
    free(copy);
    if (failed) return err_set_errno(e, "%s: cannot find its file system", path);
    uint64_t free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (free_bytes >= bytes) return ERR_OK;
    return err_set(e, ERR_NOSPACE, "%s: needs %llu bytes on disk, %llu are free", path, (unsigned long long)bytes,
                   (unsigned long long)free_bytes);
}

/* ---- hashes ---- */

static void hex(const uint8_t *digest, char out[SHA256_HEX]) {
    for (int i = 0; i < SHA256_DIGEST_SIZE; i++) snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

void bytes_sha256(const void *bytes, size_t size, char out[SHA256_HEX]) {
    uint8_t digest[SHA256_DIGEST_SIZE];
    struct sha256_ctx h;
    sha256_init(&h);
    sha256_update(&h, size, bytes);
    sha256_digest(&h, sizeof digest, digest);
    hex(digest, out);
}

void file_map_sha256(const file_map *m, char out[SHA256_HEX]) {
    enum { STRETCH = 16 << 20 };
    uint8_t digest[SHA256_DIGEST_SIZE];
    struct sha256_ctx h;
    sha256_init(&h);
    for (size_t i = 0; i < m->size; i += STRETCH) {
        size_t n = m->size - i < STRETCH ? m->size - i : STRETCH;
        sha256_update(&h, n, m->data + i);
        file_map_forget(m, m->data + i, n);
    }
    sha256_digest(&h, sizeof digest, digest);
    hex(digest, out);
}

err_code file_sha256(const char *path, char out[SHA256_HEX], err *e) {
    file_map m;
    err_code rc = file_map_open(path, &m, e);
    if (rc) return rc;
    file_map_sha256(&m, out);
    file_map_close(&m);
    return ERR_OK;
}

/* ---- paths ---- */

err_code path_join(const char *dir, const char *name, char **out, err *e) {
    strbuf s = STRBUF_INIT;
    strbuf_addf(&s, "%s%s%s", dir, *dir && dir[strlen(dir) - 1] != '/' ? "/" : "", name);
    *out = strbuf_detach(&s);
    return *out ? ERR_OK : err_nomem(e, "path", strlen(dir) + strlen(name));
}

const char *path_base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}
