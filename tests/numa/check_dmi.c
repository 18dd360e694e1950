/*
 * check_dmi.c - dmi.h on tables made here: servers of several makers' slot names, every width of the fields, and hostile ones.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "numa/dmi.h"

static uint8_t table[128 << 10];
static size_t n_bytes;

static int empty_table(void **state)
{
    (void)state;
    memset(table, 0, sizeof(table));
    n_bytes = 0;
    return 0;
}

static void put(uint8_t *at, uint32_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

/* A structure of `length` bytes with up to two strings; returns its first byte. */
static uint8_t *add(uint8_t type, uint8_t length, uint16_t handle, const char *first, const char *second)
{
    uint8_t *at = table + n_bytes;

    at[0] = type;
    at[1] = length;
    put(at + 2, handle, 2);
    n_bytes += length;
    for (int i = 0; i < 2; i++) {
        const char *text = i ? second : first;
        if (text) {
            strcpy((char *)table + n_bytes, text);
            n_bytes += strlen(text) + 1;
        }
    }
    n_bytes += first ? 1 : 2;
    return at;
}

static void add_array(uint16_t handle, uint8_t use)
{
    uint8_t *at = add(16, 0x17, handle, NULL, NULL);
    at[4] = 3;
    at[5] = use;
}

static uint8_t *add_dimm(const char *locator, const char *bank, uint32_t mib, uint16_t rated, uint16_t configured)
{
    uint8_t *at = add(17, 0x5c, (uint16_t)(0x1100 + n_bytes), locator, bank);

    put(at + 4, 0x1000, 2);
    put(at + 8, 80, 2);
    put(at + 0xa, 64, 2);
    put(at + 0xc, mib >= 0x7fff ? 0x7fff : mib, 2);
    put(at + 0x1c, mib >= 0x7fff ? mib : 0, 4);
    at[0x10] = 1;
    at[0x11] = bank ? 2 : 0;
    at[0x12] = DMI_TYPE_DDR5;
    put(at + 0x15, rated, 2);
    put(at + 0x20, configured, 2);
    at[0x28] = 3;
    return at;
}

static void add_end(void)
{
    add(127, 4, 0xfefe, NULL, NULL);
}

static void test_two_sockets(void **state)
{
    struct dmi_memory m;
    char locator[32];

    (void)state;
    add(0, 0x18, 0, "Maker", "Version");
    add_array(0x1000, 3);
    for (int cpu = 0; cpu < 2; cpu++) {
        for (int slot = 0; slot < 16; slot++) {
            snprintf(locator, sizeof(locator), "CPU%d_DIMM_%c%d", cpu, 'A' + slot / 2, slot % 2 + 1);
            add_dimm(locator, "NODE", slot % 2 ? 0 : 65536, 5600, 4800);
        }
    }
    add_end();
    memset(table + n_bytes, 0xff, 64);      /* nothing behind the end counts */
    assert_int_equal(dmi_parse(&m, table, n_bytes + 64, NULL), 0);
    assert_int_equal(m.n_slots, 32);
    assert_int_equal(m.n_dimms, 16);
    assert_int_equal(m.n_channels, 16);
    assert_true(m.channels_named);
    assert_int_equal(m.mt_per_s, 4800);
    assert_int_equal(m.bytes, UINT64_C(16) << 36);
    assert_string_equal(m.dimms[9].locator, "CPU1_DIMM_B1");
    assert_string_equal(m.dimms[9].bank, "NODE");
    assert_int_equal(m.dimms[9].rated_mt_per_s, 5600);
    assert_int_equal(m.dimms[9].data_bits, 64);
    assert_int_equal(m.dimms[9].total_bits, 80);
    assert_true(dmi_bytes_per_s(&m) == 16 * 4800e6 * 8);
    dmi_free(&m);
    dmi_free(&m);
}

static void check_channels(size_t n, const char *const (*names)[2], size_t n_channels, bool named)
{
    struct dmi_memory m;

    empty_table(NULL);
    for (size_t i = 0; i < n; i++)
        add_dimm(names[i][0], names[i][1], 1024, 3200, 3200);
    assert_int_equal(dmi_parse(&m, table, n_bytes, NULL), 0);
    assert_int_equal(m.n_dimms, n);
    if (m.n_channels != n_channels || m.channels_named != named)
        fail_msg("%s: %zu channels, %s", names[0][0], m.n_channels, m.channels_named ? "named" : "not named");
    dmi_free(&m);
}

