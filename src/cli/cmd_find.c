#include "analysis/find.h"
#include "analysis/json.h"
#include "cli/command.h"
#include "cli/find_tables.h"
#include "cli/outcome.h"
#include "core/mem.h"
#include "steer/judge.h"

#include <inttypes.h>
#include <stdlib.h>

static const option options[] = {
    {"words", OPT_STRING, NULL, "W,..", "words related to the concept (default: proposed from the corpus)", 0, 0, false,
     false},
    {"positives", OPT_STRING, NULL, "FILE", "texts that express the concept, one a line, beside the corpus' mentions", 0, 0,
     false, false},
    {"negatives", OPT_STRING, NULL, "FILE", "texts that could be mistaken for it, one a line, beside its rivals", 0, 0, false,
     false},
    {"detectors", OPT_INT, "10", "N", "how many to show", 1, 64, false, false},
    {"causes", OPT_INT, "10", "N", "how many to show", 1, 24, false, false},
    {"candidates", OPT_INT, "300", "N", "features tried as causes", 1, 100000, false, false},
    {"anyway", OPT_FLAG, NULL, NULL, "look also when the model does not know the concept", 0, 0, false, false},
    {0},
};

static err_code print(const parsed_options *o, const find_result *r, err *e) {
    json_t *found = find_result_to_json(r), *cause = json_array_get(json_object_get(found, "causes"), 0);
    if (opt_json(o)) return command_print_json(o, found, e);
    find_print_gate(found);
    if (r->n_detectors || r->n_causes) {
        putchar('\n');
        find_print_detectors(found, SIZE_MAX, 2);
        putchar('\n');
        find_print_causes(found, SIZE_MAX);
    }
    putchar('\n');
    if (cause)
        printf("steer  sae steer %s %s --feature %" PRId64 "=%.4g --prompt \"My favourite thing is\"\n", opt_arg(o, 0),
               opt_arg(o, 1), r->causes[0].feature, r->causes[0].strength);
    outcome_again(o);
    json_decref(found);
    return ERR_OK;
}

static err_code run(ctx *c, const parsed_options *o, err *e) {
    find_opts how = FIND_DEFAULTS;
    find_result r = {0};
    model *m = NULL;
    word_list given = {0};
    const char **words = NULL;
    err_code rc = ERR_OK;
    if (opt_given(o, "words")) {
        TRY(word_list_parse(opt_string(o, "words"), &given, e));
        TRY(mem_new(&words, (size_t)given.n, sizeof *words, "words", e));
        for (int i = 0; i < given.n; i++) words[i] = given.items[i].text;
    }
    how.words = words;
    how.n_words = given.n;
    how.positives = opt_string(o, "positives");
    how.negatives = opt_string(o, "negatives");
    how.n_detectors = (int)opt_int(o, "detectors");
    how.n_causes = (int)opt_int(o, "causes");
    how.n_candidates = (int)opt_int(o, "candidates");
    how.anyway = opt_flag(o, "anyway");
    how.seed = opt_seed(o);
    TRY(model_open(c, opt_arg(o, 0), &m, e));
    TRY(find_run(c, m, opt_arg(o, 1), opt_arg(o, 2), &how, &r, e));
    TRY(print(o, &r, e));
    if (!r.gate.known && !how.anyway)
        rc = err_set(e, ERR_FAILED, "nothing to look for: the model does not know %s; --anyway looks all the same",
                     opt_arg(o, 2));
done:
    find_result_release(&r);
    model_close(m);
    free(words);
    word_list_release(&given);
    return rc;
}

const command cmd_find = {
    .name = "find",
    .help = "from a concept to features: those that detect it and those that cause it, with controls",
    .usage = "MODEL features.db CONCEPT",
    .examples = "sae find model.gguf study/features.db \"Li Bai\"\nsae find model.gguf study/features.db \"Li Bai\" --words "
                "Tang,poet,poem --json",
    .options = options,
    .min_args = 3,
    .max_args = 3,
    .run = run,
};
