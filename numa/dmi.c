/*
 * dmi.c - SMBIOS tables to memory modules and channels.
 *
 * A table is a row of structures: type, length, handle, fields, then strings that end with an empty one. It is walked once for arrays
 * and once for devices: a device counts if its array is system memory (an array may also be flash or a video frame buffer).
 */
#include "numa/dmi.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { TYPE_ARRAY = 16, TYPE_DEVICE = 17, TYPE_END = 127, HEADER_BYTES = 4, TABLE_BYTES_MAX = 1 << 20, PATH_BYTES = 1024 };
enum { USE_SYSTEM_MEMORY = 3, MEMORY_FLASH = 9, TECHNOLOGY_DRAM = 3, TECHNOLOGY_NVDIMM_N = 4 };

struct structure {
    const uint8_t *at;
    size_t length;              /* of the formatted part */
    const char *strings;
    size_t strings_bytes;       /* with the final NUL */
};

struct reader {
    const uint8_t *at, *end;
    const char *what;
};

/* The next structure; false at the end of the table, or when `what` is set. */
static bool next_structure(struct reader *r, struct structure *s)
{
    const size_t left = (size_t)(r->end - r->at);

    if (!left)
        return false;
    if (left < HEADER_BYTES || r->at[1] > left) {
        r->what = "a structure reaches beyond the end of the table";
        return false;
    }
    if (r->at[1] < HEADER_BYTES) {
        r->what = "a structure is shorter than its own header";
        return false;
    }
    *s = (struct structure){ .at = r->at, .length = r->at[1], .strings = (const char *)r->at + r->at[1] };
    if (s->at[0] == TYPE_END)
        return false;
    for (const uint8_t *p = r->at + s->length; r->end - p >= 2; p++) {
        if (!p[0] && !p[1]) {
            s->strings_bytes = (size_t)((const char *)p - s->strings) + 1;
            r->at = p + 2;
            return true;
        }
    }
    r->what = "the strings of a structure do not end";
    return false;
}

/* Fields behind the end of an older, shorter structure are 0. */
static uint32_t field(const struct structure *s, size_t offset, size_t bytes)
{
    uint32_t value = 0;

    for (size_t i = 0; i < bytes && offset + bytes <= s->length; i++)
        value |= (uint32_t)s->at[offset + i] << (8 * i);
    return value;
}

/* String number at `offset`, in printable ASCII, without blanks around it; "" for 0 and for a number that is not there. */
static void string(const struct structure *s, size_t offset, char out[DMI_NAME_BYTES])
{
    const char *at = s->strings, *end = s->strings + s->strings_bytes;
    size_t n = 0;

    out[0] = '\0';
    uint32_t number = field(s, offset, 1);
    if (!number)
        return;
    for (; number > 1 && at < end; number--)
        at += strnlen(at, (size_t)(end - at)) + 1;
    while (at < end && *at == ' ')
        at++;
    for (; at < end && *at && n + 1 < DMI_NAME_BYTES; at++)
        out[n++] = isprint((unsigned char)*at) && (unsigned char)*at < 0x80 ? *at : '?';
    while (n && out[n - 1] == ' ')
        n--;
    out[n] = '\0';
}

/* Some firmware has no arrays, or devices of an array that is not there: those count. */
static bool is_system_memory(const uint8_t *table, size_t n, uint32_t handle)
{
    struct reader r = { .at = table, .end = table + n };
    struct structure s;

    while (next_structure(&r, &s)) {
        if (s.at[0] == TYPE_ARRAY && field(&s, 2, 2) == handle)
            return field(&s, 5, 1) == USE_SYSTEM_MEMORY;
    }
    return true;
}

/* Sizes are in MiB, or in KiB with bit 15; 0x7fff points to a wider field, 0xffff is unknown. */
static uint64_t size_bytes(const struct structure *s)
{
    const uint32_t size = field(s, 0x0c, 2);

    if (size == 0xffff)
        return 0;
    if (size == 0x7fff)
        return (uint64_t)(field(s, 0x1c, 4) & 0x7fffffff) << 20;
    return size & 0x8000 ? (uint64_t)(size & 0x7fff) << 10 : (uint64_t)size << 20;
}

