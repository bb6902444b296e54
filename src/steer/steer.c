#include "steer/steer.h"

#include "core/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utf8proc.h>

/* Everything of one run; output i belongs to arm i / n_outputs. */
typedef struct runner {
    const ctx *c;
    model *m;
    const steer_arm *arms;
    const steer_opts *o;
    token_ids *prompts;       /* [n_prompts] */
    generate_seq *seqs;       /* [n] their prompts are borrowed from prompts */
    intervention_list *lists; /* [n] */
    int64_t *changed;         /* [n] */
    int64_t n_prompts, n_outputs, n, n_done;
} runner;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- prompts ---- */

static err_code set_up(runner *r, const char *const *prompts, err *e) {
    err_code rc;
    TRY(mem_new0(&r->prompts, (size_t)r->n_prompts, sizeof *r->prompts, "prompts", e));
    TRY(mem_new0(&r->seqs, (size_t)r->n, sizeof *r->seqs, "outputs", e));
    TRY(mem_new0(&r->lists, (size_t)r->n, sizeof *r->lists, "outputs", e));
    TRY(mem_new0(&r->changed, (size_t)r->n, sizeof *r->changed, "outputs", e));
    for (int64_t p = 0; p < r->n_prompts; p++) TRY(generate_encode_prompt(r->m, prompts[p], r->o->chat, &r->prompts[p], e));
    for (int64_t i = 0; i < r->n; i++) {
        int64_t output = i % r->n_outputs;
        const steer_arm *arm = &r->arms[i / r->n_outputs];
        r->seqs[i].prompt = r->prompts[output / r->o->n_samples];
        r->seqs[i].stream_index = (uint64_t)(r->o->first_stream + output);
        if (arm->n_lists) r->lists[i] = arm->lists[output % arm->n_lists];
    }
done:
    return rc;
}

static void runner_release(runner *r) {
    for (int64_t p = 0; r->prompts && p < r->n_prompts; p++) free(r->prompts[p].ids);
    for (int64_t i = 0; r->seqs && i < r->n; i++) free(r->seqs[i].output.ids);
    free(r->prompts);
    free(r->seqs);
    free(r->lists);
    free(r->changed);
}

/* ---- generating ---- */

static err_code on_done(void *user, int64_t index, err *e) {
    runner *r = user;
    (void)index, (void)e;
    ctx_report(r->c, &(progress){.stage = "steer", .unit = "texts", .done = ++r->n_done, .total = r->n});
    return ERR_OK;
}

static err_code generate(runner *r, const sae *s, hook_point at, err *e) {
    intervene v = {.sae = s, .at = at, .per_seq = r->lists, .n_seqs = r->n, .changed_per_seq = r->changed};
    v.skip_first = s && s->cfg.skip_first > 1 ? s->cfg.skip_first : 1; /* the attention sink */
    model_hook hook;
    err_code rc = intervene_hook(&v, &hook, e);
    generate_opts o = GENERATE_DEFAULTS;
    o.sample = r->o->sample;
    o.n_tokens = r->o->n_tokens;
    o.max_batch = r->o->max_batch;
    o.hooks = &hook;
    o.n_hooks = 1;
    o.done = on_done;
    o.user = r;
    ctx_report(r->c, &(progress){.stage = "steer", .unit = "texts", .done = 0, .total = r->n});
    if (!rc) rc = generate_run(r->c, r->m, r->seqs, r->n, &o, e);
    intervene_release(&v);
    return rc;
}

/* ---- judging ---- */

/* Bytes that are no UTF-8, as at a text cut inside a character, become U+FFFD. */
static void add_valid(strbuf *out, const char *bytes, size_t n) {
    utf8proc_int32_t ch;
    for (size_t i = 0; i < n;) {
        utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)bytes + i, (utf8proc_ssize_t)(n - i), &ch);
        if (used > 0)
            strbuf_add(out, bytes + i, (size_t)used);
        else
            strbuf_add_str(out, "\xef\xbf\xbd");
        i += used > 0 ? (size_t)used : 1;
    }
}

