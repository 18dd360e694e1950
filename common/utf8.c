#include "common/utf8.h"

/* Unicode 15, table 3-7: the second byte's range depends on the first; later bytes are 80..BF. */
int utf8_decode(const char *s, size_t n, uint32_t *code_point)
{
    const unsigned char *b = (const unsigned char *)s;
    unsigned char low = 0x80, high = 0xbf;
    int length;
    uint32_t c;

    if (b[0] < 0x80) {
        *code_point = b[0];
        return 1;
    }
    if (b[0] < 0xc2 || b[0] > 0xf4)
        return -1;
    if (b[0] < 0xe0) {
        length = 2;
        c = b[0] & 0x1f;
    } else if (b[0] < 0xf0) {
        length = 3;
        c = b[0] & 0x0f;
        if (b[0] == 0xe0)
            low = 0xa0;         /* no overlong forms */
        if (b[0] == 0xed)
            high = 0x9f;        /* no surrogates */
    } else {
        length = 4;
        c = b[0] & 0x07;
        if (b[0] == 0xf0)
            low = 0x90;
        if (b[0] == 0xf4)
            high = 0x8f;        /* at most U+10FFFF */
    }
    for (int i = 1; i < length; i++) {
        if ((size_t)i >= n)
            return UTF8_INCOMPLETE;
        if (b[i] < low || b[i] > high)
            return -i;
        low = 0x80;
        high = 0xbf;
        c = c << 6 | (b[i] & 0x3f);
    }
    *code_point = c;
    return length;
}

size_t utf8_encode(uint32_t c, char out[4])
{
    if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        c = 0xfffd;
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

size_t utf8_check(const char *s, size_t n)
{
    size_t i = 0;

    while (i < n) {
        uint32_t c;
        int length = utf8_decode(s + i, n - i, &c);
        if (length <= 0)
            return i;
        i += (size_t)length;
    }
    return n;
}
