/*
 * fuzz_machine.c - libFuzzer target: the input is a machine file. What is read can be planned with, and is the same when written and read again.
 */
#include <math.h>
#include <string.h>

#include "server/machine_file.h"
#include "tests/fuzz/fuzz_lines.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct machine m, again;
    struct buf text = { 0 };

    log_set_sink(count_line, "machine.json");
    n_lines = 0;
    if (machine_parse(&m, "machine.json", (const char *)data, size)) {
        require(n_lines == 1, "a refusal says exactly one thing");
        return 0;
    }
    require(m.n_core_nodes >= 1 && m.n_core_nodes <= m.n_nodes && m.n_nodes <= MACHINE_MAX_NODES && m.n_levels >= 1, "wrong counts");
    for (size_t v = 0; v < m.n_core_nodes; v++) {
        require(m.nodes[v].n_cores && m.nodes[v].read_bytes_per_s > 0, "a node of cores without cores or rate");
        for (size_t i = 0; i < m.n_nodes; i++)
            require(m.link_bytes_per_s[v][i] > 0 && isfinite(m.link_bytes_per_s[v][i]) && m.latency_ns[v][i] > 0, "a link without a rate");
    }
    machine_write(&text, &m);
    require(!text.failed && !machine_parse(&again, "again", text.data, text.len), "what was written cannot be read");
    require(again.n_nodes == m.n_nodes && again.n_levels == m.n_levels, "another machine came back");
    buf_free(&text);
    return 0;
}
