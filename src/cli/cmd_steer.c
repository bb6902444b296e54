#include "analysis/steering.h"
#include "cli/command.h"
#include "cli/outcome.h"
#include "cli/prompts.h"
#include "cli/sampling.h"
#include "cli/steer_tables.h"
#include "core/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const option options[] = {
    {"feature", OPT_STRING, NULL, "ID=VALUE",
     "a feature and its strength: 1091=12, or 1091=2x for twice its maximum (with a features.db)", 0, 0, true, true},
    {"mode", OPT_STRING, "clamp", "MODE", "clamp, add, scale, ablate (no value) or ablate_mean (no value)", 0, 0, false,
     false},
    PROMPT_OPTIONS,
    {"tokens", OPT_INT, "40", "N", "longest continuation", 1, 100000, false, false},
    {"samples", OPT_INT, "1", "N", "continuations of each prompt", 1, 10000, false, false},
    SAMPLING_OPTIONS("1.1"),
    {"max-batch", OPT_INT, "64", "N", "texts written together; they do not depend on it", 1, 4096, false, false},
    {"words", OPT_STRING, NULL, "W,..", "count texts that mention one: capitals match as written, small words as beginnings",
     0, 0, false, false},
    {"baselines", OPT_FLAG, NULL, NULL,
     "also steer by random features, random directions and (with --words) difference of means", 0, 0, false, false},
    {"sweep", OPT_MAYBE, "0.5x,1x,1.5x,2x,3x", "STRENGTHS",
     "try features given without a value at each of these, alone and together; choose on half of the prompts, report on the "
     "other",
     0, 0, false, false},
    {0},
};

typedef struct job {
    const ctx *c;
    const parsed_options *o;
    const intervention_kind *kind;
    steering s;
    prompt_list prompts;
    word_list words;
    chat *template; /* NULL: prompts are raw text */
    steer_opts how;
} job;

/* ---- what was asked for ---- */

static err_code find_mode(const char *name, const intervention_kind **out, err *e) {
    *out = intervention_kind_by_name(name, e);
    if (!*out) return ERR_USAGE;
    if (!(*out)->needs_feature) return err_set(e, ERR_USAGE, "--mode: '%s' takes no feature", name);
    return ERR_OK;
}

static steer_opts read_how(const parsed_options *o, const word_list *words) {
    steer_opts how = STEER_DEFAULTS;
    how.sample = sampling_read(o);
    how.n_tokens = opt_int(o, "tokens");
    how.n_samples = opt_int(o, "samples");
    how.max_batch = opt_int(o, "max-batch");
    how.words = words->n ? words : NULL;
    return how;
}

static err_code open_job(job *j, model *m, err *e) {
    const parsed_options *o = j->o;
    err_code rc;
    TRY(find_mode(opt_string(o, "mode"), &j->kind, e));
    TRY(prompt_list_read(o, &j->prompts, e));
    if (opt_given(o, "words")) TRY(word_list_parse(opt_string(o, "words"), &j->words, e));
    TRY(steering_open(m, opt_arg(o, 1), &j->s, e));
    j->how = read_how(o, &j->words);
    rc = prompts_open_chat(o, model_weights(m), &j->template, e);
    j->how.chat = j->template;
done:
    return rc;
}

static void close_job(job *j) {
    steering_release(&j->s);
    prompt_list_release(&j->prompts);
    word_list_release(&j->words);
    chat_close(j->template);
}

static err_code nothing_changed(const job *j, err *e) {
    return err_set(
        e, ERR_FAILED,
        "steering changed no position: %s does nothing where a feature is silent, and %s fired nowhere in these texts",
        j->kind->name, opt_count(j->o, "feature") > 1 ? "these features" : "this feature");
}

/* ---- all features together at one strength ---- */

