#include "weights/pickle.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* A state_dict of 100,000 tensors takes 7 million opcodes and 90 MB. */
enum { MAX_OPCODES = 20000000, MAX_STACK = 1000000, MAX_MEMO = 10000000, MAX_BYTES = 256 << 20 };

/* SEQUENCE: tuple, list; DICT: key, value, key, value; FUNCTION, CLASS: a known global. */
enum kind { OPAQUE, INTEGER, TEXT, SEQUENCE, DICT, FUNCTION, CLASS, STORAGE, TENSOR };
enum function { REBUILD_TENSOR, REBUILD_PARAMETER, ORDERED_DICT, SIZE };

struct storage { struct gguf_string key; enum safetensors_type type; uint64_t n; };

struct object;
struct value {
    enum kind kind;
    union { int64_t integer; struct gguf_string text; struct object *object; int number; };
};

/* What has a place in memory: items of a container, a storage or a tensor. */
struct object {
    struct object *next;            /* of all, for the end */
    struct value *items;
    size_t n, cap;
    union { struct storage storage; struct pickle_tensor tensor; };       /* not allocated for a container */
};

struct machine {
    const char *at, *end;
    struct value *stack, *memo;
    size_t n_stack, cap_stack, n_memo, cap_memo;
    size_t *marks;
    size_t n_marks, cap_marks;
    struct object *objects;
    size_t bytes;                   /* of objects and their items, what was given up for larger ones included */
    const char *why;
    int err;
};

static bool fail(struct machine *m, const char *why)
{
    if (!m->err) {
        m->err = -EINVAL;
        m->why = why;
    }
    return false;
}

static bool no_memory(struct machine *m)
{
    m->err = -ENOMEM;
    return false;
}

static bool count_bytes(struct machine *m, size_t n)
{
    m->bytes += n;
    return m->bytes <= MAX_BYTES || fail(m, "the program makes more than weights need");
}

/* Room for one more of n things of `size` bytes. */
static bool grow(struct machine *m, void *array, size_t n, size_t *cap, size_t size)
{
    void **place = array;

    if (n < *cap)
        return true;
    const size_t room = *cap ? 2 * *cap : 8;
    if (!count_bytes(m, room * size))
        return false;
    void *more = realloc(*place, room * size);
    if (!more)
        return no_memory(m);
    *place = more;
    *cap = room;
    return true;
}

static bool push(struct machine *m, struct value v)
{
    if (m->n_stack == MAX_STACK)
        return fail(m, "the stack is too deep");
    if (!grow(m, &m->stack, m->n_stack, &m->cap_stack, sizeof(v)))
        return false;
    m->stack[m->n_stack++] = v;
    return true;
}

/* What lies below the last mark belongs to those that set it. */
static bool pop(struct machine *m, struct value *v)
{
    if (m->n_stack == (m->n_marks ? m->marks[m->n_marks - 1] : 0))
        return fail(m, "an opcode finds too little on the stack");
    *v = m->stack[--m->n_stack];
    return true;
}

/* `more`: bytes of the union. */
static struct object *new_object(struct machine *m, size_t more)
{
    const size_t size = offsetof(struct object, storage) + more;
    struct object *o = count_bytes(m, size + 16) ? calloc(1, size) : NULL;     /* 16: what malloc adds */

    if (!o) {
        if (!m->err)
            no_memory(m);
        return NULL;
    }
    o->next = m->objects;
    m->objects = o;
    return o;
}

static bool append(struct machine *m, struct object *o, const struct value *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!grow(m, &o->items, o->n, &o->cap, sizeof(*v)))
            return false;
        o->items[o->n++] = v[i];
    }
    return true;
}