/* A speed in 16 bits, or with 0xffff in a wider field (SMBIOS 3.3); 0 is unknown. */
static uint32_t speed(const struct structure *s, size_t offset, size_t wide_offset)
{
    const uint32_t value = field(s, offset, 2);
    return value == 0xffff ? field(s, wide_offset, 4) & 0x7fffffff : value;
}

static uint16_t width(const struct structure *s, size_t offset)
{
    const uint32_t bits = field(s, offset, 2);
    return bits == 0xffff ? 0 : (uint16_t)bits;
}

/* Persistent memory and flash share slots with DRAM, but are no main memory at DRAM's rate. */
static bool is_dram(const struct structure *s)
{
    const uint32_t technology = field(s, 0x28, 1);
    return field(s, 0x12, 1) != MEMORY_FLASH && (technology <= TECHNOLOGY_NVDIMM_N);
}

static int add_device(struct dmi_memory *m, const struct structure *s)
{
    if (m->n_slots++ == DMI_MAX_DIMMS)
        return -EINVAL;
    if (!field(s, 0x0c, 2) || !is_dram(s))
        return 0;
    if (!m->dimms)
        m->dimms = calloc(DMI_MAX_DIMMS, sizeof(*m->dimms));
    if (!m->dimms)
        return -ENOMEM;
    struct dmi_dimm *d = &m->dimms[m->n_dimms++];
    *d = (struct dmi_dimm){ .bytes = size_bytes(s), .total_bits = width(s, 8), .data_bits = width(s, 10),
                            .type = (uint8_t)field(s, 0x12, 1), .rated_mt_per_s = speed(s, 0x15, 0x54),
                            .mt_per_s = speed(s, 0x20, 0x58) };
    if (!d->mt_per_s)
        d->mt_per_s = d->rated_mt_per_s;
    string(s, 0x10, d->locator);
    string(s, 0x11, d->bank);
    return 0;
}

/* Length of what ends with the number or letter of a channel: "P0 CHANNEL A", "Node0_Channel1" of "Node0_Channel1_Dimm0". */
static size_t channel_word(const char *name)
{
    const char *at = strcasestr(name, "channel");

    if (!at)
        return 0;
    at += strlen("channel");
    at += strspn(at, " _-");
    const char *end = at;
    if (isdigit((unsigned char)*end))
        end += strspn(end, "0123456789");
    else if (isalpha((unsigned char)*end))
        end++;
    return end > at ? (size_t)(end - name) : 0;
}

/*
 * Length of what "CPU0_DIMM_A1", "P1-DIMMA1" and "DIMM_P0_A0" have in common with the other slots of their channel: all but the last
 * digits, if one letter stands before those, by itself or behind "DIMM". Plain "A1" is no such name: there A is a socket, and 1 to 16 its
 * slots.
 */
static size_t letter_and_digits(const char *name)
{
    size_t n = strlen(name);
    const size_t whole = n;

    while (n && isdigit((unsigned char)name[n - 1]))
        n--;
    if (n == whole || n < 2 || !isalpha((unsigned char)name[n - 1]))
        return 0;
    if (!isalpha((unsigned char)name[n - 2]))
        return n;
    return n >= 5 && !strncasecmp(name + n - 5, "dimm", 4) ? n : 0;
}

/* What names the channel of a DIMM; false: nothing does. */
static bool channel_name(const struct dmi_dimm *d, char out[DMI_NAME_BYTES])
{
    const char *name = d->bank;
    size_t n = channel_word(name);

    if (!n) {
        name = d->locator;
        n = channel_word(name);
    }
    if (!n)
        n = letter_and_digits(name);
    memcpy(out, name, n);
    out[n] = '\0';
    return n > 0;
}

static void find_channels(struct dmi_memory *m)
{
    char name[DMI_NAME_BYTES], other[DMI_NAME_BYTES];

    m->channels_named = m->n_dimms > 0;
    for (size_t i = 0; i < m->n_dimms; i++)
        m->channels_named &= channel_name(&m->dimms[i], name);
    for (size_t i = 0; i < m->n_dimms; i++) {
        size_t same = i;

        if (m->channels_named) {
            channel_name(&m->dimms[i], name);
            for (same = 0; same < i; same++) {
                channel_name(&m->dimms[same], other);
                if (!strcasecmp(name, other))
                    break;
            }
        }
        m->dimms[i].channel = same < i ? m->dimms[same].channel : m->n_channels++;
    }
}

