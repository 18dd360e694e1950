/*
 * fuzz_dmi.c - libFuzzer target: the input is a firmware's SMBIOS table. Whatever is understood has to hang together.
 */
#include <string.h>

#include "numa/dmi.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dmi_memory m;
    const char *what = NULL;
    uint64_t bytes = 0;
    const int err = dmi_parse(&m, data, size, &what);

    require(!err || (what && !m.dimms && !m.n_dimms), "a refusal says what is wrong, and leaves nothing");
    require(m.n_dimms <= m.n_slots && m.n_channels <= m.n_dimms, "more DIMMs than slots, or channels than DIMMs");
    for (size_t i = 0; i < m.n_dimms; i++) {
        require(m.dimms[i].channel < m.n_channels, "a DIMM of no channel");
        require(strlen(m.dimms[i].locator) < DMI_NAME_BYTES && strlen(m.dimms[i].bank) < DMI_NAME_BYTES, "a name without an end");
        bytes += m.dimms[i].bytes;
    }
    require(bytes == m.bytes, "the sizes do not add up");
    require((dmi_bytes_per_s(&m) > 0) == (m.n_dimms > 0 && m.mt_per_s > 0), "a rate without speeds");
    dmi_free(&m);
    return 0;
}
