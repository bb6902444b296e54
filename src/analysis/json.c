#include "analysis/json.h"

#include <math.h>

static json_t *real(double x) { return isfinite(x) ? json_real(x) : json_null(); }

/* An array of what make returns for each of n items. */
#define LIST(out, n, make)                                                                                                   \
    json_t *out = json_array();                                                                                              \
    for (int64_t i = 0; i < (n); i++) json_array_append_new(out, (make));

/* ---- features ---- */

json_t *feature_stats_to_json(const feature_stats *f) {
    return json_pack("{s:I s:s s:s s:I s:I s:I s:o s:o s:o s:o s:o s:o s:o}", "feature", (json_int_t)f->id, "label", f->label,
                     "top_tokens", f->top_tokens, "fires", (json_int_t)f->fires, "tokens", (json_int_t)f->tokens, "docs",
                     (json_int_t)f->docs, "density", real(f->density), "max", real(f->max), "mean", real(f->mean),
                     "interpretability", real(f->interpretability), "selectivity", real(f->selectivity), "neighbour",
                     real(f->neighbour), "output", real(f->output));
}

static json_t *example_to_json(const feature_example *x) {
    LIST(spans, x->n_spans,
         json_pack("[I,I,o]", (json_int_t)x->spans[i].start, (json_int_t)x->spans[i].end, real(x->spans[i].value)))
    return json_pack("{s:s s:I s:o s:I s:I s:s s:s s:s s:o}", "kind", x->kind, "rank", (json_int_t)x->rank, "value",
                     real(x->value), "doc", (json_int_t)x->doc, "token", (json_int_t)x->token, "before", x->before, "text",
                     x->focus, "after", x->after, "spans", spans);
}

static json_t *logit_to_json(const feature_logit *x) {
    return json_pack("{s:I s:I s:s s:o}", "rank", (json_int_t)x->rank, "token", (json_int_t)x->token, "piece", x->piece,
                     "score", real(x->score));
}

static json_t *label_to_json(const feature_label *x) {
    return json_pack("{s:s s:s s:o s:o s:o s:o s:I}", "source", x->source, "label", x->label, "score", real(x->score),
                     "auroc", real(x->auroc), "precision", real(x->precision), "recall", real(x->recall), "fires",
                     (json_int_t)x->fires);
}

json_t *feature_card_to_json(const feature_card *card) {
    json_t *whole = feature_stats_to_json(&card->stats);
    LIST(examples, card->n_examples, example_to_json(&card->examples[i]))
    LIST(logits, card->n_logits, logit_to_json(&card->logits[i]))
    LIST(labels, card->n_labels, label_to_json(&card->labels[i]))
    LIST(neighbours, card->n_neighbours,
         json_pack("{s:I s:o}", "feature", (json_int_t)card->neighbours[i].other, "cosine", real(card->neighbours[i].value)))
    LIST(together, card->n_cooccurrence,
         json_pack("{s:I s:I s:o}", "feature", (json_int_t)card->cooccurrence[i].other, "rows",
                   (json_int_t)card->cooccurrence[i].count, "jaccard", real(card->cooccurrence[i].value)))
    LIST(histogram, card->n_bins,
         json_pack("[I,I]", (json_int_t)card->histogram[i].bin, (json_int_t)card->histogram[i].count))
    json_t *lists = json_pack("{s:o s:o s:o s:o s:o s:o}", "labels", labels, "examples", examples, "logits", logits,
                              "neighbours", neighbours, "cooccurrence", together, "histogram", histogram);
    if (!lists || json_object_update(whole, lists)) {
        json_decref(whole);
        whole = NULL;
    }
    json_decref(lists);
    return whole;
}

/* ---- find ---- */

static json_t *gate_to_json(const find_gate *g) {
    return json_pack("{s:b s:I s:I s:I s:o s:o s:s s:I s:s}", "known", g->known, "prompts", (json_int_t)g->prompts, "top1",
                     (json_int_t)g->top1, "top10", (json_int_t)g->top10, "median_rank", real(g->median_rank), "mean_logprob",
                     real(g->mean_logprob), "best_prompt", g->best_prompt, "best_rank", (json_int_t)g->best_rank, "sentence",
                     g->sentence);
}

