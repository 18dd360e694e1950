#include "weights/torch_zip.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"
#include "weights/gguf_internal.h"

enum {
    END_BYTES = 22, MAX_COMMENT = 65535, LOCATOR_BYTES = 20, END64_BYTES = 56, ENTRY_BYTES = 46, LOCAL_BYTES = 30,
    MAX_ENTRIES = 1000000, MAX_NAME = 512, MAX_DIRECTORY = 256 << 20
};
#define END_MARK 0x06054b50u
#define LOCATOR_MARK 0x07064b50u
#define END64_MARK 0x06064b50u
#define ENTRY_MARK 0x02014b50u
#define LOCAL_MARK 0x04034b50u

#define LOAD(type, from) ({ type v; memcpy(&v, (from), sizeof(v)); v; })

static int read_at(struct gguf_reader *r, uint64_t at, void *dst, size_t n)
{
    if (at > r->size || n > r->size - at)
        return gguf_reader_fail(r, "its parts lie beyond the end of the file");
    gguf_reader_seek(r, at);
    return gguf_reader_bytes(r, dst, n);
}

struct place { uint64_t n, bytes, offset, end; };       /* the directory: entries, bytes, where it begins; where the end records begin */

/* The end record, which a comment may follow. */
static int find_end(struct gguf_reader *r, struct place *p)
{
    const size_t n = r->size < END_BYTES + MAX_COMMENT ? (size_t)r->size : END_BYTES + MAX_COMMENT;
    const uint64_t from = r->size - n;
    unsigned char *tail = malloc(n + 1);
    int err = tail ? read_at(r, from, tail, n) : -ENOMEM;
    bool found = false;

    for (size_t i = n < END_BYTES ? 0 : n - END_BYTES + 1; !err && !found && i-- > 0;) {
        if (LOAD(uint32_t, tail + i) != END_MARK || LOAD(uint16_t, tail + i + 20) != n - i - END_BYTES)
            continue;
        found = true;
        p->n = LOAD(uint16_t, tail + i + 10);
        p->bytes = LOAD(uint32_t, tail + i + 12);
        p->offset = LOAD(uint32_t, tail + i + 16);
        p->end = from + i;
    }
    if (!err && !found) {
        const bool pickle = n >= 2 && r->size == n && tail[0] == 0x80;
        err = gguf_reader_fail(r, "not a file of torch.save%s", pickle ? " (a bare pickle: save it again with torch 1.6 or later)" : "");
    }
    free(tail);
    return err;
}

/* The larger record, which torch always writes. */
static int find_end64(struct gguf_reader *r, struct place *p)
{
    unsigned char locator[LOCATOR_BYTES], end[END64_BYTES];
    int err = p->end < LOCATOR_BYTES ? 0 : read_at(r, p->end - LOCATOR_BYTES, locator, sizeof(locator));

    if (err || p->end < LOCATOR_BYTES || LOAD(uint32_t, locator) != LOCATOR_MARK)
        return err;
    const uint64_t at = LOAD(uint64_t, locator + 8);
    if (at > p->end - LOCATOR_BYTES || p->end - LOCATOR_BYTES - at < END64_BYTES)
        return gguf_reader_fail(r, "its end record lies at byte %" PRIu64 ", after its end", at);
    err = read_at(r, at, end, sizeof(end));
    if (err)
        return err;
    if (LOAD(uint32_t, end) != END64_MARK)
        return gguf_reader_fail(r, "there is no end record at byte %" PRIu64, at);
    *p = (struct place){ LOAD(uint64_t, end + 32), LOAD(uint64_t, end + 40), LOAD(uint64_t, end + 48), at };
    return 0;
}

/* Sizes and offset of 64 bits stand in an extra field, those that do not fit into 32 and in this order. */
static bool take_zip64(const unsigned char *extra, size_t n, uint64_t *values[3])
{
    while (n >= 4) {
        const size_t length = LOAD(uint16_t, extra + 2);
        if (length > n - 4)
            return false;
        if (LOAD(uint16_t, extra) == 1) {
            const unsigned char *at = extra + 4;
            size_t left = length;
            for (int i = 0; i < 3; i++) {
                if (*values[i] != UINT32_MAX)
                    continue;
                if (left < 8)
                    return false;
                *values[i] = LOAD(uint64_t, at);
                at += 8;
                left -= 8;
            }
            return true;
        }
        extra += 4 + length;
        n -= 4 + length;
    }
    return *values[0] != UINT32_MAX && *values[1] != UINT32_MAX && *values[2] != UINT32_MAX;
}

static struct name_array names_of(const struct torch_zip *z)
{
    return (struct name_array){ z->entries, sizeof(*z->entries) };
}

/* The bytes come after a local header whose lengths are its own. */
static int find_bytes(struct gguf_reader *r, const struct place *p, uint64_t local, struct torch_entry *e)
{
    unsigned char header[LOCAL_BYTES];
    uint64_t end;
    int err = read_at(r, local, header, sizeof(header));

    if (err)
        return err;
    e->offset = local + LOCAL_BYTES + LOAD(uint16_t, header + 26) + LOAD(uint16_t, header + 28);
    if (LOAD(uint32_t, header) != LOCAL_MARK || !checked_add(e->offset, e->size, &end) || end > p->offset)
        return gguf_reader_fail(r, "its bytes do not lie in the file before the directory");
    return 0;
}

