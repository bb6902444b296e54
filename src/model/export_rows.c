/* export_rows.c — the bytes of one tensor of a new file: rows picked, put in order, computed and quantised, a block of them at
 * a time. */
#include "formats/quantize.h"
#include "model/export_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_VALUES = 1 << 20 }; /* values in memory at once, if a row is not longer */

/* Which row of a part is row r of the new tensor, -1 when it is not of this part: row_in_file the other way. */
static int64_t row_of_part(const job_part *p, int64_t r) {
    const row_order *o = &p->target;
    int64_t at = r - o->first, group = at / o->stride, j = at % o->stride;
    if (at < 0 || j >= o->group || group * o->group + j >= p->n) return -1;
    if (j < o->n_paired) j = j % 2 ? o->n_paired / 2 + j / 2 : j / 2;
    return group * o->group + j;
}

/* Where row r comes from: a part, and the row there. */
static const job_part *source_of(const job *j, int64_t r, int64_t *row) {
    for (int i = 0; i < j->n_parts; i++) {
        int64_t at = row_of_part(j->parts + i, r);
        if (at < 0) continue;
        *row = row_in_file(&j->parts[i].source, at);
        return j->parts + i;
    }
    return NULL;
}

static const uint8_t *value_at(const tensor_view *t, int64_t i) {
    return (const uint8_t *)t->data + (size_t)(i / t->type->block_size) * t->type->block_bytes;
}

/* Row r as floats. */
static void read_row(const job *j, int64_t r, float *out) {
    int64_t row = 0;
    const job_part *p = j->values ? NULL : source_of(j, r, &row);
    const tensor_view *t = p ? p->from : NULL;
    if (j->values)
        *out = j->values[r];
    else if (!t)
        memset(out, 0, (size_t)j->k * sizeof *out);
    else if (j->across)
        for (int64_t i = 0; i < j->k; i++) t->type->dequantize(value_at(t, i * t->shape[1] + row), 1, out + i);
    else
        t->type->dequantize(value_at(t, row * j->k), j->k, out);
    if (j->scale != 1 || j->shift != 0)
        for (int64_t i = 0; i < j->k; i++) out[i] = out[i] * j->scale + j->shift;
}

/* Rows whose type stays are copied. */
static bool is_copied(const job *j, const quant_type *type) {
    if (j->values || j->across || j->to_across || j->scale != 1 || j->shift != 0) return false;
    for (int i = 0; i < j->n_parts; i++)
        if (!j->parts[i].from || j->parts[i].from->type != type) return false;
    return true;
}

