/*
 * api_responses.h - what a response of /v1/responses repeats of its request.
 */
#ifndef FOURWAY_SERVER_API_RESPONSES_H
#define FOURWAY_SERVER_API_RESPONSES_H

/* In api_request.own. JSON texts, owned. */
struct responses_own {
    char *instructions;         /* a value */
    char *settings;             /* members of an object: "parallel_tool_calls":true,..,"text":{..} */
};

#endif
