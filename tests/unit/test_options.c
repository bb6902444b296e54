/* The options parser: what each spelling gives, and that every wrong one is ERR_USAGE with a sentence that helps. */
#include "support/oom.h"
#include "support/test.h"

#include "cli/options.h"

static const option table[] = {
    {.name = "layer", .type = OPT_INT, .unit = "L", .help = "layer", .max = 1000},
    {.name = "width", .type = OPT_INT, .fallback = "4608", .unit = "N", .help = "latents", .min = 1, .max = INFINITY},
    {.name = "lr", .type = OPT_REAL, .fallback = "0.002", .unit = "X", .help = "rate", .min = 0, .max = 1},
    {.name = "strength", .type = OPT_REAL, .unit = "X", .help = "any number"},
    {.name = "out", .type = OPT_STRING, .unit = "F", .help = "where to", .required = true},
    {.name = "dtype", .type = OPT_CHOICE, .fallback = "float16", .unit = "float16|bfloat16|float32", .help = "kind"},
    {.name = "hook", .type = OPT_STRING, .unit = "NAME", .help = "hook", .repeatable = true},
    {.name = "bos", .type = OPT_FLAG, .help = "begin with BOS"},
    {.name = "sweep", .type = OPT_MAYBE, .fallback = "1x,2x", .unit = "LIST", .help = "several"},
    {0},
};
static const option_rules rules = {"capture", table, 1, 2, "MODEL [CORPUS] --out F"};

static err_code parse(parsed_options **o, err *e, const char *words) {
    static char copy[512];
    static char *argv[32];
    int argc = 0;
    snprintf(copy, sizeof copy, "%s", words);
    for (char *at = strtok(copy, " "); at; at = strtok(NULL, " ")) argv[argc++] = at;
    *e = (err){0};
    return options_parse(&rules, argc, argv, o, e);
}

/* As if the words had been typed; what they came from stays. */
static void takes_other_values(void **state) {
    (void)state;
    static const char *const names[] = {"width", "lr"}, *const values[] = {"96", "0.5"}, *const wrong[] = {"96", "two"};
    parsed_options *o, *other;
    err e;
    assert_ok(parse(&o, &e, "m --out f --hook x --hook y --layer 3"), &e);
    assert_ok(opt_with(o, names, values, 2, &other, &e), &e);
    assert_int_equal(opt_int(other, "width"), 96);
    assert_true(opt_real(other, "lr") == 0.5 && opt_given(other, "lr"));
    assert_int_equal(opt_int(other, "layer"), 3);
    assert_string_equal(opt_string_at(other, "hook", 1), "y");
    assert_string_equal(opt_arg(other, 0), "m");
    assert_string_equal(opt_command_line(other), opt_command_line(o));
    assert_int_equal(opt_int(o, "width"), 4608);
    options_free(other);
    assert_int_equal(opt_with(o, names, wrong, 2, &other, &e), ERR_USAGE);
    assert_null(other);
    assert_string_equal(e.message, "--lr: expected a number from 0 to 1, found 'two'");
    options_free(o);
}

static void reads_values(void **state) {
    (void)state;
    parsed_options *o;
    err e;
    assert_ok(parse(&o, &e, "m.gguf --layer 16 --lr=1e-3 --out a=b --hook x --hook=y --bos --strength -2.5 --dtype float32"),
              &e);
    assert_int_equal(opt_int(o, "layer"), 16);
    assert_true(opt_real(o, "lr") == 1e-3);
    assert_true(opt_real(o, "strength") == -2.5);
    assert_string_equal(opt_string(o, "out"), "a=b");
    assert_string_equal(opt_string(o, "dtype"), "float32");
    assert_int_equal(opt_count(o, "hook"), 2);
    assert_string_equal(opt_string_at(o, "hook", 0), "x");
    assert_string_equal(opt_string_at(o, "hook", 1), "y");
    assert_true(opt_flag(o, "bos"));
    assert_int_equal(opt_n_args(o), 1);
    assert_string_equal(opt_arg(o, 0), "m.gguf");
    assert_false(opt_json(o));
    options_free(o);
}

static void falls_back(void **state) {
    (void)state;
    parsed_options *o;
    err e;
    assert_ok(parse(&o, &e, "--out f --seed=7 m"), &e);
    assert_int_equal(opt_int(o, "width"), 4608);
    assert_false(opt_given(o, "width"));
    assert_true(opt_given(o, "out"));
    assert_true(opt_real(o, "lr") == 0.002);
    assert_true(isnan(opt_real(o, "strength")));
    assert_string_equal(opt_string(o, "dtype"), "float16");
    assert_int_equal(opt_count(o, "hook"), 0);
    assert_int_equal(opt_seed(o), 7);
    options_free(o);
}

