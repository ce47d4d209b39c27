"""What a refusal at either leg means for the caller: one table a leg, by OAuth error code.

The same code means different things at the two legs: at leg 1 `invalid_grant` is the user's token,
at leg 2 it is our ID-JAG, and the user's sign-in is fine.
"""

from types import MappingProxyType
from typing import Final

from ext_authz.exchange.token_endpoint import (
    AnswerInvalid,
    CredentialUnreadable,
    EndpointUnavailable,
    RateLimited,
    TokenRefused,
)
from ext_authz.identity.issuer_metadata import MetadataInvalid, MetadataUnavailable
from ext_authz.reasons import Denied, Reason

LEG_1: Final = MappingProxyType(
    {
        "invalid_grant": Reason.SUBJECT_TOKEN_REFUSED,
        "invalid_request": Reason.SUBJECT_TOKEN_REFUSED,  # RFC 8693 section 2.2.2
        "insufficient_user_authentication": Reason.STEP_UP_REQUIRED,
        "interaction_required": Reason.STEP_UP_REQUIRED,
        "access_denied": Reason.POLICY_DENIED,
        "invalid_target": Reason.POLICY_DENIED,
        "unauthorized_client": Reason.POLICY_DENIED,
        "invalid_scope": Reason.SCOPE_DENIED,
        "invalid_client": Reason.HUB_CLIENT_REFUSED,
        "unsupported_grant_type": Reason.HUB_CLIENT_REFUSED,
        "unsupported_token_type": Reason.HUB_CLIENT_REFUSED,
    }
)
LEG_2: Final = MappingProxyType(
    {
        "invalid_grant": Reason.ID_JAG_REFUSED,
        "invalid_target": Reason.RESOURCE_REFUSED,
        "access_denied": Reason.USER_NOT_PROVISIONED,
        "invalid_scope": Reason.SCOPE_DENIED,
        "invalid_client": Reason.SERVER_CLIENT_REFUSED,
        "unauthorized_client": Reason.SERVER_CLIENT_REFUSED,
        "unsupported_grant_type": Reason.SERVER_CLIENT_REFUSED,
        "invalid_request": Reason.SERVER_CLIENT_REFUSED,
    }
)
# What the endpoints' own failures are called, each leg's in its own words.
_LEG_1_FAULTS: Final = (
    (RateLimited, Reason.IDP_RATE_LIMITED),
    ((EndpointUnavailable, MetadataUnavailable), Reason.IDP_UNAVAILABLE),
    (CredentialUnreadable, Reason.HUB_CLIENT_REFUSED),
    ((AnswerInvalid, MetadataInvalid), Reason.IDP_ANSWER_INVALID),
)
_LEG_2_FAULTS: Final = (
    (RateLimited, Reason.AS_RATE_LIMITED),
    ((EndpointUnavailable, MetadataUnavailable), Reason.AS_UNAVAILABLE),
    (CredentialUnreadable, Reason.SERVER_CLIENT_REFUSED),
    (MetadataInvalid, Reason.AS_METADATA_INVALID),
    (AnswerInvalid, Reason.AS_ANSWER_INVALID),
)
FAULTS: Final = (
    TokenRefused,
    EndpointUnavailable,
    CredentialUnreadable,
    AnswerInvalid,
    MetadataUnavailable,
    MetadataInvalid,
)


def leg_1_denial(fault: Exception) -> Denied:
    """The denial that a fault of leg 1 (one of `FAULTS`) amounts to."""
    if isinstance(fault, TokenRefused):
        return Denied(LEG_1.get(fault.code, Reason.IDP_ANSWER_INVALID), str(fault))
    return _denial(fault, _LEG_1_FAULTS)


def leg_2_denial(fault: Exception) -> Denied:
    """The denial that a fault of leg 2 (one of `FAULTS`) amounts to."""
    if isinstance(fault, TokenRefused):
        return Denied(LEG_2.get(fault.code, Reason.AS_ANSWER_INVALID), str(fault))
    return _denial(fault, _LEG_2_FAULTS)


def _denial(
    fault: Exception,
    table: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Reason], ...],
) -> Denied:
    reason = next((reason for kinds, reason in table if isinstance(fault, kinds)), Reason.INTERNAL)
    return Denied(reason, str(fault), retry_after=getattr(fault, "retry_after", None))
