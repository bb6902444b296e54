#include "formats/tensor_sink.h"
#include "core/mem.h"
#include "core/strbuf.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tensor_sink {
    char *path, *tmp;
    FILE *f;     /* NULL once committed */
    size_t left; /* of the tensor that is being produced */
    bool counts;
};

static err_code open_tmp(tensor_sink *s, const char *path, err *e) {
    strbuf tmp = STRBUF_INIT;
    strbuf_addf(&tmp, "%s.tmp", path);
    s->tmp = strbuf_detach(&tmp);
    s->path = strdup(path);
    if (!s->tmp || !s->path) return err_nomem(e, "a file's name", strlen(path));
    s->f = fopen(s->tmp, "wbe");
    return s->f ? ERR_OK : err_set_errno(e, "%s: cannot create", s->tmp);
}

err_code tensor_sink_open(const char *path, uint64_t size, tensor_sink **out, err *e) {
    *out = NULL;
    err_code rc = file_check_space(path, size, e);
    if (!rc) rc = mem_new0(out, 1, sizeof **out, "a file", e);
    return rc ? rc : open_tmp(*out, path, e);
}

err_code tensor_sink_add(tensor_sink *s, const void *bytes, size_t n, err *e) {
    assert(!s->counts || n <= s->left);
    if (s->counts) s->left -= n;
    return !n || fwrite(bytes, 1, n, s->f) == n ? ERR_OK : err_set_errno(e, "%s: cannot write", s->path);
}

err_code tensor_sink_produce(tensor_sink *s, tensor_producer produce, void *user, const tensor_view *t, int64_t i, err *e) {
    s->left = t->size;
    s->counts = true;
    err_code rc = produce(user, i, t, s, e);
    assert(rc || !s->left);
    s->counts = false;
    return rc;
}

err_code tensor_sink_commit(tensor_sink *s, err *e) {
    FILE *f = s->f;
    err_code rc = fflush(f) ? err_set_errno(e, "%s: cannot write", s->path) : ERR_OK;
    s->f = NULL;
    if (fclose(f) && !rc) rc = err_set_errno(e, "%s: cannot write", s->path);
    if (!rc) rc = file_commit(s->tmp, s->path, e);
    if (rc) unlink(s->tmp);
    return rc;
}

void tensor_sink_close(tensor_sink *s) {
    if (!s) return;
    if (s->f) {
        fclose(s->f);
        unlink(s->tmp);
    }
    free(s->path), free(s->tmp);
    free(s);
}
