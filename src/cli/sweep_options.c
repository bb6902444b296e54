#include "cli/sweep_options.h"

#include "core/mem.h"
#include "core/names.h"
#include "core/strbuf.h"

#include <stdlib.h>
#include <string.h>

/* "16,32" */
static err_code read_values(sweep_axis *a, char *text, err *e) {
    char *rest = text;
    for (char *value; (value = strsep(&rest, ","));) {
        if (!*value)
            return err_set(e, ERR_USAGE, "--sweep: %s: expected values with commas between, found an empty one", a->name);
        for (int i = 0; i < a->n; i++)
            if (!strcmp(a->values[i], value)) return err_set(e, ERR_USAGE, "--sweep: %s: found %s twice", a->name, value);
        if (a->n == SWEEP_RUNS_MAX)
            return err_set(e, ERR_USAGE, "--sweep: %s: expected at most %d values", a->name, SWEEP_RUNS_MAX);
        a->values[a->n++] = value;
    }
    return ERR_OK;
}

/* "k=16,32" */
static err_code read_axis(sweep *s, const parsed_options *o, char *text, const sweep_name *allowed, int n_allowed, err *e) {
    char *values = strchr(text, '=');
    if (!values) return err_set(e, ERR_USAGE, "--sweep: expected \"k=16,32 width=4096,8192\", found '%s'", text);
    *values++ = '\0';
    int found = names_find(text, allowed, n_allowed, sizeof *allowed);
    if (found < 0) return names_unknown(e, ERR_USAGE, "--sweep", text, allowed, n_allowed, sizeof *allowed);
    for (int i = 0; i < s->n_axes; i++)
        if (!strcmp(s->names[i], text)) return err_set(e, ERR_USAGE, "--sweep: found %s twice", text);
    if (opt_given(o, text)) return err_set(e, ERR_USAGE, "--%s: expected once, found it in --sweep too", text);
    if (s->n_axes == SWEEP_AXES_MAX) return err_set(e, ERR_USAGE, "--sweep: expected at most %d options", SWEEP_AXES_MAX);
    s->names[s->n_axes] = s->axes[s->n_axes].name = allowed[found].name;
    s->axes[s->n_axes].label = allowed[found].label;
    return read_values(&s->axes[s->n_axes++], values, e);
}

/* Values, name, folder and command line of combination i. */
static err_code make_run(const sweep *s, const parsed_options *o, int i, sweep_run *out, err *e) {
    strbuf name = STRBUF_INIT, folder = STRBUF_INIT;
    err_code rc;
    for (int a = s->n_axes - 1, left = i; a >= 0; left /= s->axes[a--].n)
        out->values[a] = s->axes[a].values[left % s->axes[a].n];
    for (int a = 0; a < s->n_axes; a++) strbuf_addf(&name, "%s%s%s", a ? "-" : "", s->axes[a].label, out->values[a]);
    strbuf_addf(&folder, "%s%s%s", opt_string(o, "out"), s->n_axes ? "/" : "", name.data);
    TRY(strbuf_check(&name, e));
    TRY(strbuf_check(&folder, e));
    out->name = strbuf_detach(&name);
    out->folder = strbuf_detach(&folder);
    if (!out->name || !out->folder) {
        rc = err_nomem(e, "the runs of a sweep", 0);
        goto done;
    }
    TRY(opt_with(o, s->names, out->values, s->n_axes, &out->options, e));
done:
    strbuf_release(&name);
    strbuf_release(&folder);
    return rc;
}

err_code sweep_read(const parsed_options *o, const sweep_name *allowed, int n_allowed, sweep *out, err *e) {
    const char *text = opt_string(o, "sweep");
    int n = 1;
    err_code rc = ERR_OK;
    if (text && !(out->text = strdup(text))) return err_nomem(e, "--sweep", strlen(text));
    char *rest = out->text;
    for (char *word; rest && (word = strsep(&rest, " "));)
        if (*word) TRY(read_axis(out, o, word, allowed, n_allowed, e));
    if (text && !out->n_axes) {
        rc = err_set(e, ERR_USAGE, "--sweep: expected \"k=16,32 width=4096,8192\", found nothing");
        goto done;
    }
    for (int a = 0; a < out->n_axes && n <= SWEEP_RUNS_MAX; a++) n *= out->axes[a].n;
    if (n > SWEEP_RUNS_MAX) {
        rc = err_set(e, ERR_USAGE, "--sweep: expected at most %d combinations, found more", SWEEP_RUNS_MAX);
        goto done;
    }
    TRY(mem_new0(&out->runs, (size_t)n, sizeof *out->runs, "the runs of a sweep", e));
    out->n_runs = n;
    for (int i = 0; i < n; i++) TRY(make_run(out, o, i, &out->runs[i], e));
done:
    return rc;
}

void sweep_release(sweep *s) {
    for (int i = 0; i < s->n_runs; i++) {
        free(s->runs[i].name);
        free(s->runs[i].folder);
        options_free(s->runs[i].options);
    }
    free(s->runs);
    free(s->text);
    *s = (sweep){0};
}
