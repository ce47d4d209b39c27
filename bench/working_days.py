"""When people's agents call a server on a working day: tasks of a few calls, with pauses between.

Made up, but the same for everyone who is compared: a figure is a number of exchanges over another.
"""

import random
from typing import Final

DAYS: Final = 21  # working days of a month
USERS: Final = 20  # each is independent of the others, so that a thousand would give the same mean
_HOUR: Final = 3600.0
_MORNING: Final = (8.5 * _HOUR, 10 * _HOUR)
_BEFORE_LUNCH: Final = (2.5 * _HOUR, 3.5 * _HOUR)
_LUNCH: Final = (0.5 * _HOUR, 1.25 * _HOUR)
_AFTER_LUNCH: Final = (3.5 * _HOUR, 5 * _HOUR)
_BETWEEN_TASKS: Final = 420.0  # on average
_CALLS: Final = (1, 6)  # of one task
_BETWEEN_CALLS: Final = (1.0, 20.0)


def days(seed: int) -> list[list[float]]:
    """For one user, each day's calls in seconds since its midnight, in their order."""
    chance = random.Random(seed)
    return [_day(chance) for _ in range(DAYS)]


def _day(chance: random.Random) -> list[float]:
    morning = chance.uniform(*_MORNING)
    lunch = morning + chance.uniform(*_BEFORE_LUNCH)
    afternoon = lunch + chance.uniform(*_LUNCH)
    evening = afternoon + chance.uniform(*_AFTER_LUNCH)
    return [*_calls(chance, morning, lunch), *_calls(chance, afternoon, evening)]


def _calls(chance: random.Random, begin: float, end: float) -> list[float]:
    calls, now = [], begin
    while now < end:
        for _ in range(chance.randint(*_CALLS)):
            calls.append(float(int(now)))  # tokens count in whole seconds, and so does the minimum
            now += chance.uniform(*_BETWEEN_CALLS)
        now += chance.expovariate(1 / _BETWEEN_TASKS)
    return calls
