"""The fields of a token endpoint's answer (RFC 6749 section 5.1), read with suspicion."""

import re
from collections.abc import Mapping
from typing import Final

from ext_authz.exchange.token_endpoint import AnswerInvalid
from ext_authz.secret import Secret

MAX_TOKEN_LENGTH: Final = 16 * 1024
MAX_LIFETIME_SECONDS: Final = 24 * 3600
MAX_SCOPE_LENGTH: Final = 4096
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 section 2.1: fit for a header
_DIGITS: Final = re.compile(r"[0-9]{1,9}")
_SCOPE: Final = re.compile(r"[\x20\x21\x23-\x5B\x5D-\x7E]*")  # RFC 6749 section 3.3


def token_of(answer: Mapping[str, object]) -> Secret:
    """`access_token`: a text that can stand in a header as it is."""
    value = answer.get("access_token")
    if not isinstance(value, str) or len(value) > MAX_TOKEN_LENGTH or not _TOKEN.fullmatch(value):
        raise AnswerInvalid("access_token is missing, too long, or not fit for a header")
    return Secret(value)


def token_type_of(answer: Mapping[str, object]) -> str:
    """`token_type` in lower case: it is compared without case."""
    value = answer.get("token_type")
    return value.lower() if isinstance(value, str) else ""


def lifetime_of(answer: Mapping[str, object], default: int) -> int:
    """`expires_in` in seconds, at most a day; `default` where it is absent.

    Providers exist that send it as a text of digits; nothing else passes for a number.
    """
    value = answer.get("expires_in", default)
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise AnswerInvalid("expires_in is not a positive number of seconds")
    return min(value, MAX_LIFETIME_SECONDS)


def scope_of(answer: Mapping[str, object], requested: tuple[str, ...]) -> tuple[str, ...]:
    """The granted scope; what was requested where the answer is silent (RFC 6749 section 5.1)."""
    value = answer.get("scope")
    if value is None:
        return requested
    if not isinstance(value, str) or len(value) > MAX_SCOPE_LENGTH or not _SCOPE.fullmatch(value):
        raise AnswerInvalid("scope is not a text of bounded length in its alphabet")
    granted = tuple(dict.fromkeys(value.split()))
    if requested and not set(granted) <= set(requested):
        raise AnswerInvalid("more scope was granted than requested")
    return granted
