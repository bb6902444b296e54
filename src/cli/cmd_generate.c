#include "cli/command.h"
#include "cli/documents.h"
#include "cli/precision.h"
#include "cli/prompts.h"
#include "cli/sampling.h"
#include "cli/text.h"
#include "core/file.h"
#include "core/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const option options[] = {
    PROMPT_OPTIONS,
    {"tokens", OPT_INT, "64", "N", "longest continuation", 1, 1000000, false, false},
    {"samples", OPT_INT, "1", "N", "continuations of each prompt", 1, 100000, false, false},
    SAMPLING_OPTIONS("1"),
    {"max-batch", OPT_INT, "64", "N", "texts written together; they do not depend on it", 1, 4096, false, false},
    {"out", OPT_STRING, NULL, "F.jsonl",
     "write the texts as a corpus, {\"text\": .., \"prompt\": ..} a line in the order of the prompts; stopped, the same "
     "command "
     "goes on",
     0, 0, false, false},
    {"with-prompt", OPT_FLAG, NULL, NULL, "with --out: a document is the prompt and its continuation", 0, 0, false, false},
    PRECISION_OPTION,
    {0},
};

typedef struct job {
    const ctx *c;
    const parsed_options *o;
    model *m;
    prompt_list prompts;
    token_ids *prompt_ids; /* [prompts.n] */
    int64_t n_samples, n_outputs;

    int64_t first; /* output of seqs[0]: earlier ones were there already */
    generate_seq *seqs;
    bool *ended; /* [n_outputs - first] */
    double seconds;

    documents docs; /* with --out */
    int64_t n_written;

    strbuf held; /* streaming: bytes that do not make a character yet */
} job;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- what came out ---- */

static const char *prompt_of(const job *j, int64_t seq) { return j->prompts.items[(j->first + seq) / j->n_samples]; }

static json_t *text_to_json(const job *j, int64_t seq, const char *before, const char *between) {
    const token_ids *ids = &j->seqs[seq].output;
    strbuf text = STRBUF_INIT;
    strbuf_add_str(&text, before);
    strbuf_add_str(&text, between);
    tokenizer_decode_part(model_tokenizer(j->m), ids->ids, ids->len, false, &text);
    json_t *out = text.failed ? NULL : command_json_text(text.data, text_whole_chars(text.data, text.len));
    strbuf_release(&text);
    return out;
}

static json_t *output_to_json(const job *j, int64_t seq) {
    const token_ids *ids = &j->seqs[seq].output;
    json_t *list = json_array();
    for (size_t i = 0; i < ids->len; i++) json_array_append_new(list, json_integer(ids->ids[i]));
    return json_pack("{s:s s:o s:o s:b}", "prompt", prompt_of(j, seq), "text", text_to_json(j, seq, "", ""), "ids", list,
                     "ended", j->seqs[seq].ended);
}

/* A prompt that the model continued runs into the text; a question and its answer are paragraphs. */
static json_t *document_to_json(const job *j, int64_t seq) {
    bool whole = opt_flag(j->o, "with-prompt");
    const char *prompt = prompt_of(j, seq);
    return json_pack("{s:o s:s}", "text",
                     text_to_json(j, seq, whole ? prompt : "", whole && prompts_are_chat(j->o) ? "\n\n" : ""), "prompt",
                     prompt);
}

/* ---- while it is written ---- */

/* Texts in the order of their prompts: one that ends early waits for those before it. */
static err_code on_done(void *user, int64_t seq, err *e) {
    job *j = user;
    err_code rc = ERR_OK;
    j->ended[seq] = true;
    while (!rc && j->first + j->n_written < j->n_outputs && j->ended[j->n_written]) {
        json_t *document = document_to_json(j, j->n_written++);
        rc = documents_add(&j->docs, document, e);
        json_decref(document);
    }
    return rc;
}

static void print_held(job *j, size_t n) {
    json_t *text = command_json_text(j->held.data, n);
    if (text) cli_print_block(json_string_value(text), json_string_length(text));
    json_decref(text);
    fflush(stdout);
    memmove(j->held.data, j->held.data + n, j->held.len - n);
    j->held.len -= n;
}

static err_code on_token(void *user, int64_t seq, err *e) {
    job *j = user;
    const token_ids *ids = &j->seqs[seq].output;
    tokenizer_decode_part(model_tokenizer(j->m), &ids->ids[ids->len - 1], 1, false, &j->held);
    if (j->held.len) print_held(j, text_whole_chars(j->held.data, j->held.len));
    return strbuf_check(&j->held, e);
}

