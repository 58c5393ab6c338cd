"""Times of several callables, taken in turns so that a busy machine is equally hard on all."""

import statistics
import time
from collections import deque


def in_turns(calls, rounds, least=0.25, warm_up=2, clock=time.perf_counter):
    """Return the seconds that a call takes, one for each round: {name: [seconds, ...]}.

    Parameters
    ----------
    calls
        Callables by name. Each is first called `warm_up` times, which is not counted.
    rounds
        How often each has its turn. Every round begins with another one, so that none always comes
        after the same.
    least
        A turn lasts at least so many seconds: quick calls are repeated, and the mean is taken.
    clock
        What counts the seconds. `time.process_time` counts those that all cores together were at
        work for this process, to which other processes add little.
    """
    for call in calls.values():
        for _ in range(warm_up):
            call()
    seconds = {name: [] for name in calls}
    order = deque(calls)
    for _ in range(rounds):
        for name in order:
            seconds[name].append(_turn(calls[name], least, clock))
        order.rotate(-1)
    return seconds


def _turn(call, least, clock):
    count, start = 0, clock()
    while True:
        call()
        count += 1
        elapsed = clock() - start
        if elapsed >= least:
            return elapsed / count


def ratios(seconds, unit):
    """Return {name: {"ratio", "low", "high"}}: the median over rounds of time ÷ `unit`'s time.

    `low` and `high` are the smallest and the largest.
    """
    result = {}
    for name, times in seconds.items():
        each = [a / b for a, b in zip(times, seconds[unit], strict=True)]
        result[name] = {"ratio": statistics.median(each), "low": min(each), "high": max(each)}
    return result