static json_t *detector_to_json(const find_detector *d) {
    json_t *examples = json_array();
    for (int i = 0; i < FIND_EXAMPLES && d->examples[i][0]; i++) json_array_append_new(examples, json_string(d->examples[i]));
    return json_pack("{s:I s:o s:o s:o s:o s:o s:o s:o s:o s:s s:s s:o}", "feature", (json_int_t)d->feature, "auroc",
                     real(d->auroc.value), "low", real(d->auroc.low), "high", real(d->auroc.high), "auroc_random",
                     real(d->auroc_random), "density", real(d->density), "rate", real(d->rate.value), "rate_low",
                     real(d->rate.low), "rate_high", real(d->rate.high), "label", d->label, "top_tokens", d->top_tokens,
                     "examples", examples);
}

static json_t *control_to_json(const find_control *k) {
    return json_pack("{s:s s:o s:o s:o}", "name", k->name, "auroc", real(k->auroc.value), "low", real(k->auroc.low), "high",
                     real(k->auroc.high));
}

static json_t *cause_to_json(const find_cause *k) {
    return json_pack("{s:I s:o s:o s:o s:o s:o s:o s:o s:o s:o s:o s:s s:s}", "feature", (json_int_t)k->feature, "strength",
                     real(k->strength), "multiple", real(k->multiple), "delta_logprob", real(k->delta_logprob.value), "low",
                     real(k->delta_logprob.low), "high", real(k->delta_logprob.high), "delta_words", real(k->delta_words),
                     "delta_control", real(k->delta_control), "kl", real(k->kl), "repetition", real(k->repetition), "density",
                     real(k->density), "label", k->label, "top_tokens", k->top_tokens);
}

json_t *find_result_to_json(const find_result *r) {
    LIST(detectors, r->n_detectors, detector_to_json(&r->detectors[i]))
    LIST(controls, r->n_controls, control_to_json(&r->controls[i]))
    LIST(causes, r->n_causes, cause_to_json(&r->causes[i]))
    LIST(word_causes, r->n_word_causes, cause_to_json(&r->word_causes[i]))
    LIST(words, r->n_words, json_string(r->words[i]))
    LIST(rivals, r->n_rivals, json_string(r->rivals[i]))
    return json_pack("{s:s s:o s:o s:o s:o s:o s:o s:o s:I s:I s:I s:I s:o s:o}", "concept", r->concept, "gate",
                     gate_to_json(&r->gate), "detectors", detectors, "controls", controls, "causes", causes, "word_causes",
                     word_causes, "words", words, "rivals", rivals, "mentions", (json_int_t)r->mentions, "positives",
                     (json_int_t)r->positives, "negatives", (json_int_t)r->negatives, "candidates", (json_int_t)r->candidates,
                     "seconds_detect", real(r->seconds_detect), "seconds_cause", real(r->seconds_cause));
}

/* ---- eval ---- */

static json_t *interval_to_json(interval x) {
    return json_pack("{s:o s:o s:o}", "value", real(x.value), "low", real(x.low), "high", real(x.high));
}

/* Bins that hold latents. */
static json_t *density_to_json(const recon_result *r) {
    json_t *bins = json_array();
    for (int b = 0; b < RECON_BINS; b++)
        if (r->density[b])
            json_array_append_new(bins, json_pack("{s:f s:f s:I}", "low", recon_bin_low(b), "high", recon_bin_low(b + 1),
                                                  "latents", (json_int_t)r->density[b]));
    return bins;
}

static json_t *eval_to_json(const ce_result *x, const recon_result *r) {
#define LOSS(name) x ? interval_to_json(x->name) : json_null()
    return json_pack("{s:o s:o s:o s:o s:o s:o s:o s:o s:o s:o s:o s:o s:I s:o}", "fvu", interval_to_json(r->fvu), "l0",
                     interval_to_json(r->l0), "dead", interval_to_json(r->dead), "cosine", interval_to_json(r->cosine),
                     "norm_ratio", interval_to_json(r->norm_ratio), "delta_ce", LOSS(delta_ce), "ce_recovered",
                     LOSS(ce_recovered), "ce_recovered_mean", LOSS(ce_recovered_mean), "ce", LOSS(ce), "ce_sae", LOSS(ce_sae),
                     "ce_zero", LOSS(ce_zero), "ce_mean", LOSS(ce_mean), "rows", (json_int_t)r->rows, "density",
                     density_to_json(r));
#undef LOSS
}

json_t *recon_result_to_json(const recon_result *r) { return eval_to_json(NULL, r); }

json_t *ce_result_to_json(const ce_result *r) {
    json_t *whole = eval_to_json(r, &r->recon);
    if (json_object_set_new(whole, "documents", json_integer(r->documents)) ||
        json_object_set_new(whole, "tokens", json_integer(r->tokens)) ||
        json_object_set_new(whole, "seconds", real(r->seconds))) {
        json_decref(whole);
        return NULL;
    }
    return whole;
}
