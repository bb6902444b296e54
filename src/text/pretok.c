#include "text/pretok.h"

#include "core/mem.h"
#include "core/names.h"
#include "core/strbuf.h"
#include "text/regex.h"

#include <stdlib.h>
#include <string.h>

enum { PATTERNS_MAX = 6, STEPS_MAX = 32 };

/* GPT-2's: contractions, words, numbers and other signs, each with a space before it; a run of spaces leaves its last one
 * to the word behind it. Radford et al. 2019, "Language models are unsupervised multitask learners". */
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACES "\\p{L}\\p{N}]+|" SPACE "+(?!" NO_SPACE ")|" SPACE "+"

const char pretok_gpt2[] = GPT2;

/* Llama 3's and its relatives': any sign may stand before a word, numbers in groups of at most `digits`, signs take line ends
 * along (and in the younger ones slashes). */
#define CONTRACTION                  "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define BEFORE_WORD                  "[^\\r\\n\\p{L}\\p{N}]?"
#define WORDS(words, digits, behind) words "|\\p{N}" digits "| ?[^" SPACES "\\p{L}\\p{N}]+[\\r\\n" behind "]*|" LAST_SPACES
#define LAST_SPACES                  SPACE "*[\\r\\n]+|" SPACE "+(?!" NO_SPACE ")|" SPACE "+"
#define LLAMA3(digits)               WORDS(CONTRACTION "|" BEFORE_WORD "\\p{L}+", digits, "")

/* Tekken's and GPT-4o's: a capital within a word begins another. */
#define UPPER         "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER         "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(behind) BEFORE_WORD UPPER "*" LOWER "+" behind "|" BEFORE_WORD UPPER "+" LOWER "*" behind

/* DeepSeek's: letters with case as of Unicode 12, without Armenian small letters and some younger alphabets; from Samaritan to
 * the ideographs, and Hangul. */
#define CASED_LETTERS                                                                                                        \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}\\x{295}-\\x{2af}"         \
    "\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}"           \
    "\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}"             \
    "\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}"     \
    "\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}"      \
    "\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}"      \
    "\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}"      \
    "\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}"       \
    "\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}"       \
    "\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}"      \
    "\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}"     \
    "\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"              \
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"
#define EASTERN "[\\x{800}-\\x{9fa5}\\x{ac00}-\\x{d7ff}]+"
#define SIGNS   "[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+"

typedef struct pretok_row {
    const char *name; /* tokenizer.ggml.pre */
    const char *patterns[PATTERNS_MAX];
    bool whole_pieces, adds_bos;
    bool spaces; /* for SentencePiece vocabularies alone */
    bool marks_strip;
} pretok_row;

/* How to add one: a row with the patterns of the model's own tokenizer.json in their order, and token ids from that
 * tokenizer in tests/golden/tokenizers. A wrong pattern shows in no error message, only in a slightly worse model. */
