#include "server/message.h"

#include <string.h>

/* Of a step: whether there may be another at once, or more text is needed. */
enum progress { GO_ON, WAIT };

static const char *text_of(const struct message_parser *p)
{
    return p->held.data + p->from;
}

static size_t length_of(const struct message_parser *p)
{
    return p->held.len - p->from;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || c == '-';
}

static const char *skip_space(const char *text)
{
    while (is_space(*text))
        text++;
    return text;
}

static size_t count_space(const char *text, size_t n)
{
    size_t i = 0;

    while (i < n && is_space(text[i]))
        i++;
    return i;
}

static void end_part(struct message_parser *p)
{
    if (p->in_part)
        p->sink.end(p->sink.arg);
    p->in_part = false;
}

static void begin_part(struct message_parser *p, enum part_kind kind, const char *name, size_t n_name)
{
    end_part(p);
    p->sink.begin(p->sink.arg, kind, name, n_name);
    p->in_part = true;
    p->kind = kind;
}

/* Give out the first n bytes. */
static void give(struct message_parser *p, enum part_kind kind, size_t n)
{
    if (!n)
        return;
    if (!p->in_part || p->kind != kind)
        begin_part(p, kind, NULL, 0);
    p->sink.text(p->sink.arg, text_of(p), n);
    p->from += n;
}

/* text[n] against a marker: 1: it begins with it; 0: it does not; -1: it is too short to say. */
static int begins_with(const char *text, size_t n, const char *marker)
{
    const size_t length = strlen(marker);

    if (n >= length)
        return memcmp(text, marker, length) == 0;
    return memcmp(text, marker, n) == 0 ? -1 : 0;
}

/* The first place in text[n] where one of the markers (NULL and "" are none) is, or may be once more text has come. */
static size_t find_marker(const char *text, size_t n, const char *const *markers, size_t n_markers, int *found, size_t *which)
{
    *found = 0;
    for (size_t at = 0; at < n; at++)
        for (size_t i = 0; i < n_markers; i++) {
            if (!markers[i] || text[at] != markers[i][0])
                continue;
            *found = begins_with(text + at, n - at, markers[i]);
            *which = i;
            if (*found)
                return at;
        }
    return n;
}

/* Where the white space at the end of text[n] begins that must wait for what follows. */
static size_t before_space(const char *text, size_t n)
{
    size_t end = n;

    while (end && is_space(text[end - 1]) && n - end < MESSAGE_MOST_SPACE)
        end--;
    return end;
}

static enum progress step_start(struct message_parser *p, bool final)
{
    const char *text = text_of(p), *open = p->rules->think->open;
    const size_t n = length_of(p), space = count_space(text, n);
    const int found = space > MESSAGE_MOST_SPACE ? 0 : begins_with(text + space, n - space, open);

    if (found < 0 && !final)
        return WAIT;
    p->state = MESSAGE_TEXT;
    if (found <= 0)
        return GO_ON;
    p->from += space + strlen(open);
    p->state = MESSAGE_REASONING;
    return GO_ON;
}

static enum progress step_reasoning(struct message_parser *p, bool final)
{
    const char *close = p->rules->think->close;
    size_t which;
    int found;

    if (!p->in_part)
        p->from += count_space(text_of(p), length_of(p));
    const size_t n = length_of(p);
    const size_t at = find_marker(text_of(p), n, &close, 1, &found, &which);
    const size_t end = before_space(text_of(p), at);
    if (found <= 0) {
        give(p, PART_REASONING, final ? n : end);
        return WAIT;
    }
    give(p, PART_REASONING, end);
    end_part(p);
    p->from += at - end + strlen(close);
    p->state = MESSAGE_SKIP;
    return GO_ON;
}

static enum progress step_skip(struct message_parser *p)
{
    p->from += count_space(text_of(p), length_of(p));
    if (!length_of(p))
        return WAIT;
    p->fresh = true;
    p->state = MESSAGE_TEXT;
    return GO_ON;
}

