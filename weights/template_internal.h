/*
 * template_internal.h - what the parts of the chat template interpreter share: memory, values, syntax tree.
 *
 *   template_lexer.c        text to tokens, with the whitespace rules of trim_blocks and lstrip_blocks
 *   template_tokens.c       looking at tokens, for both parts of the parser
 *   template_operand.c      tokens to operands: constants, names, attributes, filters, tests
 *   template_expression.c   operands to expressions
 *   template_parser.c       tokens to statements
 *   template_eval.c         expressions to values
 *   template_exec.c         statements to output: scopes, loops, macros
 *   template_operators.c    arithmetic, comparison, membership
 *   template_memory.c       the arena, the step counter, the first failure
 *   template_value.c        conversion from JSON, lists, dictionaries, truth, iteration
 *   template_access.c       attributes, items, slices
 *   template_text.c         strings whose bytes remember whether they came from the request
 *   template_print.c        str(), repr() and tojson
 *   template_format.c       'text %s' % value and '{}'.format(value)
 *   template_builtins.c     how built-in names are found and called
 *   template_filters.c _numbers.c _tests.c _methods.c _functions.c     those names
 *
 * Everything a compile or a render makes lies in one arena with a cap and goes at once, so no value has an owner.
 * Failures latch: the first one is kept in `struct jinja`, allocations and evaluations after it return harmless values,
 * and every loop looks at jinja_failed(). That keeps the error path out of several hundred small operations.
 */
#ifndef FOURWAY_WEIGHTS_TEMPLATE_INTERNAL_H
#define FOURWAY_WEIGHTS_TEMPLATE_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <jansson.h>

#include "weights/chat_template.h"

/* Limits of one render. A step is also charged for every JINJA_STEP_BYTES bytes that an operation touches,
 * so that a million steps stay well below a second however long the strings are. */
#define JINJA_MAX_SOURCE_BYTES (1u << 20)
#define JINJA_MAX_STEPS 1000000
#define JINJA_STEP_BYTES 256
#define JINJA_MAX_DEPTH 100             /* nesting in the source; at run time open blocks and macro calls together */
#define JINJA_MAX_EVAL_DEPTH 1000       /* expressions within one another over all macro calls: bounds the C stack */
#define JINJA_MAX_DATA_DEPTH 200        /* lists and dictionaries within one another */
#define JINJA_MAX_RANGE 100000
#define JINJA_MAX_OUTPUT_BYTES (1u << 20)
#define JINJA_MAX_COMPILE_BYTES (128u << 20)
#define JINJA_MAX_RENDER_BYTES (64u << 20)  /* plus 8 x the output limit, for long conversations */

/* ---- memory and failure ---- */

struct jinja_chunk;

/* State of one compile or one render. */
struct jinja {
    struct jinja_chunk *chunks;
    size_t bytes, max_bytes;
    struct template_error *error;
    int err;                        /* 0, -EINVAL or -ENOMEM: the first failure */
    int line;                       /* of the node being parsed or evaluated */
    long steps;                     /* left */
    size_t touched;                 /* bytes not yet paid for with a step */
    int depth, eval_depth;

    /* render only */
    const struct chat_template *t;
    struct jinja_value *globals;    /* by name id */
    struct jinja_block *out;        /* where output goes now */
    int captures;                   /* 0: `out` is the final output, and max_output applies */
    size_t max_output;
    time_t now;
};

static inline bool jinja_failed(const struct jinja *j)
{
    return j->err != 0;
}

void *jinja_alloc(struct jinja *j, size_t n);                       /* zeroed; NULL after a failure */
void *jinja_alloc_array(struct jinja *j, size_t n, size_t size);
void jinja_free_all(struct jinja *j);
void jinja_fail(struct jinja *j, const char *format, ...) __attribute__((format(printf, 2, 3)));   /* "line N: ..." */
void jinja_fail_limit(struct jinja *j, const char *format, ...) __attribute__((format(printf, 2, 3)));
void jinja_fail_raised(struct jinja *j, const char *message, size_t n);    /* raise_exception() */
void jinja_fail_memory(struct jinja *j);                            /* -ENOMEM */
bool jinja_charge(struct jinja *j, size_t bytes);                   /* one step, and for `bytes` touched; false: failed */
bool jinja_touch(struct jinja *j, size_t bytes);                    /* for `bytes` alone */

