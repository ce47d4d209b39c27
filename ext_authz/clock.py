"""Time as a part that can be given: production reads the machine's, tests move their own."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Two times, both in seconds: `wall` for what tokens say, `monotonic` for how long we kept them.

    `chance` gives a number from 0 up to 1: it spreads waits, so that those which began together do not
    end together.
    """

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
