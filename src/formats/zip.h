/* zip.h — the members of a zip archive in memory: found by name, borrowed where they are stored, inflated where not.
 *
 * Members and their names come from the arena and live as long as it and the data. Encrypted and split archives are refused.
 * Written by hand because a library does not say where a stored member lies, and models are mapped, not copied.
 * Layout: APPNOTE.TXT of PKWARE, with zip64.
 */
#ifndef FORMATS_ZIP_H
#define FORMATS_ZIP_H

#include "core/err.h"
#include "core/mem.h"

#include <stddef.h>
#include <stdint.h>

typedef struct zip_member {
    const char *name;
    const uint8_t *packed; /* borrowed from the archive */
    size_t packed_size, size;
    int method; /* 0 stored, 8 deflated */
    uint32_t crc;
} zip_member;

typedef struct zip_archive {
    zip_member *members; /* by name */
    size_t n;
} zip_archive;

err_code zip_read_directory(const uint8_t *data, size_t size, arena *memory, zip_archive *out, err *e);

const zip_member *zip_find(const zip_archive *z, const char *name); /* NULL when absent */

/* Writes a deflated member into out [member->size] and checks it. */
err_code zip_inflate(const zip_member *member, uint8_t *out, err *e);

#endif
