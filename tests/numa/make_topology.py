#!/usr/bin/env python3
"""Writes what the kernel says of a machine we do not have: the files of sysfs and proc that fourway reads, below a folder.

  make_topology.py NAME FOLDER     FOLDER/sys/..., FOLDER/proc/... of one of the machines below; FOLDER may exist
  make_topology.py --list          their names

The names, units and layouts are the kernel's (Documentation/ABI/stable/sysfs-devices-node, cputopology.rst, cgroup-v2.rst; checked
against Linux 6.18); the numbers follow real machines of each kind. Trees are made when a test needs one: the largest has 28,000 files.
`fourway doctor --help` says how to record a real machine in the same form.
"""
import os
import sys

GIB = 1 << 20       # in the kB of meminfo
NODE, CPU = "sys/devices/system/node", "sys/devices/system/cpu"


def id_list(ids):
    """0-3,8: the kernel's %*pbl."""
    runs = []
    for i in sorted(ids):
        if runs and runs[-1][1] == i - 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def id_mask(ids, n_bits):
    """00ff or 1,ffffffff: the kernel's %*pb, words of 32 bits, the first as wide as the bits that are left."""
    mask = sum(1 << i for i in ids)
    words = [f"{mask >> 32 * i & 0xffffffff:08x}" for i in range((n_bits + 31) // 32)]
    words[-1] = words[-1][8 - (n_bits % 32 + 3) // 4 if n_bits % 32 else 0:]
    return ",".join(reversed(words))


class Machine:
    """
    sockets   for each socket the cores of its nodes: [[43, 43, 42], [43, 43, 42]]. Node ids count up, or are those of `ids`.
    smt       threads a core. Second threads are numbered after all first ones, as Linux does on servers.
    memory    GiB for each node, one number for all; extra_memory: nodes without CPUs that follow
    slit      distances: same socket, other socket, to memory without CPUs; or a whole matrix
    l3        [MiB, cores that share it] (None: all of a socket)
    allowed   CPUs and memory nodes that the process may use, by cpuset or taskset
    files     whatever else there is, or other contents of a file below
    """

    def __init__(self, model, sockets, smt=1, memory=256, extra_memory=(), slit=(12, 21, 14), l2=2048, l3=(105, None), ids=None, offline=(),
                 allowed=None, allowed_memory=None, virtual_numa=True, old_kernel=False, flags="", files=None):
        self.model, self.smt, self.numa, self.old_kernel, self.flags = model, smt, virtual_numa, old_kernel, flags
        cpu_nodes = [(package, cores) for package, nodes in enumerate(sockets) for cores in nodes]
        self.ids = list(ids or range(len(cpu_nodes) + len(extra_memory)))
        self.package = [package for package, _ in cpu_nodes] + [None] * len(extra_memory)
        self.core_node = [i for i, (_, cores) in enumerate(cpu_nodes) for _ in range(cores)]
        self.n_cores = len(self.core_node)
        self.online = [c for c in range(self.n_cores * smt) if c not in set(offline)]
        each = memory if isinstance(memory, (list, tuple)) else [memory] * len(cpu_nodes)
        self.memory = [gib * GIB for gib in list(each) + list(extra_memory)]
        self.slit, self.l2, self.l3 = slit, l2, l3
        self.allowed = self.online if allowed is None else allowed
        with_memory = [self.ids[i] for i, kib in enumerate(self.memory) if kib]
        self.allowed_memory = with_memory if allowed_memory is None else allowed_memory
        self.files = files or {}

    def node_of(self, cpu):
        return self.core_node[cpu % self.n_cores]

    def distance(self, i, j):
        if isinstance(self.slit[0], list):
            return self.slit[i][j]
        same, other, far = self.slit
        if i == j:
            return 10
        if self.package[i] is None or self.package[j] is None:
            return far if (i + j) % 2 == 0 else far + 10
        return same if self.package[i] == self.package[j] else other

    def nodes_tree(self):
        yield f"{NODE}/online", id_list(self.ids)
        yield f"{NODE}/possible", id_list(self.ids)
        yield f"{NODE}/has_cpu", id_list(self.ids[self.node_of(c)] for c in self.online)
        yield f"{NODE}/has_memory", id_list(self.ids[i] for i, kib in enumerate(self.memory) if kib)
        for i, node in enumerate(self.ids):
            at, mine = f"{NODE}/node{node}", [c for c in self.online if self.node_of(c) == i]
            yield f"{at}/cpulist", id_list(mine)
            yield f"{at}/cpumap", id_mask(mine, self.n_cores * self.smt)
            yield f"{at}/distance", " ".join(str(self.distance(i, j)) for j in range(len(self.ids)))
            total = self.memory[i]
            free, cache = total // 2, total // 4        # a quarter is used for good
            rows = [("MemTotal", total), ("MemFree", free), ("MemUsed", total - free), ("Active", cache // 2), ("Inactive", cache // 2),
                    ("Active(anon)", 0), ("Inactive(anon)", 0), ("Active(file)", cache // 2), ("Inactive(file)", cache - cache // 2),
                    ("AnonPages", 0), ("SReclaimable", 0), ("AnonHugePages", 0)]
            yield f"{at}/meminfo", "\n".join([f"Node {node} {key + ':':<15}{value:>8} kB" for key, value in rows] +
                                             [f"Node {node} HugePages_Total:     0", f"Node {node} HugePages_Free:      0"])
            yield f"{at}/numastat", "\n".join(f"{key} {10000 * (node + 1)}" for key in (
                "numa_hit", "numa_miss", "numa_foreign", "interleave_hit", "local_node", "other_node"))
            for size in ("2048kB", "1048576kB"):
                for name in ("nr", "free", "surplus"):
                    yield f"{at}/hugepages/hugepages-{size}/{name}_hugepages", "0"

    def cpu_tree(self, cpu):
        at, core, node = f"{CPU}/cpu{cpu}", cpu % self.n_cores, self.node_of(cpu)
        package = self.package[node]
        in_package = [c for c in self.online if self.package[self.node_of(c)] == package]
        threads = [c for c in range(core, self.n_cores * self.smt, self.n_cores) if c in self.online_set]
        first = min(c for c, i in enumerate(self.core_node) if self.package[i] == package)
        yield f"{at}/topology/thread_siblings_list", id_list(threads)
        if self.old_kernel:
            yield f"{at}/topology/core_siblings_list", id_list(in_package)
        else:
            yield f"{at}/topology/core_cpus_list", id_list(threads)
            yield f"{at}/topology/package_cpus_list", id_list(in_package)
            yield f"{at}/topology/die_id", "0"
        yield f"{at}/topology/physical_package_id", str(package)
        yield f"{at}/topology/core_id", str(core - first)
        mib, sharing = self.l3
        sharing = sharing or self.n_cores
        group = [c for c in in_package if (c % self.n_cores - first) // sharing == (core - first) // sharing]
        caches = ((1, "Data", 48, threads), (1, "Instruction", 32, threads), (2, "Unified", self.l2, threads),
                  (3, "Unified", mib * 1024, group))
        for index, (level, kind, kib, sharers) in enumerate(caches):
            cache = f"{at}/cache/index{index}"
            yield f"{cache}/level", str(level)
            yield f"{cache}/type", kind
            yield f"{cache}/size", f"{kib}K"
            yield f"{cache}/id", str(min(sharers))
            yield f"{cache}/shared_cpu_list", id_list(sharers)
        for name, text in (("scaling_governor", "performance"), ("scaling_driver", "intel_pstate"), ("cpuinfo_min_freq", "800000"),
                           ("cpuinfo_max_freq", "3800000")):
            yield f"{at}/cpufreq/{name}", text

    def kernel_tree(self):
        total = sum(self.memory)
        yield "proc/meminfo", (f"MemTotal:       {total:>8} kB\nMemFree:        {total // 2:>8} kB\n"
                               f"MemAvailable:   {total // 4 * 3:>8} kB\n"
                               f"CommitLimit:    {total // 2:>8} kB\nCommitted_AS:   {total // 100:>8} kB\n"
                               "HugePages_Total:       0\nHugePages_Free:        0\nHugepagesize:       2048 kB")
        vendor = "AuthenticAMD" if "AMD" in self.model else "GenuineIntel"
        yield "proc/cpuinfo", "\n\n".join(f"processor\t: {cpu}\nvendor_id\t: {vendor}\nmodel name\t: {self.model}\n"
                                          f"flags\t\t: fpu sse2 {self.flags}".rstrip() for cpu in self.online) + "\n"
        yield "proc/loadavg", "0.05 0.10 0.12 1/1200 4711"
        n_bits = self.n_cores * self.smt
        yield "proc/self/status", (f"Name:\tfourway\nState:\tR (running)\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"
                                   f"Cpus_allowed:\t{id_mask(self.allowed, n_bits)}\nCpus_allowed_list:\t{id_list(self.allowed)}\n"
                                   f"Mems_allowed:\t{id_mask(self.allowed_memory, 1024)}\n"
                                   f"Mems_allowed_list:\t{id_list(self.allowed_memory)}\nvoluntary_ctxt_switches:\t1")
        yield "proc/self/cgroup", "0::/"
        yield "proc/sys/kernel/numa_balancing", "0"
        yield "proc/sys/vm/zone_reclaim_mode", "0"
        yield "proc/sys/vm/overcommit_memory", "0"
        yield "proc/sys/vm/overcommit_ratio", "50"
        yield "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0"
        yield "sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never"
        yield "sys/kernel/mm/transparent_hugepage/defrag", "always defer defer+madvise [madvise] never"
        yield f"{CPU}/smt/control", "on" if self.smt > 1 else "notsupported"
        yield f"{CPU}/smt/active", str(int(self.smt > 1))

    def tree(self):
        self.online_set = set(self.online)
        yield f"{CPU}/online", id_list(self.online)
        yield f"{CPU}/possible", id_list(range(self.n_cores * self.smt))
        yield f"{CPU}/present", id_list(range(self.n_cores * self.smt))
        if self.numa:
            yield from self.nodes_tree()
        for cpu in self.online:
            yield from self.cpu_tree(cpu)
        yield from self.kernel_tree()


XEON = "avx avx2 fma f16c avx512f avx512bw avx512dq avx512vl avx512_vnni avx512_bf16 amx_tile amx_int8 amx_bf16"
ZEN4 = "avx avx2 fma f16c avx512f avx512bw avx512dq avx512vl avx512_vnni avx512_bf16"
ZEN3 = "avx avx2 fma f16c"

MACHINES = {
    # the kinds of server that fourway is for, whole
    "desktop": Machine("AMD Ryzen 7 5800X 8-Core Processor", [[8]], smt=2, memory=64, l2=512, l3=(32, 8), flags=ZEN3),
    "xeon-2s-snc2": Machine("Intel(R) Xeon(R) Platinum 8480+", [[28, 28], [28, 28]], smt=2, memory=128, flags=XEON),
    "epyc-2s-nps4": Machine("AMD EPYC 9554 64-Core Processor", [[16] * 4] * 2, smt=2, memory=96, slit=(12, 32, 0), l2=1024, l3=(32, 8),
                            flags=ZEN4),
    "xeon-4s": Machine("Intel(R) Xeon(R) Platinum 8490H", [[56]] * 4, smt=2, memory=1024, flags=XEON),
    "xeon-8s": Machine("Intel(R) Xeon(R) Platinum 8490H", [[60]] * 8, smt=2, memory=1024, l3=(112, None), flags=XEON),
    "granite-2s-snc3": Machine("Intel(R) Xeon(R) 6980P", [[43, 43, 42]] * 2, smt=2, memory=128, l3=(504, None), flags=XEON),
    "cxl": Machine("Intel(R) Xeon(R) 6787P", [[8], [8]], smt=2, memory=256, extra_memory=[128, 512], flags=XEON),
    # a machine whose process has one core of it, in a container with a limit of memory and none of time
    "container": Machine("AMD EPYC 9554 64-Core Processor", [[16] * 4] * 2, smt=2, memory=96, slit=(12, 32, 0), l2=1024, l3=(32, 8),
                         flags=ZEN4, allowed=[37, 165], allowed_memory=[2], files={
        "sys/fs/cgroup/memory.max": "17179869184", "sys/fs/cgroup/memory.current": "1073741824", "sys/fs/cgroup/cpu.max": "max 100000",
        "proc/sys/kernel/numa_balancing": "1"}),
    # small ones, each for one property
    "two-sockets": Machine("Intel(R) Xeon(R) Bronze", [[4], [4]], smt=2, memory=64),
    "four-sockets": Machine("Intel(R) Xeon(R) Gold", [[8]] * 4, smt=2, memory=64),
    "clusters": Machine("Intel(R) Xeon(R) Gold", [[4, 4], [4, 4]], memory=64),
    "old-kernel": Machine("Intel(R) Xeon(R) CPU E5", [[2], [2]], smt=2, memory=64, old_kernel=True),
    "no-memory": Machine("Intel(R) Xeon(R) Gold", [[2, 2], [2]], memory=[64, 0, 32]),
    "no-numa": Machine("Intel(R) Core(TM) i5", [[4]], memory=64, virtual_numa=False),
    # nodes 0, 4, 8; 11 is the second thread of 1, 15 of 5
    "gaps": Machine("Intel(R) Xeon(R) Gold", [[4], [4], [2]], smt=2, memory=64, ids=[0, 4, 8], offline=[1, 5, 14]),
    "twenty-nodes": Machine("Intel(R) Xeon(R) Gold", [[2]] * 20, memory=64, ids=[3 * n for n in range(20)]),
    "seventy-nodes": Machine("Intel(R) Xeon(R) Gold", [[1]] * 70, memory=64),
    # one node over two sockets: interleaved by the firmware
    "interleaved": Machine("Intel(R) Xeon(R) Gold", [[8]], memory=128,
                           files={f"{CPU}/cpu{cpu}/topology/physical_package_id": "1" for cpu in range(4, 8)}),
}


def write(name, folder):
    """Files of the same text are hard links: 28,000 files would take 110 MB otherwise. So replace, never rewrite, one."""
    machine, first, folders = MACHINES[name], {}, set()
    files = dict(machine.tree())
    files.update(machine.files)
    for path, text in files.items():
        path = os.path.join(folder, path)
        if os.path.dirname(path) not in folders:
            folders.add(os.path.dirname(path))
            os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.lexists(path):
            os.remove(path)
        if text in first and os.stat(first[text]).st_nlink < 30000:     # ext4 has 65,000 at most
            os.link(first[text], path)
            continue
        first[text] = path
        with open(path, "w", encoding="ascii") as f:
            f.write(text + "\n")


def main():
    if sys.argv[1:] == ["--list"]:
        print("\n".join(MACHINES))
    elif len(sys.argv) == 3 and sys.argv[1] in MACHINES:
        write(*sys.argv[1:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
