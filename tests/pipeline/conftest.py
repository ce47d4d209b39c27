"""A gateway that serves."""

from collections.abc import AsyncIterator

import pytest

from tests.doubles.movable_time import MovableTime
from tests.pipeline.gateway import Gateway
from tests.pipeline.gateway import gateway as not_yet_serving


@pytest.fixture
async def prepared(time: MovableTime, credentials: None) -> AsyncIterator[Gateway]:
    """Its doubles run; the service does not yet."""
    async with not_yet_serving(time) as gateway:
        yield gateway


@pytest.fixture
async def gateway(prepared: Gateway) -> AsyncIterator[Gateway]:
    async with prepared.serving():
        yield prepared
