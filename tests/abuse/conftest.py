"""The fixtures of the pipeline and Envoy suites, for this one too; and its table."""

import os
from collections.abc import Callable

import pytest

from tests.abuse.table import Table
from tests.abuse.verdicts import DeniedWith, Seen, assert_denied
from tests.envoy.conftest import (
    alice,
    own_front,
    recorded_front,
    recorder,
    scene,
    shipped_front,
    world,
)
from tests.pipeline.conftest import gateway, prepared
from tests.pipeline.gateway import Answer, Gateway

__all__ = [
    "alice",
    "gateway",
    "own_front",
    "prepared",
    "recorded_front",
    "recorder",
    "scene",
    "shipped_front",
    "world",
]


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Table())


@pytest.fixture
def seen(record_property: Callable[[str, object], None]) -> Seen:
    """Notes the verdict that a test saw, for the table: `seen("deny token_malformed")`."""
    return lambda verdict: record_property("verdict", verdict)


@pytest.fixture
def denied(gateway: Gateway, seen: Seen) -> DeniedWith:
    """Asserts and notes that `answer` is a whole denial with this reason: `denied(answer, reason)`."""

    def assert_and_note(answer: Answer, reason: str) -> None:
        assert_denied(gateway, answer, reason)
        seen(f"deny {reason}")

    return assert_and_note


@pytest.fixture
def no_authorities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trusts no certificate at all: loading the machine's takes longer than most of these tests."""
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