static err_code add_steered(job *j, steering_arms *arms, err *e) {
    intervention items[STEERING_FEATURES_MAX];
    int n = opt_count(j->o, "feature");
    strbuf name = STRBUF_INIT;
    err_code rc = ERR_OK;
    if (n > STEERING_FEATURES_MAX)
        return err_set(e, ERR_USAGE, "--feature: expected at most %d, found %d", STEERING_FEATURES_MAX, n);
    for (int i = 0; i < n; i++) {
        steering_setting setting;
        TRY(steering_parse_setting(opt_string_at(j->o, "feature", i), &setting, e));
        TRY(steering_resolve(&j->s, j->kind, &setting, &items[i], e));
        strbuf_addf(&name, "%s%s", i ? " + " : "", opt_string_at(j->o, "feature", i));
    }
    TRY(strbuf_check(&name, e));
    TRY(steering_add_features(&j->s, arms, items, n, name.data, e));
done:
    strbuf_release(&name);
    return rc;
}

static err_code add_difference(job *j, steering_arms *arms, double length, err *e) {
    int64_t mentions, d = j->s.sae->cfg.d_in;
    double own;
    float *u = NULL;
    err_code rc;
    TRY(mem_new(&u, (size_t)d, sizeof *u, "a direction", e));
    TRY(steering_difference(j->c, &j->s, &j->words, u, &own, &mentions, e));
    if (mentions)
        TRY(steering_add_direction(arms, "difference of means", u, d, length, e));
    else
        ctx_log(j->c, LOG_NOTE, "the corpus mentions none of the words: no difference of means to compare with");
done:
    free(u);
    return rc;
}

static err_code add_baselines(job *j, steering_arms *arms, err *e) {
    double length = arms->items[1].length;
    err_code rc;
    if (!isfinite(length))
        return err_set(e, ERR_USAGE, "--baselines: %s has no length that a baseline could match; use clamp or add",
                       j->kind->name);
    if (j->words.n && j->s.db) TRY(add_difference(j, arms, length, e));
    if (j->s.db) TRY(steering_add_random_features(&j->s, arms, 1, opt_seed(j->o), e));
    TRY(steering_add_random_directions(&j->s, arms, 1, opt_seed(j->o), e));
done:
    return rc;
}

static err_code print_together(const job *j, const steering_arms *arms, const steer_result *texts, err *e) {
    json_t *outputs = steering_outputs_to_json(texts, j->prompts.items, 0, 1), *scores = steering_arms_to_json(arms);
    if (opt_json(j->o))
        return command_print_json(j->o,
                                  json_pack("{s:o s:I s:o s:s s:o}", "outputs", outputs, "positions_changed",
                                            (json_int_t)arms->items[1].score.positions_changed, "arms", scores, "mode",
                                            j->kind->name, "seconds", command_json_real(texts->seconds)),
                                  e);
    steer_print_outputs(outputs, SIZE_MAX);
    printf("\n%" PRId64 " positions changed\n", arms->items[1].score.positions_changed);
    if (j->words.n || arms->n > 2) {
        putchar('\n');
        steer_print_arms(scores);
    }
    putchar('\n');
    outcome_again(j->o);
    json_decref(outputs);
    json_decref(scores);
    return ERR_OK;
}

static err_code steer_together(job *j, err *e) {
    steering_arms arms = {0};
    steer_result texts = {0};
    err_code rc;
    if (!j->prompts.n) return err_set(e, ERR_USAGE, "--prompt is missing: it gives the text to continue");
    TRY(steering_add_unsteered(&arms, e));
    TRY(add_steered(j, &arms, e));
    if (opt_flag(j->o, "baselines")) TRY(add_baselines(j, &arms, e));
    j->how.perplexity = j->words.n || arms.n > 2;
    TRY(steering_run(j->c, &j->s, &arms, j->prompts.items, j->prompts.n, &j->how, &texts, e));
    if (arms.items[1].score.positions_changed)
        rc = print_together(j, &arms, &texts, e);
    else
        rc = nothing_changed(j, e);
done:
    steer_result_release(&texts);
    steering_arms_release(&arms);
    return rc;
}

/* ---- a sweep ---- */

typedef struct candidate_list {
    steering_candidate *items;
    int n;
    size_t cap;
} candidate_list;

static err_code add_candidate(job *j, candidate_list *l, const steering_setting *setting, const char *strength, err *e) {
    err_code rc;
    TRY(mem_grow(&l->items, &l->cap, (size_t)l->n + 1, sizeof *l->items, "candidates", e));
    steering_candidate *x = &l->items[l->n];
    *x = (steering_candidate){.n = 1};
    TRY(steering_resolve(&j->s, j->kind, setting, &x->items[0], e));
    snprintf(x->name, sizeof x->name, "%" PRId64 " at %s", setting->feature, strength);
    l->n++;
done:
    return rc;
}