int dmi_parse(struct dmi_memory *m, const uint8_t *table, size_t n, const char **what)
{
    struct reader r = { .at = table, .end = table + n };
    struct structure s;
    int err = 0;

    *m = (struct dmi_memory){ 0 };
    while (!err && next_structure(&r, &s)) {
        if (s.at[0] != TYPE_DEVICE || !is_system_memory(table, n, field(&s, 4, 2)))
            continue;
        err = add_device(m, &s);
        if (err == -EINVAL)
            r.what = "more memory devices than any machine has";
    }
    if (r.what)
        err = -EINVAL;
    if (err) {
        dmi_free(m);
        if (what)
            *what = r.what ? r.what : "no memory";
        return err;
    }
    find_channels(m);
    for (size_t i = 0; i < m->n_dimms; i++) {
        m->bytes += m->dimms[i].bytes;
        if (!i || m->dimms[i].mt_per_s < m->mt_per_s)
            m->mt_per_s = m->dimms[i].mt_per_s;
    }
    return 0;
}

/* The whole file; the kernel gives its true size. */
static int read_table(int fd, uint8_t **table, size_t *n)
{
    ssize_t got = 1;

    *n = 0;
    *table = malloc(TABLE_BYTES_MAX);
    if (!*table)
        return -ENOMEM;
    while (got > 0 && *n < TABLE_BYTES_MAX) {
        got = read(fd, *table + *n, TABLE_BYTES_MAX - *n);
        *n += got > 0 ? (size_t)got : 0;
    }
    return got < 0 ? -errno : 0;
}

int dmi_read(struct dmi_memory *m, const char *root, const char **what)
{
    char path[PATH_BYTES];
    uint8_t *table = NULL;
    size_t n;

    *m = (struct dmi_memory){ 0 };
    if (snprintf(path, sizeof(path), "%s/sys/firmware/dmi/tables/DMI", root) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOTDIR ? -ENOENT : -errno;
    int err = read_table(fd, &table, &n);
    if (!err)
        err = dmi_parse(m, table, n, what);
    free(table);
    close(fd);
    return err;
}

void dmi_free(struct dmi_memory *m)
{
    free(m->dimms);
    *m = (struct dmi_memory){ 0 };
}

/* Bytes a transfer. A DDR5 module is two half channels of 32 bits, and some firmware names one: it is 64 in all. */
static double transfer_bytes(const struct dmi_dimm *d)
{
    const bool soldered = d->type == DMI_TYPE_LPDDR4 || d->type == DMI_TYPE_LPDDR5 || d->type == DMI_TYPE_HBM2 || d->type == DMI_TYPE_HBM3;
    return soldered && d->data_bits ? d->data_bits / 8.0 : 8;
}

double dmi_bytes_per_s(const struct dmi_memory *m)
{
    double sum = 0;

    for (size_t c = 0; c < m->n_channels && m->mt_per_s; c++) {
        double slowest = 0;

        for (size_t i = 0; i < m->n_dimms; i++) {
            const double rate = m->dimms[i].mt_per_s * 1e6 * transfer_bytes(&m->dimms[i]);

            if (m->dimms[i].channel == c && (slowest == 0 || rate < slowest))
                slowest = rate;
        }
        sum += slowest;
    }
    return sum;
}

const char *dmi_type_name(uint8_t type)
{
    switch (type) {
    case DMI_TYPE_DDR3:
        return "DDR3";
    case DMI_TYPE_DDR4:
        return "DDR4";
    case DMI_TYPE_LPDDR4:
        return "LPDDR4";
    case DMI_TYPE_HBM2:
        return "HBM2";
    case DMI_TYPE_DDR5:
        return "DDR5";
    case DMI_TYPE_LPDDR5:
        return "LPDDR5";
    case DMI_TYPE_HBM3:
        return "HBM3";
    default:
        return "memory";
    }
}
