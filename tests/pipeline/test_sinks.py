"""What is in the audit file is at every sink when the service has stopped, its last lines too."""

from dataclasses import replace

import pytest

from ext_authz.cannot_serve import CannotServe
from ext_authz.settings.settings import OtlpSink
from tests.doubles.otlp_receiver import OtlpReceiver
from tests.pipeline.gateway import Gateway


async def test_file_stdout_and_collector_have_the_same_lines(
    prepared: Gateway, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with OtlpReceiver() as receiver:
        otlp = OtlpSink(endpoint=receiver.url, headers={})
        prepared.change(audit=replace(prepared.settings.audit, stdout=True, otlp=otlp))
        async with prepared.serving():
            allowed, denied = await prepared.call(), await prepared.call(token=None)

        lines = prepared.audit_file.read_bytes()
        copied = [log.body.string_value.encode() + b"\n" for log in receiver.logs]

    assert (allowed.is_allow, denied.is_allow) == (True, False)
    assert [record["verdict"] for record in prepared.records()] == ["allow", "deny"]
    out = capfdbinary.readouterr().out.splitlines(keepends=True)
    printed = [
        line for line in out if line.startswith(b"{")
    ]  # the logs of this process go there too
    assert b"".join(printed) == lines == b"".join(copied)


async def test_a_collector_that_is_down_denies_nothing(prepared: Gateway) -> None:
    with OtlpReceiver() as receiver:
        endpoint = receiver.url
    otlp = OtlpSink(endpoint=endpoint, headers={})
    prepared.change(audit=replace(prepared.settings.audit, otlp=otlp))

    async with prepared.serving():
        assert (await prepared.call()).is_allow


async def test_a_sink_that_cannot_work_stops_the_start(prepared: Gateway) -> None:
    prepared.audit_file.mkdir()
    otlp = OtlpSink(endpoint="http://127.0.0.1:9/v1/logs", headers={})
    prepared.change(audit=replace(prepared.settings.audit, otlp=otlp))

    with pytest.raises(CannotServe, match="The audit log cannot be used"):
        async with prepared.serving():
            pass
