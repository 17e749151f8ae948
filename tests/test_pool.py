"""The pool by itself, with engines that only count: who waits, who gets which, what is freed."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from serverless_bees import pool
from serverless_bees.errors import ModelFileError, OverloadedError
from serverless_bees.pool import EnginePool, granted_cpus


class Counted:
    """An engine that notes who uses it and whether it was closed."""

    made: list[Counted]

    def __init__(self) -> None:
        self.users = 0
        self.closed = False
        self.made.append(self)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def new() -> Callable[[], Any]:
    Counted.made = []
    return Counted


def test_nothing_is_made_before_it_is_needed(new: Callable[[], Any]) -> None:
    engines = EnginePool(new, 3, 1)
    assert Counted.made == []
    for _ in range(5):
        with engines.engine():
            pass
    assert len(Counted.made) == 1
    with engines.engine() as one, engines.engine() as two:
        assert one is not two
    assert len(Counted.made) == 2


@pytest.mark.parametrize("size", [1, 2, 5])
def test_no_engine_has_two_users_and_no_more_than_size_are_made(size: int, new: Callable[[], Any]) -> None:
    engines = EnginePool(new, size, 30)
    most = 0

    def use(_: int) -> None:
        nonlocal most
        with engines.engine() as engine:
            engine.users += 1  # type: ignore[attr-defined]
            assert engine.users == 1  # type: ignore[attr-defined]
            most = max(most, sum(each.users for each in Counted.made))
            time.sleep(0.001)
            engine.users -= 1  # type: ignore[attr-defined]

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(use, range(200)))
    assert len(Counted.made) == size == most


@pytest.mark.parametrize("wait", [0, 0.15])
def test_who_waits_too_long_is_told_so(wait: float, new: Callable[[], Any]) -> None:
    engines = EnginePool(new, 1, wait)
    with engines.engine():
        start = time.monotonic()
        expected = rf"all 1 interpreters \(\w+_POOL_SIZE\) stayed busy for {wait:g} s \(SERVERLESS_BEES_POOL_WAIT\)"
        with pytest.raises(OverloadedError, match=expected), engines.engine():
            pytest.fail("there was none")
        assert wait <= time.monotonic() - start < wait + 1
    with engines.engine():
        pass


def test_who_waits_gets_what_comes_free(new: Callable[[], Any]) -> None:
    engines, got = EnginePool(new, 1, 30), []

    def take() -> None:
        with engines.engine() as engine:
            got.append(engine)

    with engines.engine() as engine:
        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        assert got == []
    for thread in threads:
        thread.join()
    assert got == [engine] * 4


def test_wait_is_bounded_in_all_and_not_for_each_wake(new: Callable[[], Any]) -> None:
    """Others that are quicker to take what comes free do not prolong it."""
    engines = EnginePool(new, 1, 0.4)
    with engines.engine():
        threading.Timer(0.2, lambda: _woken(engines)).start()
        start = time.monotonic()
        with pytest.raises(OverloadedError), engines.engine():
            pass
        assert time.monotonic() - start < 0.55


def _woken(engines: EnginePool) -> None:
    with engines._free:
        engines._free.notify_all()


def test_engine_comes_back_after_an_error_of_its_user(new: Callable[[], Any]) -> None:
    engines = EnginePool(new, 1, 0.1)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt), engines.engine():
            raise KeyboardInterrupt
    assert len(Counted.made) == 1


def test_failed_load_gives_its_place_back(new: Callable[[], Any]) -> None:
    """And wakes one who waits for that place."""
    failing, entered = threading.Event(), threading.Event()
    failing.set()

    def load() -> Any:
        if failing.is_set():
            entered.set()
            time.sleep(0.1)
            failing.clear()
            raise ModelFileError("gone")
        return new()

    engines = EnginePool(load, 1, 10)
    with ThreadPoolExecutor(2) as executor:

        def use() -> bool:
            with engines.engine():
                return True

        first = executor.submit(use)
        entered.wait()
        start = time.monotonic()
        second = executor.submit(use)
        with pytest.raises(ModelFileError):
            first.result()
        assert second.result()
        assert time.monotonic() - start < 5


def test_close_frees_what_is_idle_and_leaves_what_is_used(new: Callable[[], Any]) -> None:
    engines = EnginePool(new, 2, 0.1)
    with engines.engine() as used:
        with engines.engine() as idle:
            pass
        engines.close()
        assert (used.closed, idle.closed) == (False, True)  # type: ignore[attr-defined]
        with engines.engine() as another:
            assert another is not idle
    engines.close()
    assert all(each.closed for each in Counted.made)


def test_last_one_back_is_the_first_one_out(new: Callable[[], Any]) -> None:
    engines = EnginePool(new, 3, 1)
    with engines.engine():
        with engines.engine() as inner:
            pass
        with engines.engine() as again:
            assert again is inner


def test_forked_child_neither_uses_nor_frees_what_it_inherits(new: Callable[[], Any]) -> None:
    engines = EnginePool(new, 2, 1)
    with engines.engine() as parents:
        pass
    inherited = len(pool._inherited)
    engines._forked()  # what os.fork calls in the child
    try:
        with engines.engine() as own:
            assert own is not parents
        engines.close()
        assert not parents.closed  # type: ignore[attr-defined]
        assert pool._inherited[inherited:] == [parents]
    finally:
        del pool._inherited[inherited:]


@pytest.mark.parametrize(
    ("quota", "affinity", "granted"),
    [
        ("max 100000", 8, 8),
        ("200000 100000", 8, 2),
        ("150000 100000", 8, 2),
        ("58000 100000", 8, 1),  # Lambda at 1 GB
        ("1000 100000", 8, 1),
        ("800000 100000", 2, 2),
        ("", 3, 3),
        ("nonsense", 3, 3),
        (None, 5, 5),
    ],
)
def test_granted_cpus_are_those_of_the_affinity_and_the_quota(
    quota: str | None, affinity: int, granted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(path: str, **options: Any) -> io.StringIO:
        assert path == "/sys/fs/cgroup/cpu.max"
        if quota is None:
            raise FileNotFoundError(path)
        return io.StringIO(quota)

    monkeypatch.setattr(pool, "open", opened, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)))
    assert granted_cpus() == granted
