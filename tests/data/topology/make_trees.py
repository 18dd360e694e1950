#!/usr/bin/env python3
"""Writes the *.tree files beside it: what sysfs says on machines we do not have, for tests/numa/check_topology.

A tree is the output of `grep -r '' FILE...` run in /: one line "path:text" for each line of each file, so one from a
real machine can be added as it comes:
  cd / && grep -r '' sys/devices/system/node/{online,has_memory} sys/devices/system/node/node*/{cpulist,distance,meminfo} \\
      sys/devices/system/cpu/online sys/devices/system/cpu/cpu[0-9]*/topology/core_cpus_list
The numbers here are made up, in the kernel's format. Usage: make_trees.py
"""
import pathlib

NODE, CPU = "sys/devices/system/node", "sys/devices/system/cpu"
GIB = 1 << 20  # in the kB of meminfo


def id_list(ids):
    runs = []
    for i in sorted(ids):
        if runs and runs[-1][1] == i - 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def meminfo(node, total, free):
    cache = max(0, total - free) // 2
    rows = {"MemTotal": total, "MemFree": free, "MemUsed": total - free, "Active(anon)": 0, "Inactive(anon)": 1024,
            "Active(file)": cache // 2, "Inactive(file)": cache - cache // 2, "SReclaimable": 0}
    return [f"Node {node} {key + ':':<16}{value:>8} kB" for key, value in rows.items()]


def tree(name, nodes, smt=1, distance=None, online=None, siblings="core_cpus_list", memory=None, numa=True):
    """nodes: {id: number of cores}. Second threads are numbered after all first ones, as on Intel's servers."""
    lines = []
    n_cores = sum(nodes.values())
    core_node = [node for node, cores in nodes.items() for _ in range(cores)]
    cpus = range(n_cores * smt)
    online = set(cpus if online is None else online)
    memory = memory or {node: 64 * GIB for node in nodes}
    if numa:
        lines.append(f"{NODE}/online:{id_list(nodes)}")
        lines.append(f"{NODE}/has_memory:{id_list(n for n in nodes if memory[n])}")
        for i, node in enumerate(nodes):
            mine = [c for c in online if core_node[c % n_cores] == node]
            row = [10 if i == j else (distance[i][j] if distance else 21) for j in range(len(nodes))]
            lines.append(f"{NODE}/node{node}/cpulist:{id_list(mine)}")
            lines.append(f"{NODE}/node{node}/distance:{' '.join(map(str, row))}")
            lines += [f"{NODE}/node{node}/meminfo:{text}" for text in meminfo(node, memory[node], memory[node] // 2)]
    lines.append(f"{CPU}/online:{id_list(online)}")
    for cpu in sorted(online):
        mates = [c for c in online if c % n_cores == cpu % n_cores]
        lines.append(f"{CPU}/cpu{cpu}/topology/{siblings}:{id_list(mates)}")
    total = sum(memory.values())
    lines += [f"proc/meminfo:MemTotal:       {total} kB", f"proc/meminfo:MemFree:        {total // 2} kB",
              f"proc/meminfo:MemAvailable:   {total // 4 * 3} kB"]
    (pathlib.Path(__file__).parent / f"{name}.tree").write_text("\n".join(lines) + "\n")


def main():
    snc = [[10, 12, 21, 21], [12, 10, 21, 21], [21, 21, 10, 12], [21, 21, 12, 10]]
    tree("one-socket", {0: 4})
    tree("two-socket-smt", {0: 4, 1: 4}, smt=2)
    tree("two-socket-old-kernel", {0: 2, 1: 2}, smt=2, siblings="thread_siblings_list")
    tree("four-socket", {n: 8 for n in range(4)}, smt=2)
    tree("two-socket-snc2", {n: 4 for n in range(4)}, distance=snc)
    tree("cxl-memory", {0: 2, 1: 2, 2: 0}, distance=[[10, 21, 14], [21, 10, 24], [14, 24, 10]])
    tree("node-without-memory", {0: 2, 1: 2, 2: 2}, memory={0: 64 * GIB, 1: 0, 2: 32 * GIB})
    tree("unequal-cores", {0: 43, 1: 43, 2: 42})
    tree("gaps-and-offline", {0: 4, 4: 4, 8: 2}, smt=2, online=set(range(20)) - {1, 5, 14})
    tree("twenty-nodes", {3 * n: 2 for n in range(20)})
    tree("seventy-nodes", {n: 1 for n in range(70)})
    tree("no-numa", {0: 4}, numa=False)


main()