/* The last n values become one of `kind`. */
static bool collect(struct machine *m, enum kind kind, size_t n)
{
    const size_t floor = m->n_marks ? m->marks[m->n_marks - 1] : 0;

    if (m->n_stack - floor < n)
        return fail(m, "an opcode finds too little on the stack");
    if (kind == DICT && n % 2)
        return fail(m, "a dict with a key that has no value");
    struct object *o = new_object(m, 0);
    if (!o || !count_bytes(m, n * sizeof(*o->items)))
        return false;
    if (n) {
        o->items = malloc(n * sizeof(*o->items));
        if (!o->items)
            return no_memory(m);
        memcpy(o->items, m->stack + m->n_stack - n, n * sizeof(*o->items));
        o->n = o->cap = n;
    }
    m->n_stack -= n;
    return push(m, (struct value){ .kind = kind, .object = o });
}

/* Values since the last mark, which is taken away. */
static bool since_mark(struct machine *m, size_t *n)
{
    if (!m->n_marks)
        return fail(m, "there is no mark on the stack");
    *n = m->n_stack - m->marks[--m->n_marks];
    return true;
}

/* The last n values go into the container below them. */
static bool add_to_container(struct machine *m, size_t n, bool pairs)
{
    const size_t floor = m->n_marks ? m->marks[m->n_marks - 1] : 0;

    if (m->n_stack - floor < n + 1 || (pairs && n % 2))
        return fail(m, "an opcode finds too little on the stack");
    const struct value *to = &m->stack[m->n_stack - n - 1];
    if (to->kind == (pairs ? DICT : SEQUENCE) && !append(m, to->object, to + 1, n))
        return false;       /* into what is opaque, they are lost */
    m->n_stack -= n;
    return true;
}

static bool take(struct machine *m, size_t n, const char **bytes)
{
    if (n > (size_t)(m->end - m->at))
        return fail(m, "the program is cut short");
    *bytes = m->at;
    m->at += n;
    return true;
}

static bool take_number(struct machine *m, size_t n, uint64_t *value)
{
    const char *bytes;

    *value = 0;
    if (!take(m, n, &bytes))
        return false;
    memcpy(value, bytes, n);
    return true;
}

static bool take_line(struct machine *m, struct gguf_string *line)
{
    const char *end = memchr(m->at, '\n', (size_t)(m->end - m->at));

    if (!end)
        return fail(m, "the program is cut short");
    *line = (struct gguf_string){ m->at, (size_t)(end - m->at) };
    m->at = end + 1;
    return true;
}

/* A text of n bytes, n being a number of `width` bytes. */
static bool take_text(struct machine *m, size_t width)
{
    const char *bytes;
    uint64_t n;

    return take_number(m, width, &n) && take(m, n, &bytes) &&
           push(m, (struct value){ .kind = TEXT, .text = { bytes, (size_t)n } });
}

static bool push_integer(struct machine *m, int64_t value)
{
    return push(m, (struct value){ .kind = INTEGER, .integer = value });
}

static bool is(struct gguf_string s, const char *text)
{
    return s.len == strlen(text) && !memcmp(s.data, text, s.len);
}

static bool push_global(struct machine *m, struct gguf_string module, struct gguf_string name)
{
    static const struct { const char *module, *name; enum kind kind; int number; } known[] = {
        { "torch._utils", "_rebuild_tensor_v2", FUNCTION, REBUILD_TENSOR },
        { "torch._utils", "_rebuild_parameter", FUNCTION, REBUILD_PARAMETER },
        { "collections", "OrderedDict", FUNCTION, ORDERED_DICT }, { "torch", "Size", FUNCTION, SIZE },
        { "torch", "FloatStorage", CLASS, SAFETENSORS_F32 }, { "torch", "HalfStorage", CLASS, SAFETENSORS_F16 },
        { "torch", "BFloat16Storage", CLASS, SAFETENSORS_BF16 }, { "torch", "DoubleStorage", CLASS, SAFETENSORS_F64 },
        { "torch", "LongStorage", CLASS, SAFETENSORS_I64 }, { "torch", "IntStorage", CLASS, SAFETENSORS_I32 },
        { "torch", "ShortStorage", CLASS, SAFETENSORS_I16 }, { "torch", "CharStorage", CLASS, SAFETENSORS_I8 },
        { "torch", "ByteStorage", CLASS, SAFETENSORS_U8 }, { "torch", "BoolStorage", CLASS, SAFETENSORS_BOOL },
    };
    struct value v = { .kind = OPAQUE };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (is(module, known[i].module) && is(name, known[i].name))
            v = (struct value){ .kind = known[i].kind, .number = known[i].number };
    return push(m, v);
}

