#include "cli/options.h"
#include "core/mem.h"
#include "core/names.h"
#include "core/strbuf.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The options of every command. Only the first changes results. */
static const option common_options[] = {
    {"seed", OPT_INT, "0", "N", "seed of every random choice: same seed, same result", 0, 9007199254740992.0, false, false},
    {"threads", OPT_INT, NULL, "N", "threads to use; results do not depend on it (default: the cores it may run on)", 1, 1024,
     false, false},
    {"json", OPT_FLAG, NULL, NULL, "print one JSON document on stdout", 0, 0, false, false},
    {"quiet", OPT_FLAG, NULL, NULL, "no progress and no notes on stderr", 0, 0, false, false},
    {"verbose", OPT_FLAG, NULL, NULL, "more notes, and progress lines also when stderr is not a terminal", 0, 0, false,
     false},
    {"help", OPT_FLAG, NULL, NULL, "this text", 0, 0, false, false},
};
enum { N_COMMON = sizeof common_options / sizeof *common_options, HELP_COLUMN = 30, HELP_WIDTH = 110 };

typedef struct slot {
    const char *name; /* first, as names.h wants it */
    const option *spec;
    const char **values; /* [n_values] as typed, borrowed from argv; a flag counts with no value */
    size_t n_values, cap;
} slot;

struct parsed_options {
    const char *command;
    slot *slots; /* [n_own + N_COMMON] */
    int n_own;
    const char **args;
    size_t n_args, args_cap;
    char *command_line;
};

/* ---- checking values ---- */

static bool parse_int(const char *text, int64_t *out) {
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return end != text && !*end && !errno;
}

static bool parse_real(const char *text, double *out) {
    char *end;
    *out = strtod(text, &end);
    return end != text && !*end && !isnan(*out);
}

/* Finds `value` among the words of "a|b|c". */
static bool is_choice(const char *choices, const char *value) {
    size_t n = strlen(value);
    for (const char *at = choices; *at; at += *at == '|') {
        size_t length = strcspn(at, "|");
        if (length == n && !memcmp(at, value, n)) return true;
        at += length;
    }
    return false;
}

static void add_range(strbuf *s, const option *spec) {
    if (spec->min == 0 && spec->max == 0) return;
    if (isinf(spec->max) || spec->max >= 9e15)
        strbuf_addf(s, " of at least %.15g", spec->min);
    else if (isinf(spec->min))
        strbuf_addf(s, " of at most %.15g", spec->max);
    else
        strbuf_addf(s, " from %.15g to %.15g", spec->min, spec->max);
}

static bool in_range(const option *spec, double x) {
    return (spec->min == 0 && spec->max == 0) || (x >= spec->min && x <= spec->max);
}

static bool value_is_right(const option *spec, const char *value) {
    int64_t i;
    double x;
    switch (spec->type) {
    case OPT_INT: return parse_int(value, &i) && in_range(spec, (double)i);
    case OPT_REAL: return parse_real(value, &x) && in_range(spec, x);
    case OPT_CHOICE: return is_choice(spec->unit, value);
    case OPT_FLAG:
    case OPT_MAYBE:
    case OPT_STRING: return true;
    }
    return false;
}

static err_code wrong_value(const option *spec, const char *value, err *e) {
    strbuf expected = STRBUF_INIT;
    if (spec->type == OPT_CHOICE)
        strbuf_addf(&expected, "one of %s", spec->unit);
    else
        strbuf_add_str(&expected, spec->type == OPT_INT ? "a whole number" : "a number");
    if (spec->type != OPT_CHOICE) add_range(&expected, spec);
    err_code rc = err_set(e, ERR_USAGE, "--%s: expected %s, found '%s'", spec->name, expected.data, value);
    strbuf_release(&expected);
    return rc;
}

/* ---- parsing ---- */

static int slot_count(const parsed_options *o) { return o->n_own + N_COMMON; }

static err_code unknown_option(const parsed_options *o, const char *typed, const char *name, err *e) {
    const char *nearest = names_nearest(name, o->slots, slot_count(o), sizeof *o->slots);
    if (nearest)
        return err_set(e, ERR_USAGE, "unknown option %s, did you mean --%s? (sae %s --help lists them)", typed, nearest,
                       o->command);
    return err_set(e, ERR_USAGE, "unknown option %s (sae %s --help lists the options)", typed, o->command);
}

/* Is this text an option of the command, and so hardly meant as a value? */
static bool looks_like_option(const parsed_options *o, const char *text) {
    if (strncmp(text, "--", 2)) return false;
    char name[64];
    size_t n = strcspn(text + 2, "=");
    if (n >= sizeof name) return false;
    memcpy(name, text + 2, n);
    name[n] = '\0';
    return names_find(name, o->slots, slot_count(o), sizeof *o->slots) >= 0;
}

