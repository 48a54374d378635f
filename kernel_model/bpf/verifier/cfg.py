"""Control flow: functions, reachability, the marks where states are kept, postorder, loops.

Mirrors add_subprog_and_kfunc(), check_subprogs(), check_cfg(), compute_postorder(), compute_scc()
(kernel/bpf/verifier.c, 6.18). Left out: exception callbacks, indirect jumps, fastcall patterns.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from arch import bpf_isa as isa
from arch.bpf_isa import Insn
from kernel_model.bpf.verifier import kinds
from kernel_model.bpf.verifier.result import Subprog

if TYPE_CHECKING:
    from kernel_model.bpf.verifier.env import Env

MAX_SUBPROGS = 256
_DISCOVERED, _EXPLORED, _FALLTHROUGH, _BRANCH = 0x10, 0x20, 1, 2


def add_subprogs(env: Env) -> None:
    """Find the functions (call and callback targets) and name them by the program's BTF."""
    starts = {0}
    for i, insn in enumerate(env.insns):
        if kinds.is_pseudo_call(insn) or kinds.is_pseudo_func(insn):
            target = i + insn.imm + 1
            if not 0 <= target < len(env.insns):
                env.inval("call to invalid destination")
            starts.add(target)
    if len(starts) > MAX_SUBPROGS:
        env.fail(errno.E2BIG, "too many subprograms")
    ordered = sorted(starts)
    ends = [*ordered[1:], len(env.insns)]
    env.subprogs = [Subprog(start=s, end=e) for s, e in zip(ordered, ends, strict=True)]
    if env.log2:
        for i, sub in enumerate(env.subprogs):
            env.verbose(f"func#{i} @{sub.start}\n")


def check_subprogs(env: Env) -> None:
    """check_subprogs(): jumps stay inside their function; each function ends in exit or a jump."""
    for sub in env.subprogs:
        for i in range(sub.start, sub.end):
            insn = env.insns[i]
            if kinds.is_helper_call(insn) and insn.imm == kinds.FUNC_TAIL_CALL:
                sub.has_tail_call = True
                sub.tail_call_reachable = True
            if insn.cls in (isa.BPF_JMP, isa.BPF_JMP32) and insn.op not in (isa.BPF_EXIT, isa.BPF_CALL):
                target = i + kinds.jump_offset(insn) + 1
                if not sub.start <= target < sub.end:
                    env.inval(f"jump out of range from insn {i} to {target}")
            if i == sub.end - 1:
                ends = (isa.BPF_JMP | isa.BPF_EXIT, isa.BPF_JMP32 | isa.BPF_JA, isa.BPF_JMP | isa.BPF_JA)
                last_ok = insn.code in ends
                if not last_ok:
                    env.inval("last insn is not an exit or jmp")


def successors(insns: list[Insn], idx: int) -> list[int]:
    """bpf_insn_successors(): fall-through first."""
    insn = insns[idx]
    cls, op = insn.cls, insn.op
    jumps = cls in (isa.BPF_JMP, isa.BPF_JMP32)
    if jumps and op == isa.BPF_EXIT:
        return []
    if jumps and op == isa.BPF_JA:
        return [idx + kinds.jump_offset(insn) + 1]
    follow = idx + (2 if insn.is_ld_imm64 else 1)
    if jumps and op != isa.BPF_CALL:
        return [follow, idx + insn.off + 1]
    return [follow]