/* ('storage', class, key, device, elements) becomes a storage. */
static bool load_storage(struct machine *m)
{
    struct value id;

    if (!pop(m, &id))
        return false;
    const struct value *item = id.kind == SEQUENCE && id.object->n == 5 ? id.object->items : NULL;
    if (!item || item[0].kind != TEXT || !is(item[0].text, "storage") || item[1].kind != CLASS || item[2].kind != TEXT ||
        item[4].kind != INTEGER || item[4].integer < 0)
        return fail(m, "a persistent id is no storage of a known type");
    struct object *o = new_object(m, sizeof(o->storage));
    if (!o)
        return false;
    o->storage = (struct storage){ item[2].text, (enum safetensors_type)item[1].number, (uint64_t)item[4].integer };
    return push(m, (struct value){ .kind = STORAGE, .object = o });
}

static bool take_sizes(struct machine *m, const struct value *v, uint64_t *to, size_t n)
{
    if (v->kind != SEQUENCE || v->object->n != n || n > SAFETENSORS_MAX_RANK)
        return fail(m, "the size and stride of a tensor are no tuples of one length, 8 at most");
    for (size_t i = 0; i < n; i++) {
        if (v->object->items[i].kind != INTEGER || v->object->items[i].integer < 0)
            return fail(m, "the size or stride of a tensor is no number of 0 or more");
        to[i] = (uint64_t)v->object->items[i].integer;
    }
    return true;
}

/* _rebuild_tensor_v2(storage, first, size, stride, ...). */
static bool rebuild(struct machine *m, const struct object *args, struct value *result)
{
    const struct value *item = args->items;

    if (args->n < 4 || item[0].kind != STORAGE || item[1].kind != INTEGER || item[1].integer < 0 || item[2].kind != SEQUENCE)
        return fail(m, "a tensor is made of something else than a storage, a place, sizes and strides");
    struct object *o = new_object(m, sizeof(o->tensor));
    if (!o)
        return false;
    const struct storage *s = &item[0].object->storage;
    o->tensor = (struct pickle_tensor){ .key = s->key, .type = s->type, .n_storage = s->n, .first = (uint64_t)item[1].integer };
    if (!take_sizes(m, &item[2], o->tensor.size, item[2].object->n) || !take_sizes(m, &item[3], o->tensor.stride, item[2].object->n))
        return false;
    o->tensor.rank = (uint32_t)item[2].object->n;
    *result = (struct value){ .kind = TENSOR, .object = o };
    return true;
}

static bool reduce(struct machine *m)
{
    struct value args, function, result = { .kind = OPAQUE };

    if (!pop(m, &args) || !pop(m, &function))
        return false;
    if (function.kind != FUNCTION || args.kind != SEQUENCE)
        return push(m, result);
    if (function.number == ORDERED_DICT) {
        result = (struct value){ .kind = DICT, .object = new_object(m, 0) };
        if (!result.object)
            return false;
    } else if (function.number == REBUILD_TENSOR) {
        if (!rebuild(m, args.object, &result))
            return false;
    } else if (args.object->n) {
        result = args.object->items[0];         /* a Parameter is its tensor, a Size its tuple */
    }
    return push(m, result);
}