/* One entry of the directory; *at moves behind it. */
static int take_entry(struct torch_zip *z, struct gguf_reader *r, const struct place *p, uint64_t *at)
{
    const unsigned char *e = (const unsigned char *)z->directory + *at;
    const uint64_t left = p->bytes - *at;
    char quoted[GGUF_QUOTED];

    gguf_reader_object(r, "directory at byte %" PRIu64, p->offset + *at);
    if (left < ENTRY_BYTES || LOAD(uint32_t, e) != ENTRY_MARK)
        return gguf_reader_fail(r, "there is no entry");
    const unsigned flags = LOAD(uint16_t, e + 8), method = LOAD(uint16_t, e + 10);
    const size_t n_name = LOAD(uint16_t, e + 28), n_extra = LOAD(uint16_t, e + 30), n_comment = LOAD(uint16_t, e + 32);
    uint64_t packed = LOAD(uint32_t, e + 20), size = LOAD(uint32_t, e + 24), local = LOAD(uint32_t, e + 42);
    if (n_name + n_extra + n_comment > left - ENTRY_BYTES)
        return gguf_reader_fail(r, "an entry is longer than what is left");
    const struct gguf_string name = { (const char *)e + ENTRY_BYTES, n_name };
    gguf_reader_object(r, "entry %s", gguf_quote(name, quoted));
    if (!n_name || n_name > MAX_NAME)
        return gguf_reader_fail(r, "a name of %zu bytes, expected 1..%d", n_name, MAX_NAME);
    if (!take_zip64(e + ENTRY_BYTES + n_name, n_extra, (uint64_t *[]){ &size, &packed, &local }))
        return gguf_reader_fail(r, "its 64-bit sizes are cut short");
    if (flags & 1 || method || packed != size)
        return gguf_reader_fail(r, "is compressed or encrypted");
    if (name_table_find(&z->names, names_of(z), name) >= 0)
        return gguf_reader_fail(r, "comes twice");
    struct torch_entry *entry = &z->entries[z->n_entries];
    *entry = (struct torch_entry){ .name = name, .size = size };
    int err = find_bytes(r, p, local, entry);
    if (err)
        return err;
    *at += ENTRY_BYTES + n_name + n_extra + n_comment;
    err = name_table_add(&z->names, names_of(z), (uint32_t)z->n_entries);
    z->n_entries += !err;
    return err;
}

static int compare_places(const void *a, const void *b)
{
    const struct torch_entry *x = *(const struct torch_entry *const *)a, *y = *(const struct torch_entry *const *)b;

    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Entries that share bytes would let a small file claim a large model. */
static int check_overlap(const struct torch_zip *z, struct gguf_reader *r)
{
    const struct torch_entry **order = malloc((z->n_entries + 1) * sizeof(*order));
    char a[GGUF_QUOTED], b[GGUF_QUOTED];
    int err = order ? 0 : -ENOMEM;

    for (size_t i = 0; !err && i < z->n_entries; i++)
        order[i] = &z->entries[i];
    if (!err)
        qsort(order, z->n_entries, sizeof(*order), compare_places);
    for (size_t i = 1; !err && i < z->n_entries; i++)
        if (order[i]->offset - order[i - 1]->offset < order[i - 1]->size) {
            gguf_reader_object(r, "entry %s", gguf_quote(order[i]->name, a));
            err = gguf_reader_fail(r, "overlaps %s", gguf_quote(order[i - 1]->name, b));
        }
    free(order);
    return err;
}

static int read_directory(struct torch_zip *z, struct gguf_reader *r)
{
    struct place p = { 0 };
    uint64_t at = 0;

    gguf_reader_object(r, "ZIP archive");
    int err = find_end(r, &p);
    if (!err)
        err = find_end64(r, &p);
    if (err)
        return err;
    if (p.offset > p.end || p.bytes > p.end - p.offset || p.bytes > MAX_DIRECTORY || p.n > MAX_ENTRIES || p.n > p.bytes / ENTRY_BYTES)
        return gguf_reader_fail(r, "claims a directory of %" PRIu64 " entries in %" PRIu64 " bytes at byte %" PRIu64, p.n, p.bytes,
                                p.offset);
    z->directory = malloc(p.bytes + 1);
    z->entries = calloc(p.n + 1, sizeof(*z->entries));
    if (!z->directory || !z->entries)
        return -ENOMEM;
    err = read_at(r, p.offset, z->directory, p.bytes);
    for (uint64_t i = 0; !err && i < p.n; i++)
        err = take_entry(z, r, &p, &at);
    return err ? err : check_overlap(z, r);
}

int torch_zip_read(struct torch_zip *z, const char *path, int fd, uint64_t size)
{
    struct gguf_reader *r = calloc(1, sizeof(*r));

    *z = (struct torch_zip){ 0 };
    if (!r)
        return -ENOMEM;
    *r = (struct gguf_reader){ .path = path, .fd = fd, .size = size };
    int err = read_directory(z, r);
    free(r);
    return err;
}

void torch_zip_free(struct torch_zip *z)
{
    free(z->directory);
    free(z->entries);
    name_table_free(&z->names);
    *z = (struct torch_zip){ 0 };
}

const struct torch_entry *torch_zip_find(const struct torch_zip *z, struct gguf_string name)
{
    int64_t i = name_table_find(&z->names, names_of(z), name);

    return i < 0 ? NULL : &z->entries[i];
}