class _Walk:
    """Depth-first search of check_cfg()."""

    def __init__(self, env: Env) -> None:
        self.env = env
        self.state = [0] * len(env.insns)
        self.stack = [0]

    def push(self, t: int, w: int, edge: int) -> bool:
        """push_insn(): follow an edge; True where there is something new to explore first."""
        env, state = self.env, self.state
        if state[t] >= (_DISCOVERED | edge):
            return False
        if not 0 <= w < len(env.insns):
            env.verbose_line(t, f"{t}: ")
            env.inval(f"jump out of range from insn {t} to {w}")
        if edge == _BRANCH:
            env.aux[w].prune_point = True
            env.aux[w].jmp_point = True
        if state[w] == 0:
            state[t] = _DISCOVERED | edge
            state[w] = _DISCOVERED
            self.stack.append(w)
            return True
        if state[w] == _EXPLORED:
            state[t] = _DISCOVERED | edge
        return False

    def visit(self, t: int) -> bool:
        """visit_insn(): True while there is something below `t` to explore."""
        env = self.env
        insn = env.insns[t]
        if kinds.is_pseudo_func(insn):
            return self.visit_call(t, True)
        if insn.cls not in (isa.BPF_JMP, isa.BPF_JMP32):
            return self.push(t, t + (2 if insn.is_ld_imm64 else 1), _FALLTHROUGH)
        if insn.op == isa.BPF_EXIT:
            return False
        if insn.op == isa.BPF_CALL:
            self.mark_call(t, insn)
            return self.visit_call(t, insn.src == isa.BPF_PSEUDO_CALL)
        if insn.op == isa.BPF_JA:
            if insn.is_reg:
                env.inval("BPF_JA uses reserved fields")
            target = t + kinds.jump_offset(insn) + 1
            if self.push(t, target, _FALLTHROUGH):
                return True
            env.aux[target].prune_point = True
            env.aux[target].jmp_point = True
            return False
        env.aux[t].prune_point = True
        if kinds.is_may_goto(insn):
            env.aux[t].force_checkpoint = True
        return self.push(t, t + 1, _FALLTHROUGH) or self.push(t, t + insn.off + 1, _BRANCH)

    def visit_call(self, t: int, into_callee: bool) -> bool:
        env = self.env
        insn = env.insns[t]
        follow = t + (2 if insn.is_ld_imm64 else 1)
        if self.push(t, follow, _FALLTHROUGH):
            return True
        env.aux[follow].prune_point = True
        env.aux[follow].jmp_point = True
        if not into_callee:
            return False
        target = t + insn.imm + 1
        env.aux[t].prune_point = True
        caller, callee = env.subprog_at(t), env.subprog_at(target)
        caller.might_sleep |= callee.might_sleep
        caller.changes_pkt_data |= callee.changes_pkt_data
        return self.push(t, target, _BRANCH)

    def mark_call(self, t: int, insn: Insn) -> None:
        env, aux = self.env, self.env.aux[t]
        traits = kinds.call_traits(env, insn)
        if traits.async_callback:
            aux.prune_point = True
        if traits.sync_callback:
            aux.calls_callback = aux.force_checkpoint = aux.prune_point = aux.jmp_point = True
        if traits.iter_next:
            aux.is_iter_next = aux.prune_point = aux.force_checkpoint = True
        sub = env.subprog_at(t)
        sub.might_sleep |= traits.might_sleep
        sub.changes_pkt_data |= traits.changes_pkt_data


def check_cfg(env: Env) -> None:
    """check_cfg(): every instruction is reachable; marks prune and jump points."""
    walk = _Walk(env)
    walk.state[0] = _DISCOVERED
    while walk.stack:
        t = walk.stack[-1]
        if not walk.visit(t):
            walk.state[t] = _EXPLORED
            walk.stack.pop()
    i = 0
    while i < len(env.insns):
        if walk.state[i] != _EXPLORED:
            env.inval(f"unreachable insn {i}")
        if env.insns[i].is_ld_imm64:
            if walk.state[i + 1]:
                env.inval(f"jump into the middle of ldimm64 insn {i}")
            i += 1
        i += 1


def compute_postorder(env: Env) -> None:
    """compute_postorder(): instructions of each function, successors before predecessors where no loop forbids it."""
    seen = [False] * len(env.insns)
    for sub in env.subprogs:
        stack = [(sub.start, False)]
        seen[sub.start] = True
        while stack:
            idx, visited = stack[-1]
            if visited:
                sub.postorder.append(idx)
                stack.pop()
                continue
            stack[-1] = (idx, True)
            for succ in successors(env.insns, idx):
                if not seen[succ]:
                    seen[succ] = True
                    stack.append((succ, False))


def compute_scc(env: Env) -> None:
    """compute_scc(): number the loops of each function (Tarjan's algorithm), from 1; 0 is no loop."""
    count = len(env.insns)
    off_stack = 1 << 62
    pre, low = [0] * count, [0] * count
    stack: list[int] = []
    number, scc_id = 1, 1
    for start in range(count):
        if pre[start]:
            continue
        dfs = [start]
        while dfs:
            w = dfs[-1]
            if pre[w] == 0:
                low[w] = pre[w] = number
                number += 1
                stack.append(w)
            succ = successors(env.insns, w) if w < count else []
            fresh = None
            for s in succ:
                if s >= count:
                    continue
                if pre[s]:
                    low[w] = min(low[w], low[s])
                else:
                    fresh = s
                    break
            if fresh is not None:
                dfs.append(fresh)
                continue
            if low[w] < pre[w]:
                dfs.pop()
                continue
            assign = stack[-1] != w or w in succ
            while True:
                t = stack.pop()
                low[t] = off_stack
                if assign:
                    env.aux[t].scc = scc_id
                if t == w:
                    break
            scc_id += assign
            dfs.pop()