static err_code slot_add(slot *s, const char *value, err *e) {
    if (s->n_values && !s->spec->repeatable && s->spec->type != OPT_FLAG)
        return err_set(e, ERR_USAGE, "--%s: expected once, found twice ('%s' and '%s')", s->name, s->values[0], value);
    err_code rc = mem_grow(&s->values, &s->cap, s->n_values + 1, sizeof *s->values, "options", e);
    if (!rc) s->values[s->n_values++] = value;
    return rc;
}

/* argv[*i] is "--name", "--name=value" or "-h"; moves *i onto the last word used. */
static err_code parse_option(parsed_options *o, int argc, char *const *argv, int *i, err *e) {
    const char *typed = argv[*i], *name = !strcmp(typed, "-h") ? "help" : typed + 2, *equals = strchr(typed, '=');
    char plain[64] = "";
    size_t length = typed[1] == '-' && equals ? (size_t)(equals - name) : strlen(name);
    if (typed[1] != '-' && strcmp(typed, "-h")) return unknown_option(o, typed, typed + 1, e);
    if (length >= sizeof plain) return unknown_option(o, typed, "", e);
    memcpy(plain, name, length);
    int found = names_find(plain, o->slots, slot_count(o), sizeof *o->slots);
    if (found < 0) return unknown_option(o, typed, plain, e);

    slot *s = &o->slots[found];
    if (s->spec->type == OPT_FLAG) {
        if (equals) return err_set(e, ERR_USAGE, "--%s takes no value, found '%s'", s->name, equals + 1);
        return slot_add(s, "", e);
    }
    bool alone = !equals && (*i + 1 == argc || looks_like_option(o, argv[*i + 1]));
    if (s->spec->type == OPT_MAYBE && alone) return slot_add(s, s->spec->fallback, e);
    const char *value = equals ? equals + 1 : *i + 1 < argc ? argv[++*i] : NULL;
    if (!value) return err_set(e, ERR_USAGE, "--%s: expected a value behind it, found the end of the line", s->name);
    if (!equals && looks_like_option(o, value))
        return err_set(e, ERR_USAGE,
                       "--%s: expected a value behind it, found the option %s (write --%s=%s if that is the value)", s->name,
                       value, s->name, value);
    if (!value_is_right(s->spec, value)) return wrong_value(s->spec, value, e);
    return slot_add(s, value, e);
}

static bool is_option(const char *word) { /* "-" and "-3" are arguments */
    return word[0] == '-' && word[1] && !strchr("0123456789.", word[1]);
}

static err_code parse_words(parsed_options *o, int argc, char *const *argv, err *e) {
    err_code rc = ERR_OK;
    bool options_ended = false;
    for (int i = 0; i < argc && !rc; i++) {
        if (!options_ended && !strcmp(argv[i], "--")) {
            options_ended = true;
        } else if (!options_ended && is_option(argv[i])) {
            rc = parse_option(o, argc, argv, &i, e);
        } else {
            rc = mem_grow(&o->args, &o->args_cap, o->n_args + 1, sizeof *o->args, "arguments", e);
            if (!rc) o->args[o->n_args++] = argv[i];
        }
    }
    return rc;
}

static err_code check_whole(const parsed_options *o, const option_rules *r, err *e) {
    for (int i = 0; i < o->n_own; i++)
        if (o->slots[i].spec->required && !o->slots[i].n_values)
            return err_set(e, ERR_USAGE, "--%s is missing: %s (usage: sae %s %s)", o->slots[i].name, o->slots[i].spec->help,
                           r->command, r->usage);
    int n = (int)o->n_args;
    if (n < r->min_args)
        return err_set(e, ERR_USAGE, "expected %s%d argument%s, found %d (usage: sae %s %s)",
                       r->max_args == r->min_args ? "" : "at least ", r->min_args, r->min_args == 1 ? "" : "s", n, r->command,
                       r->usage);
    if (r->max_args >= 0 && n > r->max_args)
        return err_set(e, ERR_USAGE, "unexpected argument '%s' (usage: sae %s %s)", o->args[r->max_args], r->command,
                       r->usage);
    return ERR_OK;
}

/* ---- life cycle ---- */

