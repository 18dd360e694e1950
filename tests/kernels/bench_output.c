#include "tests/kernels/bench_output.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct output {
    json_t *object, *section;       /* NULL: tables */
    const struct column *columns;
    size_t n_columns;
};

struct output *output_create(bool json)
{
    struct output *o = calloc(1, sizeof(*o));

    if (o && json)
        o->object = json_object();
    if (!o || (json && !o->object)) {
        fprintf(stderr, "check_kernels: no memory\n");
        exit(1);
    }
    return o;
}

void output_destroy(struct output *o)
{
    json_decref(o->object);
    free(o);
}

void output_text(struct output *o, const char *key, const char *value)
{
    if (o->object)
        json_object_set_new(o->object, key, json_string(value));
    else
        printf("%-8s %s\n", key, value);
}

void output_count(struct output *o, const char *key, size_t value)
{
    if (o->object)
        json_object_set_new(o->object, key, json_integer((json_int_t)value));
    else
        printf("%-8s %zu\n", key, value);
}

void output_machine(struct output *o, const char *when, double read_gb_per_s, double q8, double bf16, double f32)
{
    if (o->object)
        json_object_set_new(o->object, "machine", json_pack("{s:f, s:{s:f, s:f, s:f}}", "read_gb_per_s", read_gb_per_s, "peak_gop_per_s",
                                                            "q8", q8, "bf16", bf16, "f32", f32));
    else
        printf("machine  %s: reads %.1f GB/s; peaks %.0f GOP/s int8, %.0f bf16, %.0f float32\n", when, read_gb_per_s, q8, bf16, f32);
}

void output_section(struct output *o, const char *key, const char *title, const struct column *columns, size_t n)
{
    o->columns = columns;
    o->n_columns = n;
    if (o->object) {
        o->section = json_array();
        json_object_set_new(o->object, key, o->section);
        return;
    }
    printf("\n%s: %s\n", key, title);
    for (size_t i = 0; i < n; i++)
        printf("%s%*s", i ? " " : "", columns[i].kind == COLUMN_TEXT ? -columns[i].width : columns[i].width, columns[i].title);
    printf("\n");
}

static void print_cell(const struct column *column, const struct cell *cell)
{
    if (column->kind == COLUMN_TEXT)
        printf("%-*s", column->width, cell->text);
    else if (isnan(cell->number))
        printf("%*s", column->width, "-");
    else if (column->kind == COLUMN_SHARE)
        printf("%*.*f%%", column->width - 1, column->digits, 100 * cell->number);
    else
        printf("%*.*f", column->width, column->digits, cell->number);
}

/* Numbers without digits are counts. */
static json_t *json_cell(const struct column *column, const struct cell *cell)
{
    if (column->kind == COLUMN_TEXT)
        return json_string(cell->text);
    if (isnan(cell->number))
        return json_null();
    if (column->kind == COLUMN_NUMBER && column->digits == 0)
        return json_integer((json_int_t)cell->number);
    return json_real(cell->number);
}

void output_row(struct output *o, const struct cell *cells)
{
    json_t *row = o->object ? json_object() : NULL;

    for (size_t i = 0; i < o->n_columns; i++) {
        if (row) {
            json_object_set_new(row, o->columns[i].key, json_cell(&o->columns[i], &cells[i]));
            continue;
        }
        printf("%s", i ? " " : "");
        print_cell(&o->columns[i], &cells[i]);
    }
    if (row)
        json_array_append_new(o->section, row);
    else
        printf("\n");
    fflush(stdout);
}

void output_finish(struct output *o)
{
    static const char *const sections[] = { "matmul", "attention", "rest" };

    if (!o->object)
        return;
    for (size_t i = 0; i < sizeof(sections) / sizeof(*sections); i++) {
        if (!json_object_get(o->object, sections[i]))
            json_object_set_new(o->object, sections[i], json_array());
    }
    json_dumpf(o->object, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    printf("\n");
}