/* Left out, alone before an option, alone at the end, and with a value behind it or behind an equals sign. */
static void values_may_be_left_out(void **state) {
    (void)state;
    const struct {
        const char *words, *sweep;
        int n_args;
    } cases[] = {{"m --out f", NULL, 1},
                 {"m --sweep --out f", "1x,2x", 1},
                 {"m --out f --sweep", "1x,2x", 1},
                 {"m --out f --sweep 3x", "3x", 1},
                 {"--out f --sweep=3x m", "3x", 1},
                 {"--out f --sweep= m", "", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        parsed_options *o;
        err e;
        assert_ok(parse(&o, &e, cases[i].words), &e);
        if (cases[i].sweep)
            assert_string_equal(opt_string(o, "sweep"), cases[i].sweep);
        else
            assert_null(opt_string(o, "sweep"));
        assert_int_equal(opt_given(o, "sweep"), cases[i].sweep != NULL);
        assert_int_equal(opt_n_args(o), cases[i].n_args);
        options_free(o);
    }
}

static void double_dash_ends_options(void **state) {
    (void)state;
    parsed_options *o;
    err e;
    assert_ok(parse(&o, &e, "--out f - -- --layer"), &e);
    assert_int_equal(opt_n_args(o), 2);
    assert_string_equal(opt_arg(o, 0), "-");
    assert_string_equal(opt_arg(o, 1), "--layer");
    options_free(o);
    assert_ok(parse(&o, &e, "--out f -3"), &e); /* a negative number is an argument */
    assert_string_equal(opt_arg(o, 0), "-3");
    options_free(o);
}

static void asks_for_help_whatever_else_is_wrong(void **state) {
    (void)state;
    parsed_options *o;
    err e;
    assert_ok(parse(&o, &e, "--help"), &e);
    assert_true(opt_flag(o, "help"));
    options_free(o);
    assert_ok(parse(&o, &e, "-h --layer nonsense"), &e);
    options_free(o);
}

static void names_what_is_wrong(void **state) {
    (void)state;
    static const struct {
        const char *words, *sentence;
    } wrong[] = {
        {"m --out f --layr 3", "unknown option --layr, did you mean --layer? (sae capture --help lists them)"},
        {"m --out f --verbos", "unknown option --verbos, did you mean --verbose? (sae capture --help lists them)"},
        {"m --out f --banana", "unknown option --banana (sae capture --help lists the options)"},
        {"m --out f -x", "unknown option -x (sae capture --help lists the options)"},
        {"m --out f --layer x", "--layer: expected a whole number from 0 to 1000, found 'x'"},
        {"m --out f --layer 1.5", "--layer: expected a whole number from 0 to 1000, found '1.5'"},
        {"m --out f --layer 1001", "--layer: expected a whole number from 0 to 1000, found '1001'"},
        {"m --out f --layer 99999999999999999999",
         "--layer: expected a whole number from 0 to 1000, found '99999999999999999999'"},
        {"m --out f --layer=", "--layer: expected a whole number from 0 to 1000, found ''"},
        {"m --out f --width 0", "--width: expected a whole number of at least 1, found '0'"},
        {"m --out f --lr nan", "--lr: expected a number from 0 to 1, found 'nan'"},
        {"m --out f --dtype float", "--dtype: expected one of float16|bfloat16|float32, found 'float'"},
        {"m --out f --dtype float16|bfloat16", "--dtype: expected one of float16|bfloat16|float32, found 'float16|bfloat16'"},
        {"m --out f --bos=1", "--bos takes no value, found '1'"},
        {"m --out", "--out: expected a value behind it, found the end of the line"},
        {"m --out --bos",
         "--out: expected a value behind it, found the option --bos (write --out=--bos if that is the value)"},
        {"m --out a --out b", "--out: expected once, found twice ('a' and 'b')"},
        {"m", "--out is missing: where to (usage: sae capture MODEL [CORPUS] --out F)"},
        {"--out f", "expected at least 1 argument, found 0 (usage: sae capture MODEL [CORPUS] --out F)"},
        {"a b c --out f", "unexpected argument 'c' (usage: sae capture MODEL [CORPUS] --out F)"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        parsed_options *o = (void *)1;
        err e;
        assert_int_equal(parse(&o, &e, wrong[i].words), ERR_USAGE);
        assert_string_equal(e.message, wrong[i].sentence);
        assert_null(o);
    }
}

static void remembers_the_command_line(void **state) {
    (void)state;
    char *argv[] = {"my model.gguf", "--out", "it's", "--hook=", "--layer", "3"};
    parsed_options *o;
    err e;
    assert_ok(options_parse(&rules, 6, argv, &o, &e), &e);
    assert_string_equal(opt_command_line(o), "sae capture 'my model.gguf' --out 'it'\\''s' --hook= --layer 3");
    options_free(o);
}

static void saves_itself(void **state) {
    (void)state;
    parsed_options *o;
    err e;
    assert_ok(parse(&o, &e, "m --out f --hook a --hook b --threads 7 --seed 3"), &e);
    json_t *doc = opt_to_json(o);
    char *text = json_dumps(doc, JSON_COMPACT | JSON_REAL_PRECISION(15));
    assert_string_equal(text,
                        "{\"layer\":null,\"width\":4608,\"lr\":0.002,\"strength\":null,\"out\":\"f\",\"dtype\":\"float16\","
                        "\"hook\":[\"a\",\"b\"],\"bos\":false,\"sweep\":null,\"seed\":3}");
    free(text);
    json_decref(doc);
    options_free(o);
}

static err_code parse_and_free(void *arg, err *e) {
    (void)arg;
    parsed_options *o = NULL;
    err_code rc = parse(&o, e, "m c --out f --hook a --hook b --layer 3 --bos");
    options_free(o);
    return rc;
}

static void survives_failing_allocations(void **state) {
    (void)state;
    oom_sweep(parse_and_free, NULL, 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_values),
        cmocka_unit_test(takes_other_values),
        cmocka_unit_test(falls_back),
        cmocka_unit_test(values_may_be_left_out),
        cmocka_unit_test(double_dash_ends_options),
        cmocka_unit_test(asks_for_help_whatever_else_is_wrong),
        cmocka_unit_test(names_what_is_wrong),
        cmocka_unit_test(remembers_the_command_line),
        cmocka_unit_test(saves_itself),
        cmocka_unit_test(survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