static const pretok_row rows[] = {
    {.name = "gpt-2", .patterns = {GPT2}},
    {.name = "gpt2", .patterns = {GPT2}},
    {.name = "mpt", .patterns = {GPT2}},
    {.name = "olmo", .patterns = {GPT2}},
    {.name = "gpt-neox", .patterns = {GPT2}},
    {.name = "smollm", .patterns = {"\\p{N}", GPT2}}, /* digits are cut off before anything else sees them */
    {.name = "starcoder", .patterns = {"\\p{N}", GPT2}},
    {.name = "refact", .patterns = {"\\p{N}", GPT2}},
    {.name = "command-r", .patterns = {"\\p{N}", GPT2}},
    {.name = "llama-bpe", .patterns = {LLAMA3("{1,3}")}, .whole_pieces = true, .adds_bos = true},
    {.name = "llama3", .patterns = {LLAMA3("{1,3}")}, .whole_pieces = true, .adds_bos = true},
    {.name = "llama-v3", .patterns = {LLAMA3("{1,3}")}, .whole_pieces = true, .adds_bos = true},
    {.name = "dbrx", .patterns = {LLAMA3("{1,3}")}},      /* also OLMo 2 */
    {.name = "smaug-bpe", .patterns = {LLAMA3("{1,3}")}}, /* also SmolLM3 */
    {.name = "qwen2", .patterns = {LLAMA3("")}},
    {.name = "deepseek-r1-qwen", .patterns = {LLAMA3("")}},
    {.name = "tekken", .patterns = {WORDS(CASED(""), "", "/")}, .whole_pieces = true, .adds_bos = true},
    {.name = "gpt-4o", .patterns = {WORDS(CASED(CONTRACTION "?"), "{1,3}", "/")}},
    {.name = "falcon", .patterns = {"[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"}},
    {.name = "deepseek-llm",
     .patterns = {"[\\r\\n]", SPACE "?[" CASED_LETTERS "]+", SPACE "?" SIGNS, SPACE "+\\z", EASTERN, "\\p{N}+"}},
    {.name = "deepseek-coder", .patterns = {"[\\r\\n]", SPACE "?\\p{L}+", SPACE "?\\p{P}+", EASTERN, "\\p{N}"}},
    {.name = "phi-3", .spaces = true, .marks_strip = true},
    /* Files that do not know: what llama.cpp does with them. */
    {.name = "default", .patterns = {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
};
enum { N_ROWS = sizeof rows / sizeof *rows };

typedef struct step {
    pcre2_code *code; /* NULL: not a cut */
    pretok_cut cut;
    bool invert; /* what lies between matches counts as the matches */
    char *prefix;
    bool first_only;
    char *for_space;
} step;

struct pretok {
    const pretok_row *row; /* NULL: none of the table's */
    step steps[STEPS_MAX];
    int n;
};

/* ---- life ---- */

err_code pretok_new(pretok **out, err *e) { return mem_new0(out, 1, sizeof **out, "the pre-tokenizer", e); }

static err_code new_step(pretok *p, step **out, err *e) {
    if (p->n == STEPS_MAX) return err_set(e, ERR_UNSUPPORTED, "a pre-tokenizer of more than %d steps", STEPS_MAX);
    *out = &p->steps[p->n++];
    return ERR_OK;
}

err_code pretok_add_cut(pretok *p, const char *pattern, pretok_cut cut, bool invert, err *e) {
    step *s = NULL;
    err_code rc = new_step(p, &s, e);
    if (rc) return rc;
    s->cut = cut;
    s->invert = invert;
    return regex_compile(pattern, &s->code, e);
}

err_code pretok_add_prefix(pretok *p, const char *prefix, bool first_only, err *e) {
    step *s = NULL;
    err_code rc = new_step(p, &s, e);
    if (rc) return rc;
    s->first_only = first_only;
    s->prefix = strdup(prefix);
    return s->prefix ? ERR_OK : err_nomem(e, "the pre-tokenizer", strlen(prefix));
}

err_code pretok_add_replace_spaces(pretok *p, const char *with, err *e) {
    step *s = NULL;
    err_code rc = new_step(p, &s, e);
    if (rc) return rc;
    s->for_space = strdup(with);
    return s->for_space ? ERR_OK : err_nomem(e, "the pre-tokenizer", strlen(with));
}

err_code pretok_open(const char *name, bool spaces, pretok **out, err *e) {
    *out = NULL;
    int i = names_find(name, rows, N_ROWS, sizeof *rows);
    if (i < 0) return names_unknown(e, ERR_UNSUPPORTED, "pre-tokenizer", name, rows, N_ROWS, sizeof *rows);
    if (rows[i].spaces && !spaces)
        return err_set(e, ERR_UNSUPPORTED, "the pre-tokenizer %s is for SentencePiece vocabularies", name);
    pretok *p;
    err_code rc = pretok_new(&p, e);
    if (rc) return rc;
    p->row = &rows[i];
    for (int k = 0; k < PATTERNS_MAX && p->row->patterns[k] && !spaces && !rc; k++)
        rc = pretok_add_cut(p, p->row->patterns[k], CUT_ISOLATED, false, e);
    if (rc)
        pretok_close(p);
    else
        *out = p;
    return rc;
}

void pretok_close(pretok *p) {
    if (!p) return;
    for (int i = 0; i < p->n; i++) {
        pcre2_code_free(p->steps[i].code);
        free(p->steps[i].prefix);
        free(p->steps[i].for_space);
    }
    free(p);
}

const char *pretok_name(const pretok *p) { return p->row->name; }
bool pretok_whole_pieces(const pretok *p) { return p->row->whole_pieces; }
bool pretok_adds_bos(const pretok *p) { return p->row->adds_bos; }
bool pretok_marks_strip(const pretok *p) { return p->row->marks_strip; }

/* ---- cutting ---- */

typedef struct splitting {
    const pretok *p;
    bool first; /* nothing of the text has been seen yet */
    pretok_piece piece;
    void *user;
} splitting;

/* A range that may still grow: joined to its neighbour, or not, when that is known. */
typedef struct cutting {
    const char *text;
    size_t from, to;
    bool open, is_match;
} cutting;

static err_code split(splitting *s, int level, const char *text, size_t n, err *e);

static err_code flush(splitting *s, int level, cutting *c, err *e) {
    bool open = c->open && c->to > c->from;
    c->open = false;
    return open ? split(s, level + 1, c->text + c->from, c->to - c->from, e) : ERR_OK;
}

/* Takes the next range of the piece, a match or what lies between two. */
static err_code add_range(splitting *s, int level, cutting *c, size_t from, size_t to, bool is_match, err *e) {
    const step *what = &s->p->steps[level];
    if (from == to) return ERR_OK;
    if (what->invert) is_match = !is_match;
    bool joins = false;
    switch (what->cut) {
    case CUT_ISOLATED: break;
    case CUT_REMOVED:
        if (is_match) return ERR_OK;
        break;
    case CUT_WITH_PREVIOUS: joins = c->open && is_match && !c->is_match; break;
    case CUT_WITH_NEXT: joins = c->open && !is_match && c->is_match; break;
    case CUT_CONTIGUOUS: joins = c->open && is_match == c->is_match; break;
    }
    err_code rc = joins ? ERR_OK : flush(s, level, c, e);
    if (rc) return rc;
    *c = (cutting){.text = c->text, .from = joins ? c->from : from, .to = to, .open = true, .is_match = is_match};
    return ERR_OK;
}

static err_code cut(splitting *s, int level, const char *text, size_t n, err *e) {
    regex_search search;
    cutting c = {.text = text};
    size_t at = 0, from, to;
    err_code rc = ERR_OK;
    TRY(regex_search_init(&search, s->p->steps[level].code, text, n, e));
    while (at < n && regex_search_next(&search, at, &from, &to, &rc, e)) {
        TRY(add_range(s, level, &c, at, from, false, e));
        TRY(add_range(s, level, &c, from, to, true, e));
        at = to;
    }
    if (rc) goto done;
    TRY(add_range(s, level, &c, at, n, false, e));
    rc = flush(s, level, &c, e);
done:
    regex_search_release(&search);
    return rc;
}

static err_code rewrite(splitting *s, int level, const char *text, size_t n, err *e) {
    const step *what = &s->p->steps[level];
    strbuf piece = STRBUF_INIT;
    if (what->prefix) {
        size_t n_prefix = strlen(what->prefix);
        bool has_it = n >= n_prefix && !memcmp(text, what->prefix, n_prefix);
        if (!has_it && (s->first || !what->first_only)) strbuf_add_str(&piece, what->prefix);
    }
    for (size_t i = 0; i < n; i++) {
        if (what->for_space && text[i] == ' ')
            strbuf_add_str(&piece, what->for_space);
        else
            strbuf_add_char(&piece, text[i]);
    }
    err_code rc = strbuf_check(&piece, e);
    if (!rc) rc = split(s, level + 1, piece.data, piece.len, e);
    strbuf_release(&piece);
    return rc;
}

/* Applies step `level` to text, and the ones behind it to what that leaves. */
static err_code split(splitting *s, int level, const char *text, size_t n, err *e) {
    if (!n) return ERR_OK;
    if (!s->p || level == s->p->n) {
        s->first = false;
        return s->piece(s->user, text, n, e);
    }
    return s->p->steps[level].code ? cut(s, level, text, n, e) : rewrite(s, level, text, n, e);
}

err_code pretok_split(const pretok *p, const char *text, size_t n, bool first, pretok_piece piece, void *user, err *e) {
    splitting s = {.p = p, .first = first, .piece = piece, .user = user};
    return split(&s, 0, text, n, e);
}

/* ---- telling them apart ---- */

const char *pretok_pattern(const pretok *p, int i) { return i < PATTERNS_MAX ? p->row->patterns[i] : NULL; }

/* What the rows cut differently: numbers of every length, contractions in both cases, signs with line ends and slashes behind,
 * runs of spaces, capitals within words, marks, scripts of every kind. */
static const char probe[] =
    "Hello  world,\n\n it's I'LL we'Ve 'tis don\xe2\x80\x99t 'S'D'RE  3.14 12 123 1234 12345 1234567 "
    "\xd9\xa1\xd9\xa2\xd9\xa3\xd9\xa4 x2y33z444 "
    "HTTPServer camelCase aB ABc ABC \xc3\x89\x63ole \xc7\x85x \xca\xb0 \t\tif (a[i] != b) {\r\n\r\n    return x+=y/z; // "
    "no\n}\n"
    "path/to/file.txt/\n!!!/ ...\n ... $5 <a href='#'> ^~|`=+ \xc2\xa3\xe2\x82\xac 50% _under_score_ a_b -- "
    "\xe6\x9d\x8e\xe7\x99\xbd\xe3\x80\x82\xe5\xba\x8a\xe5\x89\x8d\xe6\x98\x8e\xe6\x9c\x88\xe5\x85\x89 2024\xe5\xb9\xb4 "
    "\xe3\x81\x82\xe3\x82\xab "
    "\xed\x95\x9c\xea\xb8\x80 \xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82\x42 \xd8\xb3\xd9\x84\xd8\xa7\xd9\x85 "
    "\xe0\xa4\xb9\xe0\xa4\xbf\xe0\xa4\xa8\xe0\xa5\x8d\xe0\xa4\xa6\xe0\xa5\x80 e\xcc\x81t\xc3\xa9 \xc2\xb2\xc2\xbd "
    "\xe2\x85\xa7 "
    "\xf0\x9f\x98\x80\xf0\x9f\x91\x8d\xf0\x9f\x8f\xbd \xc2\xa0 \xe2\x80\x83\xe3\x80\x80\xe2\x80\x8b \xe1\xa0\x8e end   \n  "
    "\n   x   ";

static err_code add_piece_and_line(void *user, const char *piece, size_t n, err *e) {
    strbuf *out = user;
    (void)e;
    strbuf_add(out, piece, n);
    strbuf_add_char(out, '\0');
    return ERR_OK;
}

static err_code cut_probe(const pretok *p, strbuf *out, err *e) {
    strbuf_reset(out);
    err_code rc = pretok_split(p, probe, sizeof probe - 1, true, add_piece_and_line, out, e);
    return rc ? rc : strbuf_check(out, e);
}

err_code pretok_recognize(const pretok *p, bool whole_pieces, const char **out, err *e) {
    strbuf expected = STRBUF_INIT, found = STRBUF_INIT;
    err_code rc;
    *out = NULL;
    TRY(cut_probe(p, &expected, e));
    for (int i = 0; i < N_ROWS && !*out; i++) {
        pretok *row = NULL;
        if (rows[i].spaces || rows[i].whole_pieces != whole_pieces) continue;
        TRY(pretok_open(rows[i].name, false, &row, e));
        rc = cut_probe(row, &found, e);
        pretok_close(row);
        if (rc) goto done;
        if (found.len == expected.len && !memcmp(found.data, expected.data, found.len)) *out = rows[i].name;
    }
done:
    strbuf_release(&expected);
    strbuf_release(&found);
    return rc;
}