static void begin_call(struct message_parser *p, size_t n_marker, enum message_state state)
{
    p->n_marker = p->at = n_marker;
    p->scan = (struct json_scan){ 0 };
    p->n_name = p->n_key = p->value_at = p->arguments_at = p->n_arguments = 0;
    p->begun = false;
    p->state = state;
}

/* It is none: its marker is text, and so may be what follows. */
static void fail_call(struct message_parser *p)
{
    p->state = MESSAGE_TEXT;
    p->in_list = p->fresh = false;
    if (p->rules->follows_grammar) {    /* it can only have been cut: its arguments stay as far as they came */
        end_part(p);
        p->cut = true;
        p->from = p->held.len;
        return;
    }
    give(p, PART_TEXT, p->n_marker);
}

static enum progress step_text(struct message_parser *p, bool final)
{
    const struct tool_syntax *s = p->rules->syntax;
    const char *text = text_of(p);
    const size_t n = length_of(p);
    size_t which;
    int found;

    if (!s) {
        give(p, PART_TEXT, n);
        return WAIT;
    }
    const size_t space = count_space(text, n);
    p->fresh &= space <= MESSAGE_MOST_SPACE;    /* what is more is given out at once, and the pieces must not tell */
    if (p->fresh && !*s->marker && space < n && text[space] == '{') {
        begin_call(p, space, MESSAGE_OBJECT);
        return GO_ON;
    }
    const char *const markers[] = { *s->marker ? s->marker : NULL, s->also_marker, s->section, s->section_end };
    const size_t at = find_marker(text, n, markers, 4, &found, &which);
    const size_t end = before_space(text, at);
    p->fresh &= space == n;
    if (found <= 0) {
        const bool blank_end = final && p->n_calls && space == n;
        give(p, PART_TEXT, final && !blank_end ? n : end);
        return WAIT;
    }
    give(p, PART_TEXT, end);
    if (which >= 2) {
        p->from += at - end + strlen(markers[which]);
        return GO_ON;
    }
    begin_call(p, at - end + strlen(markers[which]), s->object ? MESSAGE_OBJECT : MESSAGE_NAME);
    return GO_ON;
}

static bool name_known(const struct message_parser *p)
{
    const char *name = text_of(p) + p->name_at;

    for (size_t i = 0; i < p->rules->n_names; i++)
        if (strlen(p->rules->names[i]) == p->n_name && memcmp(p->rules->names[i], name, p->n_name) == 0)
            return true;
    return false;
}

static void give_arguments(struct message_parser *p, size_t until)
{
    if (until > p->sent)
        p->sink.text(p->sink.arg, text_of(p) + p->sent, until - p->sent);
    p->sent = until;
}

/* The call is JSON to its end, `at`. */
static enum progress end_call(struct message_parser *p)
{
    if (!p->begun) {
        const bool arguments_fit = p->n_arguments || (p->rules->syntax->object && !p->arguments_at);
        if (!name_known(p) || !arguments_fit) {
            fail_call(p);
            return GO_ON;
        }
        begin_part(p, PART_TOOL_CALL, text_of(p) + p->name_at, p->n_name);
        if (p->n_arguments)
            p->sink.text(p->sink.arg, text_of(p) + p->arguments_at, p->n_arguments);
        else
            p->sink.text(p->sink.arg, "{}", 2);
    }
    end_part(p);
    p->n_calls++;
    p->full = p->rules->most_calls && p->n_calls >= p->rules->most_calls;
    p->from += p->at;
    p->state = MESSAGE_AFTER_CALL;
    return GO_ON;
}

/* The value of a member of the outermost object has ended at `end`. */
static void note_member(struct message_parser *p, size_t end)
{
    const char *text = text_of(p), *key = text + p->key_at;

    if (p->n_key == 4 && memcmp(key, "name", 4) == 0) {
        p->name_at = p->value_at + 1;
        p->n_name = text[p->value_at] == '"' ? end - p->value_at - 2 : 0;
    } else if (p->arguments_at && p->arguments_at == p->value_at) {
        p->n_arguments = text[p->value_at] == '{' ? end - p->value_at : 0;
    }
}

