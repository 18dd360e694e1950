/*
 * bench_output.h - the figures of `check_kernels --bench`: tables for people as the rows come, or one JSON object at the end.
 */
#ifndef FOURWAY_TESTS_KERNELS_BENCH_OUTPUT_H
#define FOURWAY_TESTS_KERNELS_BENCH_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

enum column_kind { COLUMN_TEXT, COLUMN_NUMBER, COLUMN_SHARE };      /* a share of 0.95 is printed as 95% */

struct column {
    const char *key, *title;
    enum column_kind kind;
    int width, digits;
};

/* A NaN is a figure that does not exist: "-", or null. */
struct cell {
    const char *text;
    double number;
};

struct output;

struct output *output_create(bool json);
void output_destroy(struct output *o);

/* Heads of the object; in a table one line. */
void output_text(struct output *o, const char *key, const char *value);
void output_count(struct output *o, const char *key, size_t value);
void output_machine(struct output *o, const char *when, double read_gb_per_s, double q8, double bf16, double f32);

/* From here on rows belong to section `key`, whose title and columns live until the next one. */
void output_section(struct output *o, const char *key, const char *title, const struct column *columns, size_t n);
void output_row(struct output *o, const struct cell *cells);

/* An empty section for each that was left out; then the JSON object. */
void output_finish(struct output *o);

#endif
