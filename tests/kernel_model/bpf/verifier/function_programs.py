"""Programs of several functions with BTF: global ones, static ones, and callers that fit them or do not."""

from __future__ import annotations

from dataclasses import dataclass

from arch.bpf_isa import Insn
from kernel_model.types import Kind
from kernel_model.types.btf import Member
from kernel_model.types.btf_writer import BtfWriter

EXIT = Insn(0x95)
STATIC, GLOBAL = 0, 1


def mov(dst: int, value: int) -> Insn:
    """dst = value."""
    return Insn(0xB7, dst, 0, 0, value)


def copy(dst: int, src: int) -> Insn:
    """dst = src."""
    return Insn(0xBF, dst, src)


def helper(number: int) -> Insn:
    """A call of a helper."""
    return Insn(0x85, 0, 0, 0, number)


class Call:
    """A call of another function of the program, by number."""

    def __init__(self, number: int) -> None:
        self.number = number


class Address:
    """dst = address of another function of the program, by number; two slots."""

    def __init__(self, dst: int, number: int) -> None:
        self.dst, self.number = dst, number


@dataclass(frozen=True, slots=True)
class Function:
    """One function: its body, its linkage, types of result and arguments (keys of the table in `types`), tags."""

    body: list[Insn | Call | Address]
    args: tuple[str, ...] = ("int",)
    linkage: int = GLOBAL
    result: str = "int"
    tags: tuple[tuple[int, str], ...] = ()


def types(functions: list[Function]) -> tuple[bytes, list[int]]:
    """BTF for the functions (f0 is the program), and the id of each."""
    btf = BtfWriter()
    table = {"void": 0}
    table["int"] = btf.int_("int", 4, signed=True)
    table["long"] = btf.int_("long", 8, signed=True)
    table["void *"] = btf.ref(Kind.PTR, 0)
    table["int *"] = btf.ref(Kind.PTR, table["int"])
    table["long *"] = btf.ref(Kind.PTR, table["long"])
    pair = btf.composite(Kind.STRUCT, "pair", 16, [Member("a", table["long"], 0, 0), Member("b", table["long"], 64, 0)])
    table["pair"] = pair
    table["pair *"] = btf.ref(Kind.PTR, pair)
    table["task"] = btf.composite(Kind.STRUCT, "task_struct", 4, [Member("flags", table["int"], 0, 0)])
    table["task *"] = btf.ref(Kind.PTR, table["task"])
    flavor = btf.composite(Kind.STRUCT, "task_struct___mine", 4, [Member("flags", table["int"], 0, 0)])
    table["my task *"] = btf.ref(Kind.PTR, flavor)
    table["opaque *"] = btf.ref(Kind.PTR, btf.fwd("opaque"))
    ids = []
    for number, function in enumerate(functions):
        params = [(f"a{i}", table[name]) for i, name in enumerate(function.args)]
        proto = btf.func_proto(table[function.result], params)
        ids.append(btf.ref(Kind.FUNC, proto, f"f{number}", function.linkage))
        for component, tag in function.tags:
            btf.decl_tag(tag, ids[-1], component)
    return btf.encode(), ids


def link(functions: list[Function]) -> tuple[list[Insn], list[int]]:
    """Instructions of all functions behind one another, and where each begins."""
    starts, at = [], 0
    for function in functions:
        starts.append(at)
        at += sum(2 if isinstance(item, Address) else 1 for item in function.body)
    insns = []
    for function in functions:
        for item in function.body:
            if isinstance(item, Call):
                insns.append(Insn(0x85, 0, 1, 0, starts[item.number] - len(insns) - 1))
            elif isinstance(item, Address):
                insns += [Insn(0x18, item.dst, 4, 0, starts[item.number] - len(insns) - 1), Insn(0)]
            else:
                insns.append(item.copy())
    return insns, starts


def main(*body: Insn | Call | Address, args: tuple[str, ...] = ("void *",)) -> Function:
    """The program."""
    return Function([*body, mov(0, 0), EXIT], args)


def stack(dst: int, off: int) -> list[Insn | Call]:
    """dst = r10 + off."""
    return [copy(dst, 10), Insn(0x07, dst, 0, 0, off)]


