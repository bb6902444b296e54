#include "text/pretok.h"

#include "core/mem.h"
#include "core/names.h"

#include <assert.h>
#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum { PATTERNS_MAX = 4 };

/* White space as Unicode has it (property White_Space). Not PCRE2's \s, which counts U+180E in. */
#define SPACES   "\\t-\\r\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define SPACE    "[" SPACES "]"
#define NO_SPACE "[^" SPACES "]"

/* GPT-2's: contractions, words, numbers and other signs, each with a space before it; a run of spaces leaves its last one
 * to the word behind it. Radford et al. 2019, "Language models are unsupervised multitask learners". */
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACES "\\p{L}\\p{N}]+|" SPACE "+(?!" NO_SPACE ")|" SPACE "+"

/* Llama 3's and its relatives': any sign may stand before a word, numbers in groups of at most `digits`. */
#define LLAMA3(digits)                                                                                                       \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" digits "| ?[^" SPACES                                \
    "\\p{L}\\p{N}]+[\\r\\n]*|" SPACE "*[\\r\\n]+|" SPACE "+(?!" NO_SPACE ")|" SPACE "+"

typedef struct pretok_row {
    const char *name; /* tokenizer.ggml.pre */
    const char *patterns[PATTERNS_MAX];
    bool whole_pieces, adds_bos;
} pretok_row;

/* How to add one: a row with the patterns of the model's own tokenizer.json in their order, and token ids from that
 * tokenizer in tests/golden/tokenizers. A wrong pattern shows in no error message, only in a slightly worse model. */
static const pretok_row rows[] = {
    {.name = "gpt-2", .patterns = {GPT2}},
    {.name = "gpt2", .patterns = {GPT2}},
    {.name = "smollm", .patterns = {"\\p{N}", GPT2}}, /* digits are cut off before anything else sees them */
    {.name = "starcoder", .patterns = {"\\p{N}", GPT2}},
    {.name = "refact", .patterns = {"\\p{N}", GPT2}},
    {.name = "llama-bpe", .patterns = {LLAMA3("{1,3}")}, .whole_pieces = true, .adds_bos = true},
    {.name = "qwen2", .patterns = {LLAMA3("")}},
    /* Files that do not know: what llama.cpp does with them. */
    {.name = "default", .patterns = {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
};
enum { N_ROWS = sizeof rows / sizeof *rows };

struct pretok {
    const pretok_row *row;
    int n;
    pcre2_code *codes[PATTERNS_MAX];
};

static err_code compile(const char *pattern, pcre2_code **out, err *e) {
    int error;
    PCRE2_SIZE at;
    *out = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &error, &at, NULL);
    if (!*out) {
        char why[256] = "";
        pcre2_get_error_message(error, (PCRE2_UCHAR *)why, sizeof why);
        return err_set(e, ERR_FAILED, "PCRE2 cannot compile the pre-tokenizer: %s at offset %zu", why, at);
    }
    pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE); /* only an optimisation: without JIT matching is slower */
    return ERR_OK;
}

err_code pretok_open(const char *name, pretok **out, err *e) {
    *out = NULL;
    int i = names_find(name, rows, N_ROWS, sizeof *rows);
    if (i < 0) return names_unknown(e, ERR_UNSUPPORTED, "pre-tokenizer", name, rows, N_ROWS, sizeof *rows);
    pretok *p;
    err_code rc = mem_new0(&p, 1, sizeof *p, "the pre-tokenizer", e);
    if (rc) return rc;
    p->row = &rows[i];
    for (p->n = 0; p->n < PATTERNS_MAX && p->row->patterns[p->n]; p->n++)
        TRY(compile(p->row->patterns[p->n], &p->codes[p->n], e));
done:
    if (rc)
        pretok_close(p);
    else
        *out = p;
    return rc;
}

void pretok_close(pretok *p) {
    if (!p) return;
    for (int i = 0; i < PATTERNS_MAX; i++) pcre2_code_free(p->codes[i]);
    free(p);
}

const char *pretok_name(const pretok *p) { return p->row->name; }
bool pretok_whole_pieces(const pretok *p) { return p->row->whole_pieces; }
bool pretok_adds_bos(const pretok *p) { return p->row->adds_bos; }

typedef struct splitting {
    const pretok *p;
    pcre2_match_data *match;
    pretok_piece piece;
    void *user;
} splitting;

/* Cuts text by pattern `level`, and what that leaves by the ones behind it. */
static err_code split(const splitting *s, int level, const char *text, size_t n, err *e) {
    if (level == s->p->n) return n ? s->piece(s->user, text, n, e) : ERR_OK;
    err_code rc = ERR_OK;
    for (size_t at = 0; at < n && !rc;) {
        int found = pcre2_match(s->p->codes[level], (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK, s->match, NULL);
        if (found == PCRE2_ERROR_NOMATCH) return split(s, level + 1, text + at, n - at, e);
        if (found < 0) return err_set(e, ERR_FAILED, "PCRE2 gave up on a text of %zu bytes (error %d)", n, found);
        const PCRE2_SIZE *range = pcre2_get_ovector_pointer(s->match);
        size_t from = range[0], to = range[1];
        assert(to > from); /* no pattern of the table matches nothing */
        rc = split(s, level + 1, text + at, from - at, e);
        if (!rc) rc = split(s, level + 1, text + from, to - from, e);
        at = to;
    }
    return rc;
}

err_code pretok_split(const pretok *p, const char *text, size_t n, pretok_piece piece, void *user, err *e) {
    splitting s = {.p = p, .match = pcre2_match_data_create(1, NULL), .piece = piece, .user = user};
    if (!s.match) return err_nomem(e, "a match", sizeof(PCRE2_SIZE));
    err_code rc = split(&s, 0, text, n, e);
    pcre2_match_data_free(s.match);
    return rc;
}