/* ---- values ---- */

enum jinja_kind {
    JINJA_ABSENT,           /* an argument that was not given; a name that is not bound; never seen by a template */
    JINJA_UNDEFINED, JINJA_NONE, JINJA_BOOL, JINJA_INT, JINJA_FLOAT, JINJA_STRING,
    JINJA_LIST, JINJA_TUPLE, JINJA_VIEW, JINJA_ITERATOR, JINJA_RANGE, JINJA_DICT, JINJA_NAMESPACE,
    JINJA_LOOP, JINJA_MACRO, JINJA_FUNCTION, JINJA_METHOD
};

struct jinja_value {
    enum jinja_kind kind;
    union {
        bool boolean;
        int64_t integer;
        double real;
        const struct jinja_string *string;
        const struct jinja_undefined *undefined;    /* NULL: nothing known about it */
        struct jinja_list *list;                    /* LIST TUPLE VIEW ITERATOR */
        const struct jinja_range *range;
        struct jinja_dict *dict;                    /* DICT NAMESPACE */
        struct jinja_loop *loop;
        const struct jinja_macro *macro;
        const struct jinja_builtin *function;
        const struct jinja_method *method;
    } u;
};

/* Memory that strings are built in. `marks` has one byte per byte: 1 where it came from the request. */
struct jinja_block {
    char *bytes;
    uint8_t *marks;
    size_t used, cap;
};

/*
 * Immutable, valid UTF-8; a part of someone's memory. marks NULL: every byte has the mark `request`. `block` (or NULL) is where
 * the bytes lie: while nothing follows them there, a concatenation appends in place, so that building a prompt by
 * `s = s ~ more` costs time and memory in proportion to the prompt, not to its square.
 */
struct jinja_string {
    const char *at;
    size_t n;
    const uint8_t *marks;
    struct jinja_block *block;
    bool request;
};

struct jinja_undefined {
    const char *owner;                      /* type whose attribute is missing; NULL: a variable */
    const struct jinja_string *name;
    bool unsafe;                            /* exists in Python, but the sandbox refuses it */
};

/* Lists never change after they are made (the sandbox of transformers refuses it too): slices share the items. */
struct jinja_list {
    struct jinja_value *items;
    size_t n;
    size_t at;                              /* ITERATOR: items already taken */
    const char *view;                       /* VIEW: "dict_items"; ITERATOR: name of its Python type */
};

struct jinja_range { int64_t start, stop, step; size_t n; };
struct jinja_entry { struct jinja_value key, value; };
struct jinja_dict { struct jinja_entry *entries; size_t n, cap; };     /* in order of insertion */
struct jinja_method { struct jinja_value self; const struct jinja_builtin *builtin; };

static inline struct jinja_value jinja_none(void) { return (struct jinja_value){ .kind = JINJA_NONE }; }
static inline struct jinja_value jinja_absent(void) { return (struct jinja_value){ .kind = JINJA_ABSENT }; }
static inline struct jinja_value jinja_nothing(void) { return (struct jinja_value){ .kind = JINJA_UNDEFINED }; }
static inline struct jinja_value jinja_bool(bool b) { return (struct jinja_value){ .kind = JINJA_BOOL, .u.boolean = b }; }
static inline struct jinja_value jinja_int(int64_t i) { return (struct jinja_value){ .kind = JINJA_INT, .u.integer = i }; }
static inline struct jinja_value jinja_float(double d) { return (struct jinja_value){ .kind = JINJA_FLOAT, .u.real = d }; }

