#include "analysis/json.h"
#include "analysis/pass.h"
#include "cli/command.h"
#include "cli/feature_text.h"
#include "cli/outcome.h"
#include "cli/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const option options[] = {
    {"out", OPT_STRING, NULL, "F.db", "the database to make; its codes go beside it", 0, 0, false, false},
    {"dataset", OPT_STRING, NULL, "HOOK", "hook of the activation file (default: the SAE's)", 0, 0, false, false},
    {"model", OPT_STRING, NULL, "FILE", "for the logit lens (default: the path in the activation file)", 0, 0, false, false},
    {"output-scores", OPT_FLAG, NULL, NULL, "also measure what each feature makes the model say: a forward pass a feature", 0,
     0, false, false},
    {"lens", OPT_CHOICE, "standard", "standard|raw",
     "logit lens in standard deviations behind the final norm's gain, or as SAEDashboard has it", 0, 0, false, false},
    {"sort", OPT_STRING, "interpretability", "SCORE",
     "list, top: interpretability, density, max, mean, selectivity, neighbour, output, fires, docs or id", 0, 0, false,
     false},
    {"reverse", OPT_FLAG, NULL, NULL, "list, top: the other way round", 0, 0, false, false},
    {"search", OPT_STRING, NULL, "WORDS", "list, top: only features whose label, tokens or contexts hold these words", 0, 0,
     false, false},
    {"limit", OPT_INT, "20", "N", "list, top: how many", 1, 1e9, false, false},
    {"offset", OPT_INT, "0", "N", "list, top: leave out the first N", 0, 1e9, false, false},
    {"min-fires", OPT_INT, "10", "ROWS", "list, top: only features that fire on so many rows", 0, 1e12, false, false},
    {"dead", OPT_FLAG, NULL, NULL, "list: also those that never fire", 0, 0, false, false},
    {0},
};

enum { TOP_PLACES = 4 };

/* ---- making a database ---- */

static err_code build(ctx *c, const parsed_options *o, err *e) {
    features_opts how = FEATURES_DEFAULTS;
    features_result result;
    const char *out = opt_string(o, "out");
    if (opt_n_args(o) != 2)
        return err_set(e, ERR_USAGE, "expected sae features F.h5 SAE --out F.db, or list, show or top before a database");
    if (!out) return err_set(e, ERR_USAGE, "--out is missing: it names the database to make");
    how.model = opt_string(o, "model");
    how.dataset = opt_string(o, "dataset");
    how.output_scores = opt_flag(o, "output-scores");
    how.lens_raw = !strcmp(opt_string(o, "lens"), "raw");
    how.seed = opt_seed(o);
    how.command = opt_command_line(o);
    err_code rc = features_build(c, opt_arg(o, 0), opt_arg(o, 1), out, &how, &result, e);
    if (rc) return rc;
    if (opt_json(o))
        return command_print_json(o,
                                  json_pack("{s:I s:I s:I s:o s:o s:s}", "features", (json_int_t)result.features, "alive",
                                            (json_int_t)result.alive, "rows", (json_int_t)result.rows, "rows_per_second",
                                            command_json_real(result.rows_per_second), "seconds",
                                            command_json_real(result.seconds), "out", out),
                                  e);
    printf("%lld features, %lld of them fire on these %lld rows; %.0f rows/s\n\n", (long long)result.features,
           (long long)result.alive, (long long)result.rows, result.rows_per_second);
    outcome_wrote(out, "the database");
    printf("look   sae features top %s\n", out);
    outcome_again(o);
    return ERR_OK;
}

/* ---- reading one ---- */

static feature_query query(const parsed_options *o) {
    return (feature_query){.sort = opt_string(o, "sort"),
                           .search = opt_string(o, "search"),
                           .reverse = opt_flag(o, "reverse"),
                           .with_dead = opt_flag(o, "dead"),
                           .limit = opt_int(o, "limit"),
                           .offset = opt_int(o, "offset"),
                           .min_fires = opt_flag(o, "dead") && !opt_given(o, "min-fires") ? 0 : opt_int(o, "min-fires")};
}

