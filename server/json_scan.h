/*
 * json_scan.h - follows a JSON text byte by byte, for text that comes in pieces: is it JSON so far, and is it complete?
 *
 * RFC 8259 but for UTF-8, which the text already is, and for keys that come twice. No memory but the struct, one step a byte.
 */
#ifndef FOURWAY_SERVER_JSON_SCAN_H
#define FOURWAY_SERVER_JSON_SCAN_H

#include <stdbool.h>
#include <stdint.h>

enum { JSON_SCAN_MAX_DEPTH = 64 };

enum json_scan_state {
    JSON_SCAN_VALUE,            /* a value must come */
    JSON_SCAN_FIRST,            /* a value, or the end of an array */
    JSON_SCAN_FIRST_KEY,        /* a key, or the end of an object */
    JSON_SCAN_KEY,
    JSON_SCAN_COLON,
    JSON_SCAN_AFTER,            /* a value is complete: a comma or an end must come */
    JSON_SCAN_STRING, JSON_SCAN_ESCAPE, JSON_SCAN_HEX,
    JSON_SCAN_LITERAL,
    JSON_SCAN_MINUS, JSON_SCAN_ZERO, JSON_SCAN_DIGITS, JSON_SCAN_POINT, JSON_SCAN_FRACTION, JSON_SCAN_E, JSON_SCAN_SIGN, JSON_SCAN_EXPONENT
};

/* Zero it to start. */
struct json_scan {
    enum json_scan_state state;
    uint8_t depth;              /* of arrays and objects that are open */
    bool is_key;                /* the string at hand */
    uint8_t n_hex;              /* digits of \u still to come */
    const char *literal;        /* rest of true, false or null */
    uint64_t objects;           /* bit d: what is open at depth d + 1 is an object */
};

enum json_scan_result { JSON_SCAN_MORE, JSON_SCAN_END, JSON_SCAN_BAD };

/* The next byte of an object or array. END: it closed the outermost; nothing may follow. */
enum json_scan_result json_scan_byte(struct json_scan *s, char byte);

#endif
