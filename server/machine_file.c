/*
 * machine_file.c - struct machine to JSON and back.
 *
 * Reading names the field and its place ("link_gb_per_s[1][2]"), because people edit such files, to plan for a machine that they do not
 * have.
 */
#include "server/machine_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "common/log.h"
#include "server/json_read.h"
#include "server/json_write.h"

static void write_rows(struct buf *b, const char *key, const struct machine *m, const double rows[][MACHINE_MAX_NODES], double unit)
{
    buf_printf(b, "  \"%s\": [", key);
    for (size_t v = 0; v < m->n_core_nodes; v++) {
        for (size_t i = 0; i < m->n_nodes; i++)
            buf_printf(b, "%s%.9g", i ? ", " : v ? ",\n    [" : "\n    [", rows[v][i] / unit);
        buf_putc(b, ']');
    }
    buf_puts(b, "],\n");
}

void machine_write(struct buf *b, const struct machine *m)
{
    buf_printf(b, "{\n  \"fourway_machine\": %d,\n  \"cpu\": ", MACHINE_FILE_VERSION);
    json_write_string(b, m->cpu);
    buf_printf(b, ",\n  \"virtual_nodes\": %s,\n  \"quick\": %s,\n  \"theory_gb_per_s\": ", m->is_virtual ? "true" : "false",
               m->is_quick ? "true" : "false");
    if (m->theory_bytes_per_s > 0)
        buf_printf(b, "%.9g", m->theory_bytes_per_s / 1e9);
    else
        buf_puts(b, "null");
    buf_printf(b, ",\n  \"all_reads_gb_per_s\": %.9g,\n  \"nodes\": [", m->read_bytes_per_s / 1e9);
    for (size_t i = 0; i < m->n_nodes; i++) {
        const struct machine_node *x = &m->nodes[i];

        buf_printf(b, "%s\n    {\"node\": %d, \"cores\": %zu, \"memory_bytes\": %llu", i ? "," : "", x->os_node, x->n_cores,
                   (unsigned long long)x->memory_bytes);
        if (x->n_cores)
            buf_printf(b, ", \"read_gb_per_s\": %.9g, \"write_gb_per_s\": %.9g, \"write_nt_gb_per_s\": %.9g", x->read_bytes_per_s / 1e9,
                       x->write_bytes_per_s / 1e9, x->write_nt_bytes_per_s / 1e9);
        buf_putc(b, '}');
    }
    buf_puts(b, "],\n");
    write_rows(b, "link_gb_per_s", m, m->link_bytes_per_s, 1e9);
    write_rows(b, "latency_ns", m, m->latency_ns, 1);
    buf_printf(b, "  \"barrier_ns\": %.9g,\n  \"peak_gop_per_s\": {", m->barrier_ns);
    for (size_t i = 0; i < m->n_levels; i++) {
        const struct machine_level *l = &m->levels[i];

        buf_puts(b, i ? ",\n    " : "\n    ");
        json_write_string(b, l->isa);
        buf_printf(b, ": {\"int8\": %.9g, \"bf16\": %.9g, \"float32\": %.9g}", l->int8_ops_per_s / 1e9, l->bf16_ops_per_s / 1e9,
                   l->float32_ops_per_s / 1e9);
    }
    buf_puts(b, "}\n}\n");
}

/* What is read, and whether it went wrong: only the first fault is said. */
struct reader {
    const char *name;
    bool failed;
};

static void fail(struct reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct reader *r, const char *format, ...)
{
    char what[256];
    va_list args;

    if (r->failed)
        return;
    r->failed = true;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    log_error("%s: %s: measure again with 'fourway membw --write-machine FILE', or correct it (docs/membw.md lists the fields)", r->name,
              what);
}

/*
 * A number above 0 times `unit`; `where` names it. The bounds are beyond any machine, and within what arithmetic on rates can bear. They
 * are for the number as it stands in the file: a product that is rounded could be written as a number that is refused.
 */
static double take_number(struct reader *r, const json_t *value, const char *where, double unit)
{
    const double x = json_number_value(value);

    if (!json_is_number(value))
        fail(r, "%s is %s", where, value ? "no number" : "missing");
    else if (!(x >= 1e-9 && x <= 1e9))
        fail(r, "%s is %.6g: it must be above 0, and what a machine can do", where, x);
    return x * unit;
}

static double take_field(struct reader *r, const json_t *object, const char *prefix, const char *key, double unit)
{
    char where[96];

    snprintf(where, sizeof(where), "%s%s", prefix, key);
    return take_number(r, json_object_get(object, key), where, unit);
}

static uint64_t take_count(struct reader *r, const json_t *object, const char *prefix, const char *key, uint64_t least, uint64_t most)
{
    const json_t *value = json_object_get(object, key);
    const json_int_t x = json_integer_value(value);

    if (!json_is_integer(value) || x < 0 || (uint64_t)x < least || (uint64_t)x > most)
        fail(r, "%s%s must be a whole number from %llu to %llu", prefix, key, (unsigned long long)least, (unsigned long long)most);
    return (uint64_t)x;
}