static bool put_memo(struct machine *m, uint64_t i)
{
    if (!m->n_stack)
        return fail(m, "an opcode finds too little on the stack");
    if (i > m->n_memo || i >= MAX_MEMO)         /* picklers count; so a memo is never larger than what fills it */
        return fail(m, "the memo is not filled in order");
    if (!grow(m, &m->memo, m->n_memo, &m->cap_memo, sizeof(*m->memo)))
        return false;
    m->memo[i] = m->stack[m->n_stack - 1];
    m->n_memo += i == m->n_memo;
    return true;
}

static bool get_memo(struct machine *m, uint64_t i)
{
    return i < m->n_memo ? push(m, m->memo[i]) : fail(m, "the memo has no such entry");
}

/* Integers of up to 8 bytes, two's complement. */
static bool take_long(struct machine *m)
{
    uint64_t n, value;

    if (!take_number(m, 1, &n))
        return false;
    if (n > 8)
        return fail(m, "an integer of more than 8 bytes");
    if (!take_number(m, n, &value))
        return false;
    if (n && n < 8 && value >> (8 * n - 1))
        value |= UINT64_MAX << (8 * n);
    return push_integer(m, (int64_t)value);
}

static bool mark(struct machine *m)
{
    if (m->n_marks == MAX_STACK)
        return fail(m, "the stack is too deep");
    if (!grow(m, &m->marks, m->n_marks, &m->cap_marks, sizeof(*m->marks)))
        return false;
    m->marks[m->n_marks++] = m->n_stack;
    return true;
}

/* One opcode. False at STOP, or after a failure. */
static bool step(struct machine *m)
{
    struct gguf_string module, name;
    struct value v, w;
    const char *bytes;
    uint64_t n = 0;
    size_t count = 0;

    if (!take(m, 1, &bytes))
        return false;
    switch ((unsigned char)*bytes) {
    case 0x80:                                                                  /* PROTO */
        return take_number(m, 1, &n) && (n <= 5 || fail(m, "a protocol above 5"));
    case 0x95:                                                                  /* FRAME */
        return take_number(m, 8, &n);
    case '(':                                                                   /* MARK */
        return mark(m);
    case '.':                                                                   /* STOP */
        return false;
    case '0':                                                                   /* POP */
        return pop(m, &v);
    case '1':                                                                   /* POP_MARK */
        if (!since_mark(m, &count))
            return false;
        m->n_stack -= count;
        return true;
    case 'N':                                                                   /* NONE */
        return push(m, (struct value){ .kind = OPAQUE });
    case 0x88: case 0x89:                                                       /* NEWTRUE, NEWFALSE */
        return push(m, (struct value){ .kind = OPAQUE });
    case 'J':                                                                   /* BININT */
        return take_number(m, 4, &n) && push_integer(m, (int32_t)n);
    case 'K':                                                                   /* BININT1 */
        return take_number(m, 1, &n) && push_integer(m, (int64_t)n);
    case 'M':                                                                   /* BININT2 */
        return take_number(m, 2, &n) && push_integer(m, (int64_t)n);
    case 0x8a:                                                                  /* LONG1 */
        return take_long(m);
    case 'G':                                                                   /* BINFLOAT */
        return take(m, 8, &bytes) && push(m, (struct value){ .kind = OPAQUE });
    case 'X': case 'T':                                                         /* BINUNICODE, BINSTRING */
        return take_text(m, 4);
    case 0x8c: case 'U':                                                        /* SHORT_BINUNICODE, SHORT_BINSTRING */
        return take_text(m, 1);
    case '}':                                                                   /* EMPTY_DICT */
        return collect(m, DICT, 0);
    case ']': case ')': case 0x8f:                                              /* EMPTY_LIST, EMPTY_TUPLE, EMPTY_SET */
        return collect(m, SEQUENCE, 0);
    case 't': case 'l':                                                         /* TUPLE, LIST */
        return since_mark(m, &count) && collect(m, SEQUENCE, count);
    case 'd':                                                                   /* DICT */
        return since_mark(m, &count) && collect(m, DICT, count);
    case 0x85: case 0x86: case 0x87:                                            /* TUPLE1, TUPLE2, TUPLE3 */
        return collect(m, SEQUENCE, (unsigned char)*bytes - 0x84u);
    case 'a':                                                                   /* APPEND */
        return add_to_container(m, 1, false);
    case 'e': case 0x90:                                                        /* APPENDS, ADDITEMS */
        return since_mark(m, &count) && add_to_container(m, count, false);
    case 's':                                                                   /* SETITEM */
        return add_to_container(m, 2, true);
    case 'u':                                                                   /* SETITEMS */
        return since_mark(m, &count) && add_to_container(m, count, true);
    case 'q':                                                                   /* BINPUT */
        return take_number(m, 1, &n) && put_memo(m, n);
    case 'r':                                                                   /* LONG_BINPUT */
        return take_number(m, 4, &n) && put_memo(m, n);
    case 0x94:                                                                  /* MEMOIZE */
        return put_memo(m, m->n_memo);
    case 'h':                                                                   /* BINGET */
        return take_number(m, 1, &n) && get_memo(m, n);
    case 'j':                                                                   /* LONG_BINGET */
        return take_number(m, 4, &n) && get_memo(m, n);
    case 'c':                                                                   /* GLOBAL */
        return take_line(m, &module) && take_line(m, &name) && push_global(m, module, name);
    case 0x93:                                                                  /* STACK_GLOBAL */
        if (!pop(m, &w) || !pop(m, &v))
            return false;
        return v.kind == TEXT && w.kind == TEXT ? push_global(m, v.text, w.text) : fail(m, "the name of a global is no text");
    case 'Q':                                                                   /* BINPERSID */
        return load_storage(m);
    case 'R':                                                                   /* REDUCE */
        return reduce(m);
    case 0x81:                                                                  /* NEWOBJ */
        return pop(m, &v) && pop(m, &v) && push(m, (struct value){ .kind = OPAQUE });
    case 'b':                                                                   /* BUILD: attributes of an object, as _metadata */
        return pop(m, &v);
    default:
        return fail(m, "an opcode that weights do not need");
    }
}

