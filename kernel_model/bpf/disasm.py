"""BPF instructions as text.

Mirrors kernel/bpf/disasm.c (Linux 6.18): what the verifier's log and `bpftool prog dump xlated` print.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from arch import bpf_isa as isa
from arch.bpf_isa import Insn, imm64

CallName = Callable[[int, bool], str]  # (imm, is a kfunc) -> name

_ALU = ("+=", "-=", "*=", "/=", "|=", "&=", "<<=", ">>=", "neg", "%=", "^=", "=", "s>>=", "endian")
_ATOMIC_ALU = {isa.BPF_ADD: "add", isa.BPF_AND: "and", isa.BPF_OR: "or", isa.BPF_XOR: "xor"}
_JMP = ("jmp", "==", ">", ">=", "&", "!=", "s>", "s>=", "call", "exit", "<", "<=", "s<", "s<=")
_SIZES = {isa.BPF_W: "u32", isa.BPF_H: "u16", isa.BPF_B: "u8", isa.BPF_DW: "u64"}
_SIGNED_SIZES = {isa.BPF_W: "s32", isa.BPF_H: "s16", isa.BPF_B: "s8", isa.BPF_DW: "s64"}
_NOSPEC = 0xC0
_ADDR_PERCPU = -1

# __BPF_FUNC_MAPPER (include/uapi/linux/bpf.h), ids 0..211
_HELPER_LIST = """
unspec map_lookup_elem map_update_elem map_delete_elem probe_read ktime_get_ns trace_printk get_prandom_u32
get_smp_processor_id skb_store_bytes l3_csum_replace l4_csum_replace tail_call clone_redirect
get_current_pid_tgid get_current_uid_gid get_current_comm get_cgroup_classid skb_vlan_push skb_vlan_pop
skb_get_tunnel_key skb_set_tunnel_key perf_event_read redirect get_route_realm perf_event_output skb_load_bytes
get_stackid csum_diff skb_get_tunnel_opt skb_set_tunnel_opt skb_change_proto skb_change_type skb_under_cgroup
get_hash_recalc get_current_task probe_write_user current_task_under_cgroup skb_change_tail skb_pull_data
csum_update set_hash_invalid get_numa_node_id skb_change_head xdp_adjust_head probe_read_str get_socket_cookie
get_socket_uid set_hash setsockopt skb_adjust_room redirect_map sk_redirect_map sock_map_update xdp_adjust_meta
perf_event_read_value perf_prog_read_value getsockopt override_return sock_ops_cb_flags_set msg_redirect_map
msg_apply_bytes msg_cork_bytes msg_pull_data bind xdp_adjust_tail skb_get_xfrm_state get_stack
skb_load_bytes_relative fib_lookup sock_hash_update msg_redirect_hash sk_redirect_hash lwt_push_encap
lwt_seg6_store_bytes lwt_seg6_adjust_srh lwt_seg6_action rc_repeat rc_keydown skb_cgroup_id
get_current_cgroup_id get_local_storage sk_select_reuseport skb_ancestor_cgroup_id sk_lookup_tcp sk_lookup_udp
sk_release map_push_elem map_pop_elem map_peek_elem msg_push_data msg_pop_data rc_pointer_rel spin_lock
spin_unlock sk_fullsock tcp_sock skb_ecn_set_ce get_listener_sock skc_lookup_tcp tcp_check_syncookie
sysctl_get_name sysctl_get_current_value sysctl_get_new_value sysctl_set_new_value strtol strtoul sk_storage_get
sk_storage_delete send_signal tcp_gen_syncookie skb_output probe_read_user probe_read_kernel probe_read_user_str
probe_read_kernel_str tcp_send_ack send_signal_thread jiffies64 read_branch_records get_ns_current_pid_tgid
xdp_output get_netns_cookie get_current_ancestor_cgroup_id sk_assign ktime_get_boot_ns seq_printf seq_write
sk_cgroup_id sk_ancestor_cgroup_id ringbuf_output ringbuf_reserve ringbuf_submit ringbuf_discard ringbuf_query
csum_level skc_to_tcp6_sock skc_to_tcp_sock skc_to_tcp_timewait_sock skc_to_tcp_request_sock skc_to_udp6_sock
get_task_stack load_hdr_opt store_hdr_opt reserve_hdr_opt inode_storage_get inode_storage_delete d_path
copy_from_user snprintf_btf seq_printf_btf skb_cgroup_classid redirect_neigh per_cpu_ptr this_cpu_ptr
redirect_peer task_storage_get task_storage_delete get_current_task_btf bprm_opts_set ktime_get_coarse_ns
ima_inode_hash sock_from_file check_mtu for_each_map_elem snprintf sys_bpf btf_find_by_name_kind sys_close
timer_init timer_set_callback timer_start timer_cancel get_func_ip get_attach_cookie task_pt_regs
get_branch_snapshot trace_vprintk skc_to_unix_sock kallsyms_lookup_name find_vma loop strncmp get_func_arg
get_func_ret get_func_arg_cnt get_retval set_retval xdp_get_buff_len xdp_load_bytes xdp_store_bytes
copy_from_user_task skb_set_tstamp ima_file_hash kptr_xchg map_lookup_percpu_elem skc_to_mptcp_sock
dynptr_from_mem ringbuf_reserve_dynptr ringbuf_submit_dynptr ringbuf_discard_dynptr dynptr_read dynptr_write
dynptr_data tcp_raw_gen_syncookie_ipv4 tcp_raw_gen_syncookie_ipv6 tcp_raw_check_syncookie_ipv4
tcp_raw_check_syncookie_ipv6 ktime_get_tai_ns user_ringbuf_drain cgrp_storage_get cgrp_storage_delete
"""
_HELPERS = _HELPER_LIST.split()


def helper_name(helper_id: int) -> str:
    """func_id_name(): `bpf_map_lookup_elem`, `unknown` for a number that is none."""
    return f"bpf_{_HELPERS[helper_id]}" if 0 < helper_id < len(_HELPERS) else "unknown"


def insn_text(insns: Sequence[Insn], idx: int, call_name: CallName, imm: int | None = None) -> str:
    """print_bpf_insn() without the newline: `(bf) r6 = r1`. `imm` replaces the value of a 64-bit immediate load."""
    insn = insns[idx]
    if insn.cls in (isa.BPF_ALU, isa.BPF_ALU64):
        text = _alu(insn)
    elif insn.cls in (isa.BPF_JMP, isa.BPF_JMP32):
        text = _jump(insn, call_name)
    elif insn.cls == isa.BPF_STX:
        text = _stx(insn)
    elif insn.cls == isa.BPF_ST:
        text = _st(insn)
    elif insn.cls == isa.BPF_LDX:
        text = _ldx(insn)
    else:
        text = _ld(insns, idx, imm)
    return f"({insn.code:02x}) {text}"


def _alu(insn: Insn) -> str:
    wide = insn.cls == isa.BPF_ALU64
    c = "r" if wide else "w"
    if insn.op == isa.BPF_END:
        kind = "bswap" if wide else "be" if insn.code & isa.BPF_X else "le"
        return f"r{insn.dst} = {kind}{insn.imm} r{insn.dst}"
    if insn.op == isa.BPF_NEG:
        return f"{c}{insn.dst} = -{c}{insn.dst}"
    if wide and insn.op == isa.BPF_MOV and insn.is_reg:
        if insn.off == isa.BPF_ADDR_SPACE_CAST:
            return f"r{insn.dst} = addr_space_cast(r{insn.src}, {(insn.imm >> 16) & 0xFFFF}, {insn.imm & 0xFFFF})"
        if insn.off == _ADDR_PERCPU:
            return f"r{insn.dst} = &(void __percpu *)(r{insn.src})"
    if insn.op >> 4 >= len(_ALU):
        return "BUG_alu"
    signed = "s" if insn.off == 1 and insn.op in (isa.BPF_DIV, isa.BPF_MOD) else ""
    sign = f"{signed}{_ALU[insn.op >> 4]}"
    if not insn.is_reg:
        return f"{c}{insn.dst} {sign} {insn.imm}"
    extend = f"(s{insn.off})" if insn.op == isa.BPF_MOV and insn.off in (8, 16, 32) else ""
    return f"{c}{insn.dst} {sign} {extend}{c}{insn.src}"


def _place(insn: Insn, size: str, register: int) -> str:
    return f"*({size} *)(r{register} {insn.off:+d})"


def _stx(insn: Insn) -> str:
    size = _SIZES[insn.size]
    if insn.mode == isa.BPF_MEM:
        return f"{_place(insn, size, insn.dst)} = r{insn.src}"
    if insn.mode != isa.BPF_ATOMIC:
        return f"BUG_{insn.code:02x}"
    where = f"({size} *)(r{insn.dst} {insn.off:+d})"
    wide = "64" if insn.size == isa.BPF_DW else ""
    if insn.imm in _ATOMIC_ALU:
        return f"lock *{where} {_ALU[insn.imm >> 4]} r{insn.src}"
    if insn.imm == isa.BPF_CMPXCHG:
        return f"r0 = atomic{wide}_cmpxchg({where}, r0, r{insn.src})"
    if insn.imm == isa.BPF_XCHG:
        return f"r{insn.src} = atomic{wide}_xchg({where}, r{insn.src})"
    if insn.imm == isa.BPF_LOAD_ACQ:
        return f"r{insn.dst} = load_acquire(({size} *)(r{insn.src} {insn.off:+d}))"
    if insn.imm == isa.BPF_STORE_REL:
        return f"store_release({where}, r{insn.src})"
    if insn.imm & isa.BPF_FETCH and insn.imm & ~isa.BPF_FETCH in _ATOMIC_ALU:
        name = _ATOMIC_ALU[insn.imm & ~isa.BPF_FETCH]
        return f"r{insn.src} = atomic{wide}_fetch_{name}({where}, r{insn.src})"
    return f"BUG_{insn.code:02x}"


def _st(insn: Insn) -> str:
    if insn.mode == isa.BPF_MEM:
        return f"{_place(insn, _SIZES[insn.size], insn.dst)} = {insn.imm}"
    return "nospec" if insn.mode == _NOSPEC else f"BUG_st_{insn.code:02x}"


def _ldx(insn: Insn) -> str:
    if insn.mode not in (isa.BPF_MEM, isa.BPF_MEMSX):
        return f"BUG_ldx_{insn.code:02x}"
    sizes = _SIGNED_SIZES if insn.mode == isa.BPF_MEMSX else _SIZES
    return f"r{insn.dst} = {_place(insn, sizes[insn.size], insn.src)}"


def _ld(insns: Sequence[Insn], idx: int, imm: int | None) -> str:
    insn = insns[idx]
    if insn.mode == isa.BPF_ABS:
        return f"r0 = *({_SIZES[insn.size]} *)skb[{insn.imm}]"
    if insn.mode == isa.BPF_IND:
        return f"r0 = *({_SIZES[insn.size]} *)skb[r{insn.src} + {insn.imm}]"
    if insn.is_ld_imm64 and idx + 1 < len(insns):
        value = imm64(insn, insns[idx + 1]) if imm is None else imm
        return f"r{insn.dst} = 0x{value:x}"
    return f"BUG_ld_{insn.code:02x}"


def _jump(insn: Insn, call_name: CallName) -> str:
    wide = insn.cls == isa.BPF_JMP
    if insn.op == isa.BPF_CALL:
        if insn.src == isa.BPF_PSEUDO_CALL:
            return f"call pc{insn.imm:+d}"
        return f"call {call_name(insn.imm, insn.src == isa.BPF_PSEUDO_KFUNC_CALL)}#{insn.imm}"
    if insn.code == isa.BPF_JMP | isa.BPF_JA:
        return f"goto pc{insn.off:+d}"
    if insn.code == isa.BPF_JMP | isa.BPF_JCOND and insn.src == isa.BPF_MAY_GOTO:
        return f"may_goto pc{insn.off:+d}"
    if insn.code == isa.BPF_JMP32 | isa.BPF_JA:
        return f"gotol pc{insn.imm:+d}"
    if insn.code == isa.BPF_JMP | isa.BPF_EXIT:
        return "exit"
    if insn.op >> 4 >= len(_JMP):
        return "BUG_jmp"
    c = "r" if wide else "w"
    right = f"{c}{insn.src}" if insn.is_reg else f"0x{insn.imm & 0xFFFFFFFF:x}"
    return f"if {c}{insn.dst} {_JMP[insn.op >> 4]} {right} goto pc{insn.off:+d}"
