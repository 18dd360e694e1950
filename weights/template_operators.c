/*
 * template_operators.c - arithmetic, comparison, membership and order, with the meaning they have in Python.
 *
 * Integers have 64 bits; where Python's would grow further, rendering fails.
 */
#include "weights/template_internal.h"

#include <math.h>
#include <string.h>

static const char *const op_names[] = { "+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "in", "not in" };

static struct jinja_value fail_types(struct jinja *j, enum jinja_op op, struct jinja_value a, struct jinja_value b)
{
    if (a.kind == JINJA_UNDEFINED)
        jinja_fail_undefined(j, a);
    else if (b.kind == JINJA_UNDEFINED)
        jinja_fail_undefined(j, b);
    else
        jinja_fail(j, "'%s' is not supported between '%s' and '%s'", op_names[op], jinja_type_name(a), jinja_type_name(b));
    return jinja_none();
}

/* ---- arithmetic ---- */

static double floor_mod(double a, double b)
{
    double m = fmod(a, b);
    if (m != 0 && (m < 0) != (b < 0))
        m += b;
    return m == 0 ? copysign(0, b) : m;
}

static double floor_divide(double a, double b)
{
    double quotient = (a - floor_mod(a, b)) / b, whole = floor(quotient);
    return quotient - whole > 0.5 ? whole + 1 : whole;      /* as CPython: the division may have rounded down */
}

static bool int_power(int64_t base, int64_t exponent, int64_t *out)
{
    int64_t result = 1;

    while (exponent > 0) {
        if (exponent & 1 && __builtin_mul_overflow(result, base, &result))
            return false;
        exponent >>= 1;
        if (exponent && __builtin_mul_overflow(base, base, &base))
            return false;
    }
    *out = result;
    return true;
}

static struct jinja_value int_arithmetic(struct jinja *j, enum jinja_op op, int64_t a, int64_t b)
{
    int64_t r = 0;
    bool overflow = false;

    if (b == 0 && (op == JINJA_DIV || op == JINJA_FLOORDIV || op == JINJA_MOD)) {
        jinja_fail(j, "division by zero");
        return jinja_none();
    }
    switch (op) {
    case JINJA_ADD:
        overflow = __builtin_add_overflow(a, b, &r);
        break;
    case JINJA_SUB:
        overflow = __builtin_sub_overflow(a, b, &r);
        break;
    case JINJA_MUL:
        overflow = __builtin_mul_overflow(a, b, &r);
        break;
    case JINJA_DIV:
        return jinja_float((double)((long double)a / (long double)b));
    case JINJA_FLOORDIV:
        overflow = a == INT64_MIN && b == -1;
        if (!overflow)
            r = a / b - (a % b != 0 && (a < 0) != (b < 0));
        break;
    case JINJA_MOD:
        r = b == -1 ? 0 : a % b;
        if (r && (r < 0) != (b < 0))
            r += b;
        break;
    default:
        if (b < 0 && a == 0)
            jinja_fail(j, "0 cannot be raised to a negative power");
        if (b < 0)
            return jinja_float(pow((double)a, (double)b));
        overflow = !int_power(a, b, &r);
    }
    if (overflow)
        jinja_fail(j, "integer of more than 64 bits");
    return jinja_int(r);
}

static struct jinja_value float_arithmetic(struct jinja *j, enum jinja_op op, double a, double b)
{
    double r;

    if (b == 0 && (op == JINJA_DIV || op == JINJA_FLOORDIV || op == JINJA_MOD)) {
        jinja_fail(j, "division by zero");
        return jinja_none();
    }
    switch (op) {
    case JINJA_ADD:
        return jinja_float(a + b);
    case JINJA_SUB:
        return jinja_float(a - b);
    case JINJA_MUL:
        return jinja_float(a * b);
    case JINJA_DIV:
        return jinja_float(a / b);
    case JINJA_FLOORDIV:
        return jinja_float(floor_divide(a, b));
    case JINJA_MOD:
        return jinja_float(floor_mod(a, b));
    default:
        r = pow(a, b);
        if ((isnan(r) && !isnan(a) && !isnan(b)) || (isinf(r) && !isinf(a) && !isinf(b)))
            jinja_fail(j, "result of ** is out of range");
        return jinja_float(r);
    }
}

static struct jinja_value repeat_text(struct jinja *j, const struct jinja_string *s, int64_t count)
{
    if (count <= 0 || !s->n)
        return jinja_text(&jinja_empty);
    if ((uint64_t)count > j->max_bytes / s->n) {
        jinja_fail_limit(j, "memory limit of %zu MiB reached", j->max_bytes >> 20);
        return jinja_none();
    }
    struct jinja_block *b = jinja_block_new(j, s->n * (size_t)count);
    for (int64_t i = 0; i < count && !jinja_failed(j); i++)
        jinja_block_add_string(j, b, s);
    return jinja_text(jinja_block_string(j, b));
}

static struct jinja_value join_lists(struct jinja *j, enum jinja_kind kind, const struct jinja_list *a, const struct jinja_list *b)
{
    struct jinja_list *list = jinja_charge(j, (a->n + b->n) * 16) ? jinja_list_new(j, a->n + b->n) : NULL;

    if (list) {
        list->n = a->n + b->n;
        if (a->n)
            memcpy(list->items, a->items, a->n * sizeof(*a->items));
        if (b->n)
            memcpy(list->items + a->n, b->items, b->n * sizeof(*b->items));
    }
    return jinja_list_value(kind, list);
}

static struct jinja_value repeat_list(struct jinja *j, struct jinja_value v, int64_t count)
{
    size_t n = v.u.list->n;

    if (count <= 0)
        n = 0;
    if (n && (uint64_t)count > j->max_bytes / n / sizeof(v)) {
        jinja_fail_limit(j, "memory limit of %zu MiB reached", j->max_bytes >> 20);
        return jinja_none();
    }
    struct jinja_list *list = jinja_list_new(j, n * (size_t)(n ? count : 0));
    for (int64_t i = 0; list && n && i < count && jinja_charge(j, n * 16); i++) {
        memcpy(list->items + list->n, v.u.list->items, n * sizeof(v));
        list->n += n;
    }
    return jinja_list_value(v.kind, list);
}

static bool is_list(struct jinja_value v)
{
    return v.kind == JINJA_LIST || v.kind == JINJA_TUPLE;
}

struct jinja_value jinja_arithmetic(struct jinja *j, enum jinja_op op, struct jinja_value a, struct jinja_value b)
{
    int64_t i, k;
    double x, y;

    if (jinja_as_int(a, &i) && jinja_as_int(b, &k))
        return int_arithmetic(j, op, i, k);
    if (jinja_as_double(a, &x) && jinja_as_double(b, &y))
        return float_arithmetic(j, op, x, y);
    if (a.kind == JINJA_STRING && op == JINJA_MOD)
        return jinja_text(jinja_format_percent(j, a.u.string, b));
    if (op == JINJA_ADD && a.kind == JINJA_STRING && b.kind == JINJA_STRING)
        return jinja_text(jinja_concat(j, a.u.string, b.u.string));
    if (op == JINJA_ADD && is_list(a) && a.kind == b.kind)
        return join_lists(j, a.kind, a.u.list, b.u.list);
    if (op == JINJA_MUL && a.kind == JINJA_STRING && jinja_as_int(b, &k))
        return repeat_text(j, a.u.string, k);
    if (op == JINJA_MUL && b.kind == JINJA_STRING && jinja_as_int(a, &i))
        return repeat_text(j, b.u.string, i);
    if (op == JINJA_MUL && is_list(a) && jinja_as_int(b, &k))
        return repeat_list(j, a, k);
    if (op == JINJA_MUL && is_list(b) && jinja_as_int(a, &i))
        return repeat_list(j, b, i);
    return fail_types(j, op, a, b);
}

struct jinja_value jinja_negate(struct jinja *j, struct jinja_value v, bool minus)
{
    int64_t i;

    if (jinja_as_int(v, &i))
        return minus ? int_arithmetic(j, JINJA_SUB, 0, i) : jinja_int(i);
    if (v.kind == JINJA_FLOAT)
        return jinja_float(minus ? -v.u.real : v.u.real);
    if (v.kind == JINJA_UNDEFINED)
        jinja_fail_undefined(j, v);
    else
        jinja_fail(j, "bad operand type for unary %c: '%s'", minus ? '-' : '+', jinja_type_name(v));
    return jinja_none();
}

/* ---- equality ---- */

static bool equal(struct jinja *j, struct jinja_value a, struct jinja_value b, int depth);

static bool equal_dicts(struct jinja *j, const struct jinja_dict *a, const struct jinja_dict *b, int depth)
{
    if (a == b)
        return true;
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++) {
        const struct jinja_entry *e = jinja_dict_find(j, b, a->entries[i].key);
        if (!e || !equal(j, a->entries[i].value, e->value, depth + 1))
            return false;
    }
    return true;
}

