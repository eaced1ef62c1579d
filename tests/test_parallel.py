import threading
import time

import pytest

from ferkit.parallel import ordered_map, usable_cores


def slower_first(number):
    time.sleep(0.02 if number % 3 == 0 else 0)
    return number * 2


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_order_is_kept(threads):
    assert list(ordered_map(slower_first, range(20), threads)) == list(range(0, 40, 2))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_an_endless_supply_is_taken_a_little_ahead_only(threads):
    taken = []
    results = ordered_map(lambda number: number, (taken.append(n) or n for n in iter(int, 1)), threads)
    for _ in range(50):
        next(results)
    assert len(taken) <= 50 + 2 * threads


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_comes_in_its_place(threads):
    results = ordered_map(lambda number: 1 // number, [1, 1, 0, 1], threads)
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_stopping_half_way_ends_the_threads():
    begun = []
    results = ordered_map(lambda number: begun.append(number) or time.sleep(0.01), range(1000), 2)
    next(results)
    results.close()
    assert len(begun) <= 5
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ferkit")]


def test_at_least_one_core_is_usable():
    assert usable_cores() >= 1