static bool take_flag(struct reader *r, const json_t *root, const char *key)
{
    const json_t *value = json_object_get(root, key);

    if (value && !json_is_boolean(value))
        fail(r, "%s is neither true nor false", key);
    return json_is_true(value);
}

static void take_nodes(struct reader *r, struct machine *m, const json_t *nodes)
{
    const size_t n = json_array_size(nodes);

    if (!json_is_array(nodes) || n < 1 || n > MACHINE_MAX_NODES) {
        fail(r, "nodes must be a list of 1 to %d nodes", MACHINE_MAX_NODES);
        return;
    }
    m->n_nodes = n;
    for (size_t i = 0; i < n && !r->failed; i++) {
        const json_t *node = json_array_get(nodes, i);
        struct machine_node *x = &m->nodes[i];
        char where[32];

        snprintf(where, sizeof(where), "nodes[%zu].", i);
        if (!json_is_object(node)) {
            fail(r, "nodes[%zu] is no object", i);
            break;
        }
        x->os_node = (int)take_count(r, node, where, "node", 0, 1023);
        x->n_cores = take_count(r, node, where, "cores", 0, 8192);
        x->memory_bytes = take_count(r, node, where, "memory_bytes", 0, UINT64_C(1) << 60);
        for (size_t k = 0; k < i && !m->is_virtual; k++)
            if (m->nodes[k].os_node == x->os_node)
                fail(r, "nodes[%zu] and nodes[%zu] are both node %d", k, i, x->os_node);
        if (!x->n_cores)
            continue;
        if (m->n_core_nodes++ != i)
            fail(r, "nodes[%zu] has cores, but comes after one without", i);
        x->read_bytes_per_s = take_field(r, node, where, "read_gb_per_s", 1e9);
        x->write_bytes_per_s = take_field(r, node, where, "write_gb_per_s", 1e9);
        x->write_nt_bytes_per_s = take_field(r, node, where, "write_nt_gb_per_s", 1e9);
    }
    if (!r->failed && !m->n_core_nodes)
        fail(r, "no node has cores");
}

static void take_rows(struct reader *r, const struct machine *m, const json_t *root, const char *key, double rows[][MACHINE_MAX_NODES],
                      double unit)
{
    const json_t *list = json_object_get(root, key);

    if (!json_is_array(list) || json_array_size(list) != m->n_core_nodes)
        fail(r, "%s must have %zu rows, one for each node with cores", key, m->n_core_nodes);
    for (size_t v = 0; v < m->n_core_nodes && !r->failed; v++) {
        const json_t *row = json_array_get(list, v);

        if (!json_is_array(row) || json_array_size(row) != m->n_nodes)
            fail(r, "%s[%zu] must have %zu numbers, one for each node", key, v, m->n_nodes);
        for (size_t i = 0; i < m->n_nodes && !r->failed; i++) {
            char where[64];

            snprintf(where, sizeof(where), "%s[%zu][%zu]", key, v, i);
            rows[v][i] = take_number(r, json_array_get(row, i), where, unit);
        }
    }
}

static void take_levels(struct reader *r, struct machine *m, const json_t *peak)
{
    void *at = json_object_iter((json_t *)peak);

    if (!json_is_object(peak) || !at || json_object_size(peak) > MACHINE_MAX_LEVELS)
        fail(r, "peak_gop_per_s must have 1 to %d instruction sets", MACHINE_MAX_LEVELS);
    for (; at && !r->failed; at = json_object_iter_next((json_t *)peak, at)) {
        const char *isa = json_object_iter_key(at);
        const json_t *level = json_object_iter_value(at);
        struct machine_level *l = &m->levels[m->n_levels++];
        char where[64];

        snprintf(where, sizeof(where), "peak_gop_per_s.%.15s.", isa);
        if (!*isa || strlen(isa) >= sizeof(l->isa))
            fail(r, "peak_gop_per_s: no instruction set is called '%.32s'", isa);
        snprintf(l->isa, sizeof(l->isa), "%.15s", isa);
        l->int8_ops_per_s = take_field(r, level, where, "int8", 1e9);
        l->bf16_ops_per_s = take_field(r, level, where, "bf16", 1e9);
        l->float32_ops_per_s = take_field(r, level, where, "float32", 1e9);
    }
}