static bool equal_lists(struct jinja *j, const struct jinja_list *a, const struct jinja_list *b, int depth)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!equal(j, a->items[i], b->items[i], depth + 1))
            return false;
    return true;
}

/* Numbers compare exactly: a long double holds every int64. */
static bool as_number(struct jinja_value v, long double *x)
{
    int64_t i;

    if (jinja_as_int(v, &i))
        *x = i;
    else if (v.kind == JINJA_FLOAT)
        *x = v.u.real;
    else
        return false;
    return true;
}

static bool equal(struct jinja *j, struct jinja_value a, struct jinja_value b, int depth)
{
    long double x, y;

    if (!jinja_charge(j, 0))
        return false;
    if (depth > JINJA_MAX_DATA_DEPTH) {
        jinja_fail_limit(j, "data nested deeper than %d", JINJA_MAX_DATA_DEPTH);
        return false;
    }
    if (as_number(a, &x) && as_number(b, &y))
        return x == y;
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return true;
    case JINJA_STRING:
        return a.u.string->n == b.u.string->n && jinja_touch(j, a.u.string->n) && jinja_same_text(a.u.string, b.u.string);
    case JINJA_LIST:
    case JINJA_TUPLE:
        return equal_lists(j, a.u.list, b.u.list, depth);
    case JINJA_DICT:
        return equal_dicts(j, a.u.dict, b.u.dict, depth);
    case JINJA_RANGE:
        return a.u.range->n == b.u.range->n && (!a.u.range->n || (a.u.range->start == b.u.range->start &&
               (a.u.range->n == 1 || a.u.range->step == b.u.range->step)));
    case JINJA_METHOD:
        return a.u.method->builtin == b.u.method->builtin && a.u.method->self.u.dict == b.u.method->self.u.dict;
    default:                        /* the others are equal to themselves only */
        return a.u.dict == b.u.dict;
    }
}

