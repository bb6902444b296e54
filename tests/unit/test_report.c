/* The report: hostile text stays text, nothing is fetched from anywhere, parts that are missing are left out, and without
 * gnuplot there are tables. */
#include "support/test.h"

#include "analysis/report.h"
#include "analysis/report_internal.h"
#include "core/file.h"

#include <jansson.h>

#define HOSTILE "<script>alert('x')</script>&\"\x01"

/* ---- a study of three features ---- */

static char *make_database(const char *folder) {
    err e = {0};
    char *path, *text[3];
    feature_db_writer *w;
    assert_ok(path_join(folder, "features.db", &path, &e), &e);
    assert_ok(feature_db_create(path, &w, &e), &e);
    feature_db_put_meta(w, "model", "m", &e);
    feature_db_put_doc(w, 0, "poets.jsonl:1", &e);
    for (int i = 0; i < 3; i++) {
        feature_span span = {4, 11, 6};
        feature_label label = {"rule", (char *)HOSTILE, 0.9, 0.95, 0.9, 0.9, 40};
        feature_logit logit = {1, 7, (char *)" <poet>", 4.5};
        text[0] = (char *)"The ", text[1] = (char *)"<b>Bai", text[2] = (char *)"</b> of Tang";
        span.end = 4 + 6;
        feature_example example = {"top", 1, 0, 3, 6, text[0], text[1], text[2], &span, 1};
        feature_card card = {.stats = {.id = i,
                                       .fires = i ? 100 : 0,
                                       .tokens = 3,
                                       .docs = 1,
                                       .density = i * 0.01,
                                       .max = 6 * i,
                                       .mean = 2,
                                       .interpretability = 0.5,
                                       .selectivity = 0.5,
                                       .neighbour = 0.1,
                                       .output = NAN,
                                       .label = HOSTILE,
                                       .top_tokens = " Bai"}};
        card.stats.label[27] = '\0'; /* the control character is no text of a database */
        if (i) {
            card.examples = &example, card.n_examples = 1;
            card.logits = &logit, card.n_logits = 1;
        }
        (void)label;
        assert_ok(feature_db_put_card(w, &card, "", &e), &e);
    }
    assert_ok(feature_db_finish(w, &e), &e);
    feature_db_abandon(w);
    return path;
}

static json_t *parse(const char *text) {
    json_error_t error;
    json_t *doc = json_loads(text, 0, &error);
    if (!doc) fail_msg("%s", error.text);
    return doc;
}

static const char study_json[] =
    "{\"concept\": \"Li <Bai>\", \"model\": {\"name\": \"Small & Co\", \"path\": \"m.gguf\", \"sha256\": \"ab12\", "
    "\"n_layers\": 30}, \"hook\": \"blocks.1.hook_resid_post\", \"stages\": ["
    "{\"name\": \"capture\", \"command\": \"sae capture 'a b' --out <f>\", \"seconds\": 12.5, \"result\": {\"tokens\": "
    "250000, "
    "\"rows\": 249000}},"
    "{\"name\": \"train\", \"command\": \"sae train f\", \"seconds\": 3.5, \"result\": {\"k\": 32, \"fvu\": 0.25}}]}";

static const char find_json[] =
    "{\"concept\": \"Li <Bai>\", \"gate\": {\"sentence\": \"The model knows Li <Bai>.\"}, \"detectors\": [{\"feature\": 2, "
    "\"label\": \"<i>x\", \"auroc\": 0.98, \"low\": 0.93, \"high\": 0.99, \"density\": 0.004, \"rate\": 0.8}], \"causes\": "
    "[{\"feature\": 1, \"label\": \"<i>y\", \"strength\": 12.5, \"multiple\": 2, \"delta_logprob\": 5.5, \"low\": 4, "
    "\"high\": 7}], "
    "\"controls\": [{\"name\": \"difference of means\", \"auroc\": 0.9, \"low\": 0.8, \"high\": 0.95}]}";

static const char steer_json[] =
    "{\"words\": [\"Tang\", \"<poet>\"], \"best\": \"1 at 2x\", \"prompts_choice\": 16, \"prompts_report\": 16, "
    "\"samples_report\": 2, \"tokens\": 40, \"temperature\": 0.7, \"repeat_penalty\": 1.1, \"choice\": [], \"arms\": ["
    "{\"arm\": \"unsteered\", \"n\": 32, \"mentions\": 1, \"rate\": 0.03, \"low\": 0.01, \"high\": 0.16, \"repetition\": "
    "0.01, "
    "\"perplexity\": 7.5}, {\"arm\": \"1 at 2x\", \"n\": 32, \"mentions\": 22, \"rate\": 0.69, \"low\": 0.51, \"high\": "
    "0.82, "
    "\"repetition\": 0.02, \"perplexity\": null}], \"outputs\": [{\"prompt\": \"I <saw>\", \"unsteered\": \"a </p> dog\", "
    "\"steered\": \"a <poet>\"}]}";

static char *write_and_read(const report_inputs *in, const char *folder) {
    err e = {0};
    ctx c = test_ctx(1);
    char *path, *html;
    size_t size;
    assert_ok(path_join(folder, "report.html", &path, &e), &e);
    assert_ok(report_write(&c, in, path, &e), &e);
    assert_ok(file_read(path, 1 << 24, &html, &size, &e), &e);
    assert_int_equal(strlen(html), size);
    free(path);
    return html;
}

