/*
 * utf8.h - decoding and checking of UTF-8 (Unicode 15, table 3-7: no overlong forms, no surrogates).
 */
#ifndef FOURWAY_COMMON_UTF8_H
#define FOURWAY_COMMON_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UTF8_INCOMPLETE 0   /* the bytes are a proper prefix of a character */

/*
 * Look at the character that starts at s (n >= 1 bytes left).
 * Returns its length 1..4 and stores the code point; UTF8_INCOMPLETE when more bytes are needed to know;
 * -L when the first L bytes (1..3) are a maximal subpart that can never become valid (one U+FFFD for it).
 */
int utf8_decode(const char *s, size_t n, uint32_t *code_point);

/* Write the character to out[4]; returns its length. Values that are no scalar value give U+FFFD. */
size_t utf8_encode(uint32_t code_point, char out[4]);

/* Offset of the first byte that is no valid UTF-8, or n. */
size_t utf8_check(const char *s, size_t n);

#endif
