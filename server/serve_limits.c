#include "server/serve_limits.h"

#include <string.h>

#include "server/router.h"

void serve_limits_init(struct serve_limits *l)
{
    *l = (struct serve_limits){ .max_waiting = 512, .max_connections = 4096, .max_body = 16 << 20, .queue_s = 120, .header_s = 10,
                                .body_s = 60, .idle_s = 60, .drain_s = 90 };
}

void serve_limits_options(struct serve_limits *l, struct option out[SERVE_LIMITS_OPTIONS])
{
    const struct option options[] = {
        { .name = "max-waiting", .type = OPTION_U64, .out = &l->max_waiting, .metavar = "N", .least = 1, .most = 1 << ROUTER_SLOT_BITS,
          .heading = "limits", .help = "requests in the queue; more get 503 at once, with Retry-After (default 512)" },
        { .name = "max-waiting-tokens", .type = OPTION_U64, .out = &l->max_waiting_tokens, .metavar = "N", .least = 0, .most = 0x1p40,
          .help = "likewise, tokens of all prompts in the queue (default 0: any number)" },
        { .name = "queue-timeout", .type = OPTION_F64, .out = &l->queue_s, .metavar = "S", .least = 0.1, .most = 86400,
          .help = "seconds that a request may wait in the queue, then 504 (default 120)" },
        { .name = "request-timeout", .type = OPTION_F64, .out = &l->request_s, .metavar = "S", .least = 0, .most = 86400,
          .help = "seconds from a request's arrival to its end, unless it has a 'timeout' of its own (default 0: any)" },
        { .name = "max-connections", .type = OPTION_U64, .out = &l->max_connections, .metavar = "N", .least = 1, .most = 65536,
          .help = "connections at once; more get 503 and are closed (default 4096)" },
        { .name = "max-body", .type = OPTION_SIZE, .out = &l->max_body, .metavar = "SIZE", .least = 1024, .most = 1 << 30,
          .help = "bytes of a request, then 413 (default 16M)" },
        { .name = "header-timeout", .type = OPTION_F64, .out = &l->header_s, .metavar = "S", .least = 0.1, .most = 3600,
          .help = "seconds until the headers of a connection's first request are here, TLS included (default 10)" },
        { .name = "body-timeout", .type = OPTION_F64, .out = &l->body_s, .metavar = "S", .least = 0.1, .most = 3600,
          .help = "seconds until a body is here; it must also come at 1 KB/s or more (default 60)" },
        { .name = "idle-timeout", .type = OPTION_F64, .out = &l->idle_s, .metavar = "S", .least = 1, .most = 3600,
          .help = "seconds that a connection may be open between requests (default 60)" },
        { .name = "drain-timeout", .type = OPTION_F64, .out = &l->drain_s, .metavar = "S", .least = 0, .most = 86400,
          .help = "seconds that SIGTERM gives to requests in flight (default 90)" },
    };

    _Static_assert(sizeof(options) / sizeof(options[0]) == SERVE_LIMITS_OPTIONS, "the header counts them");
    memcpy(out, options, sizeof(options));
}

void serve_limits_apply(const struct serve_limits *l, struct http_options *http, struct front_options *front,
                        struct engine_options *engine)
{
    http->max_connections = l->max_connections;
    http->max_body = l->max_body;
    http->header_s = l->header_s;
    http->body_s = l->body_s;
    http->idle_s = l->idle_s;
    front->max_waiting = engine->max_waiting = l->max_waiting;
    front->max_waiting_tokens = engine->max_waiting_tokens = l->max_waiting_tokens;
    front->queue_s = l->queue_s;
    front->request_s = l->request_s;
}