static bool is_arguments_key(const struct message_parser *p)
{
    const char *key = text_of(p) + p->key_at;

    return (p->n_key == 9 && memcmp(key, "arguments", 9) == 0) || (p->n_key == 10 && memcmp(key, "parameters", 10) == 0);
}

static void begin_arguments(struct message_parser *p, size_t at)
{
    p->arguments_at = p->sent = at;
    if (p->rules->follows_grammar && text_of(p)[at] == '{' && p->n_name && name_known(p)) {
        begin_part(p, PART_TOOL_CALL, text_of(p) + p->name_at, p->n_name);
        p->begun = true;
    }
}

static enum progress step_object(struct message_parser *p)
{
    for (; p->at < length_of(p); p->at++) {
        const char c = text_of(p)[p->at];
        const enum json_scan_state before = p->scan.state;
        const uint8_t depth = p->scan.depth;
        if (depth == 0 && c == '[' && p->n_marker && !p->in_list) {
            begin_call(p, p->at + 1, MESSAGE_OBJECT);
            p->in_list = true;
            return GO_ON;
        }
        const enum json_scan_result result = json_scan_byte(&p->scan, c);
        if (result == JSON_SCAN_BAD || (depth == 0 && c == '[') || p->at > MESSAGE_MOST_CALL) {
            fail_call(p);
            return GO_ON;
        }
        if (depth == 1 && before != JSON_SCAN_STRING && p->scan.state == JSON_SCAN_STRING && p->scan.is_key)
            p->key_at = p->at + 1;
        if (depth == 1 && before == JSON_SCAN_STRING && p->scan.state == JSON_SCAN_COLON)
            p->n_key = p->at - p->key_at;
        if (depth == 1 && before == JSON_SCAN_VALUE && p->scan.state != JSON_SCAN_VALUE) {
            p->value_at = p->at;
            if (is_arguments_key(p))
                begin_arguments(p, p->at);
        }
        if (p->scan.depth == 1 && p->scan.state == JSON_SCAN_AFTER && (depth == 2 || before == JSON_SCAN_STRING)) {
            note_member(p, p->at + 1);
            if (p->begun && p->arguments_at == p->value_at)
                give_arguments(p, p->at + 1);
        }
        if (result == JSON_SCAN_END) {
            p->at++;
            return end_call(p);
        }
    }
    if (p->begun && !p->n_arguments)
        give_arguments(p, p->at);
    return WAIT;
}

static enum progress step_name(struct message_parser *p)
{
    const char *text = text_of(p);
    const size_t n = length_of(p);

    if (p->at == p->n_marker && !p->n_name)
        p->name_at = p->at;
    while (p->at < n && is_word(text[p->at]) && p->at - p->name_at < TOOL_NAME_MOST)
        p->at++;
    if (p->at == n)
        return WAIT;
    p->n_name = p->at - p->name_at;
    if (name_known(p))
        p->state = MESSAGE_MIDDLE;
    else
        fail_call(p);
    return GO_ON;
}

static enum progress step_middle(struct message_parser *p)
{
    const struct tool_syntax *s = p->rules->syntax;
    const char *text = text_of(p);
    const size_t n = length_of(p);
    size_t at = p->at;
    int found = s->optional ? begins_with(text + at, n - at, s->optional) : 0;

    if (found > 0)
        for (at += strlen(s->optional); at < n && is_word(text[at]) && at - p->at < TOOL_NAME_MOST + strlen(s->optional); at++)
            ;
    if (found < 0 || at == n)
        return WAIT;
    found = begins_with(text + at, n - at, s->middle);
    if (found < 0)
        return WAIT;
    p->at = at + (found ? strlen(s->middle) : 0);
    if (found || text[at] == '{')
        p->state = MESSAGE_ARGUMENTS;
    else
        fail_call(p);
    return GO_ON;
}