/* A feature with a value of its own is tried at that, others at each of the sweep's. strengths is cut up. */
static err_code add_feature(job *j, candidate_list *l, const char *feature, char *strengths, err *e) {
    steering_setting setting;
    char *rest = strengths;
    err_code rc;
    TRY(steering_parse_setting(feature, &setting, e));
    if (setting.has_strength) return add_candidate(j, l, &setting, strchr(feature, '=') + 1, e);
    for (char *strength; (strength = strtok_r(rest, ", ", &rest));) {
        TRY(steering_parse_strength(strength, &setting.strength, e));
        setting.has_strength = true;
        TRY(add_candidate(j, l, &setting, strength, e));
    }
done:
    return rc;
}

static err_code list_candidates(job *j, candidate_list *l, err *e) {
    err_code rc = ERR_OK;
    for (int i = 0; !rc && i < opt_count(j->o, "feature"); i++) {
        char *strengths = strdup(opt_string(j->o, "sweep"));
        if (!strengths) return err_nomem(e, "strengths", strlen(opt_string(j->o, "sweep")));
        rc = add_feature(j, l, opt_string_at(j->o, "feature", i), strengths, e);
        free(strengths);
    }
    if (!rc && !l->n) rc = err_set(e, ERR_USAGE, "--sweep: expected strengths like 1x,2x or 10,20, found none");
    return rc;
}

static err_code print_sweep(const job *j, json_t *found, err *e) {
    if (opt_json(j->o)) return command_print_json(j->o, json_incref(found), e);
    puts("On the prompts that choose\n");
    steer_print_arms(json_object_get(found, "choice"));
    puts("\nThe winners on the other prompts\n");
    steer_print_arms(json_object_get(found, "arms"));
    printf("\nBest: %s\n\n", json_string_value(json_object_get(found, "best")));
    steer_print_outputs(json_object_get(found, "outputs"), 6);
    putchar('\n');
    outcome_again(j->o);
    return ERR_OK;
}

static err_code steer_sweep(job *j, err *e) {
    candidate_list l = {0};
    json_t *found = NULL;
    err_code rc;
    if (!j->words.n) return err_set(e, ERR_USAGE, "--sweep needs --words: texts are judged by whether they mention one");
    TRY(list_candidates(j, &l, e));
    steering_search_opts how = {.steer = j->how,
                                .prompts = j->prompts.n ? j->prompts.items : steer_prompts,
                                .n_prompts = j->prompts.n ? j->prompts.n : STEER_PROMPTS,
                                .choice_samples = j->how.n_samples,
                                .report_samples = STEERING_REPORT_SAMPLES * j->how.n_samples};
    TRY(steering_search(j->c, &j->s, l.items, l.n, &how, &found, e));
    if (json_integer_value(json_object_get(found, "positions_changed")))
        rc = print_sweep(j, found, e);
    else
        rc = nothing_changed(j, e);
done:
    json_decref(found);
    free(l.items);
    return rc;
}

static err_code run(ctx *c, const parsed_options *o, err *e) {
    job j = {.c = c, .o = o};
    model *m = NULL;
    err_code rc;
    TRY(model_open(c, opt_arg(o, 0), &m, e));
    TRY(open_job(&j, m, e));
    rc = opt_given(o, "sweep") ? steer_sweep(&j, e) : steer_together(&j, e);
done:
    close_job(&j);
    model_close(m);
    return rc;
}

const command cmd_steer = {
    .name = "steer",
    .help = "continues prompts with features held at some strength, beside the model left alone; sweeps strengths",
    .usage = "MODEL SAE|features.db --feature ID=VALUE... --prompt P...",
    .examples = "sae steer model.gguf study/features.db --feature 1091=2x --prompt \"My favourite thing is\"\n"
                "sae steer model.gguf study/features.db --feature 1091 --feature 2713 --sweep --words China,Tang,poet,poem",
    .options = options,
    .min_args = 2,
    .max_args = 2,
    .run = run,
};
