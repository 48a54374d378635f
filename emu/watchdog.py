"""Ends a guest that runs wild without a budget: the only use of the host's clock, and no result depends on it.

One thread for all machines, started when first needed: starting one for every run costs more than most runs take.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_TICK = 0.05  # seconds between two looks while something is watched


class Watchdog:
    """At most one deadline for each owner."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[int, tuple[float, Callable[[], None]]] = {}
        self._next = 0
        self._thread: threading.Thread | None = None

    def arm(self, seconds: float, expire: Callable[[], None]) -> int:
        """Call expire(), on another thread, unless disarm() of the number that is returned comes in time."""
        with self._lock:
            self._next += 1
            self._watched[self._next] = (time.monotonic() + seconds, expire)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="kemu watchdog", daemon=True)
                self._thread.start()
            return self._next

    def disarm(self, number: int) -> None:
        """Forget a deadline."""
        with self._lock:
            self._watched.pop(number, None)

    def _watch(self) -> None:
        idle = 0
        while True:
            time.sleep(_TICK)
            with self._lock:
                now = time.monotonic()
                late = [number for number, (deadline, _) in self._watched.items() if deadline < now]
                barks = [self._watched.pop(number)[1] for number in late]
                idle = 0 if self._watched else idle + 1
                if idle > 20:
                    self._thread = None
                    return
            for bark in barks:
                bark()


WATCHDOG = Watchdog()
