"""What an attempt came to."""

from collections.abc import Awaitable

import pytest

from ext_authz.reasons import Denied


async def denial(attempt: Awaitable[object]) -> Denied:
    """The denial that `attempt` must end in."""
    with pytest.raises(Denied) as caught:
        await attempt
    return caught.value
