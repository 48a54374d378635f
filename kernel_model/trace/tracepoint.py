"""Tracepoints: the lists of functions that the image's trace_*() call.

Mirrors kernel/tracepoint.c and, for BPF, bpf_get_raw_tracepoint() and bpf_probe_register() (kernel/trace/bpf_trace.c).
A list is made anew at each change; the old one is given back when no task can be walking it. Leaves out priorities,
writable contexts, tracepoints of modules and the check of how much context a program reads.
"""

from __future__ import annotations

import struct
from typing import Any

_PREFIX = "__tracepoint_"


class Tracepoints:
    """All tracepoints of the kernel's image, by name."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self._points: dict[str, int] = {
            name.removeprefix(_PREFIX): address
            for name, address in host.image.addresses.items() if name.startswith(_PREFIX)
        }
        self._links: dict[str, list[int]] = {}  # struct bpf_raw_tp_link, in the order of registration
        self._retired: list[int] = []

    def find(self, name: str) -> bool:
        """bpf_get_raw_tracepoint(): whether there is one."""
        return name in self._points

    def register(self, name: str, prog: int) -> int:
        """bpf_probe_register() for struct bpf_prog at `prog`: the address of the struct bpf_raw_tp_link made for it."""
        link = int(self._host.objects.new("bpf_raw_tp_link", prog=prog))
        self._links.setdefault(name, []).append(link)
        self._publish(name)
        return link

    def unregister(self, name: str, link: int) -> None:
        """bpf_probe_unregister()."""
        self._links[name].remove(link)
        self._publish(name)
        self._retired.append(link)
        self._reclaim()

    def _publish(self, name: str) -> None:
        host, links = self._host, self._links[name]
        view = host.types.view("tracepoint", self._points[name])
        old, new, probe = int(view.funcs), 0, int(view.probestub)
        if links:
            new = host.slab.kzalloc(16 * (len(links) + 1), f"functions of tracepoint {name}")
            host.space.write(new, b"".join(struct.pack("<2Q", probe, link) for link in links))
        view.funcs = new
        if old:
            self._retired.append(old)
        self._reclaim()

    def _reclaim(self) -> None:
        """Give back what tasks may have been walking, once there are none."""
        if not self._host.processes.sched.run_list:
            for old in self._retired:
                self._host.slab.kfree(old)
            self._retired.clear()
