"""irq_work before work, in order, each once."""

from kernel_model.irq_work import DeferredWork


class Memory:
    def read_u64(self, va):
        return va + 1  # the function of work at `va`


def test_irq_work_first_and_what_it_queues_afterwards():
    ran = []

    def call(function, work):
        ran.append((function, work))
        if work == 0x20:
            assert deferred.schedule_work(0x40)

    deferred = DeferredWork(Memory(), call)
    assert deferred.schedule_work(0x10)
    assert deferred.irq_work_claim(0x20, True)
    assert not deferred.irq_work_claim(0x20, True)
    deferred.run()
    assert ran == [(0x21, 0x20), (0x11, 0x10), (0x41, 0x40)]
    assert deferred.irq_work_claim(0x20, True)
