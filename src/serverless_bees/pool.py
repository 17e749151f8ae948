"""A pool of interpreters: made lazily, in the process that uses them, and each used by one thread at a time."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .errors import OverloadedError
from .settings import PREFIX

if TYPE_CHECKING:
    from .engines import Engine


class EnginePool:
    """At most ``size`` engines from ``load``; a caller waits at most ``wait`` seconds for one."""

    def __init__(self, load: Callable[[], Engine], size: int, wait: float) -> None:
        self.size = size
        self._load = load
        self._wait = wait
        self._start()
        _pools.add(self)

    def _start(self) -> None:
        self._free = threading.Condition()
        self._idle: list[Engine] = []
        self._made = 0

    @contextlib.contextmanager
    def engine(self) -> Iterator[Engine]:
        """An engine that nobody else uses meanwhile.

        Raises:
            OverloadedError: none came free in time.
            ModelError: the model cannot be loaded.
        """
        engine = self._take()
        try:
            yield engine
        finally:
            with self._free:
                self._idle.append(engine)
                self._free.notify()

    def _take(self) -> Engine:
        deadline = time.monotonic() + self._wait
        with self._free:
            while not self._idle and self._made == self.size:
                if not self._free.wait(deadline - time.monotonic()):
                    raise OverloadedError(
                        f"all {self.size} interpreters ({PREFIX}POOL_SIZE) stayed busy "
                        f"for {self._wait:g} s ({PREFIX}POOL_WAIT)"
                    )
            if self._idle:
                return self._idle.pop()  # the last one back has its weights in the processor's cache
            self._made += 1
        try:
            return self._load()
        except BaseException:
            with self._free:
                self._made -= 1
                self._free.notify()
            raise

    def close(self) -> None:
        """Frees the idle engines."""
        with self._free:
            while self._idle:
                self._idle.pop().close()
                self._made -= 1

    def _forked(self) -> None:
        # The child has the parent's interpreters in its memory, but not the threads that work for them. They
        # are neither used nor freed, for freeing one would wait for its threads.
        _inherited.extend(self._idle)
        self._start()


def granted_cpus() -> int:
    """How many CPUs this process may use: its affinity, bounded by a cgroup's quota, at least 1."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        cpus = min(cpus, max(1, round(int(quota) / int(period))))  # "max" is no number: no quota
    return cpus


_pools: weakref.WeakSet[EnginePool] = weakref.WeakSet()
_inherited: list[Engine] = []


def _after_fork() -> None:
    for pool in list(_pools):
        pool._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
