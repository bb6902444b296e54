/* npy.c — NumPy's .npy: magic, version, length of the header, the header as a Python dictionary, values.
 *
 *   \x93NUMPY 1 0 <u16 length> or 2 0 <u32 length>   {'descr': '<f4', 'fortran_order': False, 'shape': (24, 64), }
 *
 * Format: numpy/lib/format.py. */
#include "formats/weights_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAGIC_BYTES = 8, HEADER_MAX = 65536 };

typedef struct header {
    const quant_type *type;
    bool fortran_order; /* the first dimension is the fastest */
    int n_dims;
    int64_t shape[WEIGHTS_DIMS_MAX];
} header;

typedef struct scanner {
    const char *p, *end;
} scanner;

static bool accept(scanner *s, const char *text) {
    size_t n = strlen(text);
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\n')) s->p++;
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, text, n) != 0) return false;
    s->p += n;
    return true;
}

static const struct {
    const char *descr, *type;
} descriptions[] = {
    {"'<f4'", "F32"}, {"'<f8'", "F64"}, {"'<f2'", "F16"}, {"'<i8'", "I64"}, {"'<i4'", "I32"}, {"'<i2'", "I16"},
    {"'|i1'", "I8"},  {"'<u8'", "U64"}, {"'<u4'", "U32"}, {"'<u2'", "U16"}, {"'|u1'", "U8"},  {"'|b1'", "BOOL"},
};

static err_code scan_type(scanner *s, header *h, err *e) {
    for (size_t i = 0; i < sizeof descriptions / sizeof *descriptions; i++) {
        if (!accept(s, descriptions[i].descr)) continue;
        h->type = quant_by_name(descriptions[i].type);
        return ERR_OK;
    }
    if (accept(s, "'>")) return err_set(e, ERR_UNSUPPORTED, "big-endian values (write it again with .astype('<f4'))");
    if (accept(s, "'|O")) return err_set(e, ERR_UNSUPPORTED, "Python objects instead of numbers");
    return err_set(e, ERR_UNSUPPORTED, "descr: '%.*s' is unknown", (int)(s->end - s->p < 20 ? s->end - s->p : 20), s->p);
}

static bool scan_number(scanner *s, int64_t *out) {
    accept(s, "");
    const char *start = s->p;
    *out = 0;
    for (; s->p < s->end && *s->p >= '0' && *s->p <= '9'; s->p++)
        if (__builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, *s->p - '0', out)) return false;
    return s->p > start;
}

static err_code scan_shape(scanner *s, header *h, err *e) {
    if (!accept(s, "(")) return err_set(e, ERR_FORMAT, "shape: expected (");
    while (!accept(s, ")")) {
        if (h->n_dims == WEIGHTS_DIMS_MAX)
            return err_set(e, ERR_UNSUPPORTED, "shape: expected at most %d dimensions", WEIGHTS_DIMS_MAX);
        if (!scan_number(s, &h->shape[h->n_dims]))
            return err_set(e, ERR_FORMAT, "shape: expected whole numbers, none negative");
        h->n_dims++;
        if (accept(s, ",")) continue;
        if (!accept(s, ")")) return err_set(e, ERR_FORMAT, "shape: expected a comma or )");
        break;
    }
    return ERR_OK;
}

static err_code scan_field(scanner *s, header *h, unsigned *seen, err *e) {
    unsigned field = 0;
    err_code rc = ERR_OK;
    if (accept(s, "'descr':")) {
        field = 1;
        rc = scan_type(s, h, e);
    } else if (accept(s, "'fortran_order':")) {
        field = 2;
        h->fortran_order = accept(s, "True");
        if (!h->fortran_order && !accept(s, "False")) rc = err_set(e, ERR_FORMAT, "fortran_order: expected True or False");
    } else if (accept(s, "'shape':")) {
        field = 4;
        if (!(*seen & field)) rc = scan_shape(s, h, e);
    }
    if (!rc && (!field || *seen & field))
        rc = err_set(e, ERR_FORMAT, "header: expected descr, fortran_order and shape, once each");
    *seen |= field;
    return rc;
}

static err_code scan_header(scanner s, header *h, err *e) {
    unsigned seen = 0;
    if (!accept(&s, "{")) return err_set(e, ERR_FORMAT, "header: expected a dictionary");
    while (!accept(&s, "}")) {
        err_code rc = scan_field(&s, h, &seen, e);
        if (rc) return rc;
        if (!accept(&s, ",") && !(s.p < s.end && *s.p == '}')) return err_set(e, ERR_FORMAT, "header: expected a comma or }");
    }
    if (seen != 7) return err_set(e, ERR_FORMAT, "header: expected descr, fortran_order and shape");
    return ERR_OK;
}

static err_code find_header(const uint8_t *data, size_t size, scanner *s, err *e) {
    if (size < MAGIC_BYTES + 2 || memcmp(data, "\x93NUMPY", 6) != 0)
        return err_set(e, ERR_FORMAT, "expected a file that starts with \\x93NUMPY");
    size_t length_bytes = data[6] == 1 ? 2 : 4, start = MAGIC_BYTES + length_bytes, length = 0;
    if (data[6] < 1 || data[6] > 3) return err_set(e, ERR_UNSUPPORTED, "version %d: expected 1, 2 or 3", data[6]);
    if (size < start) return err_set(e, ERR_FORMAT, "the file ends within its header");
    memcpy(&length, data + MAGIC_BYTES, length_bytes);
    if (length > size - start || length > HEADER_MAX)
        return err_set(e, ERR_FORMAT, "expected a header of %zu bytes, found %zu behind its length", length, size - start);
    *s = (scanner){(const char *)data + start, (const char *)data + start + length};
    return ERR_OK;
}

/* Adds the array as the tensor `name`. offset is that of data in the file. */
err_code npy_add(weights *w, const char *name, const uint8_t *data, size_t size, uint64_t offset, err *e) {
    scanner s = {0};
    header h = {0};
    int64_t count, strides[WEIGHTS_DIMS_MAX], stride = 1;
    char text[SHAPE_TEXT];
    err_code rc = find_header(data, size, &s, e);
    if (!rc) rc = scan_header(s, &h, e);
    if (rc) return rc;
    const uint8_t *values = (const uint8_t *)s.end;
    size_t found = size - (size_t)(values - data);
    tensor_view t = {.type = h.type, .n_dims = h.n_dims, .data = values, .offset = offset + (uint64_t)(values - data)};
    memcpy(t.shape, h.shape, sizeof t.shape);
    shape_text(t.n_dims, t.shape, text);
    if (!shape_count(h.n_dims, h.shape, &count) || !quant_bytes(h.type, count, &t.size))
        return err_set(e, ERR_FORMAT, "shape %s is larger than any file", text);
    if (t.size != found)
        return err_set(e, ERR_FORMAT, "expected %zu bytes, for %s of %s, found %zu", t.size, text, h.type->name, found);
    for (int i = 0; i < h.n_dims; i++) {
        strides[i] = stride;
        stride *= h.shape[i];
    }
    if (h.fortran_order) rc = weights_gather(w, &t, strides, e);
    return rc ? rc : weights_add_tensor(w, &t, name, strlen(name), e);
}

err_code npy_read(weights *w, const uint8_t *data, size_t size, err *e) {
    snprintf(w->format, sizeof w->format, "NumPy");
    return npy_add(w, "arr_0", data, size, 0, e);
}
