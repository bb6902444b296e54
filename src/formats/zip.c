#include "formats/zip.h"

#include <stdlib.h>
#include <string.h>
#define ZLIB_CONST
#include <zlib.h>

enum {
    END_BYTES = 22,
    END64_BYTES = 56,
    LOCATOR64_BYTES = 20,
    ENTRY_BYTES = 46,
    LOCAL_BYTES = 30,
    COMMENT_MAX = 65535,
    MEMBERS_MAX = 1 << 20,
    INFLATE_RATIO_MAX = 1032, /* no deflated stream grows by more */
};

#define END_MAGIC       0x06054b50u
#define END64_MAGIC     0x06064b50u
#define LOCATOR64_MAGIC 0x07064b50u
#define ENTRY_MAGIC     0x02014b50u
#define LOCAL_MAGIC     0x04034b50u

static uint16_t u16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static uint32_t u32(const uint8_t *p) { return (uint32_t)u16(p) | (uint32_t)u16(p + 2) << 16; }
static uint64_t u64(const uint8_t *p) { return (uint64_t)u32(p) | (uint64_t)u32(p + 4) << 32; }

/* ---- the end of the archive says where its directory is ---- */

typedef struct directory {
    uint64_t offset, size, n;
} directory;

static const uint8_t *find_end(const uint8_t *data, size_t size) {
    if (size < END_BYTES) return NULL;
    size_t first = size > END_BYTES + COMMENT_MAX ? size - END_BYTES - COMMENT_MAX : 0;
    for (size_t at = size - END_BYTES + 1; at-- > first;)
        if (u32(data + at) == END_MAGIC && u16(data + at + 20) == size - at - END_BYTES) return data + at;
    return NULL;
}

/* The 64-bit record, when a locator for it stands before the end record. */
static err_code read_end64(const uint8_t *data, const uint8_t *end, directory *d, err *e) {
    if (end - data < LOCATOR64_BYTES || u32(end - LOCATOR64_BYTES) != LOCATOR64_MAGIC) return ERR_OK;
    uint64_t at = u64(end - LOCATOR64_BYTES + 8), limit = (uint64_t)(end - data);
    if (at > limit || limit - at < END64_BYTES || u32(data + at) != END64_MAGIC)
        return err_set(e, ERR_FORMAT, "zip: expected the 64-bit end record at byte %llu", (unsigned long long)at);
    *d = (directory){.n = u64(data + at + 32), .size = u64(data + at + 40), .offset = u64(data + at + 48)};
    return ERR_OK;
}

static err_code find_directory(const uint8_t *data, size_t size, directory *d, err *e) {
    const uint8_t *end = find_end(data, size);
    if (!end) return err_set(e, ERR_FORMAT, "zip: expected a directory at the end, found none: the file is cut or damaged");
    *d = (directory){.n = u16(end + 10), .size = u32(end + 12), .offset = u32(end + 16)};
    if (u16(end + 4) || u16(end + 6)) return err_set(e, ERR_UNSUPPORTED, "zip: an archive in several volumes");
    err_code rc = read_end64(data, end, d, e);
    if (rc) return rc;
    if (d->offset > size || d->size > size - d->offset)
        return err_set(e, ERR_FORMAT, "zip: expected the directory at bytes %llu to %llu of a file of %zu",
                       (unsigned long long)d->offset, (unsigned long long)(d->offset + d->size), size);
    if (d->n > d->size / ENTRY_BYTES || d->n > MEMBERS_MAX)
        return err_set(e, ERR_FORMAT, "zip: a directory of %llu bytes cannot list %llu members", (unsigned long long)d->size,
                       (unsigned long long)d->n);
    return ERR_OK;
}

/* ---- an entry of the directory ---- */

typedef struct entry {
    uint64_t size, packed_size, offset;
} entry;

/* Sizes and offset that do not fit 32 bits stand in the extra field 1, in this order, each only if it does not fit. */
static bool read_wide_sizes(const uint8_t *extra, size_t size, entry *m) {
    uint64_t *const wide[] = {&m->size, &m->packed_size, &m->offset};
    size_t missing = 0, field = 0;
    for (size_t i = 0; i < 3; i++) missing += *wide[i] == UINT32_MAX;
    if (!missing) return true;
    for (;; extra += 4 + field, size -= 4 + field) {
        if (size < 4) return false;
        field = u16(extra + 2);
        if (field > size - 4) return false;
        if (u16(extra) == 1) break;
    }
    const uint8_t *value = extra + 4;
    if (field < missing * 8) return false;
    for (size_t i = 0; i < 3; i++) {
        if (*wide[i] != UINT32_MAX) continue;
        *wide[i] = u64(value);
        value += 8;
    }
    return true;
}

/* The bytes behind the member's own header. */
static err_code find_bytes(const uint8_t *data, size_t size, const entry *m, zip_member *out, err *e) {
    if (m->offset > size || size - m->offset < LOCAL_BYTES || u32(data + m->offset) != LOCAL_MAGIC)
        return err_set(e, ERR_FORMAT, "expected its header at byte %llu", (unsigned long long)m->offset);
    const uint8_t *local = data + m->offset;
    uint64_t at = m->offset + LOCAL_BYTES + u16(local + 26) + u16(local + 28);
    if (at > size || m->packed_size > size - at)
        return err_set(e, ERR_FORMAT, "expected %llu bytes at byte %llu, found the end of the file at %zu",
                       (unsigned long long)m->packed_size, (unsigned long long)at, size);
    out->packed = data + at;
    out->packed_size = (size_t)m->packed_size;
    out->size = (size_t)m->size;
    return ERR_OK;
}