static err_code judge_text(const runner *r, int64_t i, steer_text *t, err *e) {
    const token_ids *ids = &r->seqs[i].output;
    strbuf bytes = STRBUF_INIT, text = STRBUF_INIT;
    err_code rc;
    tokenizer_decode_part(model_tokenizer(r->m), ids->ids, ids->len, false, &bytes);
    add_valid(&text, bytes.data, bytes.len);
    TRY(strbuf_check(&bytes, e));
    TRY(strbuf_check(&text, e));
    *t = (steer_text){.len = text.len, .n_tokens = (int64_t)ids->len, .positions_changed = r->changed[i], .nll = NAN};
    if (r->o->words) TRY(judge_mentions(r->o->words, text.data, text.len, &t->mentions, e));
    TRY(judge_repetition(ids->ids, ids->len, &t->repetition, e));
    t->text = strbuf_detach(&text);
    if (!t->text) rc = err_nomem(e, "a text", t->len);
done:
    strbuf_release(&bytes);
    strbuf_release(&text);
    return rc;
}

static err_code measure_perplexity(const runner *r, steer_text *texts, err *e) {
    double *nll = NULL;
    err_code rc;
    TRY(mem_new(&nll, (size_t)r->n, sizeof *nll, "perplexities", e));
    TRY(judge_nll(r->c, r->m, r->seqs, r->n, nll, e));
    for (int64_t i = 0; i < r->n; i++) texts[i].nll = nll[i];
done:
    free(nll);
    return rc;
}

static steer_score score(const steer_text *texts, int64_t n) {
    steer_score s = {.n = n};
    double nll = 0;
    for (int64_t i = 0; i < n; i++) {
        s.mentions += texts[i].mentions;
        s.n_tokens += texts[i].n_tokens;
        s.positions_changed += texts[i].positions_changed;
        s.repetition += texts[i].repetition / (double)n;
        nll += texts[i].nll;
    }
    s.perplexity = s.n_tokens ? exp(nll / (double)s.n_tokens) : NAN;
    return s;
}

static err_code judge(const runner *r, steer_result *out, err *e) {
    err_code rc;
    TRY(mem_new0(&out->texts, (size_t)r->n, sizeof *out->texts, "texts", e));
    TRY(mem_new0(&out->scores, (size_t)out->n_arms, sizeof *out->scores, "scores", e));
    for (int64_t i = 0; i < r->n; i++) TRY(judge_text(r, i, &out->texts[i], e));
    if (r->o->perplexity) TRY(measure_perplexity(r, out->texts, e));
    for (int a = 0; a < out->n_arms; a++) out->scores[a] = score(out->texts + a * r->n_outputs, r->n_outputs);
done:
    return rc;
}

/* ---- all of it ---- */

err_code steer_run(const ctx *c, model *m, const sae *s, hook_point at, const steer_arm *arms, int n_arms,
                   const char *const *prompts, int n_prompts, const steer_opts *o, steer_result *out, err *e) {
    double started = now();
    runner r = {.c = c, .m = m, .arms = arms, .o = o, .n_prompts = n_prompts, .n_outputs = n_prompts * o->n_samples};
    r.n = r.n_outputs * n_arms;
    *out = (steer_result){.n_arms = n_arms, .n_prompts = n_prompts, .n_samples = (int)o->n_samples};
    err_code rc;
    TRY(set_up(&r, prompts, e));
    TRY(generate(&r, s, at, e));
    TRY(judge(&r, out, e));
    out->seconds = now() - started;
done:
    runner_release(&r);
    if (rc) steer_result_release(out);
    return rc;
}

void steer_result_release(steer_result *r) {
    int64_t n = (int64_t)r->n_arms * r->n_prompts * r->n_samples;
    for (int64_t i = 0; r->texts && i < n; i++) free(r->texts[i].text);
    free(r->texts);
    free(r->scores);
    *r = (steer_result){0};
}

err_code steer_hook_point(model *m, const sae *s, hook_point *at, err *e) {
    char sha256[SHA256_HEX];
    err_code rc;
    TRY(model_sha256(m, sha256, e));
    TRY(sae_check_autoencoder(s, e));
    TRY(sae_check_fits(s, s->cfg.hook_name, sha256, model_config_of(m)->d_model, e));
    if (!s->cfg.hook_name[0]) {
        rc = err_set(e, ERR_MISMATCH, "the SAE does not say which hook it was made for, so it cannot be put into a model");
        goto done;
    }
    TRY(model_hook_point(m, s->cfg.hook_name, at, e));
done:
    return rc;
}
