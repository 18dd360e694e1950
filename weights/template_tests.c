/*
 * template_tests.c - the tests after 'is'.
 */
#include "weights/template_internal.h"

#include <utf8proc.h>

JINJA_BUILTIN(test_defined) { return jinja_bool(v.kind != JINJA_UNDEFINED); }
JINJA_BUILTIN(test_undefined) { return jinja_bool(v.kind == JINJA_UNDEFINED); }
JINJA_BUILTIN(test_none) { return jinja_bool(v.kind == JINJA_NONE); }
JINJA_BUILTIN(test_boolean) { return jinja_bool(v.kind == JINJA_BOOL); }
JINJA_BUILTIN(test_true) { return jinja_bool(v.kind == JINJA_BOOL && v.u.boolean); }
JINJA_BUILTIN(test_false) { return jinja_bool(v.kind == JINJA_BOOL && !v.u.boolean); }
JINJA_BUILTIN(test_integer) { return jinja_bool(v.kind == JINJA_INT); }
JINJA_BUILTIN(test_float) { return jinja_bool(v.kind == JINJA_FLOAT); }
JINJA_BUILTIN(test_number) { return jinja_bool(v.kind == JINJA_INT || v.kind == JINJA_FLOAT || v.kind == JINJA_BOOL); }
JINJA_BUILTIN(test_string) { return jinja_bool(v.kind == JINJA_STRING); }
JINJA_BUILTIN(test_mapping) { return jinja_bool(v.kind == JINJA_DICT); }
JINJA_BUILTIN(test_iterable) { return jinja_bool(jinja_is_iterable(v)); }

/* Python's Undefined has a method for being called, which fails. */
JINJA_BUILTIN(test_callable)
{
    return jinja_bool(v.kind == JINJA_MACRO || v.kind == JINJA_FUNCTION || v.kind == JINJA_METHOD || v.kind == JINJA_UNDEFINED);
}

JINJA_BUILTIN(test_sequence)
{
    return jinja_bool(v.kind == JINJA_STRING || v.kind == JINJA_LIST || v.kind == JINJA_TUPLE || v.kind == JINJA_RANGE ||
                      v.kind == JINJA_DICT || v.kind == JINJA_UNDEFINED);
}

/* str(value).islower() and isupper(): some cased letter, and none of the other case */
static struct jinja_value has_case(struct jinja *j, struct jinja_value v, utf8proc_category_t wanted)
{
    const struct jinja_string *s = jinja_to_text(j, v);
    bool any = false;
    size_t length;

    jinja_charge(j, s->n * 8);
    for (size_t at = 0; at < s->n; at += length) {
        utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)jinja_char_at(s, at, &length));
        if (category == wanted)
            any = true;
        else if (category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT)
            return jinja_bool(false);
    }
    return jinja_bool(any);
}

JINJA_BUILTIN(test_lower) { return has_case(j, v, UTF8PROC_CATEGORY_LL); }
JINJA_BUILTIN(test_upper) { return has_case(j, v, UTF8PROC_CATEGORY_LU); }

static struct jinja_value remainder_is(struct jinja *j, struct jinja_value v, struct jinja_value divisor, int64_t wanted)
{
    struct jinja_value rest = jinja_arithmetic(j, JINJA_MOD, v, divisor);
    return jinja_bool(!jinja_failed(j) && jinja_equal(j, rest, jinja_int(wanted)));
}

JINJA_BUILTIN(test_odd) { return remainder_is(j, v, jinja_int(2), 1); }
JINJA_BUILTIN(test_even) { return remainder_is(j, v, jinja_int(2), 0); }
JINJA_BUILTIN(test_divisibleby) { return remainder_is(j, v, slot[0], 0); }

JINJA_BUILTIN(test_eq) { return jinja_bool(jinja_compare(j, JINJA_EQ, v, slot[0])); }
JINJA_BUILTIN(test_ne) { return jinja_bool(jinja_compare(j, JINJA_NE, v, slot[0])); }
JINJA_BUILTIN(test_lt) { return jinja_bool(jinja_compare(j, JINJA_LT, v, slot[0])); }
JINJA_BUILTIN(test_le) { return jinja_bool(jinja_compare(j, JINJA_LE, v, slot[0])); }
JINJA_BUILTIN(test_gt) { return jinja_bool(jinja_compare(j, JINJA_GT, v, slot[0])); }
JINJA_BUILTIN(test_ge) { return jinja_bool(jinja_compare(j, JINJA_GE, v, slot[0])); }
JINJA_BUILTIN(test_in) { return jinja_bool(jinja_compare(j, JINJA_IN, v, slot[0])); }

/* Identity; equal strings and numbers of one type count as the same object. */
JINJA_BUILTIN(test_sameas)
{
    if (v.kind != slot[0].kind)
        return jinja_bool(false);
    if (v.kind >= JINJA_LIST)
        return jinja_bool(v.u.dict == slot[0].u.dict);
    return jinja_bool(jinja_equal(j, v, slot[0]));
}

JINJA_BUILTIN(test_filter) { return jinja_bool(v.kind == JINJA_STRING && jinja_find_filter(v.u.string)); }
JINJA_BUILTIN(test_test) { return jinja_bool(v.kind == JINJA_STRING && jinja_find_builtin(jinja_tests, v.u.string)); }

const struct jinja_builtin jinja_tests[] = {
    { "boolean", "", test_boolean },
    { "callable", "", test_callable },
    { "defined", "", test_defined },
    { "divisibleby", "num", test_divisibleby },
    { "even", "", test_even },
    { "false", "", test_false },
    { "filter", "", test_filter },
    { "float", "", test_float },
    { "in", "seq", test_in },
    { "integer", "", test_integer },
    { "iterable", "", test_iterable },
    { "lower", "", test_lower },
    { "mapping", "", test_mapping },
    { "none", "", test_none },
    { "number", "", test_number },
    { "odd", "", test_odd },
    { "sameas", "other", test_sameas },
    { "sequence", "", test_sequence },
    { "string", "", test_string },
    { "test", "", test_test },
    { "true", "", test_true },
    { "undefined", "", test_undefined },
    { "upper", "", test_upper },
    { "eq", "b", test_eq }, { "equalto", "b", test_eq }, { "==", "b", test_eq },
    { "ne", "b", test_ne }, { "!=", "b", test_ne },
    { "lt", "b", test_lt }, { "lessthan", "b", test_lt }, { "<", "b", test_lt },
    { "le", "b", test_le }, { "<=", "b", test_le },
    { "gt", "b", test_gt }, { "greaterthan", "b", test_gt }, { ">", "b", test_gt },
    { "ge", "b", test_ge }, { ">=", "b", test_ge },
    { NULL, NULL, NULL },
};