/* ---- generating ---- */

static bool streams(const job *j) { return !opt_json(j->o) && !opt_given(j->o, "out") && j->n_outputs == 1; }

static err_code encode_prompts(job *j, err *e) {
    chat *template = NULL;
    err_code rc;
    TRY(prompts_open_chat(j->o, model_weights(j->m), &template, e));
    TRY(mem_new0(&j->prompt_ids, (size_t)j->prompts.n, sizeof *j->prompt_ids, "prompts", e));
    for (int i = 0; i < j->prompts.n; i++)
        TRY(generate_encode_prompt(j->m, j->prompts.items[i], template, &j->prompt_ids[i], e));
done:
    chat_close(template);
    return rc;
}

static err_code make_seqs(job *j, err *e) {
    size_t n = (size_t)(j->n_outputs - j->first);
    err_code rc;
    TRY(mem_new0(&j->seqs, n, sizeof *j->seqs, "texts", e));
    TRY(mem_new0(&j->ended, n, sizeof *j->ended, "texts", e));
    for (size_t i = 0; i < n; i++) {
        int64_t output = j->first + (int64_t)i;
        j->seqs[i].prompt = j->prompt_ids[output / j->n_samples]; /* borrowed */
        j->seqs[i].stream_index = (uint64_t)output;
    }
done:
    return rc;
}

static err_code generate(job *j, err *e) {
    generate_opts how = GENERATE_DEFAULTS;
    how.sample = sampling_read(j->o);
    how.n_tokens = opt_int(j->o, "tokens");
    how.max_batch = opt_int(j->o, "max-batch");
    how.user = j;
    how.token = streams(j) ? on_token : NULL;
    how.done = opt_given(j->o, "out") ? on_done : NULL;
    how.stage = streams(j) ? NULL : "generate";
    double started = now();
    err_code rc = generate_run(j->c, j->m, j->seqs, j->n_outputs - j->first, &how, e);
    j->seconds = now() - started;
    return rc;
}

static int64_t count_tokens(const job *j) {
    int64_t n = 0;
    for (int64_t i = 0; i < j->n_outputs - j->first; i++) n += (int64_t)j->seqs[i].output.len;
    return n;
}

static double rate(const job *j) { return j->seconds > 0 ? (double)count_tokens(j) / j->seconds : 0; }

/* ---- to a file ---- */

static uint64_t hash_prompts(const job *j) {
    uint64_t h = 14695981039346656037u; /* FNV-1a, the line's end included */
    for (int i = 0; i < j->prompts.n; i++)
        for (const char *p = j->prompts.items[i];; p++) {
            h = (h ^ (unsigned char)*p) * 1099511628211u;
            if (!*p) break;
        }
    return h;
}

/* All that the documents depend on; a template by what is in its file. */
static json_t *made_from(const job *j, const char *sha256, const char *template) {
    static const char *const irrelevant[] = {"prompt", "prompts", "max-batch", "out"};
    char hash[17];
    json_t *from = opt_to_json(j->o);
    for (size_t i = 0; i < sizeof irrelevant / sizeof *irrelevant; i++) json_object_del(from, irrelevant[i]);
    snprintf(hash, sizeof hash, "%016" PRIx64, hash_prompts(j));
    json_object_set_new(from, "prompts_hash", json_string(hash));
    json_object_set_new(from, "model_sha256", json_string(sha256));
    if (*template) json_object_set_new(from, "chat-template", json_string(template));
    return from;
}

static err_code open_documents(job *j, err *e) {
    char sha256[SHA256_HEX], template[SHA256_HEX] = "";
    err_code rc = model_sha256(j->m, sha256, e);
    if (!rc && opt_given(j->o, "chat-template")) rc = file_sha256(opt_string(j->o, "chat-template"), template, e);
    if (rc) return rc;
    json_t *from = made_from(j, sha256, template);
    rc = documents_open(opt_string(j->o, "out"), from, &j->docs, e);
    json_decref(from);
    j->first = j->docs.n < j->n_outputs ? j->docs.n : j->n_outputs;
    if (!rc && j->first) ctx_log(j->c, LOG_NOTE, "going on behind %" PRId64 " texts in %s", j->first, j->docs.part);
    return rc;
}