/* What is lost without a word: a value that float16 does not reach. Scales of blocks are float16 too. */
static bool fits_half(const float *x, int64_t n) {
    float most = 0;
    for (int64_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
    return most < 65520;
}

typedef struct rows_room {
    float *x;       /* [n, k] */
    uint8_t *bytes; /* [n, row_bytes] */
    int64_t n;
} rows_room;

static bool needs_half(const quant_type *type) { return strcmp(type->name, "F32") && strcmp(type->name, "BF16"); }

/* Rows first .. first + n of the new tensor into bytes; false: a value does not fit. */
static bool make_rows(const ctx *c, const job *j, const quant_type *type, int64_t first, int64_t n, size_t row_bytes,
                      const rows_room *room) {
    bool copied = is_copied(j, type), fits = true;
    quantize_fn quantize = quantizer_of(type);
#pragma omp parallel for num_threads(c->threads) schedule(static) reduction(& : fits) if (n * j->k > 4096)
    for (int64_t i = 0; i < n; i++) {
        int64_t row = 0;
        float *x = room->x + (copied ? 0 : i * j->k);
        uint8_t *to = room->bytes + (size_t)i * row_bytes;
        if (copied) {
            const job_part *p = source_of(j, first + i, &row);
            memcpy(to, value_at(p->from, row * j->k), row_bytes);
            continue;
        }
        read_row(j, first + i, x);
        fits &= !needs_half(type) || fits_half(x, j->k);
        quantize(x, j->k, to);
    }
    return fits;
}

static err_code new_room(const job *j, size_t row_bytes, bool copied, rows_room *room, err *e) {
    err_code rc = ERR_OK;
    room->n = j->k ? BLOCK_VALUES / j->k : j->n_rows;
    if (room->n < 1) room->n = 1;
    if (room->n > j->n_rows) room->n = j->n_rows;
    size_t values;
    if (!mem_mul((size_t)room->n, (size_t)j->k, &values)) return err_set(e, ERR_FORMAT, "rows of %lld", (long long)j->k);
    if (!copied) TRY(mem_new(&room->x, values, sizeof *room->x, "rows of a tensor", e));
    TRY(mem_new(&room->bytes, (size_t)room->n, row_bytes, "rows of a tensor", e));
done:
    return rc;
}

/* A matrix that the new file stores [k, n]: all of it, then turned. */
static err_code produce_across(const export_run *r, const job *j, const tensor_view *t, tensor_sink *to, err *e) {
    float *x = NULL, *column = NULL;
    uint8_t *bytes = NULL;
    size_t size, row_bytes = (size_t)j->n_rows * t->type->block_bytes;
    quantize_fn quantize = quantizer_of(t->type);
    bool fits = true;
    err_code rc = ERR_OK;
    if (!mem_mul((size_t)j->n_rows, (size_t)j->k, &size)) return err_set(e, ERR_FORMAT, "tensor %s is too large", t->name);
    TRY(mem_new(&x, size, sizeof *x, "a matrix", e));
    TRY(mem_new(&column, (size_t)j->n_rows, sizeof *column, "a matrix", e));
    TRY(mem_new(&bytes, row_bytes, 1, "a matrix", e));
    for (int64_t i = 0; i < j->n_rows; i++) read_row(j, i, x + i * j->k);
    for (int64_t i = 0; i < j->k; i++) {
        TRY(ctx_check_cancel(r->c, e));
        for (int64_t row = 0; row < j->n_rows; row++) column[row] = x[row * j->k + i];
        fits &= !needs_half(t->type) || fits_half(column, j->n_rows);
        quantize(column, j->n_rows, bytes);
        TRY(tensor_sink_add(to, bytes, row_bytes, e));
    }
    if (!fits) rc = err_set(e, ERR_MISMATCH, "tensor %s has values that %s does not reach", t->name, t->type->name);
done:
    free(x), free(column), free(bytes);
    return rc;
}

static err_code produce_rows(const export_run *r, const job *j, const tensor_view *t, tensor_sink *to, err *e) {
    rows_room room = {0};
    size_t row_bytes = j->n_rows ? t->size / (size_t)j->n_rows : 0;
    err_code rc;
    TRY(new_room(j, row_bytes, is_copied(j, t->type), &room, e));
    for (int64_t at = 0; at < j->n_rows; at += room.n) {
        int64_t n = j->n_rows - at < room.n ? j->n_rows - at : room.n;
        TRY(ctx_check_cancel(r->c, e));
        if (!make_rows(r->c, j, t->type, at, n, row_bytes, &room))
            TRY(err_set(e, ERR_MISMATCH, "tensor %s has values beyond 65504, which %s does not reach: take F32 or BF16",
                        t->name, t->type->name));
        TRY(tensor_sink_add(to, room.bytes, (size_t)n * row_bytes, e));
    }
done:
    free(room.x), free(room.bytes);
    return rc;
}

err_code export_produce(void *user, int64_t i, const tensor_view *t, tensor_sink *to, err *e) {
    export_run *r = user;
    const job *j = r->plan->jobs + i;
    err_code rc = j->to_across ? produce_across(r, j, t, to, e) : produce_rows(r, j, t, to, e);
    if (rc) return rc;
    r->done += t->size;
    const progress p = {
        .stage = "convert", .unit = "MB", .done = (int64_t)(r->done >> 20), .total = (int64_t)(r->total >> 20)};
    ctx_report(r->c, &p);
    return ERR_OK;
}