static void test_names(void **state)
{
    (void)state;
    check_channels(3, (const char *const[][2]){ { "DIMM 0", "P0 CHANNEL A" }, { "DIMM 1", "P0 CHANNEL A" }, { "DIMM 0", "P1 CHANNEL A" } },
                   2, true);
    check_channels(3, (const char *const[][2]){ { "P1-DIMMA1", "P0_Node0" }, { "P1-DIMMA2", "P0_Node0" }, { "P1-DIMMB1", "P0_Node0" } }, 2,
                   true);
    check_channels(2, (const char *const[][2]){ { "Controller0-ChannelA-DIMM0", NULL }, { "Controller1-ChannelA-DIMM0", NULL } }, 2, true);
    check_channels(3, (const char *const[][2]){ { "Node0_Channel1_Dimm0", NULL }, { "Node0_Channel1_Dimm1", NULL },
                                                { "Node0_Channel11_Dimm0", NULL } }, 2, true);
    check_channels(3, (const char *const[][2]){ { "A1", NULL }, { "A2", NULL }, { "B1", NULL } }, 3, false);
    check_channels(2, (const char *const[][2]){ { "PROC 1 DIMM 1", NULL }, { "PROC 1 DIMM 2", NULL } }, 2, false);
    check_channels(2, (const char *const[][2]){ { "DIMM", NULL }, { "DIMM", NULL } }, 2, false);
    check_channels(2, (const char *const[][2]){ { "CPU0_DIMM_A1", NULL }, { "what", NULL } }, 2, false);
}

static void test_fields(void **state)
{
    struct dmi_memory m;
    uint8_t *at;

    (void)state;
    add_array(0x1000, 3);
    add_array(0x2000, 5);
    at = add_dimm("DIMM_A1", NULL, 1 << 20, 0xffff, 0xffff);        /* 1 TiB, above 65535 MT/s */
    put(at + 0x54, 88000, 4);
    put(at + 0x58, 0x80000000 | 70000, 4);
    at = add_dimm("flash", NULL, 16, 0, 0);
    at[0x12] = 9;
    at = add_dimm("another array", NULL, 16, 0, 0);
    put(at + 4, 0x2000, 2);
    at = add_dimm("persistent", NULL, 4096, 2666, 2666);
    at[0x28] = 7;
    at = add_dimm("  DIMM\x01\xff_B1  ", NULL, 0x8000 | 512, 100, 0);
    put(at + 0xc, 0x8000 | 512, 2);
    put(at + 8, 0xffff, 2);
    at[0x11] = 9;
    assert_int_equal(dmi_parse(&m, table, n_bytes, NULL), 0);
    assert_int_equal(m.n_dimms, 2);
    assert_int_equal(m.n_slots, 4);
    assert_int_equal(m.dimms[0].bytes, UINT64_C(1) << 40);
    assert_int_equal(m.dimms[0].rated_mt_per_s, 88000);
    assert_int_equal(m.dimms[0].mt_per_s, 70000);
    assert_int_equal(m.dimms[1].bytes, 512 << 10);
    assert_int_equal(m.dimms[1].mt_per_s, 100);
    assert_int_equal(m.dimms[1].total_bits, 0);
    assert_string_equal(m.dimms[1].locator, "DIMM??_B1");
    assert_string_equal(m.dimms[1].bank, "");
    assert_true(dmi_bytes_per_s(&m) == 70100e6 * 8);
    dmi_free(&m);
}