LOAD = Insn(0x61, 0, 1, 0)
TWICE: list[Insn | Call] = [copy(0, 1), Insn(0x0F, 0, 1), EXIT]
SLEEP: list[Insn | Call] = [*stack(1, -8), mov(2, 8), mov(3, 0), helper(148), EXIT]

LOOP, FIND_VMA, CURRENT_TASK = helper(181), helper(180), helper(158)
JUST_STOP = Function([mov(0, 1), EXIT], ("long", "void *"), STATIC)
JUST_GO_ON = Function([mov(0, 0), EXIT], ("long", "void *"), STATIC)
# ++*ctx; go on
COUNT = Function([Insn(0x79, 3, 2, 0), Insn(0x07, 3, 0, 0, 1), Insn(0x7B, 2, 3, 0), mov(0, 0), EXIT],
                 ("long", "long *"), STATIC)


def loop(rounds: int | Insn, callback: int = 1, ctx: list[Insn | Call] | None = None, flags: int = 0) -> list:
    """bpf_loop(rounds, callback, ctx, flags)."""
    first = [mov(1, rounds)] if isinstance(rounds, int) else [rounds]
    return [*first, Address(2, callback), *(ctx or [mov(3, 0)]), mov(4, flags), LOOP]


def find_vma(callback: int = 1, ctx: list[Insn | Call] | None = None) -> list:
    """bpf_find_vma(bpf_get_current_task_btf(), 4096, callback, ctx, 0)."""
    return [CURRENT_TASK, copy(1, 0), mov(2, 4096), Address(3, callback), *(ctx or [mov(4, 0)]), mov(5, 0), FIND_VMA]


ZEROED = [Insn(0x7A, 10, 0, -8, 0)]
ON_STACK, VMA_ON_STACK = stack(3, -8), stack(4, -8)
TRUSTED, UNTRUSTED, NULLABLE, NONNULL = ((0, f"arg:{tag}") for tag in ("trusted", "untrusted", "nullable", "nonnull"))


def takes(kind: str, *tags: tuple[int, str], body: list | None = None) -> Function:
    """A global function of one tagged pointer, which it reads."""
    return Function(body or [LOAD, mov(0, 0), EXIT], (kind,), tags=tags)


VMA_ARGS = ("void *", "void *", "void *")

