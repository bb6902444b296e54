/* export_across.c — the plan of an export into the other spelling: GGUF's names, keys and orders of rows to Hugging Face's, or
 * back. The new file's keys are read as a file's are, which says what its tensors have to look like, and the two descriptions
 * are compared. */
#include "model/export_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct crossing {
    const weights *from;
    const export_opts *o;
    export_plan *p;
    const arch *target;
    model_spec a, b; /* what is read, and what the new file says */
    float q_scale;   /* of queries, where b scales scores otherwise */
} crossing;

/* ---- do the two say the same? ---- */

static bool near(double x, double y) { return fabs(x - y) <= 1e-6 * fmax(fabs(x), fabs(y)); }

static bool same_layers(const model_spec *a, const model_spec *b) {
    bool windows = a->window && a->window < a->cfg.n_ctx; /* a longer one shuts nothing out */
    for (int64_t i = 0; i < a->cfg.n_layers; i++) {
        int differ = a->layers[i] ^ b->layers[i];
        if (differ & (LAYER_NO_ROPE | LAYER_LOCAL_ROPE) || (windows && differ & LAYER_WINDOW)) return false;
    }
    return true;
}

/* What differs, in words, or NULL. */
static const char *difference(const model_spec *a, const model_spec *b) {
    const model_config *g = &a->cfg, *h = &b->cfg;
    const struct {
        const char *what;
        double a, b;
    } values[] = {
        {"number of layers", (double)g->n_layers, (double)h->n_layers},
        {"width", (double)g->d_model, (double)h->d_model},
        {"heads", (double)g->n_heads, (double)h->n_heads},
        {"key heads", (double)g->n_kv_heads, (double)h->n_kv_heads},
        {"size of heads", (double)g->d_head, (double)h->d_head},
        {"width of the MLP", (double)g->d_ff, (double)h->d_ff},
        {"vocabulary", (double)g->n_vocab, (double)h->n_vocab},
        {"context length", (double)g->n_ctx, (double)h->n_ctx},
        {"epsilon of the norms", g->norm_eps, h->norm_eps},
        {"kind of norms", a->layer_norm, b->layer_norm},
        {"norms of q and k", a->whole_q_norm, b->whole_q_norm},
        {"activation", a->gate, b->gate},
        {"MLP", a->gated, b->gated},
        {"order of the sub-layers", a->parallel, b->parallel},
        {"scale of the embeddings", a->embedding_scale, b->embedding_scale},
        {"scale of the residual stream", a->residual_scale, b->residual_scale},
        {"scale of the logits", a->logit_scale, b->logit_scale},
        {"cap of the scores", a->attention_cap, b->attention_cap},
        {"cap of the logits", a->logit_cap, b->logit_cap},
        {"rotated dimensions", (double)a->n_rotated, (double)b->n_rotated},
        {"base of the rope", a->rope.base, b->rope.base},
        {"scaling of the rope", a->rope.stretch, b->rope.stretch},
        {"base of the local rope", a->local_rope.base, b->local_rope.base},
        {"scaling of the local rope", a->local_rope.stretch, b->local_rope.stretch},
        {"window", (double)a->window, a->window < g->n_ctx ? (double)b->window : (double)a->window},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        if (!near(values[i].a, values[i].b)) return values[i].what;
    return same_layers(a, b) ? NULL : "differences between layers (windows, ropes)";
}

/* ---- LLaMA 3's rope: a formula in folders, a tensor in GGUF files ---- */

/* Of a file without the tensor: NULL. */
static err_code find_factors(const crossing *x, const tensor_view **out, err *e) {
    char name[TENSOR_NAME_MAX];
    const int64_t n = x->a.n_rotated / 2;
    *out = NULL;
    if (!x->a.names.rope_factors) return ERR_OK;
    tensor_name(name, x->a.names.rope_factors, 0, "weight");
    return weights_find(x->from, name) ? weights_require(x->from, name, 1, &n, out, e) : ERR_OK;
}

static double rope_frequency(const model_spec *s, int64_t j) {
    return pow(s->rope.base, -2 * (double)j / (double)s->n_rotated);
}

static bool explains(const model_spec *s, const rope_spec *r, const float *factors) {
    for (int64_t j = 0; j < s->n_rotated / 2; j++)
        if (fabs(rope_llama3_factor(r, rope_frequency(s, j)) - (double)factors[j]) > 2e-6 * (double)factors[j]) return false;
    return true;
}

static bool try_factors(const model_spec *s, const float *factors, double most, double low, double high, double length,
                        rope_spec *r) {
    r->llama3_factor = most, r->low_factor = low;
    r->high_factor = round(high * 1000) / 1000, r->original_length = round(length); /* as people write them */
    return r->high_factor > r->low_factor && r->original_length >= 1 && explains(s, r, factors);
}

/* How far factor j is on its way from fully stretched, 0, to not at all, 1. */
static double share_of(const float *factors, int64_t j, double most) {
    return (1 / (double)factors[j] - 1 / most) / (1 - 1 / most);
}

/* Factors are a function of turns = length f / 2 pi, where f is the frequency: share = (turns - low) / (high - low). Only the
 * ratios of low, high and length matter, so low is 1; high is 4 in all models there are, and one factor between the ends gives
 * the length; else two of them give both. */
static bool fit_factors(const model_spec *s, const float *factors, rope_spec *r) {
    const double turn = 2 * acos(-1);
    int64_t n = s->n_rotated / 2, first = -1, last = -1, stretched = -1;
    double most = 1;
    for (int64_t j = 0; j < n; j++) most = fmax(most, (double)factors[j]);
    for (int64_t j = 0; j < n; j++) {
        double share = share_of(factors, j, most);
        if (share > 1e-4 && share < 0.9999) last = j, first = first < 0 ? j : first;
        if (stretched < 0 && share <= 0) stretched = j;
    }
    if (!(most > 1)) return false;
    if (first < 0) return stretched >= 0 && try_factors(s, factors, most, 1, 4, turn / rope_frequency(s, stretched), r);
    double f = rope_frequency(s, first), share = share_of(factors, first, most);
    if (try_factors(s, factors, most, 1, 4, turn * (1 + 3 * share) / f, r)) return true;
    if (first == last) return false;
    double slope = (share - share_of(factors, last, most)) / (f - rope_frequency(s, last)), at_0 = share - slope * f;
    return at_0 < 0 && try_factors(s, factors, most, 1, 1 - 1 / at_0, turn * slope / -at_0, r);
}

static err_code read_factors(crossing *x, err *e) {
    const tensor_view *t;
    float *factors = NULL;
    err_code rc = find_factors(x, &t, e);
    if (rc || !t) return rc;
    TRY(mem_new(&factors, (size_t)x->a.n_rotated / 2, sizeof *factors, "rope factors", e));
    matrix_row(t, 0, factors);
    if (!fit_factors(&x->a, factors, &x->a.rope))
        rc = err_set(
            e, ERR_UNSUPPORTED,
            "tensor %s scales the rope in a way that config.json has no words for (LLaMA 3's formula does not give it)",
            t->name);
done:
    free(factors);
    return rc;
}

static err_code add_factors(crossing *x, err *e) {
    const rope_spec *r = &x->a.rope;
    const tensor_view *t;
    char name[TENSOR_NAME_MAX];
    job j = {.n_rows = x->a.n_rotated / 2, .k = 1, .scale = 1};
    err_code rc = find_factors(x, &t, e);
    if (rc || !x->b.names.rope_factors || (!t && !(r->low_factor > 0))) return rc;
    rc = mem_new(&x->p->rope_factors, (size_t)j.n_rows, sizeof(float), "rope factors", e);
    if (rc) return rc;
    for (int64_t i = 0; i < j.n_rows; i++) x->p->rope_factors[i] = (float)rope_llama3_factor(r, rope_frequency(&x->a, i));
    j.values = x->p->rope_factors;
    tensor_name(name, x->b.names.rope_factors, 0, "weight");
    return export_add(x->p, x->o, name, &j.n_rows, 1, &j, e);
}

/* ---- tensors ---- */

static job_part part_of(const tensor_view *t, const place *a, const place *b) {
    return (job_part){.from = t, .source = a->order, .target = b->order, .n = a->n};
}

/* A tensor that is there whole, in a's words and in b's; NULL: b or a has no such. */
static err_code add_whole(crossing *x, const char *a, const char *b, int layer, const char *kind, int64_t n, int64_t k,
                          float scale, float shift, err *e) {
    char name[TENSOR_NAME_MAX];
    const int64_t shape[] = {n, k};
    const int n_dims = k > 1 ? 2 : 1;
    const tensor_view *t;
    if (!a || !b) return ERR_OK;
    tensor_name(name, a, layer, kind);
    err_code rc = weights_require(x->from, name, n_dims, shape, &t, e);
    if (rc) return rc;
    const place whole = place_whole(a, n, k);
    const job j = {.parts = {part_of(t, &whole, &whole)}, .n_parts = 1, .n_rows = n, .k = k, .scale = scale, .shift = shift};
    tensor_name(name, b, layer, kind);
    return export_add(x->p, x->o, name, shape, n_dims, &j, e);
}

static err_code add_norm(crossing *x, const char *a, const char *b, int layer, int64_t n, float scale, err *e) {
    float shift = (float)x->a.gain_of_one - (float)x->b.gain_of_one;
    err_code rc;
    if (scale != 1) shift = (float)x->a.gain_of_one * scale - (float)x->b.gain_of_one; /* (g + 1) scale - 1 */
    TRY(add_whole(x, a, b, layer, "weight", n, 1, scale, shift, e));
    if (x->a.layer_norm) TRY(add_whole(x, a, b, layer, "bias", n, 1, 1, 0, e));
done:
    return rc;
}

static err_code add_norms(crossing *x, int i, err *e) {
    const tensor_names *a = &x->a.names, *b = &x->b.names;
    const model_config *g = &x->a.cfg;
    const int64_t d = g->d_model, d_q = g->n_heads * g->d_head, d_kv = g->n_kv_heads * g->d_head;
    err_code rc;
    TRY(add_norm(x, a->attn_norm, b->attn_norm, i, d, 1, e));
    TRY(add_norm(x, a->attn_post_norm, b->attn_post_norm, i, d, 1, e));
    TRY(add_norm(x, a->mlp_norm, b->mlp_norm, i, d, 1, e));
    TRY(add_norm(x, a->mlp_post_norm, b->mlp_post_norm, i, d, 1, e));
    TRY(add_norm(x, a->q_norm, b->q_norm, i, x->a.whole_q_norm ? d_q : g->d_head, x->q_scale, e));
    TRY(add_norm(x, a->k_norm, b->k_norm, i, x->a.whole_q_norm ? d_kv : g->d_head, 1, e));
done:
    return rc;
}

/* Linears with the same name in the new file are one tensor; `first` is the first of them. */
static err_code add_linear(crossing *x, const place *a, const place *b, int first, int layer, bool bias, err *e) {
    char name[TENSOR_NAME_MAX];
    const char *kind = bias ? "bias" : "weight";
    job j = {.n_rows = b[first].n_all, .k = bias ? 1 : b[first].k, .scale = first == LAYER_Q ? x->q_scale : 1};
    if (x->a.names.q_norm) j.scale = 1; /* its gain takes the scale */
    bool any = false;
    j.across = x->a.transposed && !bias;
    j.to_across = x->b.transposed && !bias;
    for (int i = first; i < LAYER_LINEARS; i++) {
        const tensor_view *t = NULL;
        if (!b[i].stem || strcmp(b[i].stem, b[first].stem)) continue;
        const int64_t matrix[] = {j.across ? a[i].k : a[i].n_all, j.across ? a[i].n_all : a[i].k};
        tensor_name(name, a[i].stem, layer, kind);
        if (!bias || weights_find(x->from, name)) {
            err_code rc = weights_require(x->from, name, bias ? 1 : 2, bias ? &a[i].n_all : matrix, &t, e);
            if (rc) return rc;
        }
        if (t && j.across && t->type->block_size != 1)
            return err_set(e, ERR_UNSUPPORTED, "tensor %s: a matrix stored [in, out] has to be of plain numbers, not %s",
                           name, t->type->name);
        any |= t != NULL;
        j.parts[j.n_parts++] = part_of(t, a + i, b + i);
    }
    if (!any) return ERR_OK;
    if (j.scale != 1 && j.n_parts > 1)
        return err_set(e, ERR_UNSUPPORTED, "its scores are scaled in a way that the new file cannot say");
    const int64_t shape[] = {j.to_across ? j.k : j.n_rows, j.to_across ? j.n_rows : j.k};
    tensor_name(name, b[first].stem, layer, kind);
    return export_add(x->p, x->o, name, shape, bias ? 1 : 2, &j, e);
}

static err_code add_block(crossing *x, int layer, err *e) {
    place a[LAYER_LINEARS], b[LAYER_LINEARS];
    err_code rc;
    places_of(&x->a, a), places_of(&x->b, b);
    TRY(add_norms(x, layer, e));
    for (int i = 0; i < LAYER_LINEARS; i++) {
        bool seen = false;
        for (int k = 0; k < i && b[i].stem; k++) seen |= b[k].stem && !strcmp(b[k].stem, b[i].stem);
        if (!b[i].stem || seen) continue;
        TRY(add_linear(x, a, b, i, layer, false, e));
        TRY(add_linear(x, a, b, i, layer, true, e));
    }
done:
    return rc;
}

/* A head of its own that the new format has no name for may be the embedding once more. */
static err_code add_head(crossing *x, err *e) {
    const model_config *g = &x->a.cfg;
    const int64_t shape[] = {g->n_vocab, g->d_model};
    const tensor_view *head, *embedding;
    char name[TENSOR_NAME_MAX];
    err_code rc;
    if (g->tied_embedding) return ERR_OK;
    if (!x->b.cfg.tied_embedding) {
        TRY(add_whole(x, x->a.names.head, x->b.names.head, 0, "weight", g->n_vocab, g->d_model, 1, 0, e));
        tensor_name(name, x->a.names.head, 0, "bias");
        if (weights_find(x->from, name))
            TRY(add_whole(x, x->a.names.head, x->b.names.head, 0, "bias", g->n_vocab, 1, 1, 0, e));
        return ERR_OK;
    }
    tensor_name(name, x->a.names.head, 0, "weight");
    TRY(weights_require(x->from, name, 2, shape, &head, e));
    tensor_name(name, x->a.names.embedding, 0, "weight");
    TRY(weights_require(x->from, name, 2, shape, &embedding, e));
    if (head->type != embedding->type || memcmp(head->data, embedding->data, head->size))
        rc = err_set(e, ERR_UNSUPPORTED, "tensor %s differs from the embedding, and a folder of %s has no other head",
                     head->name, x->target->name);
done:
    return rc;
}

static err_code add_tensors(const ctx *c, crossing *x, err *e) {
    const tensor_names *a = &x->a.names, *b = &x->b.names;
    const model_config *g = &x->a.cfg;
    err_code rc;
    TRY(add_whole(x, a->embedding, b->embedding, 0, "weight", g->n_vocab, g->d_model, 1, 0, e));
    TRY(add_whole(x, a->positions, b->positions, 0, "weight", g->n_ctx, g->d_model, 1, 0, e));
    TRY(add_factors(x, e));
    for (int i = 0; i < g->n_layers; i++) {
        TRY(ctx_check_cancel(c, e));
        TRY(add_block(x, i, e));
    }
    TRY(add_norm(x, a->final_norm, b->final_norm, 0, g->d_model, 1, e));
    TRY(add_head(x, e));
done:
    return rc;
}

/* ---- the new file's description ---- */

static err_code add_stub(weights *w, const char *stem, const model_config *g, err *e) {
    const tensor_view t = {.type = quant_by_name("F32"), .n_dims = 2, .shape = {g->n_vocab, g->d_model}};
    char name[TENSOR_NAME_MAX];
    tensor_name(name, stem, 0, "weight");
    return weights_add_tensor(w, &t, name, strlen(name), e);
}

static config_out out_for(const crossing *x, weights *w) {
    return (config_out){.w = w,
                        .architecture = x->target->name,
                        .gguf = x->o->format == EXPORT_GGUF,
                        .last_spelling = x->target->last_spelling};
}

/* Keys, an embedding and perhaps a head are all that a description looks at. */
static err_code describe_target(crossing *x, err *e) {
    weights *w = NULL;
    tensor_names names;
    err_code rc;
    TRY(weights_new(weights_path(x->p->to), &w, e));
    const config_out to = out_for(x, w);
    TRY(config_write(x->target, &x->a, &to, e));
    arch_names(x->target, to.gguf, &names);
    TRY(add_stub(w, names.embedding, &x->a.cfg, e));
    if (!x->a.cfg.tied_embedding) TRY(add_stub(w, names.head, &x->a.cfg, e));
    TRY(weights_index(w, e));
    TRY(arch_read(x->target, w, &x->b, e));
    const char *what = difference(&x->a, &x->b);
    if (what)
        rc = err_set(e, ERR_UNSUPPORTED, "this model's %s cannot be said in %s of %s", what,
                     to.gguf ? "a GGUF file" : "the config.json", x->target->name);
done:
    weights_close(w);
    return rc;
}

/* GGUF files call Mistral llama; a folder's llama has no window. */
static const arch *target_of(const arch *a, const model_spec *s, bool gguf) {
    if (gguf && !a->name) return &arch_llama;
    return !gguf && a == &arch_llama && s->window ? &arch_mistral : a;
}

static err_code warn_of_windows(const ctx *c, const crossing *x) {
    if (x->target == &arch_llama && x->a.window && x->a.window < x->a.cfg.n_ctx)
        ctx_log(c, LOG_WARNING,
                "its window of %lld tokens is in the key llama.attention.sliding_window, which other programs do not read: "
                "there longer texts give other results",
                (long long)x->a.window);
    return ERR_OK;
}

err_code export_plan_across(const ctx *c, const weights *from, const export_opts *o, export_plan *p, err *e) {
    crossing *x;
    const arch *a;
    bool gguf = o->format == EXPORT_GGUF;
    err_code rc = mem_new0(&x, 1, sizeof *x, "a plan", e);
    if (rc) return rc;
    x->from = from, x->o = o, x->p = p;
    TRY(arch_find(from, &a, e));
    TRY(arch_read(a, from, &x->a, e));
    x->target = target_of(a, &x->a, gguf);
    if (!gguf) TRY(read_factors(x, e));
    TRY(describe_target(x, e));
    double ratio = x->a.attention_scale / x->b.attention_scale;
    x->q_scale = near(ratio, 1) ? 1 : (float)ratio;
    const config_out to = out_for(x, p->to);
    TRY(config_write(x->target, &x->a, &to, e));
    TRY(add_tensors(c, x, e));
    rc = warn_of_windows(c, x);
done:
    free(x);
    return rc;
}
