import threading
import time

import pytest

from ferkit._support.parallel import alone_with, ordered_map, usable_cores


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
    begun, others = [], threading.enumerate()
    results = ordered_map(lambda number: begun.append(number) or time.sleep(0.01), range(1000), 2)
    next(results)
    results.close()
    time.sleep(0.5)
    assert len(begun) <= 5
    assert not [one for one in threading.enumerate() if one not in others and one.name.startswith("ferkit")]


def test_a_result_that_is_there_does_not_wait_for_more():
    taken = []

    def slow():
        for number in range(20):
            time.sleep(0.05)
            taken.append(number)
            yield number

    assert next(ordered_map(lambda number: number, slow(), 4)) == 0
    assert len(taken) <= 3


def test_what_came_before_a_failing_supply_is_kept():
    def supply():
        yield from (1, 2, 3)
        raise OSError("gone")

    results = ordered_map(lambda number: -number, supply(), 3)
    assert [next(results), next(results), next(results)] == [-1, -2, -3]
    with pytest.raises(OSError, match="gone"):
        next(results)


def test_alone_with_one_thing_but_not_with_all():
    one, other = object(), object()
    inside = threading.Event()
    leave = threading.Event()

    def hold():
        with alone_with(one):
            inside.set()
            leave.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(10)
    with alone_with(other):
        pass  # would hang if all things shared a lock
    waited = threading.Thread(target=lambda: alone_with(one).__enter__())
    waited.start()
    waited.join(0.1)
    assert waited.is_alive()
    leave.set()
    waited.join(10)
    holder.join(10)
    assert not waited.is_alive()


def test_at_least_one_core_is_usable():
    assert usable_cores() >= 1