static inline struct jinja_value jinja_text(const struct jinja_string *s)
{
    return (struct jinja_value){ .kind = JINJA_STRING, .u.string = s };
}

struct jinja_value jinja_undefined_name(struct jinja *j, const struct jinja_string *name);
struct jinja_value jinja_undefined_attribute(struct jinja *j, struct jinja_value owner, const struct jinja_string *name, bool unsafe);
void jinja_fail_undefined(struct jinja *j, struct jinja_value v);
struct jinja_value jinja_from_json(struct jinja *j, const json_t *json, bool request);
struct jinja_value jinja_messages_from_json(struct jinja *j, const json_t *json);
const char *jinja_type_name(struct jinja_value v);                  /* Python's: "str", "dict" */
bool jinja_is_true(struct jinja_value v);
bool jinja_as_int(struct jinja_value v, int64_t *i);                /* int or bool */
bool jinja_as_double(struct jinja_value v, double *d);              /* int, bool or float */
bool jinja_length(struct jinja *j, struct jinja_value v, size_t *n); /* len(); false: has none, nothing is reported */
bool jinja_is_hashable(struct jinja *j, struct jinja_value v);

/* A list being filled: reserve with `n` known, or let jinja_list_add grow it. */
struct jinja_list *jinja_list_new(struct jinja *j, size_t cap);
struct jinja_value jinja_list_value(enum jinja_kind kind, struct jinja_list *list);     /* NULL gives none */
struct jinja_value jinja_iterator(struct jinja_list *list, const char *type);
struct jinja_value jinja_pair(struct jinja *j, struct jinja_value a, struct jinja_value b);

struct jinja_dict *jinja_dict_new(struct jinja *j, size_t cap);
struct jinja_entry *jinja_dict_find(struct jinja *j, const struct jinja_dict *d, struct jinja_value key);
void jinja_dict_set(struct jinja *j, struct jinja_dict *d, struct jinja_value key, struct jinja_value value);

/* for x in v. `next` returns false at the end and after a failure. */
struct jinja_iter { struct jinja_value source; size_t at; };
bool jinja_iter_open(struct jinja *j, struct jinja_iter *it, struct jinja_value v);    /* false: not iterable, reported */
bool jinja_iter_next(struct jinja *j, struct jinja_iter *it, struct jinja_value *item);
bool jinja_is_iterable(struct jinja_value v);
struct jinja_list *jinja_to_list(struct jinja *j, struct jinja_value v);               /* may share; NULL: failed */
struct jinja_value jinja_range_item(const struct jinja_range *range, size_t i);

struct jinja_value jinja_get_attribute(struct jinja *j, struct jinja_value v, const struct jinja_string *name);   /* v.name */
struct jinja_value jinja_get_item(struct jinja *j, struct jinja_value v, struct jinja_value key);                 /* v[key] */
struct jinja_value jinja_get_slice(struct jinja *j, struct jinja_value v, const struct jinja_value part[3]);      /* v[a:b:c] */
/* "a.b.0" as the attribute arguments of filters mean it. */
struct jinja_value jinja_get_path(struct jinja *j, struct jinja_value v, struct jinja_value path);

/* ---- text (template_text.c): functions that return a string never return NULL, after a failure any string ---- */

extern const struct jinja_string jinja_empty;

const struct jinja_string *jinja_string_new(struct jinja *j, const char *at, size_t n, bool request);     /* borrows the bytes */
const struct jinja_string *jinja_string_literal(struct jinja *j, const char *text);                       /* borrows */
const struct jinja_string *jinja_substring(struct jinja *j, const struct jinja_string *s, size_t from, size_t to);     /* bytes */
const struct jinja_string *jinja_concat(struct jinja *j, const struct jinja_string *a, const struct jinja_string *b);
const struct jinja_string *jinja_to_text(struct jinja *j, struct jinja_value v);                          /* str(v) */