static err_code read_member(const uint8_t *data, size_t size, const uint8_t *p, zip_member *out, err *e) {
    size_t name_len = u16(p + 28), extra_len = u16(p + 30);
    entry m = {.packed_size = u32(p + 20), .size = u32(p + 24), .offset = u32(p + 42)};
    out->method = u16(p + 10);
    out->crc = u32(p + 16);
    if (u16(p + 8) & 1) return err_set(e, ERR_UNSUPPORTED, "it is encrypted");
    if (out->method != 0 && out->method != 8)
        return err_set(e, ERR_UNSUPPORTED, "packed by method %d (known: stored, deflated)", out->method);
    if (!read_wide_sizes(p + ENTRY_BYTES + name_len, extra_len, &m))
        return err_set(e, ERR_FORMAT, "its 64-bit sizes are missing");
    err_code rc = find_bytes(data, size, &m, out, e);
    if (rc) return rc;
    bool possible = out->method ? m.size / INFLATE_RATIO_MAX <= m.packed_size : m.size == m.packed_size;
    if (possible) return ERR_OK;
    return err_set(e, ERR_FORMAT, "%llu bytes cannot come from %llu packed ones", (unsigned long long)m.size,
                   (unsigned long long)m.packed_size);
}

/* ---- the archive ---- */

static int by_name(const void *a, const void *b) {
    return strcmp(((const zip_member *)a)->name, ((const zip_member *)b)->name);
}

/* One entry of the directory, at *at. */
static err_code read_entry(const uint8_t *data, size_t size, const directory *d, size_t *at, arena *memory, zip_member *out,
                           err *e) {
    const uint8_t *p = data + d->offset + *at;
    size_t left = (size_t)d->size - *at;
    if (left < ENTRY_BYTES || u32(p) != ENTRY_MAGIC)
        return err_set(e, ERR_FORMAT, "zip: expected an entry of the directory at byte %zu", (size_t)d->offset + *at);
    size_t name_len = u16(p + 28), bytes = ENTRY_BYTES + name_len + u16(p + 30) + u16(p + 32);
    char *name;
    if (left < bytes) return err_set(e, ERR_FORMAT, "zip: the directory ends within an entry");
    if (memchr(p + ENTRY_BYTES, 0, name_len)) return err_set(e, ERR_FORMAT, "zip: a member's name has a zero byte");
    err_code rc = arena_take(memory, &name, name_len + 1, 1, e);
    if (rc) return rc;
    memcpy(name, p + ENTRY_BYTES, name_len);
    name[name_len] = '\0';
    out->name = name;
    *at += bytes;
    rc = read_member(data, size, p, out, e);
    return rc ? err_prefix(e, rc, "member %.200s", name) : ERR_OK;
}

err_code zip_read_directory(const uint8_t *data, size_t size, arena *memory, zip_archive *out, err *e) {
    directory d = {0};
    zip_member *members;
    size_t at = 0;
    err_code rc = find_directory(data, size, &d, e);
    if (!rc) rc = arena_take(memory, &members, (size_t)d.n, sizeof *members, e);
    for (uint64_t i = 0; !rc && i < d.n; i++) rc = read_entry(data, size, &d, &at, memory, &members[i], e);
    if (rc) return rc;
    *out = (zip_archive){members, (size_t)d.n};
    if (d.n) qsort(members, out->n, sizeof *members, by_name);
    for (size_t i = 1; i < out->n; i++)
        if (!strcmp(members[i - 1].name, members[i].name))
            return err_set(e, ERR_FORMAT, "member %.200s appears twice", members[i].name);
    return ERR_OK;
}

const zip_member *zip_find(const zip_archive *z, const char *name) {
    const zip_member wanted = {.name = name};
    return z->n ? bsearch(&wanted, z->members, z->n, sizeof wanted, by_name) : NULL;
}

/* zlib counts in 32 bits: both sides are handed over in pieces. */
static bool inflate_all(z_stream *s, const zip_member *m, uint8_t *out) {
    enum { PIECE = 1 << 30 };
    size_t in_left = m->packed_size, out_left = m->size;
    int rc = Z_OK;
    s->next_in = m->packed;
    s->next_out = out;
    while (rc == Z_OK) {
        uInt in = in_left < PIECE ? (uInt)in_left : PIECE, room = out_left < PIECE ? (uInt)out_left : PIECE;
        s->avail_in = in;
        s->avail_out = room;
        rc = inflate(s, Z_NO_FLUSH);
        if (s->avail_in == in && s->avail_out == room && rc == Z_OK) return false; /* stuck */
        in_left -= in - s->avail_in;
        out_left -= room - s->avail_out;
    }
    return rc == Z_STREAM_END && !in_left && !out_left;
}

err_code zip_inflate(const zip_member *m, uint8_t *out, err *e) {
    z_stream s = {0};
    if (inflateInit2(&s, -MAX_WBITS) != Z_OK) return err_nomem(e, m->name, m->size);
    bool whole = inflate_all(&s, m, out);
    inflateEnd(&s);
    if (!whole) return err_set(e, ERR_FORMAT, "member %.200s: its packed bytes are damaged", m->name);
    if (crc32_z(0, out, m->size) != m->crc) return err_set(e, ERR_FORMAT, "member %.200s: its checksum is wrong", m->name);
    return ERR_OK;
}