/* The state_dict in a result: itself, or under the name that training scripts give it. */
static const struct object *find_tensors(const struct value *result)
{
    if (result->kind != DICT)
        return NULL;
    for (size_t i = 0; i + 1 < result->object->n; i += 2) {
        const struct value *key = &result->object->items[i], *value = key + 1;
        if (key->kind == TEXT && value->kind == DICT && (is(key->text, "state_dict") || is(key->text, "model") || is(key->text, "module")))
            return value->object;
    }
    return result->object;
}

static void run(struct machine *m)
{
    size_t n = 0;

    while (!m->err && step(m))
        if (++n == MAX_OPCODES)
            fail(m, "the program is too long");
    if (!m->err && !m->n_stack)
        fail(m, "the program leaves nothing");
}

int pickle_read(const char *program, size_t n, int (*found)(void *arg, const struct pickle_tensor *t), void *arg, const char **why,
                size_t *at)
{
    struct machine m = { .at = program, .end = program + n };

    run(&m);
    *at = (size_t)(m.at - program);
    const struct object *tensors = m.err ? NULL : find_tensors(&m.stack[m.n_stack - 1]);
    if (!m.err && !tensors)
        fail(&m, "the result is no dict of tensors");
    *why = m.why;
    int err = m.err;
    for (size_t i = 0; !err && i + 1 < tensors->n; i += 2) {
        const struct value *key = &tensors->items[i], *value = key + 1;
        if (key->kind != TEXT || value->kind != TENSOR)
            continue;
        struct pickle_tensor t = value->object->tensor;
        t.name = key->text;
        err = found(arg, &t);
    }
    while (m.objects) {
        struct object *next = m.objects->next;
        free(m.objects->items);
        free(m.objects);
        m.objects = next;
    }
    free(m.stack);
    free(m.memo);
    free(m.marks);
    return err;
}