struct jinja_block *jinja_block_new(struct jinja *j, size_t cap);       /* NULL: failed; all others accept that */
void jinja_block_add(struct jinja *j, struct jinja_block *b, const char *at, size_t n, bool request);
void jinja_block_puts(struct jinja *j, struct jinja_block *b, const char *text);
void jinja_block_add_part(struct jinja *j, struct jinja_block *b, const struct jinja_string *s, size_t from, size_t to);
void jinja_block_add_string(struct jinja *j, struct jinja_block *b, const struct jinja_string *s);
const struct jinja_string *jinja_block_string(struct jinja *j, struct jinja_block *b);

uint32_t jinja_char_at(const struct jinja_string *s, size_t at, size_t *length);
bool jinja_mark_at(const struct jinja_string *s, size_t at);
size_t jinja_count_chars(struct jinja *j, const struct jinja_string *s);
size_t jinja_char_offset(const struct jinja_string *s, size_t index);   /* byte offset of a character, or n */
bool jinja_is_space(uint32_t c);                                        /* str.isspace() of one character */
bool jinja_same_text(const struct jinja_string *a, const struct jinja_string *b);
bool jinja_text_is(const struct jinja_string *s, const char *text);
size_t jinja_find_text(struct jinja *j, const struct jinja_string *s, size_t from, const struct jinja_string *what);  /* SIZE_MAX: none */
const struct jinja_string *jinja_strip(struct jinja *j, const struct jinja_string *s, const struct jinja_string *chars,
                                       bool left, bool right);          /* chars NULL: whitespace */
const struct jinja_string *jinja_replace(struct jinja *j, const struct jinja_string *s, const struct jinja_string *old,
                                         const struct jinja_string *new, int64_t count);        /* count < 0: all */
enum jinja_case { JINJA_UPPER, JINJA_LOWER, JINJA_CAPITALIZE, JINJA_TITLE, JINJA_TITLE_FILTER, JINJA_SWAPCASE };
const struct jinja_string *jinja_change_case(struct jinja *j, const struct jinja_string *s, enum jinja_case how);
struct jinja_list *jinja_split_lines(struct jinja *j, const struct jinja_string *s, bool keep_ends);

/* ---- printing (template_print.c, template_format.c) ---- */

void jinja_print(struct jinja *j, struct jinja_block *b, struct jinja_value v);         /* str(v) */
void jinja_print_repr(struct jinja *j, struct jinja_block *b, struct jinja_value v);    /* repr(v) */
struct jinja_json_style {
    bool ascii, sort_keys;
    const struct jinja_string *indent;      /* NULL: one line */
    const struct jinja_string *item_separator, *key_separator;
};
void jinja_print_json(struct jinja *j, struct jinja_block *b, struct jinja_value v, const struct jinja_json_style *style);
const struct jinja_string *jinja_format_percent(struct jinja *j, const struct jinja_string *format, struct jinja_value args);

/* ---- operators (template_operators.c) ---- */

enum jinja_op {
    JINJA_ADD, JINJA_SUB, JINJA_MUL, JINJA_DIV, JINJA_FLOORDIV, JINJA_MOD, JINJA_POW,
    JINJA_EQ, JINJA_NE, JINJA_LT, JINJA_LE, JINJA_GT, JINJA_GE, JINJA_IN, JINJA_NOT_IN
};
struct jinja_value jinja_arithmetic(struct jinja *j, enum jinja_op op, struct jinja_value a, struct jinja_value b);
struct jinja_value jinja_negate(struct jinja *j, struct jinja_value v, bool minus);
bool jinja_compare(struct jinja *j, enum jinja_op op, struct jinja_value a, struct jinja_value b);
bool jinja_equal(struct jinja *j, struct jinja_value a, struct jinja_value b);
/* sorted(): stable; items[i] is ordered by keys[i]. Both arrays are permuted. */
void jinja_sort(struct jinja *j, struct jinja_value *items, struct jinja_value *keys, size_t n, bool reverse);

/* ---- built-in names ---- */

