#include "cli/command.h"
#include "cli/text.h"
#include "core/file.h"
#include "text/tokenizer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES_MAX = 256 << 20 };

static const option options[] = {
    {"file", OPT_STRING, NULL, "F", "tokenise this file as one text", 0, 0, false, false},
    {"no-special", OPT_FLAG, NULL, NULL, "control tokens written in the text are ordinary text", 0, 0, false, false},
    {"no-bos", OPT_FLAG, NULL, NULL, "no begin-of-text token in front, even if the model wants one", 0, 0, false, false},
    {0},
};

typedef struct job {
    const parsed_options *o;
    weights *w;
    tokenizer *t;
    tokenize_opts how;
    json_t *ids, *pieces; /* a list for each text */
} job;

static json_t *piece_to_json(const job *j, uint32_t id) {
    size_t n;
    const char *piece = tokenizer_piece(j->t, id, &n);
    strbuf shown = STRBUF_INIT;
    text_add_printable(&shown, piece, n);
    json_t *text = shown.failed ? NULL : json_stringn(shown.data, shown.len);
    strbuf_release(&shown);
    return text;
}

static err_code add_text(job *j, const char *text, size_t n, err *e) {
    token_ids ids = {0};
    json_t *id_list = json_array(), *piece_list = json_array();
    int failed = 0;
    err_code rc = tokenizer_encode(j->t, text, n, &j->how, &ids, e);
    for (size_t i = 0; !rc && i < ids.len; i++) {
        failed |= json_array_append_new(id_list, json_integer(ids.ids[i]));
        failed |= json_array_append_new(piece_list, piece_to_json(j, ids.ids[i]));
    }
    failed |= json_array_append_new(j->ids, id_list);
    failed |= json_array_append_new(j->pieces, piece_list);
    free(ids.ids);
    return !rc && failed ? err_nomem(e, "tokens", ids.len) : rc;
}

static err_code add_file(job *j, const char *path, err *e) {
    char *text = NULL;
    size_t n;
    err_code rc = file_read(path, FILE_BYTES_MAX, &text, &n, e);
    if (!rc) rc = add_text(j, text, n, e);
    free(text);
    return rc;
}

static err_code tokenize(job *j, err *e) {
    const char *file = opt_string(j->o, "file");
    err_code rc;
    if (file && opt_n_args(j->o) > 1) return err_set(e, ERR_USAGE, "expected texts or --file, found both");
    if (!file && opt_n_args(j->o) < 2) return err_set(e, ERR_USAGE, "expected a text behind the model, or --file");
    TRY(weights_open(opt_arg(j->o, 0), &j->w, e));
    TRY(tokenizer_open(j->w, &j->t, e));
    if (file) TRY(add_file(j, file, e));
    for (int i = 1; i < opt_n_args(j->o); i++) TRY(add_text(j, opt_arg(j->o, i), strlen(opt_arg(j->o, i)), e));
done:
    return rc;
}

static void print_text(const json_t *ids, const json_t *pieces) {
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const char *piece = json_string_value(json_array_get(pieces, i));
        printf("%8" JSON_INTEGER_FORMAT "  '", json_integer_value(json_array_get(ids, i)));
        cli_print_text(piece, strlen(piece));
        puts("'");
    }
}

static err_code print(const job *j, err *e) {
    if (opt_json(j->o)) return command_print_json(j->o, json_pack("{s:O s:O}", "ids", j->ids, "pieces", j->pieces), e);
    for (size_t i = 0; i < json_array_size(j->ids); i++) {
        if (i) putchar('\n');
        print_text(json_array_get(j->ids, i), json_array_get(j->pieces, i));
    }
    return ERR_OK;
}

static err_code run(ctx *c, const parsed_options *o, err *e) {
    (void)c;
    job j = {.o = o, .how = TOKENIZE_DEFAULTS, .ids = json_array(), .pieces = json_array()};
    j.how.parse_special = !opt_flag(o, "no-special");
    j.how.add_bos = !opt_flag(o, "no-bos");
    err_code rc = tokenize(&j, e);
    if (!rc) rc = print(&j, e);
    json_decref(j.ids);
    json_decref(j.pieces);
    tokenizer_close(j.t);
    weights_close(j.w);
    return rc;
}

const command cmd_tokenize = {
    .name = "tokenize",
    .help = "text to token ids, with the bytes behind each",
    .usage = "MODEL TEXT.. | MODEL --file F",
    .examples = "sae tokenize model.gguf \"Li Bai lived in the Tang dynasty.\"\n"
                "sae tokenize model.gguf --file poem.txt --no-special --json",
    .options = options,
    .min_args = 1,
    .max_args = -1,
    .run = run,
};