typedef struct fixture {
    char *folder, *db, *metrics;
    json_t *study, *find, *steer;
    report_inputs in;
} fixture;

static void set_up(fixture *f) {
    static const char csv[] =
        "step,rows,fvu,l0,dead,train_fvu\n1,4096,0.9,32,0,0.9\n2,8192,0.5,32,0.01,0.5\n3,12288,0.3,32,0.02,0.3\n";
    err e = {0};
    f->folder = test_make_dir();
    f->db = make_database(f->folder);
    assert_ok(path_join(f->folder, "metrics.csv", &f->metrics, &e), &e);
    assert_ok(file_write(f->metrics, csv, strlen(csv), &e), &e);
    f->study = parse(study_json);
    f->find = parse(find_json);
    f->steer = parse(steer_json);
    f->in = (report_inputs){.study = f->study, .find = f->find, .steering = f->steer, .db = f->db, .metrics = f->metrics};
}

static void tear_down(fixture *f) {
    json_decref(f->study);
    json_decref(f->find);
    json_decref(f->steer);
    free(f->db);
    free(f->metrics);
    test_remove_dir(f->folder);
}

/* ---- tests ---- */

static void says_everything(void **state) {
    (void)state;
    fixture f;
    set_up(&f);
    char *html = write_and_read(&f.in, f.folder);
    const char *const expected[] = {"Li &lt;Bai&gt; in Small &amp; Co",
                                    "250,000",
                                    "sae capture &#39;a b&#39; --out &lt;f&gt;",
                                    "0.930 – 0.990",
                                    "<td class=n>+5.50</td>",
                                    "22 of 32",
                                    "a &lt;/p&gt; dog",
                                    "Tang, &lt;poet&gt;",
                                    "difference of means",
                                    "3 latents, of which 2 fire",
                                    "<b>&lt;b&gt;Bai</b></i>&lt;/b&gt; of Tang"};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        if (!strstr(html, expected[i])) fail_msg("the report lacks: %s", expected[i]);
    free(html);
    tear_down(&f);
}

static void draws_figures(void **state) {
    (void)state;
    fixture f;
    if (system("gnuplot -e exit >/dev/null 2>&1")) skip();
    set_up(&f);
    char *html = write_and_read(&f.in, f.folder), *first = strstr(html, "<svg");
    assert_non_null(first);
    assert_non_null(strstr(first + 1, "<svg"));
    assert_null(strstr(html, "gnuplot did not draw"));
    free(html);
    tear_down(&f);
}

static void hostile_text_stays_text(void **state) {
    (void)state;
    fixture f;
    set_up(&f);
    char *html = write_and_read(&f.in, f.folder);
    const char *const forbidden[] = {"<script", "<saw>", "<poet>", "<i>x", "http://", "https://", "src=", "href=", "url("};
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
        for (const char *at = html; (at = strstr(at, forbidden[i])); at++) /* an SVG names its own name space and parts */
            if (strncmp(at - 7, "xmlns=", 6) && strncmp(at - 13, "xmlns:xlink=", 12) && strncmp(at, "href='#", 7))
                fail_msg("the report has %s: %.80s", forbidden[i], at - 20 > html ? at - 20 : html);
    assert_non_null(strstr(html, "&lt;script&gt;alert"));
    free(html);
    tear_down(&f);
}

static void missing_parts_are_left_out(void **state) {
    (void)state;
    fixture f;
    set_up(&f);
    f.in = (report_inputs){.study = f.study};
    char *html = write_and_read(&f.in, f.folder);
    assert_null(strstr(html, "Steering"));
    assert_null(strstr(html, "The features"));
    assert_non_null(strstr(html, "How to do it again"));
    free(html);
    tear_down(&f);
}

static void tables_without_gnuplot(void **state) {
    (void)state;
    fixture f;
    set_up(&f);
    char *path = strdup(getenv("PATH"));
    setenv("PATH", "/nonexistent", 1);
    char *html = write_and_read(&f.in, f.folder);
    setenv("PATH", path, 1);
    free(path);
    assert_null(strstr(html, "<svg"));
    assert_non_null(strstr(html, "gnuplot did not draw"));
    assert_non_null(strstr(html, "<td class=n>0.3000</td>"));
    free(html);
    tear_down(&f);
}

/* Spans of a damaged database: outside the text, backwards, overlapping. */
static void spans_cannot_leave_their_text(void **state) {
    (void)state;
    feature_span spans[] = {{-3, 2, 1}, {0, 2, 9}, {1, 4, 1}, {5, 3, 1}, {4, 99, 1}, {4, 6, NAN}};
    feature_example x = {"top", 1, 0, 0, 1, (char *)"ab", (char *)"cd", (char *)"ef", spans, 6};
    strbuf h = STRBUF_INIT;
    html_example(&h, &x, 3);
    assert_string_equal(h.data, "<div class=context><i style=--a:0.75>ab</i>cd<i style=--a:0.00>ef</i></div>\n");
    strbuf_release(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_everything),        cmocka_unit_test(hostile_text_stays_text),
        cmocka_unit_test(draws_figures),          cmocka_unit_test(missing_parts_are_left_out),
        cmocka_unit_test(tables_without_gnuplot), cmocka_unit_test(spans_cannot_leave_their_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