struct jinja_args {
    const struct jinja_value *positional;
    size_t n_positional;
    const struct jinja_string *const *names;
    const struct jinja_value *named;
    size_t n_named;
};

#define JINJA_SLOTS 6

/*
 * A filter, test, method or function. `params` names the parameters, "old new count?" (with '?' may be missing: ABSENT); run()
 * then finds them in order in slot[]. params NULL: any arguments, in `args`.
 */
struct jinja_builtin {
    const char *name;
    const char *params;
    struct jinja_value (*run)(struct jinja *j, struct jinja_value self, const struct jinja_value slot[JINJA_SLOTS],
                              const struct jinja_args *args);
};
/* Heads the definition of a run(). */
#define JINJA_BUILTIN(function)                                                                                              \
    static struct jinja_value function(__attribute__((unused)) struct jinja *j, __attribute__((unused)) struct jinja_value v, \
                                       __attribute__((unused)) const struct jinja_value slot[JINJA_SLOTS],                   \
                                       __attribute__((unused)) const struct jinja_args *args)

struct jinja_value jinja_call_builtin(struct jinja *j, const struct jinja_builtin *b, struct jinja_value self,
                                      const struct jinja_args *args);
bool jinja_given(struct jinja_value slot);                              /* neither missing nor none */
bool jinja_flag(struct jinja_value slot);                               /* given and true */
int64_t jinja_int_slot(struct jinja *j, struct jinja_value slot, int64_t otherwise);
const struct jinja_string *jinja_text_slot(struct jinja *j, struct jinja_value slot);   /* a string is required */
const struct jinja_builtin *jinja_find_builtin(const struct jinja_builtin *table, const struct jinja_string *name);

const struct jinja_builtin *jinja_find_filter(const struct jinja_string *name);

/* Tables that end with a NULL name. */
extern const struct jinja_builtin jinja_filters[], jinja_number_filters[], jinja_tests[], jinja_functions[];
extern const struct jinja_builtin jinja_string_methods[], jinja_dict_methods[], jinja_list_methods[], jinja_loop_methods[];
/* Python has it, the sandbox refuses it: list.append. */
bool jinja_is_unsafe_method(struct jinja_value v, const struct jinja_string *name);
/* A method of Python strings that this interpreter does not have; known, so that compiling can refuse it. */
bool jinja_is_unsupported_method(const struct jinja_string *name);

/* ---- syntax tree ---- */

enum jinja_expr_kind {
    EXPR_CONST, EXPR_NAME, EXPR_LIST, EXPR_TUPLE, EXPR_DICT, EXPR_ARITHMETIC, EXPR_CONCAT, EXPR_COMPARE, EXPR_AND, EXPR_OR,
    EXPR_NOT, EXPR_NEGATE, EXPR_PLUS, EXPR_CONDITION, EXPR_POSTFIX
};

/* Chains of one precedence (a + b - c, x.a.b|f|g) are one node with many operands: the tree is only as deep as the source is
 * nested, which the parser limits, so evaluation cannot run out of stack on a long line. */
struct jinja_expr {
    enum jinja_expr_kind kind;
    int line;
    int id;                                 /* NAME */
    struct jinja_value value;               /* CONST; NAME: its text */
    struct jinja_expr *first;               /* ARITHMETIC COMPARE POSTFIX NOT NEGATE PLUS; CONDITION: value if true */
    struct jinja_expr *condition, *otherwise;
    size_t n;
    struct jinja_expr **items;              /* LIST TUPLE CONCAT AND OR; operands of ARITHMETIC COMPARE; DICT: values */
    struct jinja_expr **keys;               /* DICT */
    enum jinja_op *ops;                     /* ARITHMETIC COMPARE */
    struct jinja_step **steps;              /* POSTFIX */
};

enum jinja_step_kind { STEP_ATTRIBUTE, STEP_ITEM, STEP_SLICE, STEP_CALL, STEP_FILTER, STEP_TEST };