PROGRAMS: dict[str, list[Function]] = {
    "global": [main(mov(1, 5), Call(1)), Function(TWICE)],
    "result_is_unknown": [Function([mov(1, 5), Call(1), EXIT], ("void *",)), Function(TWICE)],
    "result_is_precise": [main(mov(1, 5), Call(1), Insn(0x25, 0, 0, 2, 7), Insn(0x27, 0, 0, 0, 2), mov(1, 0),
                               Insn(0x25, 0, 0, 0, 40)), Function(TWICE)],
    "called_twice": [main(mov(1, 5), Call(1), mov(1, 7), Call(1)), Function(TWICE)],
    "called_by_a_global": [main(mov(1, 5), Call(1)), Function([Call(2), EXIT]), Function(TWICE)],
    "static": [main(mov(1, 5), Call(1)), Function(TWICE, linkage=STATIC)],
    "never_reached": [main(mov(2, 0), Insn(0x15, 2, 0, 2, 0), mov(1, 5), Call(1)), Function(TWICE)],
    "argument_matters": [main(mov(1, 0), Call(1)),
                         Function([Insn(0x25, 1, 0, 1, 7), Insn(0x05, 0, 0, 2), mov(0, 0), EXIT,
                                   copy(2, 10), Insn(0x1F, 2, 1), Insn(0x71, 0, 2, -8), EXIT])],
    "pointer_for_a_number": [main(copy(1, 10), Call(1)), Function(TWICE)],
    "pointer_for_a_number_of_a_static": [main(*stack(1, -8), Insn(0x7A, 10, 0, -8, 1), Call(1)),
                                         Function([LOAD, EXIT], linkage=STATIC)],
    "unset_argument": [main(mov(2, 0), Call(1)), Function([mov(0, 0), EXIT], ("int", "int", "int"))],
    "memory": [main(Insn(0x7A, 10, 0, -8, 1), *stack(1, -8), Call(1)),
               Function([Insn(0x15, 1, 0, 2, 0), LOAD, EXIT, mov(0, 0), EXIT], ("int *",))],
    "memory_not_checked": [main(Insn(0x7A, 10, 0, -8, 1), *stack(1, -8), Call(1)), Function([LOAD, EXIT], ("int *",))],
    "memory_nonnull": [main(Insn(0x7A, 10, 0, -8, 1), *stack(1, -8), Call(1)),
                       Function([LOAD, EXIT], ("int *",), tags=((0, "arg:nonnull"),))],
    "memory_beyond": [main(Insn(0x7A, 10, 0, -8, 1), *stack(1, -8), Call(1)),
                      Function([Insn(0x79, 0, 1, 4), EXIT], ("int *",), tags=((0, "arg:nonnull"),))],
    "memory_null": [main(mov(1, 0), Call(1)),
                    Function([Insn(0x15, 1, 0, 2, 0), LOAD, EXIT, mov(0, 0), EXIT], ("int *",))],
    "memory_too_small": [main(Insn(0x7A, 10, 0, -8, 1), *stack(1, -8), Call(1)),
                         Function([mov(0, 0), EXIT], ("pair *",))],
    "memory_a_number": [main(mov(1, 4096), Call(1)), Function([mov(0, 0), EXIT], ("pair *",))],
    "memory_written": [main(Insn(0x7A, 10, 0, -16, 1), Insn(0x7A, 10, 0, -8, 1), *stack(1, -16), Call(1),
                            Insn(0x79, 1, 10, -8)),
                       Function([Insn(0x7A, 1, 0, 8, 7), mov(0, 0), EXIT], ("pair *",), tags=((0, "arg:nonnull"),))],
    "no_size": [main(mov(1, 0), Call(1)), Function([mov(0, 0), EXIT], ("opaque *",))],
    "void_pointer": [main(mov(1, 0), Call(1)), Function([mov(0, 0), EXIT], ("void *",))],
    "a_struct": [main(mov(1, 0), Call(1)), Function([mov(0, 0), EXIT], ("pair",))],
    "returns_nothing": [main(mov(1, 0), Call(1)), Function([mov(0, 0), EXIT], result="void")],
    "returns_a_pointer": [main(mov(1, 0), Call(1)), Function([copy(0, 10), EXIT])],
    "returns_by_chance": [main(mov(1, 0), Call(1)), Function([Insn(0x15, 1, 0, 1, 0), mov(0, 1), EXIT])],
    "unknown_tag": [main(mov(1, 0), Call(1)), Function([mov(0, 0), EXIT], ("int *",), tags=((0, "arg:strange"),))],
    "tag_of_a_number": [main(mov(1, 0), Call(1)), Function([mov(0, 0), EXIT], tags=((0, "arg:nonnull"),))],
    "tag_of_a_static": [main(mov(1, 0), Call(1)),
                        Function([mov(0, 0), EXIT], ("int *",), STATIC, tags=((0, "arg:nonnull"),))],
    "context": [main(Call(1)), Function([LOAD, EXIT], ("void *",), tags=((0, "arg:ctx"),))],
    "context_of_a_number": [main(mov(1, 0), Call(1)), Function([LOAD, EXIT], ("void *",), tags=((0, "arg:ctx"),))],
    "sleeps": [main(Call(1), args=("int",)), Function(SLEEP, ())],
    "main_of_ints": [main(args=("int",))],
    "many_arguments": [main(mov(1, 1), mov(2, 2), mov(3, 3), mov(4, 4), mov(5, 5), Call(1)),
                       Function([copy(0, 5), EXIT], ("int", "long", "int", "long", "int"))],
    "trusted_task": [main(CURRENT_TASK, copy(1, 0), Call(1)), takes("task *", TRUSTED)],
    "trusted_task_by_flavor": [main(CURRENT_TASK, copy(1, 0), Call(1)), takes("my task *", TRUSTED)],
    "trusted_task_of_null": [main(mov(1, 0), Call(1)), takes("task *", TRUSTED)],
    "trusted_task_or_null": [main(mov(1, 0), Call(1)), takes("task *", TRUSTED, NULLABLE)],
    "trusted_task_or_null_checked": [main(mov(1, 0), Call(1)), takes("task *", TRUSTED, NULLABLE, body=[
        Insn(0x15, 1, 0, 1, 0), LOAD, mov(0, 0), EXIT])],
    "trusted_task_given_or_null": [main(CURRENT_TASK, copy(1, 0), Call(1)), takes("task *", TRUSTED, NULLABLE, body=[
        Insn(0x15, 1, 0, 1, 0), LOAD, mov(0, 0), EXIT])],
    "trusted_task_nonnull": [main(CURRENT_TASK, copy(1, 0), Call(1)), takes("task *", TRUSTED, NONNULL)],
    "trusted_task_of_the_context": [main(Call(1)), takes("task *", TRUSTED)],
    "trusted_pair": [main(mov(1, 0), Call(1)), takes("pair *", TRUSTED)],
    "trusted_task_passed_on": [main(CURRENT_TASK, copy(1, 0), Call(1)), takes("task *", TRUSTED, body=[
        copy(4, 1), *stack(1, -8), mov(2, 8), mov(3, 0), mov(5, 0), helper(191), EXIT])],
    "trusted_task_written": [main(CURRENT_TASK, copy(1, 0), Call(1)), takes("task *", TRUSTED, body=[
        Insn(0x62, 1, 0, 0, 1), mov(0, 0), EXIT])],
    "untrusted_task": [main(CURRENT_TASK, copy(1, 0), Call(1)), takes("task *", UNTRUSTED)],
    "untrusted_task_of_a_number": [main(mov(1, 4096), Call(1)), takes("task *", UNTRUSTED)],
    "untrusted_task_passed_on": [main(CURRENT_TASK, copy(1, 0), Call(1)), takes("task *", UNTRUSTED, body=[
        copy(4, 1), *stack(1, -8), mov(2, 8), mov(3, 0), mov(5, 0), helper(191), EXIT])],
    "untrusted_int": [main(mov(1, 4096), Call(1)), takes("int *", UNTRUSTED)],
    "untrusted_int_far": [main(mov(1, 4096), Call(1)), takes("int *", UNTRUSTED, body=[
        Insn(0x79, 0, 1, 4000), mov(0, 0), EXIT])],
    "untrusted_int_written": [main(mov(1, 4096), Call(1)), takes("int *", UNTRUSTED, body=[
        Insn(0x62, 1, 0, 0, 1), mov(0, 0), EXIT])],
    "untrusted_void": [main(mov(1, 4096), Call(1)), takes("void *", UNTRUSTED)],
    "untrusted_pair": [main(mov(1, 0), Call(1)), takes("pair *", UNTRUSTED)],
    "untrusted_nonnull": [main(mov(1, 0), Call(1)), takes("task *", UNTRUSTED, NONNULL)],
    "loop_stops": [main(*loop(10)), JUST_STOP],
    "loop_goes_on": [main(*loop(3)), JUST_GO_ON],
    "loop_never": [main(*loop(0)), JUST_GO_ON],
    "loop_counts": [main(*ZEROED, *loop(3, ctx=ON_STACK), Insn(0x79, 1, 10, -8), Insn(0x25, 1, 0, 1, 3)), COUNT],
    "loop_counts_far": [main(*ZEROED, *loop(1 << 20, ctx=ON_STACK), Insn(0x79, 1, 10, -8)), COUNT],
    "loop_index_is_unknown": [main(*loop(4)), Function([copy(0, 1), EXIT], ("long", "void *"), STATIC)],
    "loop_index_checked": [main(*loop(4)), Function([Insn(0x25, 1, 0, 1, 0), mov(1, 1), copy(0, 1), EXIT],
                                                    ("long", "void *"), STATIC)],
    "loop_no_result": [main(*loop(4)), Function([Insn(0x15, 1, 0, 1, 0), mov(0, 0), EXIT], ("long", "void *"), STATIC)],
    "loop_result_two": [main(*loop(4)), Function([mov(0, 2), EXIT], ("long", "void *"), STATIC)],
    "loop_result_a_pointer": [main(*loop(4, ctx=ON_STACK)), Function([copy(0, 2), EXIT], ("long", "long *"), STATIC)],
    "loop_rounds_unknown": [Function([Insn(0x61, 1, 1, 0), *loop(copy(1, 1)), mov(0, 0), EXIT], ("void *",)), COUNT],
    "loop_flags": [main(*loop(4, flags=1)), JUST_GO_ON],
    "loop_result_used": [main(*loop(4), Insn(0x25, 0, 0, 1, 4), Insn(0x07, 0, 0, 0, 1)), JUST_GO_ON],
    "loop_global": [main(*loop(4)), Function([mov(0, 0), EXIT], ("long", "void *"))],
    "loop_number_for_callback": [main(mov(1, 4), mov(2, 0), mov(3, 0), mov(4, 0), LOOP)],
    "loop_context_a_number": [main(*loop(4, ctx=[mov(3, 8)])), JUST_GO_ON],
    "loop_nested": [main(*ZEROED, *loop(3, 1, ON_STACK)),
                    Function([copy(6, 2), *loop(2, 2, [copy(3, 6)]), mov(0, 0), EXIT], ("long", "long *"), STATIC),
                    COUNT],
    "loop_writes_uninitialised": [main(*loop(3, ctx=ON_STACK), Insn(0x79, 1, 10, -8)),
                                  Function([Insn(0x7A, 2, 0, 0, 7), mov(0, 0), EXIT], ("long", "long *"), STATIC)],
    "loop_branches": [main(*ZEROED, *loop(100, ctx=ON_STACK), Insn(0x79, 1, 10, -8), Insn(0x25, 1, 0, 0, 7)),
                      Function([Insn(0x79, 3, 2, 0), Insn(0x15, 3, 0, 3, 5), Insn(0x07, 3, 0, 0, 1),
                                Insn(0x7B, 2, 3, 0), mov(0, 0), Insn(0x55, 3, 0, 1, 4), mov(0, 1), EXIT],
                               ("long", "long *"), STATIC)],
    "loop_precise_outside": [main(*ZEROED, mov(6, 0), *loop(3, ctx=ON_STACK), Insn(0x0F, 6, 6), copy(1, 10),
                                  Insn(0x1F, 1, 6), Insn(0x7A, 1, 0, -16, 1)), COUNT],
    "loop_sleeps": [main(*loop(3)), Function([*SLEEP[:-1], mov(0, 0), EXIT], ("long", "void *"), STATIC)],
    "loop_called_twice": [main(*ZEROED, *loop(2, ctx=ON_STACK), *loop(5, 2)), COUNT, JUST_STOP],
    "find_vma": [main(*find_vma()), Function([mov(0, 0), EXIT], VMA_ARGS, STATIC)],
    "find_vma_reads": [main(*ZEROED, *find_vma(ctx=VMA_ON_STACK), Insn(0x79, 1, 10, -8)),
                       Function([Insn(0x79, 1, 2, 0), Insn(0x7B, 3, 1, 0), mov(0, 0), EXIT], VMA_ARGS, STATIC)],
    "find_vma_writes": [main(*find_vma()), Function([Insn(0x7A, 2, 0, 0, 1), mov(0, 0), EXIT], VMA_ARGS, STATIC)],
    "find_vma_writes_task": [main(*find_vma()), Function([Insn(0x7A, 1, 0, 0, 1), mov(0, 0), EXIT], VMA_ARGS, STATIC)],
    "find_vma_result": [main(*find_vma()), Function([mov(0, 2), EXIT], VMA_ARGS, STATIC)],
    "find_vma_of_a_number": [main(mov(1, 0), mov(2, 0), Address(3, 1), mov(4, 0), mov(5, 0), FIND_VMA), JUST_GO_ON],
    "find_vma_in_loop": [main(*loop(2)), Function([*find_vma(2), mov(0, 0), EXIT], ("long", "void *"), STATIC),
                         Function([mov(0, 1), EXIT], VMA_ARGS, STATIC)],
    "copy_from_user_task": [main(CURRENT_TASK, copy(4, 0), *stack(1, -8), mov(2, 8), mov(3, 0), mov(5, 0), helper(191),
                                 Insn(0x79, 1, 10, -8))],
    "copy_from_user_task_flags": [main(CURRENT_TASK, copy(4, 0), *stack(1, -8), mov(2, 16), mov(3, 0), mov(5, 1),
                                       helper(191))],
    "copy_from_user_task_of_a_number": [main(*stack(1, -8), mov(2, 8), mov(3, 0), mov(4, 0), mov(5, 0), helper(191))],
    "copy_from_user_task_of_context": [main(copy(4, 1), *stack(1, -8), mov(2, 8), mov(3, 0), mov(5, 0), helper(191))],
    "probe_reads": [main(*(insn for number in (112, 113, 114, 115)
                           for insn in (*stack(1, -8), mov(2, 8), mov(3, 0), helper(number))))],
}
