/*
 * serve_limits.h - the options of `fourway serve` that bound what clients may take: connections, bodies, times, the queue.
 *
 * Their defaults are those of the parts that keep them. Limits of a request's content (choices, stop strings, schemas) are no options: they
 * are part of the interface.
 */
#ifndef FOURWAY_SERVER_SERVE_LIMITS_H
#define FOURWAY_SERVER_SERVE_LIMITS_H

#include "server/batcher.h"
#include "server/front.h"
#include "server/options.h"

struct serve_limits {
    uint64_t max_waiting, max_waiting_tokens, max_connections, max_body;
    double queue_s, request_s, header_s, body_s, idle_s, drain_s;
};

enum { SERVE_LIMITS_OPTIONS = 10 };

void serve_limits_init(struct serve_limits *l);
void serve_limits_options(struct serve_limits *l, struct option out[SERVE_LIMITS_OPTIONS]);
void serve_limits_apply(const struct serve_limits *l, struct http_options *http, struct front_options *front,
                        struct engine_options *engine);

#endif
