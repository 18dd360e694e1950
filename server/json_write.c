#include "server/json_write.h"

#include <math.h>
#include <string.h>

#include "common/utf8.h"

static void write_escape(struct buf *b, unsigned char c)
{
    switch (c) {
    case '"':
        buf_puts(b, "\\\"");
        break;
    case '\\':
        buf_puts(b, "\\\\");
        break;
    case '\n':
        buf_puts(b, "\\n");
        break;
    case '\r':
        buf_puts(b, "\\r");
        break;
    case '\t':
        buf_puts(b, "\\t");
        break;
    default:
        buf_printf(b, "\\u%04x", c);
    }
}

void json_write_bytes(struct buf *b, const char *text, size_t n)
{
    size_t start = 0;       /* of the run that needs no change */

    buf_putc(b, '"');
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)text[i];
        int length = 1;
        if (c >= 0x80) {
            uint32_t code_point;
            length = utf8_decode(text + i, n - i, &code_point);
            if (length > 0) {
                i += (size_t)length;
                continue;
            }
            length = length == UTF8_INCOMPLETE ? (int)(n - i) : -length;
        } else if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
            i++;
            continue;
        }
        buf_append(b, text + start, i - start);
        if (c >= 0x80)
            buf_puts(b, "\xef\xbf\xbd");
        else
            write_escape(b, c);
        i += (size_t)length;
        start = i;
    }
    buf_append(b, text + start, n - start);
    buf_putc(b, '"');
}

void json_write_string(struct buf *b, const char *text)
{
    json_write_bytes(b, text, strlen(text));
}

void json_write_string_or_null(struct buf *b, const char *text)
{
    if (text)
        json_write_string(b, text);
    else
        buf_puts(b, "null");
}

void json_write_logprob(struct buf *b, float logprob)
{
    if (isfinite(logprob))
        buf_printf(b, "%.9g", (double)logprob);
    else
        buf_puts(b, "-9999.0");
}

void json_write_floats(struct buf *b, const void *floats, size_t n)
{
    buf_putc(b, '[');
    for (size_t i = 0; i < n; i++) {
        float value;
        memcpy(&value, (const char *)floats + i * sizeof(value), sizeof(value));
        buf_printf(b, i ? ",%.9g" : "%.9g", (double)value);
    }
    buf_putc(b, ']');
}

void json_write_base64(struct buf *b, const void *bytes, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *in = bytes;
    const size_t n_out = (n + 2) / 3 * 4;
    char *out = buf_reserve(b, n_out + 2);

    if (!out)
        return;
    *out++ = '"';
    for (size_t i = 0; i < n; i += 3) {
        const size_t left = n - i;
        const unsigned group = (unsigned)in[i] << 16 | (left > 1 ? (unsigned)in[i + 1] << 8 : 0) | (left > 2 ? in[i + 2] : 0);
        *out++ = digits[group >> 18];
        *out++ = digits[group >> 12 & 63];
        *out++ = left > 1 ? digits[group >> 6 & 63] : '=';
        *out++ = left > 2 ? digits[group & 63] : '=';
    }
    *out = '"';
    b->len += n_out + 2;
    b->data[b->len] = '\0';
}

void json_write_ids(struct buf *b, const int32_t *ids, size_t n)
{
    buf_putc(b, '[');
    for (size_t i = 0; i < n; i++)
        buf_printf(b, i ? ",%d" : "%d", ids[i]);
    buf_putc(b, ']');
}

void json_write_byte_list(struct buf *b, const char *bytes, size_t n)
{
    buf_putc(b, '[');
    for (size_t i = 0; i < n; i++)
        buf_printf(b, i ? ",%u" : "%u", (unsigned char)bytes[i]);
    buf_putc(b, ']');
}