static err_code make_slots(parsed_options *o, const option *own, err *e) {
    while (own && own[o->n_own].name) o->n_own++;
    err_code rc = mem_new0(&o->slots, (size_t)slot_count(o), sizeof *o->slots, "options", e);
    for (int i = 0; !rc && i < slot_count(o); i++) {
        const option *spec = i < o->n_own ? &own[i] : &common_options[i - o->n_own];
        assert(!spec->fallback || value_is_right(spec, spec->fallback));
        o->slots[i].name = spec->name;
        o->slots[i].spec = spec;
    }
    return rc;
}

err_code options_parse(const option_rules *rules, int argc, char *const *argv, parsed_options **out, err *e) {
    err_code rc;
    parsed_options *o;
    strbuf line = STRBUF_INIT;
    *out = NULL;
    TRY(mem_new0(&o, 1, sizeof *o, "options", e));
    o->command = rules->command;
    TRY(make_slots(o, rules->options, e));
    strbuf_addf(&line, "sae %s", rules->command);
    for (int i = 0; i < argc; i++) {
        strbuf_add_char(&line, ' ');
        strbuf_add_shell_word(&line, argv[i]);
    }
    TRY(strbuf_check(&line, e));
    o->command_line = strbuf_detach(&line);
    rc = parse_words(o, argc, argv, e);
    if (opt_flag(o, "help"))
        rc = ERR_OK; /* whoever asks for help gets it */
    else if (!rc)
        rc = check_whole(o, rules, e);
done:
    strbuf_release(&line);
    if (rc)
        options_free(o);
    else
        *out = o;
    return rc;
}

void options_free(parsed_options *o) {
    if (!o) return;
    for (int i = 0; o->slots && i < slot_count(o); i++) free(o->slots[i].values);
    free(o->slots);
    free(o->args);
    free(o->command_line);
    free(o);
}

/* ---- copies ---- */

static const slot *find(const parsed_options *o, const char *name) {
    int i = names_find(name, o->slots, slot_count(o), sizeof *o->slots);
    assert(i >= 0 && "the command's table has no such option");
    return &o->slots[i];
}

static err_code copy_values(const slot *from, slot *to, err *e) {
    err_code rc = mem_grow(&to->values, &to->cap, from->n_values + 1, sizeof *to->values, "options", e);
    for (size_t i = 0; !rc && i < from->n_values; i++) to->values[to->n_values++] = from->values[i];
    return rc;
}

static err_code copy_options(const parsed_options *o, parsed_options **out, err *e) {
    parsed_options *p;
    err_code rc;
    TRY(mem_new0(&p, 1, sizeof *p, "options", e));
    *out = p;
    p->command = o->command;
    TRY(mem_new0(&p->slots, (size_t)slot_count(o), sizeof *p->slots, "options", e));
    p->n_own = o->n_own;
    for (int i = 0; i < slot_count(o); i++) {
        p->slots[i] = (slot){.name = o->slots[i].name, .spec = o->slots[i].spec};
        TRY(copy_values(&o->slots[i], &p->slots[i], e));
    }
    TRY(mem_new(&p->args, o->n_args, sizeof *p->args, "arguments", e));
    for (; p->n_args < o->n_args; p->n_args++) p->args[p->n_args] = o->args[p->n_args];
    if (!(p->command_line = strdup(o->command_line))) rc = err_nomem(e, "options", strlen(o->command_line));
done:
    return rc;
}

err_code opt_with(const parsed_options *o, const char *const *names, const char *const *values, int n, parsed_options **out,
                  err *e) {
    *out = NULL;
    err_code rc = copy_options(o, out, e);
    for (int i = 0; i < n && !rc; i++) {
        slot *s = &(*out)->slots[find(o, names[i]) - o->slots];
        rc = value_is_right(s->spec, values[i]) ? slot_add(s, values[i], e) : wrong_value(s->spec, values[i], e);
    }
    if (rc) {
        options_free(*out);
        *out = NULL;
    }
    return rc;
}

/* ---- reading ---- */

static const char *text_of(const slot *s) {
    if (s->n_values) return s->values[s->n_values - 1];
    return s->spec->type == OPT_MAYBE ? NULL : s->spec->fallback;
}

bool opt_given(const parsed_options *o, const char *name) { return find(o, name)->n_values > 0; }

bool opt_flag(const parsed_options *o, const char *name) {
    assert(find(o, name)->spec->type == OPT_FLAG);
    return opt_given(o, name);
}

int64_t opt_int(const parsed_options *o, const char *name) {
    const slot *s = find(o, name);
    assert(s->spec->type == OPT_INT);
    int64_t x = 0;
    if (text_of(s)) parse_int(text_of(s), &x);
    return x;
}

double opt_real(const parsed_options *o, const char *name) {
    const slot *s = find(o, name);
    assert(s->spec->type == OPT_REAL);
    double x = NAN;
    if (text_of(s)) parse_real(text_of(s), &x);
    return x;
}