struct jinja_step {
    enum jinja_step_kind kind;
    int line;
    bool negated;                               /* TEST */
    const struct jinja_string *name;            /* ATTRIBUTE */
    const struct jinja_builtin *builtin;        /* FILTER TEST */
    struct jinja_expr *part[3];                 /* ITEM: [0]; SLICE: any may be NULL */
    struct jinja_expr **positional;             /* CALL FILTER TEST */
    size_t n_positional;
    const struct jinja_string **names;
    struct jinja_expr **named;
    size_t n_named;
};

enum jinja_stmt_kind {
    STMT_DATA, STMT_OUTPUT, STMT_IF, STMT_FOR, STMT_SET, STMT_CAPTURE, STMT_MACRO, STMT_FILTER, STMT_WITH, STMT_SCOPE,
    STMT_BREAK, STMT_CONTINUE
};

struct jinja_target {
    int id;                                     /* of the variable */
    int line;
    const struct jinja_string *name;            /* its text */
    const struct jinja_string *attribute;       /* namespace attribute; NULL: the variable itself */
    struct jinja_target **items;                /* not NULL: unpack into these */
    size_t n;
};

struct jinja_branch { struct jinja_expr *condition; struct jinja_stmt *body; };

struct jinja_stmt {
    enum jinja_stmt_kind kind;
    int line;
    struct jinja_stmt *next;
    struct jinja_stmt *body, *otherwise;        /* otherwise: else of IF and FOR */
    const struct jinja_string *text;            /* DATA; MACRO: its name */
    struct jinja_expr *expr;                    /* OUTPUT, SET, FOR: the iterable; CAPTURE, FILTER: filters on the text, or NULL */
    struct jinja_expr *condition;               /* FOR: the filter after 'if', or NULL */
    struct jinja_target *target;                /* SET FOR CAPTURE */
    struct jinja_branch **branches;             /* IF */
    struct jinja_target **params;               /* MACRO WITH */
    struct jinja_expr **defaults;               /* MACRO: NULL where there is none; WITH: the values */
    size_t n;
    int loop_id;                                /* FOR: of the name "loop" */
};

/* ---- run time (template_eval.c, template_exec.c) ---- */

struct jinja_binding { int id; struct jinja_value value; };

struct jinja_scope {
    struct jinja_scope *parent;                 /* NULL: the template's own, whose variables are jinja.globals */
    struct jinja_binding *bindings;
    int n, cap;
    bool kept;                                  /* a macro refers to it: a loop may not use it again */
};

struct jinja_macro {
    const struct jinja_stmt *stmt;
    struct jinja_scope *scope;                  /* where it was defined */
};

struct jinja_loop {
    struct jinja_iter source;
    struct jinja_value *pending;                /* items taken early because loop.length was asked for */
    size_t n_pending, at_pending;
    struct jinja_value previous, current, following;
    bool has_following;                         /* `following` was taken early because loop.last was asked for */
    int64_t index0, length;                     /* length -1: not known yet */
    const struct jinja_stmt *stmt;              /* its filter is evaluated item by item, as in Python */
    struct jinja_scope *scope;                  /* around the loop */
    struct jinja_value changed;                 /* loop.changed() */
};

struct jinja_value jinja_eval(struct jinja *j, struct jinja_scope *scope, const struct jinja_expr *e);
/* The steps of a POSTFIX expression on v, which takes the place of its first operand. */
struct jinja_value jinja_apply_steps(struct jinja *j, struct jinja_scope *scope, const struct jinja_expr *postfix, struct jinja_value v);
struct jinja_value jinja_lookup(struct jinja *j, const struct jinja_scope *scope, int id, const struct jinja_string *name);
void jinja_exec(struct jinja *j, struct jinja_scope *scope, const struct jinja_stmt *body);
struct jinja_value jinja_call_macro(struct jinja *j, const struct jinja_macro *m, const struct jinja_args *args);
int64_t jinja_loop_length(struct jinja *j, struct jinja_loop *loop);
struct jinja_value jinja_loop_attribute(struct jinja *j, struct jinja_loop *loop, const struct jinja_string *name);

