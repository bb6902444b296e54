/* Chat templates against Jinja2's rendering (golden/chat/make.py), what is refused and how it is named, the bounds, and where a
 * model's template is found. $SAE_TEST_TEMPLATES may name a file of more cases, of which those that are refused are counted. */
#include "support/oom.h"
#include "support/test.h"

#include "core/file.h"
#include "text/chat.h"
#include "text/jinja.h"

#include <jansson.h>

enum { MESSAGES_MAX = 8 };

typedef struct talk {
    chat_message messages[MESSAGES_MAX];
    int n;
} talk;

static talk read_talk(const json_t *list) {
    talk t = {.n = (int)json_array_size(list)};
    assert_true(t.n <= MESSAGES_MAX);
    for (int i = 0; i < t.n; i++) {
        const json_t *m = json_array_get(list, (size_t)i);
        t.messages[i].role = json_string_value(json_object_get(m, "role"));
        t.messages[i].content = json_string_value(json_object_get(m, "content"));
    }
    return t;
}

static err_code render(const char *template, size_t n, const talk *t, strbuf *out, err *e) {
    jinja_context c = {.messages = t->messages, .n = t->n, .bos = "<s>", .eos = "</s>"};
    c.today = (struct tm){.tm_mday = 26, .tm_mon = 6, .tm_year = 124, .tm_wday = 5, .tm_yday = 207};
    return jinja_render(template, n, &c, out, e);
}

/* 1: as Jinja2, 0: refused where Jinja2 makes a text. */
static int check_case(const json_t *item, bool must) {
    err e = {0};
    strbuf out = STRBUF_INIT;
    const char *name = json_string_value(json_object_get(item, "name"));
    const json_t *template = json_object_get(item, "template"), *text = json_object_get(item, "text");
    const char *refused = json_string_value(json_object_get(item, "refused"));
    talk t = read_talk(json_object_get(item, "messages"));
    err_code rc = render(json_string_value(template), json_string_length(template), &t, &out, &e);
    if (refused && (!rc || !strstr(e.message, refused)))
        fail_msg("%s: expected a sentence with '%s', got '%s'", name, refused, rc ? e.message : out.data);
    if (json_object_get(item, "error") && !rc) fail_msg("%s: Jinja2 refuses what gives '%s'", name, out.data);
    if (text && rc && must) fail_msg("%s: %s", name, e.message);
    if (text && rc) print_message("%s: %s\n", name, e.message);
    if (text && !rc && (out.len != json_string_length(text) || memcmp(out.data, json_string_value(text), out.len)))
        fail_msg("%s:\nexpected '%s'\n   found '%s'", name, json_string_value(text), out.data);
    strbuf_release(&out);
    return !(text && rc);
}

static int check_file(const char *path, bool must) {
    size_t i;
    int same = 0;
    json_t *item, *cases = json_load_file(path, 0, NULL);
    assert_true(json_array_size(cases) > 100);
    json_array_foreach(cases, i, item) same += check_case(item, must);
    print_message("%d of %zu\n", same, json_array_size(cases));
    json_decref(cases);
    return same;
}

static void templates_render_as_jinja2(void **state) {
    (void)state;
    char *path = test_fixture("chat/templates.json");
    assert_true(check_file(path, true) > 100);
    free(path);
    if (getenv("SAE_TEST_TEMPLATES")) check_file(getenv("SAE_TEST_TEMPLATES"), false);
}

static void expect_refusal(const char *template, const char *word) {
    err e = {0};
    strbuf out = STRBUF_INIT;
    talk t = {.messages = {{"user", "hello"}}, .n = 1};
    assert_int_equal(render(template, strlen(template), &t, &out, &e), ERR_UNSUPPORTED);
    if (!strstr(e.message, word)) fail_msg("expected a sentence with '%s', got '%s'", word, e.message);
    strbuf_release(&out);
}

static void repeat(strbuf *s, const char *text, int n) {
    for (int i = 0; i < n; i++) strbuf_add_str(s, text);
}

/* Each of these would run for ever, or take all memory or the whole stack. */
static void what_a_template_uses_is_bounded(void **state) {
    (void)state;
    strbuf s = STRBUF_INIT;
    expect_refusal("{% set l = range(9999) %}{% for a in l %}{% for b in l %}{% endfor %}{% endfor %}", "steps");
    expect_refusal("{{ range(9223372036854775807) }}", "s");
    expect_refusal("{% set ns = namespace(x='xxxxxxxx') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
                   "MiB");
    expect_refusal(
        "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(99) %}{% set ns.x = ns.x.replace('a', 'aa') %}{% endfor %}",
        "s");
    expect_refusal(
        "{% set ns = namespace(x='xxxxxxxxxxxxxxxx') %}{% for i in range(16) %}{% set ns.x = ns.x + ns.x %}{% endfor %}"
        "{% for i in range(99) %}{{ ns.x }}{% endfor %}",
        "text of more than");
    expect_refusal("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns | tojson }}", "tojson");
    static const char *const nested[] = {"(", "[", "not ", "-", "{'a': ", "a[", "'x' if ", "a|f("};
    for (size_t i = 0; i < sizeof nested / sizeof *nested; i++) {
        strbuf_reset(&s);
        strbuf_add_str(&s, "{{ ");
        repeat(&s, nested[i], 100000);
        expect_refusal(s.data, "line 1");
    }
    strbuf_reset(&s);
    repeat(&s, "{% if true %}", 50000);
    expect_refusal(s.data, "deep");
    strbuf_reset(&s);
    strbuf_add_str(&s, "{{ a");
    repeat(&s, ".a", 100000);
    expect_refusal(s.data, "long");
    strbuf_reset(&s);
    repeat(&s, "{{ 'x' }}", 200000);
    expect_refusal(s.data, "bytes are more than");
    strbuf_release(&s);
}