const char *opt_string(const parsed_options *o, const char *name) {
    const slot *s = find(o, name);
    assert(s->spec->type == OPT_STRING || s->spec->type == OPT_CHOICE || s->spec->type == OPT_MAYBE);
    return text_of(s);
}

int opt_count(const parsed_options *o, const char *name) { return (int)find(o, name)->n_values; }

const char *opt_string_at(const parsed_options *o, const char *name, int i) {
    const slot *s = find(o, name);
    assert(i >= 0 && (size_t)i < s->n_values);
    return s->values[i];
}

int opt_n_args(const parsed_options *o) { return (int)o->n_args; }

const char *opt_arg(const parsed_options *o, int i) {
    assert(i >= 0 && (size_t)i < o->n_args);
    return o->args[i];
}

bool opt_json(const parsed_options *o) { return opt_flag(o, "json"); }
bool opt_quiet(const parsed_options *o) { return opt_flag(o, "quiet"); }
uint64_t opt_seed(const parsed_options *o) { return (uint64_t)opt_int(o, "seed"); }
const char *opt_command(const parsed_options *o) { return o->command; }
const char *opt_command_line(const parsed_options *o) { return o->command_line; }

static json_t *value_to_json(const option *spec, const char *text) {
    int64_t i = 0;
    double x = 0;
    switch (spec->type) {
    case OPT_INT: return parse_int(text, &i), json_integer(i);
    case OPT_REAL: return parse_real(text, &x), isfinite(x) ? json_real(x) : json_string(text);
    default: return json_string(text);
    }
}

static json_t *slot_to_json(const slot *s) {
    if (s->spec->type == OPT_FLAG) return json_boolean(s->n_values > 0);
    if (!s->spec->repeatable) return text_of(s) ? value_to_json(s->spec, text_of(s)) : json_null();
    json_t *list = json_array();
    for (size_t i = 0; i < s->n_values; i++) json_array_append_new(list, value_to_json(s->spec, s->values[i]));
    return list;
}

err_code opt_refuse(const parsed_options *o, const char *const *names, const char *form, err *e) {
    for (; *names; names++)
        if (opt_given(o, *names)) return err_set(e, ERR_USAGE, "--%s means nothing in the form %s", *names, form);
    return ERR_OK;
}

json_t *opt_to_json(const parsed_options *o) {
    json_t *doc = json_object();
    for (int i = 0; i < o->n_own; i++) json_object_set_new(doc, o->slots[i].name, slot_to_json(&o->slots[i]));
    json_object_set_new(doc, "seed", slot_to_json(find(o, "seed")));
    return doc;
}

/* ---- help ---- */

/* The help text behind column HELP_COLUMN, broken between words. */
static void print_wrapped(FILE *to, const char *text) {
    int column = HELP_COLUMN;
    while (*text) {
        int word = (int)strcspn(text, " ");
        if (column > HELP_COLUMN && column + 1 + word > HELP_WIDTH) {
            fprintf(to, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        }
        column += fprintf(to, "%s%.*s", column > HELP_COLUMN ? " " : "", word, text);
        text += word;
        text += strspn(text, " ");
    }
    fputc('\n', to);
}

static void print_option(FILE *to, const option *o) {
    strbuf left = STRBUF_INIT, right = STRBUF_INIT;
    strbuf_addf(&left, o->type == OPT_MAYBE ? "  --%s%s[%s]" : "  --%s%s%s", o->name, o->unit ? " " : "",
                o->unit ? o->unit : "");
    strbuf_add_str(&right, o->help);
    if (o->fallback && *o->fallback)
        strbuf_addf(&right, " (%s %s)", o->type == OPT_MAYBE ? "alone:" : "default", o->fallback);
    if (o->required) strbuf_add_str(&right, " (required)");
    if (o->repeatable) strbuf_add_str(&right, " (may be repeated)");
    fputs(left.data, to);
    if (left.len + 2 > HELP_COLUMN)
        fprintf(to, "\n%*s", HELP_COLUMN, "");
    else
        fprintf(to, "%*s", HELP_COLUMN - (int)left.len, "");
    print_wrapped(to, right.data);
    strbuf_release(&left);
    strbuf_release(&right);
}

void options_print_help(FILE *to, const option *own) {
    if (own && own->name) fputs("\nOptions:\n", to);
    for (; own && own->name; own++) print_option(to, own);
    fputs("\nOptions of every command:\n", to);
    for (int i = 0; i < N_COMMON; i++) print_option(to, &common_options[i]);
}