bool jinja_equal(struct jinja *j, struct jinja_value a, struct jinja_value b)
{
    return equal(j, a, b, 0);
}

/* ---- order and membership ---- */

static int compare_text(struct jinja *j, const struct jinja_string *a, const struct jinja_string *b)
{
    size_t n = a->n < b->n ? a->n : b->n;
    int order = jinja_touch(j, n) ? memcmp(a->at, b->at, n) : 0;   /* UTF-8 sorts as its code points do */
    return order ? order : (a->n > b->n) - (a->n < b->n);
}

static bool less(struct jinja *j, enum jinja_op op, struct jinja_value a, struct jinja_value b, int depth)
{
    long double x, y;

    if (!jinja_charge(j, 0))
        return false;
    if (depth > JINJA_MAX_DATA_DEPTH) {
        jinja_fail_limit(j, "data nested deeper than %d", JINJA_MAX_DATA_DEPTH);
        return false;
    }
    if (as_number(a, &x) && as_number(b, &y))
        return op == JINJA_LT ? x < y : x <= y;
    if (a.kind == JINJA_STRING && b.kind == JINJA_STRING) {
        int order = compare_text(j, a.u.string, b.u.string);
        return op == JINJA_LT ? order < 0 : order <= 0;
    }
    if (!is_list(a) || a.kind != b.kind) {
        fail_types(j, op, a, b);
        return false;
    }
    const struct jinja_list *p = a.u.list, *q = b.u.list;
    for (size_t i = 0; i < p->n && i < q->n && !jinja_failed(j); i++)
        if (!equal(j, p->items[i], q->items[i], depth + 1))
            return less(j, op, p->items[i], q->items[i], depth + 1);
    return op == JINJA_LT ? p->n < q->n : p->n <= q->n;
}

