/* formats.c — the table of model file formats, and how a file finds its row: by content, then by extension. */
#include "core/strbuf.h"
#include "formats/weights_internal.h"

#include <string.h>
#include <strings.h>

typedef struct file_format {
    const char *extension; /* decides where the content does not */
    bool (*is)(const uint8_t *data, size_t size);
    err_code (*read)(weights *w, const uint8_t *data, size_t size, err *e);
} file_format;

static bool is_gguf(const uint8_t *data, size_t size) { return size >= 4 && !memcmp(data, "GGUF", 4); }

static bool is_safetensors(const uint8_t *data, size_t size) {
    uint64_t header;
    if (size < 9 || data[8] != '{') return false;
    memcpy(&header, data, sizeof header);
    return header <= size - 8;
}

static bool is_zip(const uint8_t *data, size_t size) { return size >= 4 && !memcmp(data, "PK\3\4", 4); }
static bool is_pickle(const uint8_t *data, size_t size) {
    return size >= 2 && data[0] == 0x80 && data[1] >= 2 && data[1] <= 5;
}
static bool is_numpy(const uint8_t *data, size_t size) { return size >= 6 && !memcmp(data, "\x93NUMPY", 6); }

/* How to add one: a file with its reader, which weights_internal.h declares, and a row here. */
static const file_format file_formats[] = {
    {".gguf", is_gguf, gguf_read},  {".safetensors", is_safetensors, safetensors_read},
    {".pt", is_zip, archive_read},  {".bin", is_pickle, archive_read},
    {".npz", is_zip, archive_read}, {".npy", is_numpy, npy_read},
};
enum { N_FORMATS = sizeof file_formats / sizeof *file_formats };

static bool ends_in(const char *text, const char *ending) {
    size_t n = strlen(text), m = strlen(ending);
    return n >= m && !strcasecmp(text + n - m, ending);
}

static err_code unknown_format(err *e) {
    strbuf known = STRBUF_INIT;
    for (int i = 0; i < N_FORMATS; i++) strbuf_addf(&known, "%s%s", i ? ", " : "", file_formats[i].extension);
    err_code rc = strbuf_check(&known, e);
    if (!rc) rc = err_set(e, ERR_FORMAT, "not a model file of a kind known here (%s)", known.data);
    strbuf_release(&known);
    return rc;
}

static err_code open_folder(weights *w, err *e) {
    err_code rc = folder_read(w, e); /* its messages name the files */
    if (rc) return rc;
    rc = weights_index(w, e);
    return rc ? err_prefix(e, rc, "%s", w->path) : ERR_OK;
}

static err_code read_content(weights *w, const uint8_t *data, size_t size, err *e) {
    const file_format *f = NULL;
    if (!size) return err_set(e, ERR_FORMAT, "expected a model, found an empty file");
    for (int i = 0; !f && i < N_FORMATS; i++)
        if (file_formats[i].is(data, size)) f = &file_formats[i];
    for (int i = 0; !f && i < N_FORMATS; i++)
        if (ends_in(w->path, file_formats[i].extension)) f = &file_formats[i];
    if (!f) return unknown_format(e);
    err_code rc = f->read(w, data, size, e);
    return rc ? rc : weights_index(w, e);
}

static err_code hand_over(weights *w, err_code rc, weights **out) {
    if (rc)
        weights_close(w);
    else
        *out = w;
    return rc;
}

err_code weights_open_bytes(const char *name, const uint8_t *data, size_t size, weights **out, err *e) {
    weights *w;
    *out = NULL;
    err_code rc = weights_new(name, &w, e);
    if (rc) return rc;
    w->file_size = size;
    rc = read_content(w, data, size, e);
    if (rc) err_prefix(e, rc, "%s", name);
    return hand_over(w, rc, out);
}

static err_code open_file(weights *w, err *e) {
    const uint8_t *data;
    size_t size;
    err_code rc = weights_map(w, w->path, &data, &size, e); /* its message names the path */
    if (rc) return rc;
    rc = read_content(w, data, size, e);
    return rc ? err_prefix(e, rc, "%s", w->path) : ERR_OK;
}

err_code weights_open(const char *path, weights **out, err *e) {
    weights *w;
    *out = NULL;
    err_code rc = weights_new(path, &w, e);
    if (rc) return rc;
    rc = file_is_dir(path) ? open_folder(w, e) : open_file(w, e);
    return hand_over(w, rc, out);
}
