"""What both kinds of vCPU do alike: hooks, nested runs and their ends."""

import pytest

SOURCES = {
    "x86_64": """.intel_syntax noprefix
done: hlt
answer: lea rax, [rdi+rsi]
  ret
gate: nop
  ret
stopper: nop
stop_here: nop
  hlt
raiser: nop
  hlt
caller: mov rbx, rdi
  mov ebp, 3
1: call gate
  inc rbx
  dec ebp
  jnz 1b
  mov rax, rbx
  hlt
""",
    "arm64": """
.balign 2048
vectors:
.balign 2048
done: wfi
 b done
answer: add x0, x0, x1
  ret
gate: nop
  ret
stopper: nop
stop_here: nop
  wfi
raiser: nop
  wfi
caller: mov x19, x0
  mov x20, 3
1: bl gate
  add x19, x19, 1
  subs x20, x20, 1
  b.ne 1b
  mov x0, x19
  wfi
""",
}


@pytest.fixture(scope="module", params=sorted(SOURCES))
def guest(request, machine):
    return machine(request.param, SOURCES[request.param])


def test_a_hook_may_call_guest_functions_and_stop_at_an_address(guest):
    """What a kcall does: run a function inside the hook, put the state back, go on."""
    cpu, engine, seen = guest.cpu, guest.cpu.engine, []

    def hook():
        outer = engine.snapshot()
        sp = cpu.push_return((cpu.sp - 256) & ~15, guest.symbols["done"])
        cpu.enter_kernel(guest.symbols["answer"], sp, (20, 22))
        cpu.run(until=guest.symbols["done"])
        seen.append((cpu.result, cpu.ip))
        engine.resume(outer)

    engine.hook_address(guest.symbols["gate"], hook)
    engine.flush_code()
    assert guest.run("caller", 5) == 5 + 3
    assert seen == [(42, guest.symbols["done"])] * 3


def test_an_exception_in_a_hook_comes_out_of_run(guest):
    def hook():
        raise KeyError("from the hook")

    guest.cpu.engine.hook_address(guest.symbols["raiser"], hook)
    guest.cpu.engine.flush_code()
    with pytest.raises(KeyError, match="from the hook"):
        guest.run("raiser")
    assert guest.run("caller", 1) == 4


def test_an_outer_run_can_be_stopped_after_a_nested_one(guest):
    cpu, engine = guest.cpu, guest.cpu.engine

    def hook():
        outer = engine.snapshot()
        cpu.enter_kernel(guest.symbols["answer"], cpu.push_return((cpu.sp - 256) & ~15, guest.symbols["done"]), (1, 2))
        cpu.run(until=guest.symbols["done"])
        engine.resume(outer)

    engine.hook_address(guest.symbols["stopper"], hook)
    engine.hook_address(guest.symbols["stop_here"], lambda: engine.stop(KeyError("after a nested run")))
    engine.flush_code()
    with pytest.raises(KeyError, match="after a nested run"):
        guest.run("stopper")
    assert cpu.ip == guest.symbols["stop_here"]