static bool contains(struct jinja *j, struct jinja_value container, struct jinja_value item)
{
    struct jinja_iter it;
    struct jinja_value v;

    if (container.kind == JINJA_STRING) {
        if (item.kind != JINJA_STRING) {
            fail_types(j, JINJA_IN, item, container);
            return false;
        }
        return jinja_find_text(j, container.u.string, 0, item.u.string) != SIZE_MAX;
    }
    if (container.kind == JINJA_DICT) {
        if (jinja_is_hashable(j, item))
            return jinja_dict_find(j, container.u.dict, item);
        jinja_fail(j, "unhashable type: '%s'", jinja_type_name(item));
        return false;
    }
    if (!jinja_iter_open(j, &it, container))
        return false;
    while (jinja_iter_next(j, &it, &v))
        if (jinja_equal(j, v, item))
            return true;
    return false;
}

bool jinja_compare(struct jinja *j, enum jinja_op op, struct jinja_value a, struct jinja_value b)
{
    switch (op) {
    case JINJA_EQ:
        return jinja_equal(j, a, b);
    case JINJA_NE:
        return !jinja_equal(j, a, b);
    case JINJA_LT:
    case JINJA_LE:
        return less(j, op, a, b, 0);
    case JINJA_GT:
        return less(j, JINJA_LT, b, a, 0);
    case JINJA_GE:
        return less(j, JINJA_LE, b, a, 0);
    case JINJA_IN:
        return contains(j, b, a);
    default:
        return !contains(j, b, a);
    }
}

void jinja_sort(struct jinja *j, struct jinja_value *items, struct jinja_value *keys, size_t n, bool reverse)
{
    struct jinja_value *other_items = jinja_alloc_array(j, n, sizeof(*items)), *other_keys = jinja_alloc_array(j, n, sizeof(*keys));
    struct jinja_value *from_items = items, *from_keys = keys;

    /* merge runs of `width`, bottom up: stable, and no recursion. Reversed order keeps equal items in place too. */
    for (size_t width = 1; width < n && !jinja_failed(j); width *= 2) {
        for (size_t low = 0; low < n && !jinja_failed(j); low += 2 * width) {
            size_t middle = low + width < n ? low + width : n, high = low + 2 * width < n ? low + 2 * width : n;
            for (size_t a = low, b = middle, to = low; to < high; to++) {
                bool second = a == middle;
                if (!second && b < high)
                    second = reverse ? less(j, JINJA_LT, from_keys[a], from_keys[b], 0)
                                     : less(j, JINJA_LT, from_keys[b], from_keys[a], 0);
                size_t take = second ? b++ : a++;
                other_items[to] = from_items[take];
                other_keys[to] = from_keys[take];
            }
        }
        struct jinja_value *swap = from_items;
        from_items = other_items;
        other_items = swap;
        swap = from_keys;
        from_keys = other_keys;
        other_keys = swap;
    }
    if (from_items != items && !jinja_failed(j)) {
        memcpy(items, from_items, n * sizeof(*items));
        memcpy(keys, from_keys, n * sizeof(*keys));
    }
}