static err_code list(const feature_db *db, const parsed_options *o, err *e) {
    feature_query q = query(o);
    feature_stats *found = NULL;
    int64_t n;
    json_t *rows = NULL;
    err_code rc;
    TRY(feature_db_list(db, &q, &found, &n, e));
    if (opt_json(o)) {
        rows = json_array();
        for (int64_t i = 0; i < n; i++) json_array_append_new(rows, feature_stats_to_json(&found[i]));
        rc = command_print_json(o, json_pack("{s:s s:O}", "sort", q.sort, "features", rows), e);
        goto done;
    }
    feature_print_heading();
    for (int64_t i = 0; i < n; i++) feature_print_line(&found[i]);
done:
    json_decref(rows);
    free(found);
    return rc;
}

/* Prints a card, or adds it to cards. */
static err_code add_card(const feature_db *db, int64_t feature, bool whole, json_t *cards, err *e) {
    feature_card card = {0};
    err_code rc = feature_db_card(db, feature, &card, e);
    if (rc) return rc;
    if (cards) {
        if (json_array_append_new(cards, feature_card_to_json(&card))) rc = err_nomem(e, "the JSON document", 0);
    } else if (whole) {
        feature_print_card(&card);
    } else {
        feature_print_line(&card.stats);
        feature_print_top(&card, TOP_PLACES);
        putchar('\n');
    }
    feature_card_release(&card);
    return rc;
}

static err_code top(const feature_db *db, const parsed_options *o, err *e) {
    feature_query q = query(o);
    feature_stats *found = NULL;
    int64_t n;
    json_t *cards = opt_json(o) ? json_array() : NULL;
    err_code rc;
    TRY(feature_db_list(db, &q, &found, &n, e));
    if (!cards) feature_print_heading();
    for (int64_t i = 0; i < n; i++) TRY(add_card(db, found[i].id, false, cards, e));
    if (cards) rc = command_print_json(o, json_pack("{s:s s:O}", "sort", q.sort, "features", cards), e);
done:
    json_decref(cards);
    free(found);
    return rc;
}

static err_code show(const feature_db *db, const parsed_options *o, err *e) {
    json_t *cards = opt_json(o) ? json_array() : NULL;
    err_code rc = ERR_OK;
    if (opt_n_args(o) < 3) {
        rc = err_set(e, ERR_USAGE, "expected features to show: sae features show %s 17 35", opt_arg(o, 1));
        goto done;
    }
    for (int i = 2; i < opt_n_args(o); i++) {
        char *end;
        errno = 0;
        long long feature = strtoll(opt_arg(o, i), &end, 10);
        if (end == opt_arg(o, i) || *end || errno) {
            rc = err_set(e, ERR_USAGE, "expected the number of a feature, found '%s'", opt_arg(o, i));
            goto done;
        }
        if (!cards && i > 2) putchar('\n');
        TRY(add_card(db, feature, true, cards, e));
    }
    if (cards) rc = command_print_json(o, json_pack("{s:O}", "features", cards), e);
done:
    json_decref(cards);
    return rc;
}

/* ---- which of them ---- */

static const struct {
    const char *name;
    err_code (*run)(const feature_db *db, const parsed_options *o, err *e);
    int max_args;
} readers[] = {{"list", list, 2}, {"top", top, 2}, {"show", show, INT32_MAX}};

static err_code run(ctx *c, const parsed_options *o, err *e) {
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
        if (strcmp(opt_arg(o, 0), readers[i].name)) continue;
        if (opt_n_args(o) > readers[i].max_args)
            return err_set(e, ERR_USAGE, "sae features %s: expected one database, found also '%s'", readers[i].name,
                           opt_arg(o, 2));
        feature_db *db;
        err_code rc = feature_db_open(opt_arg(o, 1), &db, e);
        if (!rc) rc = readers[i].run(db, o, e);
        feature_db_close(db);
        return rc;
    }
    return build(c, o, e);
}

const command cmd_features = {
    .name = "features",
    .help =
        "makes a database of an SAE's features: where they fire, labels, logit lens, neighbours; and shows what is in one",
    .usage = "F.h5 SAE --out F.db | list DB | top DB | show DB FEATURE...",
    .examples = "sae features study/activations.h5 study/sae --out study/features.db\nsae features top study/features.db "
                "--sort density",
    .options = options,
    .min_args = 2,
    .max_args = -1,
    .run = run,
};