/* The line is that of the construct, for a person to find it. */
static void refusals_name_the_line(void **state) {
    (void)state;
    expect_refusal("a\n{% if true %}\n{{ 'x' | xmlattr }}\n{% endif %}", "line 3 of the chat template: the filter 'xmlattr'");
    expect_refusal("{% set a = 1 %}\n\n{{ raise_exception('Only one') }}", "line 3 of the chat template: Only one");
}

/* ---- where templates are found ---- */

static char *write_file(const char *dir, const char *name, const char *text, size_t n) {
    static char path[2000];
    err e = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_ok(file_write(path, text, n, &e), &e);
    return path;
}

static void expect_no_chat(const weights *w, const char *file, const char *word) {
    err e = {0};
    chat *c;
    if (!chat_open(w, file, &c, &e)) fail_msg("opened, expected a sentence with '%s'", word);
    if (!strstr(e.message, word)) fail_msg("expected a sentence with '%s', got '%s'", word, e.message);
    assert_null(c);
}

static void expect_chat(const weights *w, const char *file, const char *expected) {
    err e = {0};
    strbuf out = STRBUF_INIT;
    chat *c;
    assert_ok(chat_open(w, file, &c, &e), &e);
    assert_ok(chat_render(c, &(chat_message){"user", "hi"}, 1, &out, &e), &e);
    assert_string_equal(out.data, expected);
    chat_close(c);
    strbuf_release(&out);
}

static void templates_of_folders(void **state) {
    (void)state;
    err e = {0};
    weights *w;
    chat *c;
    strbuf out = STRBUF_INIT;
    char *dir = test_make_dir();
    static const char tensors[] =
        "\x40\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}           \0\0\0\0";
    static const char config[] =
        "{\"bos_token\": {\"content\": \"<b>\"}, \"eos_token\": \"<e>\", \"chat_template\": [{\"name\": \"tool\", "
        "\"template\": \"no\"},"
        "{\"name\": \"default\", \"template\": \"{{ bos_token }}{{ messages[0].content }}{{ eos_token }}\"}]}";
    static const char with_bos[] = "{{ messages[0].content }}{{ bos_token }}!",
                      in_folder[] = "file: {{ messages[0].content }}\n";
    write_file(dir, "model.safetensors", tensors, 8 + 64 + 4);
    write_file(dir, "config.json", "{\"model_type\": \"llama\"}", 23);
    assert_ok(weights_open(dir, &w, &e), &e);
    expect_no_chat(w, NULL, "no chat template");
    expect_chat(w, write_file(dir, "t", with_bos, sizeof with_bos - 1), "hi!");
    write_file(dir, "tokenizer_config.json", config, sizeof config - 1);
    expect_chat(w, NULL, "<b>hi<e>");
    expect_chat(w, write_file(dir, "t", with_bos, sizeof with_bos - 1), "hi<b>!");
    write_file(dir, "chat_template.jinja", in_folder, sizeof in_folder - 1);
    expect_chat(w, NULL, "file: hi");
    expect_no_chat(w, write_file(dir, "t", "a\0b", 3), "byte 1 is a NUL");
    expect_no_chat(w, "absent.jinja", "absent.jinja");
    assert_ok(chat_open(w, write_file(dir, "t", "{{ 1 | xmlattr }}", 17), &c, &e), &e);
    assert_int_equal(chat_render(c, &(chat_message){"user", "hi"}, 1, &out, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.message, "/t: line 1 of the chat template: the filter 'xmlattr'"));
    chat_close(c);
    weights_close(w);
    strbuf_release(&out);
    test_remove_dir(dir);
}

static err_code render_once(void *arg, err *e) {
    strbuf out = STRBUF_INIT;
    const char *template = arg;
    talk t = {.messages = {{"user", "hello"}}, .n = 1};
    err_code rc = render(template, strlen(template), &t, &out, e);
    strbuf_release(&out);
    return rc;
}

static void out_of_memory(void **state) {
    (void)state;
    char template[] =
        "{% set x = ['a', 'b'] %}{% for m in messages %}{{ m.content | upper + x | join('-') + (m | tojson) }}{% endfor %}";
    oom_sweep(render_once, template, 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(templates_render_as_jinja2),
        cmocka_unit_test(what_a_template_uses_is_bounded),
        cmocka_unit_test(refusals_name_the_line),
        cmocka_unit_test(templates_of_folders),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