/* Of SMBIOS 2.1: no speed, so no theory. And soldered memory, whose channels are narrow. */
static void test_old_and_soldered(void **state)
{
    struct dmi_memory m;
    uint8_t *at;

    (void)state;
    at = add(17, 0x15, 1, "DIMM0", "BANK0");
    put(at + 0xc, 512, 2);
    at[0x10] = 1;
    at[0x11] = 2;
    assert_int_equal(dmi_parse(&m, table, n_bytes, NULL), 0);
    assert_int_equal(m.n_dimms, 1);
    assert_int_equal(m.bytes, 512 << 20);
    assert_string_equal(m.dimms[0].bank, "BANK0");
    assert_true(dmi_bytes_per_s(&m) == 0);
    dmi_free(&m);
    empty_table(NULL);
    for (int i = 0; i < 8; i++) {
        at = add_dimm("Onboard", NULL, 4096, 7500, 7500);
        at[0x12] = DMI_TYPE_LPDDR5;
        put(at + 0xa, 16, 2);
    }
    assert_int_equal(dmi_parse(&m, table, n_bytes, NULL), 0);
    assert_true(dmi_bytes_per_s(&m) == 8 * 7500e6 * 2);
    dmi_free(&m);
}

static void test_hostile(void **state)
{
    struct dmi_memory m;
    const char *what = NULL;

    (void)state;
    assert_int_equal(dmi_parse(&m, table, 0, &what), 0);
    assert_int_equal(m.n_dimms, 0);
    assert_true(dmi_bytes_per_s(&m) == 0);
    dmi_free(&m);
    add_array(0x1000, 3);
    add_dimm("CPU0_DIMM_A1", "BANK", 1024, 3200, 3200);
    add_end();
    for (size_t n = 1; n + 2 < n_bytes; n++) {      /* every truncation, in memory of exactly that size */
        uint8_t *copy = malloc(n);
        assert_non_null(copy);
        memcpy(copy, table, n);
        const int err = dmi_parse(&m, copy, n, &what);
        assert_true(err == 0 || err == -EINVAL);
        assert_true(err == 0 || *what);
        dmi_free(&m);
        free(copy);
    }
    for (size_t i = 0; i < n_bytes; i++) {          /* every byte wrong in a few ways */
        for (int value = 0; value < 256; value += i < 64 ? 1 : 51) {
            const uint8_t before = table[i];
            table[i] = (uint8_t)value;
            dmi_parse(&m, table, n_bytes, &what);
            dmi_free(&m);
            table[i] = before;
        }
    }
    table[1] = 0;
    assert_int_equal(dmi_parse(&m, table, n_bytes, &what), -EINVAL);
    assert_non_null(strstr(what, "shorter"));
    assert_null(m.dimms);
    empty_table(NULL);
    for (int i = 0; i < DMI_MAX_DIMMS; i++)
        add_dimm("D", NULL, i % 2 ? 0 : 1024, 1, 1);
    assert_int_equal(dmi_parse(&m, table, n_bytes, &what), 0);
    assert_int_equal(m.n_dimms, DMI_MAX_DIMMS / 2);
    dmi_free(&m);
    add_dimm("D", NULL, 0, 1, 1);
    assert_int_equal(dmi_parse(&m, table, n_bytes, &what), -EINVAL);
    assert_non_null(strstr(what, "more memory devices"));
}

static void test_file(void **state)
{
    static char root[] = "/tmp/fourway-check-dmi-XXXXXX";
    char path[256], command[300];
    struct dmi_memory m;

    (void)state;
    assert_non_null(mkdtemp(root));
    assert_int_equal(dmi_read(&m, root, NULL), -ENOENT);
    assert_int_equal(dmi_read(&m, "/dev/null", NULL), -ENOENT);
    snprintf(command, sizeof(command), "mkdir -p '%s/sys/firmware/dmi/tables'", root);
    assert_int_equal(system(command), 0);
    snprintf(path, sizeof(path), "%s/sys/firmware/dmi/tables/DMI", root);
    add_array(0x1000, 3);
    add_dimm("CPU0_DIMM_A1", "BANK", 1024, 3200, 3200);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(table, 1, n_bytes, f), n_bytes);
    fclose(f);
    assert_int_equal(dmi_read(&m, root, NULL), 0);
    assert_int_equal(m.n_dimms, 1);
    assert_true(dmi_bytes_per_s(&m) == 25.6e9);
    dmi_free(&m);
    snprintf(command, sizeof(command), "rm -r '%s'", root);
    assert_int_equal(system(command), 0);
}

#define ON_EMPTY(test) cmocka_unit_test_setup(test, empty_table)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_EMPTY(test_two_sockets), ON_EMPTY(test_names),   ON_EMPTY(test_fields),
        ON_EMPTY(test_old_and_soldered), ON_EMPTY(test_hostile), ON_EMPTY(test_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
