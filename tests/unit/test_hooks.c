/* Names of hook points. Catches: a name that does not come back, a layer that the model lacks, order against the pass. */
#include "support/test.h"

#include "model/hooks.h"

static void names_come_back(void **state) {
    (void)state;
    hook_point before = {.layer = -1, .kind = HOOK_RESID_POST};
    for (int layer = 0; layer < 12; layer++)
        for (int kind = HOOK_RESID_PRE; kind <= HOOK_RESID_POST; kind++) {
            hook_point p = {.layer = layer, .kind = (hook_kind)kind}, q;
            char name[HOOK_NAME_MAX];
            err e = {0};
            hook_format(p, name);
            assert_ok(hook_parse(name, 12, &q, &e), &e);
            assert_true(q.layer == layer && (int)q.kind == kind);
            assert_true(hook_compare(before, p) < 0 && hook_compare(p, before) > 0 && hook_compare(p, q) == 0);
            before = p;
        }
    hook_point p;
    assert_int_equal(hook_parse("blocks.3.hook_resid_mid", 4, &p, NULL), ERR_OK);
    assert_true(p.layer == 3 && p.kind == HOOK_RESID_MID);
}

static void wrong_names(void **state) {
    (void)state;
    static const struct {
        const char *name, *says;
    } wrong[] = {
        {"", "expected a name like"},
        {"16", "expected a name like"},
        {"blocks.hook_resid_post", "expected a name like"},
        {"blocks.-1.hook_resid_post", "expected a name like"},
        {"blocks.1", "expected a name like"},
        {"blocks.99999999999999999999.hook_resid_post", "expected a name like"},
        {"blocks.12.hook_resid_post", "no block 12, only 0 to 11"},
        {"blocks.3.hook_resid_pots", "did you mean 'hook_resid_post'"},
        {"blocks.3.", "hook_attn_out"},
        {"blocks.3.hook_resid_post.", "hook_resid_post"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        hook_point p;
        err e = {0};
        assert_int_equal(hook_parse(wrong[i].name, 12, &p, &e), ERR_USAGE);
        if (!strstr(e.message, wrong[i].says)) fail_msg("'%s': %s", wrong[i].name, e.message);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(names_come_back), cmocka_unit_test(wrong_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
