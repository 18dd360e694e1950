/*
 * doctor_dimms.c - memory modules: are all channels filled alike, do they run as fast as they can, and do reads come near their rate.
 */
#include <errno.h>
#include <string.h>

#include "numa/dmi.h"
#include "server/doctor.h"

/*
 * Addresses are interleaved over the channels as far as all of them have memory; what one has more than the smallest is read from fewer
 * of them. Taken as half as fast (chosen: two of four channels, or four of eight).
 */
static double uneven_percent(const struct dmi_memory *m)
{
    uint64_t least = UINT64_MAX, channel[DMI_MAX_DIMMS] = { 0 };

    for (size_t i = 0; i < m->n_dimms; i++)
        channel[m->dimms[i].channel] += m->dimms[i].bytes;
    for (size_t i = 0; i < m->n_channels; i++)
        least = channel[i] < least ? channel[i] : least;
    return m->bytes ? 50 * (1 - (double)least * (double)m->n_channels / (double)m->bytes) : 0;
}

static uint32_t slowest_rating(const struct dmi_memory *m)
{
    uint32_t rated = UINT32_MAX;

    for (size_t i = 0; i < m->n_dimms; i++)
        rated = m->dimms[i].rated_mt_per_s && m->dimms[i].rated_mt_per_s < rated ? m->dimms[i].rated_mt_per_s : rated;
    return rated == UINT32_MAX ? 0 : rated;
}

static void judge_modules(struct doctor *d, const struct dmi_memory *m)
{
    const uint32_t rated = slowest_rating(m);
    const double uneven = uneven_percent(m), slow = rated > m->mt_per_s && m->mt_per_s ? 100 * (1 - (double)m->mt_per_s / rated) : 0;
    const char *type = dmi_type_name(m->dimms[0].type);

    if (uneven >= 1)
        finding_fix(findings_add(&d->findings, "memory modules", uneven, "%zu x %s, but their %zu channels hold unequal amounts",
                                 m->n_dimms, type, m->n_channels),
                    "dmidecode -t memory    shows them: the same modules on every channel of every socket");
    else
        findings_add(&d->findings, "memory modules", 0, "%zu x %s on %zu channels%s, %zu slots", m->n_dimms, type, m->n_channels,
                     m->channels_named ? "" : " (one a module: the names do not tell)", m->n_slots);
    if (slow > 0)
        finding_fix(findings_add(&d->findings, "memory speed", slow, "%u MT/s, the slowest module could do %u", m->mt_per_s, rated),
                    "in the firmware's setup: memory frequency; two modules a channel often run slower than one");
}

/*
 * Published pure reads are 81 to 100 % of what the modules could do on paper; below 70 % something is wrong. Only where all cores read, and
 * the table is the machine's own.
 */
static void judge_rate(struct doctor *d, double theory)
{
    enum { USUAL = 81, POOR = 70 };
    const double percent = 100 * d->reads.local / theory;
    const bool is_whole = !d->settings.is_guest && topology_count_cores(&d->topology) == d->topology.n_online_cores;

    if (d->reads.local <= 0 || theory <= 0 || !is_whole)
        return;
    if (percent >= POOR)
        findings_add(&d->findings, "memory rate", 0, "reads are %.0f %% of %.0f GB/s on paper", percent, theory / 1e9);
    else
        finding_fix(findings_add(&d->findings, "memory rate", 100 * (1 - percent / USUAL), "reads are %.0f %% of %.0f GB/s on paper",
                                 percent, theory / 1e9),
                    "fourway membw    on a quiet machine; then the findings above, and the firmware's snoop mode");
}

void doctor_judge_dimms(struct doctor *d)
{
    struct dmi_memory m = { 0 };
    const char *what = "";
    const int err = dmi_read(&m, d->root, &what);

    if (!err && m.n_dimms) {
        judge_modules(d, &m);
        judge_rate(d, dmi_bytes_per_s(&m));
    } else if (err == -EACCES) {
        finding_fix(findings_add(&d->findings, "memory modules", 0, "only root may read the firmware's table"), "sudo fourway doctor");
    } else {
        findings_add(&d->findings, "memory modules", 0, "not told: %s", err == -ENOENT ? "no table of the firmware here"
                                                                       : err == -EINVAL ? what
                                                                       : err            ? strerror(-err)
                                                                                        : "the firmware lists none");
    }
    dmi_free(&m);
}