static void take_machine(struct reader *r, struct machine *m, const json_t *root)
{
    const json_t *version = json_object_get(root, "fourway_machine"), *theory = json_object_get(root, "theory_gb_per_s");
    const char *cpu = json_string_value(json_object_get(root, "cpu"));

    if (!json_is_integer(version))
        fail(r, "no machine file: it has no \"fourway_machine\": %d", MACHINE_FILE_VERSION);
    else if (json_integer_value(version) != MACHINE_FILE_VERSION)
        fail(r, "a machine file of version %lld, and this program reads %d", (long long)json_integer_value(version), MACHINE_FILE_VERSION);
    snprintf(m->cpu, sizeof(m->cpu), "%s", cpu ? cpu : "");
    m->is_virtual = take_flag(r, root, "virtual_nodes");
    m->is_quick = take_flag(r, root, "quick");
    if (theory && !json_is_null(theory))
        m->theory_bytes_per_s = take_number(r, theory, "theory_gb_per_s", 1e9);
    m->read_bytes_per_s = take_field(r, root, "", "all_reads_gb_per_s", 1e9);
    take_nodes(r, m, json_object_get(root, "nodes"));
    take_rows(r, m, root, "link_gb_per_s", m->link_bytes_per_s, 1e9);
    take_rows(r, m, root, "latency_ns", m->latency_ns, 1);
    m->barrier_ns = take_field(r, root, "", "barrier_ns", 1);
    take_levels(r, m, json_object_get(root, "peak_gop_per_s"));
}

int machine_parse(struct machine *m, const char *name, const char *text, size_t n)
{
    struct reader r = { .name = name };
    struct json_read_error error;
    json_t *root = NULL;

    *m = (struct machine){ 0 };
    const int err = json_read(text, n, &root, &error);
    if (err == -ENOMEM) {
        log_error("%s: no memory to read it", name);
        return err;
    }
    if (err)
        fail(&r, "no JSON at byte %zu (%s)", error.offset, error.message);
    else if (!json_is_object(root))
        fail(&r, "no machine file: it is no JSON object");
    else
        take_machine(&r, m, root);
    json_decref(root);
    if (r.failed)
        *m = (struct machine){ 0 };
    return r.failed ? -EINVAL : 0;
}

static int write_all(int fd, const char *text, size_t n)
{
    while (n) {
        const ssize_t written = write(fd, text, n);

        if (written < 0 && errno != EINTR)
            return -errno;
        text += written > 0 ? written : 0;
        n -= written > 0 ? (size_t)written : 0;
    }
    return fsync(fd) && errno != EINVAL && errno != EROFS ? -errno : 0;
}

/* A device or a pipe (/dev/stdout) is written to: it must not be replaced by a file. */
static int write_special(const char *path, const char *text, size_t n)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC), err = fd < 0 ? -errno : write_all(fd, text, n);

    if (fd >= 0 && close(fd) && !err)
        err = -errno;
    return err;
}

static int write_and_rename(const char *path, const char *text, size_t n)
{
    struct buf temporary = { 0 };
    int err, fd = -1;

    buf_printf(&temporary, "%s.XXXXXX", path);
    if (!temporary.failed)
        fd = mkostemp(temporary.data, O_CLOEXEC);
    err = temporary.failed ? -ENOMEM : fd < 0 ? -errno : 0;
    if (!err) {
        const mode_t mask = umask(0);       /* there is no other way to read it */

        umask(mask);
        err = fchmod(fd, 0666 & ~mask) ? -errno : write_all(fd, text, n);
        if (close(fd) && !err)
            err = -errno;
        if (!err && rename(temporary.data, path))
            err = -errno;
        if (err)
            unlink(temporary.data);
    }
    buf_free(&temporary);
    return err;
}

int file_replace(const char *path, const char *what, const char *text, size_t n)
{
    struct stat st;
    int err;

    if (!stat(path, &st) && !S_ISREG(st.st_mode))
        err = S_ISDIR(st.st_mode) ? -EISDIR : write_special(path, text, n);
    else
        err = write_and_rename(path, text, n);
    if (err)
        log_error("cannot write the %s %s: %s", what, path, strerror(-err));
    return err;
}

int machine_save(const struct machine *m, const char *path)
{
    struct buf b = { 0 };

    machine_write(&b, m);
    const int err = b.failed ? -ENOMEM : file_replace(path, "machine file", b.data, b.len);
    if (b.failed)
        log_error("no memory for the machine file %s", path);
    buf_free(&b);
    return err;
}

int machine_load(struct machine *m, const char *path)
{
    struct buf b = { .limit = MACHINE_FILE_BYTES_MAX };
    int fd = open(path, O_RDONLY | O_CLOEXEC), err = fd < 0 ? -errno : 0;
    ssize_t got = 1;

    *m = (struct machine){ 0 };
    while (!err && got > 0 && !b.failed) {
        char piece[4096];

        got = read(fd, piece, sizeof(piece));
        if (got > 0)
            buf_append(&b, piece, (size_t)got);
        else if (got < 0)
            err = -errno;
    }
    if (!err && b.failed)
        err = -EFBIG;
    if (err)
        log_error("cannot read the machine file %s: %s", path, strerror(-err));
    else
        err = machine_parse(m, path, b.len ? b.data : "", b.len);
    if (fd >= 0)
        close(fd);
    buf_free(&b);
    return err;
}
