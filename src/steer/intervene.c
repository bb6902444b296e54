/* The hook behind steering: picks the rows that have a list, encodes those whose interventions need it, moves them all. */
#include "steer/intervene.h"

#include "core/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- picking ---- */

static const intervention_list *list_of(const intervene *v, const hook_rows *rows, int64_t r) {
    int32_t seq = rows->seq[r];
    if (seq < 0 || seq >= v->n_seqs || rows->pos[r] < v->skip_first) return NULL;
    if (v->sae && sae_row_is_long(v->sae, rows->x + r * rows->d_model)) return NULL;
    return v->per_seq[seq].n ? &v->per_seq[seq] : NULL;
}

static bool reads_code(const intervention_list *l) {
    for (int i = 0; i < l->n; i++)
        if (l->items[i].kind->reads_code) return true;
    return false;
}

/* Fills picked with the rows to change, the n_encoded that need their code first. */
static err_code pick_rows(intervene *v, const hook_rows *rows, int64_t *n, int64_t *n_encoded, err *e) {
    size_t n_rows = (size_t)rows->n_tokens;
    err_code rc = mem_grow(&v->picked, &v->cap_picked, n_rows, sizeof *v->picked, "steered rows", e);
    if (!rc) rc = mem_grow(&v->moved, &v->cap_moved, n_rows, sizeof *v->moved, "steered rows", e);
    if (rc) return rc;
    int64_t k = 0;
    for (int coded = 1; coded >= 0; coded--) {
        for (int64_t r = 0; r < rows->n_tokens; r++) {
            const intervention_list *l = list_of(v, rows, r);
            if (l && reads_code(l) == coded) v->picked[k++] = r;
        }
        if (coded) *n_encoded = k;
    }
    *n = k;
    return ERR_OK;
}

static err_code encode_rows(intervene *v, const ctx *c, const hook_rows *rows, int64_t n, err *e) {
    int64_t d = rows->d_model;
    err_code rc = mem_grow(&v->rows, &v->cap_rows, (size_t)(n * d), sizeof *v->rows, "steered rows", e);
    if (rc) return rc;
    for (int64_t i = 0; i < n; i++) memcpy(v->rows + i * d, rows->x + v->picked[i] * d, (size_t)d * sizeof *v->rows);
    return sae_encode(c, v->sae, v->rows, n, &v->acts, e);
}

/* ---- moving ---- */

/* Applies a list to a row whose code is row `code` of v->acts (-1: not needed). True when it moved. */
static bool move_row(const intervene *v, const intervention_list *l, int64_t code, float *x /* [d] */, int64_t d) {
    bool moved = false;
    float scale = v->sae ? sae_row_scale(v->sae, x) : 1; /* of the row as it arrives */
    for (int i = 0; i < l->n; i++) {
        const intervention *item = &l->items[i];
        float f_i = item->kind->reads_code ? sparse_get(&v->acts, code, (uint32_t)item->feature) : 0;
        float amount = item->kind->amount(item, f_i);
        if (amount == 0) continue;
        const float *u = item->kind->needs_feature ? v->sae->W_dec + item->feature * d : item->direction;
        if (item->kind->needs_feature) amount *= scale;
        for (int64_t j = 0; j < d; j++) x[j] += amount * u[j];
        moved = true;
    }
    return moved;
}

static void count(intervene *v, const hook_rows *rows, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        v->positions_changed += v->moved[i];
        if (v->changed_per_seq) v->changed_per_seq[rows->seq[v->picked[i]]] += v->moved[i];
    }
}

static err_code on_rows(void *user, const ctx *c, const hook_rows *rows, err *e) {
    intervene *v = user;
    int64_t n = 0, n_encoded = 0, d = rows->d_model;
    if (v->sae && v->sae->cfg.d_in != d)
        return err_set(e, ERR_MISMATCH, "the SAE takes rows of %" PRId64 " numbers, the model's have %" PRId64,
                       v->sae->cfg.d_in, d);
    err_code rc = pick_rows(v, rows, &n, &n_encoded, e);
    if (!rc && n_encoded) rc = encode_rows(v, c, rows, n_encoded, e);
    if (rc) return rc;
#pragma omp parallel for num_threads(c->threads)
    for (int64_t i = 0; i < n; i++) {
        int64_t r = v->picked[i];
        v->moved[i] = move_row(v, list_of(v, rows, r), i < n_encoded ? i : -1, rows->x + r * d, d);
    }
    count(v, rows, n);
    return ERR_OK;
}

/* ---- the hook ---- */

static err_code check(const intervene *v, const intervention *item, err *e) {
    if (item->kind->needs_value && !isfinite(item->value))
        return err_set(e, ERR_USAGE, "%s: the value must be a finite number", item->kind->name);
    if (!item->kind->needs_feature) {
        assert(item->direction);
        return ERR_OK;
    }
    if (!v->sae) return err_set(e, ERR_USAGE, "%s needs an SAE", item->kind->name);
    if (item->feature < 0 || item->feature >= v->sae->cfg.d_sae)
        return err_set(e, ERR_USAGE, "feature %" PRId64 " does not exist, the SAE has 0 .. %" PRId64, item->feature,
                       v->sae->cfg.d_sae - 1);
    return sae_check_autoencoder(v->sae, e);
}

err_code intervene_hook(intervene *v, model_hook *out, err *e) {
    for (int64_t s = 0; s < v->n_seqs; s++)
        for (int i = 0; i < v->per_seq[s].n; i++) {
            err_code rc = check(v, &v->per_seq[s].items[i], e);
            if (rc) return rc;
        }
    v->positions_changed = 0;
    *out = (model_hook){.at = v->at, .fn = on_rows, .user = v};
    return ERR_OK;
}

void intervene_release(intervene *v) {
    sparse_release(&v->acts);
    free(v->picked);
    free(v->moved);
    free(v->rows);
    v->picked = NULL;
    v->moved = NULL;
    v->rows = NULL;
    v->cap_picked = v->cap_moved = v->cap_rows = 0;
}