/* ---- compiling ---- */

enum jinja_token_kind {
    TOKEN_EOF, TOKEN_DATA, TOKEN_OUTPUT_BEGIN, TOKEN_OUTPUT_END, TOKEN_BLOCK_BEGIN, TOKEN_BLOCK_END,
    TOKEN_NAME, TOKEN_STRING, TOKEN_INT, TOKEN_FLOAT, TOKEN_OPERATOR
};

struct jinja_token {
    enum jinja_token_kind kind;
    int line;
    char op[3];                                 /* OPERATOR, NUL-terminated */
    struct jinja_value value;                   /* DATA NAME STRING: text; INT FLOAT: the number */
};

struct jinja_lexer {
    struct jinja *j;
    const char *source;                         /* newlines are \n */
    size_t n, at;
    int line;
    enum jinja_token_kind mode;                 /* DATA, or the OUTPUT_BEGIN or BLOCK_BEGIN we are inside of */
    enum jinja_token_kind pending;              /* a begin token that follows the data just returned; DATA: none */
    char brackets[JINJA_MAX_DEPTH + 1];             /* open ones: only outside of them may a tag end */
    int n_brackets;
};

void jinja_lexer_open(struct jinja_lexer *lexer, struct jinja *j, const char *source, size_t n);
void jinja_lexer_next(struct jinja_lexer *lexer, struct jinja_token *token);   /* EOF for ever at the end and after a failure */

struct jinja_names;                             /* variable names to small numbers */

struct jinja_parser {
    struct jinja *j;
    struct jinja_lexer lexer;
    struct jinja_token now, ahead;
    struct jinja_names *names;
    int loops;                                  /* open for statements in this macro */
    bool in_macro;
    struct jinja_expr spare_expr;               /* stand in for nodes after a failure: written, never read */
    struct jinja_step spare_step;
    struct jinja_stmt spare_stmt;
};

/* Growing array of pointers, in the arena. */
struct jinja_array { void **items; size_t n, cap; };
void jinja_array_add(struct jinja *j, struct jinja_array *a, void *item);

void jinja_advance(struct jinja_parser *p);
bool jinja_at_op(const struct jinja_parser *p, const char *op);
bool jinja_at_name(const struct jinja_parser *p, const char *name);
bool jinja_skip_op(struct jinja_parser *p, const char *op);
bool jinja_skip_name(struct jinja_parser *p, const char *name);
void jinja_expect_op(struct jinja_parser *p, const char *op);
const struct jinja_string *jinja_expect_any_name(struct jinja_parser *p);
void jinja_fail_token(struct jinja_parser *p, const char *expected);
bool jinja_enter(struct jinja_parser *p);       /* one level deeper; false: failed. Pair with p->j->depth--. */
int jinja_name_id(struct jinja_parser *p, const struct jinja_string *name);

struct jinja_expr *jinja_new_expr(struct jinja_parser *p, enum jinja_expr_kind kind);       /* never NULL */
void jinja_set_items(struct jinja_expr *e, const struct jinja_array *a);

struct jinja_expr *jinja_parse_operand(struct jinja_parser *p);
struct jinja_expr *jinja_parse_expression(struct jinja_parser *p);
struct jinja_expr *jinja_parse_tuple(struct jinja_parser *p, bool condition_allowed);  /* a, b or a single expression */
struct jinja_expr *jinja_parse_filters(struct jinja_parser *p, bool first_without_pipe);    /* NULL: there are none */
struct jinja_stmt *jinja_parse_template(struct jinja_parser *p);

struct chat_template {
    struct jinja memory;
    struct jinja_stmt *body;
    const struct jinja_string **names;          /* by id */
    const struct jinja_builtin **functions;     /* by id: global function of that name, or NULL */
    int n_names;
};
void jinja_take_names(struct jinja_parser *p, struct chat_template *t);

#endif