static enum progress step_arguments(struct message_parser *p)
{
    for (; p->at < length_of(p); p->at++) {
        const char c = text_of(p)[p->at];
        const bool outside = p->scan.depth == 0;
        const enum json_scan_result result = json_scan_byte(&p->scan, c);

        if (result == JSON_SCAN_BAD || (outside && c == '[') || p->at > MESSAGE_MOST_CALL) {
            fail_call(p);
            return GO_ON;
        }
        if (outside && c == '{')
            begin_arguments(p, p->at);
        if (result == JSON_SCAN_END) {
            p->n_arguments = ++p->at - p->arguments_at;
            if (p->begun)
                give_arguments(p, p->at);
            return end_call(p);
        }
    }
    if (p->begun)
        give_arguments(p, p->at);
    return WAIT;
}

/* In a list a comma or its end, then the call's own end; each may be missing. */
static enum progress step_after_call(struct message_parser *p, bool final)
{
    const struct tool_syntax *s = p->rules->syntax;
    const char *close = *s->marker ? skip_space(s->close) : ";";

    p->from += count_space(text_of(p), length_of(p));
    if (!length_of(p))
        return WAIT;
    if (p->in_list && text_of(p)[0] == ',') {
        begin_call(p, 1, MESSAGE_OBJECT);
        return GO_ON;
    }
    if (p->in_list) {
        p->from += text_of(p)[0] == ']';
        p->in_list = false;
        return GO_ON;
    }
    const int found = begins_with(text_of(p), length_of(p), close);
    if (found < 0 && !final)
        return WAIT;
    p->from += found > 0 ? strlen(close) : found < 0 ? length_of(p) : 0;
    p->state = MESSAGE_SKIP;
    return GO_ON;
}

static enum progress step(struct message_parser *p, bool final)
{
    enum progress progress = WAIT;

    switch (p->state) {
    case MESSAGE_START: return step_start(p, final);
    case MESSAGE_REASONING: return step_reasoning(p, final);
    case MESSAGE_SKIP: return step_skip(p);
    case MESSAGE_TEXT: return step_text(p, final);
    case MESSAGE_AFTER_CALL: return step_after_call(p, final);
    case MESSAGE_OBJECT: progress = step_object(p); break;
    case MESSAGE_NAME: progress = step_name(p); break;
    case MESSAGE_MIDDLE: progress = step_middle(p); break;
    case MESSAGE_ARGUMENTS: progress = step_arguments(p); break;
    }
    if (progress == WAIT && final) {
        fail_call(p);
        progress = GO_ON;
    }
    return progress;
}

static void run(struct message_parser *p, bool final)
{
    while (!p->full && length_of(p) && step(p, final) == GO_ON)
        ;
    if (p->full)
        p->from = p->held.len;
    if (p->from) {
        memmove(p->held.data, p->held.data + p->from, length_of(p));
        p->held.len -= p->from;
        p->from = 0;
    }
}

void message_begin(struct message_parser *p, const struct message_rules *rules, const struct message_sink *sink)
{
    *p = (struct message_parser){ .rules = rules, .sink = *sink, .fresh = true,
                                  .state = rules->think && !rules->think_is_text ? MESSAGE_START : MESSAGE_TEXT };
    if (rules->prefix)
        message_push(p, rules->prefix, strlen(rules->prefix));
}

void message_free(struct message_parser *p)
{
    buf_free(&p->held);
}

void message_push(struct message_parser *p, const char *text, size_t n)
{
    if (p->full)
        return;
    buf_append(&p->held, text, n);
    if (!p->held.failed)
        run(p, false);
}

void message_end(struct message_parser *p)
{
    if (!p->held.failed && p->held.data)
        run(p, true);
    end_part(p);
}
