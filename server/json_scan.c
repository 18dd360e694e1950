#include "server/json_scan.h"

#include <string.h>

static enum json_scan_result go(struct json_scan *s, enum json_scan_state state)
{
    s->state = state;
    return JSON_SCAN_MORE;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool in_object(const struct json_scan *s)
{
    return s->depth && s->objects >> (s->depth - 1) & 1;
}

static enum json_scan_result open_level(struct json_scan *s, bool object)
{
    if (s->depth == JSON_SCAN_MAX_DEPTH)
        return JSON_SCAN_BAD;
    s->objects &= ~((uint64_t)1 << s->depth);
    s->objects |= (uint64_t)object << s->depth;
    s->depth++;
    return go(s, object ? JSON_SCAN_FIRST_KEY : JSON_SCAN_FIRST);
}

static enum json_scan_result close_level(struct json_scan *s, bool object)
{
    if (!s->depth || in_object(s) != object)
        return JSON_SCAN_BAD;
    s->depth--;
    s->state = JSON_SCAN_AFTER;
    return s->depth ? JSON_SCAN_MORE : JSON_SCAN_END;
}

static enum json_scan_result begin_string(struct json_scan *s, bool is_key)
{
    s->is_key = is_key;
    return go(s, JSON_SCAN_STRING);
}

static enum json_scan_result begin_literal(struct json_scan *s, const char *rest)
{
    s->literal = rest;
    return go(s, JSON_SCAN_LITERAL);
}

static enum json_scan_result begin_value(struct json_scan *s, char c)
{
    switch (c) {
    case '{': return open_level(s, true);
    case '[': return open_level(s, false);
    case '"': return s->depth ? begin_string(s, false) : JSON_SCAN_BAD;
    }
    if (!s->depth)
        return JSON_SCAN_BAD;
    switch (c) {
    case 't': return begin_literal(s, "rue");
    case 'f': return begin_literal(s, "alse");
    case 'n': return begin_literal(s, "ull");
    case '-': return go(s, JSON_SCAN_MINUS);
    case '0': return go(s, JSON_SCAN_ZERO);
    default: return is_digit(c) ? go(s, JSON_SCAN_DIGITS) : JSON_SCAN_BAD;
    }
}

static enum json_scan_result after_value(struct json_scan *s, char c)
{
    switch (c) {
    case ' ': case '\t': case '\n': case '\r': return go(s, JSON_SCAN_AFTER);
    case ',': return go(s, in_object(s) ? JSON_SCAN_KEY : JSON_SCAN_VALUE);
    case '}': return close_level(s, true);
    case ']': return close_level(s, false);
    default: return JSON_SCAN_BAD;
    }
}

static enum json_scan_result in_string(struct json_scan *s, char c)
{
    switch (s->state) {
    case JSON_SCAN_ESCAPE:
        if (c == 'u') {
            s->n_hex = 4;
            return go(s, JSON_SCAN_HEX);
        }
        return c && strchr("\"\\/bfnrt", c) ? go(s, JSON_SCAN_STRING) : JSON_SCAN_BAD;
    case JSON_SCAN_HEX:
        if (!is_hex(c))
            return JSON_SCAN_BAD;
        return go(s, --s->n_hex ? JSON_SCAN_HEX : JSON_SCAN_STRING);
    default:
        if (c == '"')
            return go(s, s->is_key ? JSON_SCAN_COLON : JSON_SCAN_AFTER);
        if ((unsigned char)c < 0x20)
            return JSON_SCAN_BAD;
        return go(s, c == '\\' ? JSON_SCAN_ESCAPE : JSON_SCAN_STRING);
    }
}

static enum json_scan_result in_number(struct json_scan *s, char c)
{
    const enum json_scan_state state = s->state;

    if (is_digit(c)) {
        switch (state) {
        case JSON_SCAN_MINUS: return go(s, c == '0' ? JSON_SCAN_ZERO : JSON_SCAN_DIGITS);
        case JSON_SCAN_ZERO: return JSON_SCAN_BAD;
        case JSON_SCAN_POINT: return go(s, JSON_SCAN_FRACTION);
        case JSON_SCAN_E: case JSON_SCAN_SIGN: return go(s, JSON_SCAN_EXPONENT);
        default: return JSON_SCAN_MORE;
        }
    }
    if (c == '.' && (state == JSON_SCAN_ZERO || state == JSON_SCAN_DIGITS))
        return go(s, JSON_SCAN_POINT);
    if ((c == 'e' || c == 'E') && (state == JSON_SCAN_ZERO || state == JSON_SCAN_DIGITS || state == JSON_SCAN_FRACTION))
        return go(s, JSON_SCAN_E);
    if ((c == '+' || c == '-') && state == JSON_SCAN_E)
        return go(s, JSON_SCAN_SIGN);
    if (state == JSON_SCAN_MINUS || state == JSON_SCAN_POINT || state == JSON_SCAN_E || state == JSON_SCAN_SIGN)
        return JSON_SCAN_BAD;
    return after_value(s, c);
}

enum json_scan_result json_scan_byte(struct json_scan *s, char c)
{
    const bool space = c == ' ' || c == '\t' || c == '\n' || c == '\r';

    switch (s->state) {
    case JSON_SCAN_VALUE:
        return space ? JSON_SCAN_MORE : begin_value(s, c);
    case JSON_SCAN_FIRST:
        return space ? JSON_SCAN_MORE : c == ']' ? close_level(s, false) : begin_value(s, c);
    case JSON_SCAN_FIRST_KEY:
        if (c == '}')
            return close_level(s, true);
        /* fall through */
    case JSON_SCAN_KEY:
        return space ? JSON_SCAN_MORE : c == '"' ? begin_string(s, true) : JSON_SCAN_BAD;
    case JSON_SCAN_COLON:
        return space ? JSON_SCAN_MORE : c == ':' ? go(s, JSON_SCAN_VALUE) : JSON_SCAN_BAD;
    case JSON_SCAN_AFTER:
        return after_value(s, c);
    case JSON_SCAN_STRING: case JSON_SCAN_ESCAPE: case JSON_SCAN_HEX:
        return in_string(s, c);
    case JSON_SCAN_LITERAL:
        if (c != *s->literal++)
            return JSON_SCAN_BAD;
        return go(s, *s->literal ? JSON_SCAN_LITERAL : JSON_SCAN_AFTER);
    default:
        return in_number(s, c);
    }
}
