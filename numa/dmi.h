/*
 * dmi.h - the memory modules that the firmware describes: SMBIOS structures 16 (arrays) and 17 (devices), DSP0134 3.7.
 *
 * What it is for: the rate that memory could have on paper (membw, bench), and slots that are filled unevenly (doctor). The table is the
 * firmware's claim, often of a hypervisor, and is read as hostile input: every length is compared with what is left. SMBIOS
 * names slots, not channels; the names of slots usually tell which share one (see `channels_named`).
 */
#ifndef FOURWAY_NUMA_DMI_H
#define FOURWAY_NUMA_DMI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DMI_MAX_DIMMS = 1024 /* slots, filled or not */, DMI_NAME_BYTES = 48 };

enum dmi_memory_type { DMI_TYPE_DDR3 = 0x18, DMI_TYPE_DDR4 = 0x1a, DMI_TYPE_LPDDR4 = 0x1e, DMI_TYPE_HBM2 = 0x21, DMI_TYPE_DDR5 = 0x22,
                       DMI_TYPE_LPDDR5 = 0x23, DMI_TYPE_HBM3 = 0x24 };      /* the ones met on servers; others come as they are */

struct dmi_dimm {                       /* one filled slot */
    char locator[DMI_NAME_BYTES];       /* "CPU0_DIMM_A1": printable ASCII, "" when not said */
    char bank[DMI_NAME_BYTES];          /* "P0 CHANNEL A" */
    uint64_t bytes;                     /* 0: filled, size not said */
    uint32_t mt_per_s;                  /* as configured, else as rated; 0: not said */
    uint32_t rated_mt_per_s;            /* what the module could; 0: not said */
    uint16_t data_bits, total_bits;     /* total has the bits for ECC; 0: not said */
    uint8_t type;                       /* enum dmi_memory_type */
    size_t channel;                     /* 0 .. n_channels - 1 */
};

struct dmi_memory {
    size_t n_slots;                     /* of system memory, filled or not */
    size_t n_dimms;                     /* filled */
    size_t n_channels;                  /* with at least one DIMM */
    bool channels_named;                /* false: names do not tell; each DIMM is taken for a channel of its own */
    uint32_t mt_per_s;                  /* of the slowest DIMM; 0 when one does not say */
    uint64_t bytes;
    struct dmi_dimm *dimms;             /* n_dimms, owned */
};

/*
 * Understand a table of `n` bytes, which need not live on. Returns 0 (n_dimms may be 0: a virtual machine), -ENOMEM, or -EINVAL with
 * *what set to a text that says what is wrong (static; `what` may be NULL). dmi_free afterwards, always. Nothing is logged.
 */
int dmi_parse(struct dmi_memory *m, const uint8_t *table, size_t n, const char **what);

/*
 * The same from <root>/sys/firmware/dmi/tables/DMI. Also -ENOENT (no firmware table: virtual machines, containers), -EACCES (only root may
 * read it), or the errno of reading it.
 */
int dmi_read(struct dmi_memory *m, const char *root, const char **what);
void dmi_free(struct dmi_memory *m);        /* fine on a zeroed one */

/* Bytes per second on paper: over all channels, transfers per second of its slowest DIMM times bytes a transfer (8 but for soldered
 * memory). 0 when there is no DIMM, or one does not say its speed. */
double dmi_bytes_per_s(const struct dmi_memory *m);

const char *dmi_type_name(uint8_t type);    /* "DDR5"; "memory" for one not in enum dmi_memory_type */

#endif
