#include "analysis/study.h"
#include "cli/command.h"
#include "cli/find_tables.h"
#include "cli/outcome.h"
#include "cli/steer_tables.h"
#include "cli/text.h"

#include <stdio.h>
#include <string.h>

static const option options[] = {
    {"layer", OPT_STRING, NULL, "L", "block to look behind, or a hook name like blocks.16.hook_resid_post (default: --sae's)",
     0, 0, false, false},
    {"corpus", OPT_STRING, NULL, "PATH", "texts: a .txt or .jsonl file or a folder of them", 0, 0, false, true},
    {"concept", OPT_STRING, NULL, "TEXT", "what to look for and steer towards; without it the features are described only", 0,
     0, false, false},
    {"words", OPT_STRING, NULL, "W,..", "words related to the concept (default: proposed from the corpus)", 0, 0, false,
     false},
    {"anyway", OPT_FLAG, NULL, NULL, "find and steer also when the model does not know the concept", 0, 0, false, false},
    {"sae", OPT_STRING, NULL, "DIR", "a published SAE in place of training one", 0, 0, false, false},
    {"out", OPT_STRING, "study", "DIR", "folder that receives everything; what is in it already is not done again", 0, 0,
     false, false},
    {"tokens", OPT_INT, "250000", "TOKENS", "of the corpus, a seeded sample of whole documents; 0: all", 0, 9e15, false,
     false},
    {"context", OPT_INT, "256", "TOKENS", "longest document; longer ones are cut into windows", 2, 1e6, false, false},
    {"skip-first", OPT_INT, "1", "POSITIONS", "leave out at a document's head (the first is an attention sink)", 0, 1e6,
     false, false},
    {"width", OPT_INT, "8192", "LATENTS", "of the SAE to train", 1, 1e8, false, false},
    {"k", OPT_INT, "32", "K", "latents that fire on a row", 1, 1e6, false, false},
    {"rows", OPT_INT, "3000000", "ROWS", "to train on, several times over the captured ones if need be", 1, 9e15, false,
     false},
    {"batch", OPT_INT, "4096", "ROWS", "in a training step", 1, 1e6, false, false},
    {0},
};

enum { SHOWN = 5, TEXTS_SHOWN = 4 };

static const char *text(const json_t *object, const char *key) {
    const char *found = json_string_value(json_object_get(object, key));
    return found ? found : "";
}

/* ---- the parts of the end ---- */

static void print_stages(const json_t *done) {
    size_t i;
    json_t *stage;
    json_array_foreach(json_object_get(done, "stages"), i, stage)
        printf("%-10s %7.1f s%s\n", text(stage, "name"), json_number_value(json_object_get(stage, "seconds")),
               json_is_true(json_object_get(stage, "skipped")) ? "  (done before)" : "");
}

static void print_found(const json_t *found) {
    putchar('\n');
    find_print_gate(found);
    if (!json_array_size(json_object_get(found, "detectors")) && !json_array_size(json_object_get(found, "causes"))) return;
    putchar('\n');
    find_print_detectors(found, SHOWN, 1);
    putchar('\n');
    find_print_causes(found, SHOWN);
}

static void print_steering(const json_t *steering) {
    puts("\nSteering, on prompts that did not choose\n");
    steer_print_arms(json_object_get(steering, "arms"));
    fputs("\nBest: ", stdout);
    cli_print_line(text(steering, "best"));
    putchar('\n');
    steer_print_outputs(json_object_get(steering, "outputs"), TEXTS_SHOWN);
}

static void print_files(const json_t *done) {
    static const struct {
        const char *key, *what;
    } files[] = {{"activations", "rows of the layer, HDF5"},
                 {"sae", "the autoencoder: cfg.json and sae_weights.safetensors"},
                 {"eval", "how good it is"},
                 {"features", "its features, SQLite: sae features top"},
                 {"codes", "which features fire on which row, HDF5"},
                 {"find", "detectors and causes"},
                 {"steer", "steered beside unsteered texts"},
                 {"report", "all of it as one page"}};
    putchar('\n');
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const char *path = text(json_object_get(done, "files"), files[i].key);
        if (*path) outcome_wrote(path, files[i].what);
    }
}

static err_code run(ctx *c, const parsed_options *o, err *e) {
    const study_opts how = {.layer = opt_string(o, "layer"),
                            .corpus = opt_string(o, "corpus"),
                            .concept = opt_string(o, "concept"),
                            .words = opt_string(o, "words"),
                            .sae = opt_string(o, "sae"),
                            .out = opt_string(o, "out"),
                            .tokens = opt_int(o, "tokens"),
                            .context = opt_int(o, "context"),
                            .skip_first = opt_int(o, "skip-first"),
                            .width = opt_int(o, "width"),
                            .k = opt_int(o, "k"),
                            .rows = opt_int(o, "rows"),
                            .batch = opt_int(o, "batch"),
                            .anyway = opt_flag(o, "anyway"),
                            .seed = opt_seed(o)};
    json_t *done;
    err_code rc = study_run(c, opt_arg(o, 0), &how, &done, e);
    if (rc == ERR_CANCELLED) return err_set(e, rc, "stopped; run it again and it goes on where it was");
    if (rc) return rc;
    if (opt_json(o)) return command_print_json(o, done, e);
    print_stages(done);
    if (json_is_object(json_object_get(done, "find"))) print_found(json_object_get(done, "find"));
    if (json_is_object(json_object_get(done, "steering"))) print_steering(json_object_get(done, "steering"));
    print_files(done);
    outcome_again(o);
    json_decref(done);
    return ERR_OK;
}

const command cmd_study = {
    .name = "study",
    .help = "everything in one resumable go: capture, train, evaluate, describe features, find a concept, steer, report",
    .usage = "MODEL --layer L --corpus C [--concept TEXT]",
    .examples = "sae study model.gguf --layer 16 --corpus texts/ --concept \"Li Bai\" --out study\n"
                "sae study model.gguf --sae published-sae/ --corpus texts/ --concept \"Li Bai\"",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