static err_code print_written(const job *j, err *e) {
    const char *out = opt_string(j->o, "out");
    if (opt_json(j->o))
        return command_print_json(j->o,
                                  json_pack("{s:s s:I s:I s:I s:o}", "out", out, "documents", (json_int_t)j->n_outputs,
                                            "resumed_from", (json_int_t)j->first, "tokens", (json_int_t)count_tokens(j),
                                            "tokens_per_second", command_json_real(rate(j))),
                                  e);
    printf("%s: %" PRId64 " documents, %" PRId64 " tokens in %.1f s (%.0f tokens/s)\n", out, j->n_outputs, count_tokens(j),
           j->seconds, rate(j));
    return ERR_OK;
}

static err_code generate_to_file(job *j, err *e) {
    err_code rc;
    TRY(open_documents(j, e));
    TRY(make_seqs(j, e));
    rc = generate(j, e);
    if (rc == ERR_CANCELLED)
        err_set(e, rc, "stopped after %" PRId64 " of %" PRId64 " texts, which are in %s: the same command goes on there",
                j->docs.n, j->n_outputs, j->docs.part);
    if (rc) goto done;
    TRY(documents_finish(&j->docs, e));
    rc = print_written(j, e);
done:
    return rc;
}

/* ---- to stdout ---- */

static void print_outputs(const job *j) {
    for (int64_t i = 0; i < j->n_outputs; i++) {
        json_t *text = text_to_json(j, i, "", "");
        printf("%sprompt  ", i ? "\n" : "");
        cli_print_line(prompt_of(j, i));
        fputs("text    ", stdout);
        cli_print_line(json_string_value(text) ? json_string_value(text) : "");
        json_decref(text);
    }
}

static err_code print_json(const job *j, err *e) {
    json_t *outputs = json_array();
    for (int64_t i = 0; i < j->n_outputs; i++) json_array_append_new(outputs, output_to_json(j, i));
    return command_print_json(j->o,
                              json_pack("{s:o s:I s:o}", "outputs", outputs, "tokens", (json_int_t)count_tokens(j),
                                        "tokens_per_second", command_json_real(rate(j))),
                              e);
}

static err_code generate_to_stdout(job *j, err *e) {
    err_code rc;
    TRY(make_seqs(j, e));
    rc = generate(j, e);
    if (streams(j)) putchar('\n'); /* half a character that is still held is not text, as in the JSON */
    if (rc) goto done;
    if (opt_json(j->o))
        TRY(print_json(j, e));
    else if (!streams(j))
        print_outputs(j);
    ctx_log(j->c, LOG_NOTE, "%" PRId64 " tokens, %.0f tokens/s", count_tokens(j), rate(j));
done:
    return rc;
}

/* ---- all of it ---- */

static err_code work(job *j, err *e) {
    err_code rc;
    if (opt_flag(j->o, "with-prompt") && !opt_given(j->o, "out"))
        return err_set(e, ERR_USAGE, "--with-prompt: expected together with --out");
    TRY(prompt_list_read(j->o, &j->prompts, e));
    if (!j->prompts.n) return err_set(e, ERR_USAGE, "expected --prompt TEXT or --prompts FILE: what to continue");
    TRY(model_open_as(j->c, opt_arg(j->o, 0), precision_read(j->o), &j->m, e));
    TRY(encode_prompts(j, e));
    j->n_samples = opt_int(j->o, "samples");
    j->n_outputs = j->prompts.n * j->n_samples;
    TRY(opt_given(j->o, "out") ? generate_to_file(j, e) : generate_to_stdout(j, e));
done:
    return rc;
}

static err_code run(ctx *c, const parsed_options *o, err *e) {
    job j = {.c = c, .o = o, .held = STRBUF_INIT};
    err_code rc = work(&j, e);
    for (int64_t i = 0; j.seqs && i < j.n_outputs - j.first; i++) free(j.seqs[i].output.ids);
    for (int i = 0; j.prompt_ids && i < j.prompts.n; i++) free(j.prompt_ids[i].ids);
    free(j.seqs);
    free(j.ended);
    free(j.prompt_ids);
    strbuf_release(&j.held);
    documents_close(&j.docs);
    prompt_list_release(&j.prompts);
    model_close(j.m);
    return rc;
}

const command cmd_generate = {
    .name = "generate",
    .help = "text from the model",
    .usage = "MODEL --prompt TEXT | --prompts F",
    .examples = "sae generate model.gguf --prompt \"The Tang dynasty\" --tokens 40\n"
                "sae generate model.gguf --chat --prompts questions.txt --samples 4 --temperature 0.9 --top-p 0.95 --out "
                "answers.jsonl",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
