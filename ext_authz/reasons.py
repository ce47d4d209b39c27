"""The closed set of reasons for a denial, and the exception that carries one to the verdict.

What the caller sees for each, and what the operator can do, stands in `verdict/answers.py`.
"""

from enum import StrEnum

from ext_authz.leg import Leg


class Reason(StrEnum):
    """Why a request was denied. The value is the code: in answers, audit, access log and metrics."""

    # the request
    REQUEST_MALFORMED = "request_malformed"
    HTTP_METHOD_REFUSED = "http_method_refused"
    SERVER_UNKNOWN = "server_unknown"
    MESSAGE_MALFORMED = "message_malformed"
    MESSAGE_HEADER_MISMATCH = "message_header_mismatch"
    # the user token
    TOKEN_MISSING = "token_missing"
    TOKEN_MALFORMED = "token_malformed"
    TOKEN_ISSUER_UNKNOWN = "token_issuer_unknown"
    TOKEN_SIGNATURE_INVALID = "token_signature_invalid"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_AUDIENCE_WRONG = "token_audience_wrong"
    TOKEN_CLAIMS_INVALID = "token_claims_invalid"
    ISSUER_KEYS_UNAVAILABLE = "issuer_keys_unavailable"
    # leg 1, at the identity provider
    SUBJECT_TOKEN_REFUSED = "subject_token_refused"
    SIGN_IN_LOOP = "sign_in_loop"
    STEP_UP_REQUIRED = "step_up_required"
    POLICY_DENIED = "policy_denied"
    SCOPE_DENIED = "scope_denied"
    HUB_CLIENT_REFUSED = "hub_client_refused"
    IDP_UNAVAILABLE = "idp_unavailable"
    IDP_RATE_LIMITED = "idp_rate_limited"
    IDP_ANSWER_INVALID = "idp_answer_invalid"
    ID_JAG_INVALID = "id_jag_invalid"
    # leg 2, at the MCP server's authorization server
    ID_JAG_REFUSED = "id_jag_refused"
    RESOURCE_REFUSED = "resource_refused"
    USER_NOT_PROVISIONED = "user_not_provisioned"
    SERVER_CLIENT_REFUSED = "server_client_refused"
    AS_UNAVAILABLE = "as_unavailable"
    AS_RATE_LIMITED = "as_rate_limited"
    AS_METADATA_INVALID = "as_metadata_invalid"
    AS_ANSWER_INVALID = "as_answer_invalid"
    # this service
    DEADLINE_EXCEEDED = "deadline_exceeded"
    EXCHANGE_OVERLOADED = "exchange_overloaded"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    AUDIT_OVERLOADED = "audit_overloaded"
    AUDIT_SLOW = "audit_slow"
    INTERNAL = "internal"
    ABANDONED = "abandoned"


class Denied(Exception):
    """Raised by a stage that cannot go on.

    `detail` is for the operator and never holds input: no token, no header, no provider's words.
    `retry_after` (seconds) overrides the table's, where a provider named its own. `legs` are the
    requests of the exchange that came to this, where one was made for it.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str = "",
        *,
        retry_after: int | None = None,
        legs: tuple[Leg, ...] = (),
    ) -> None:
        super().__init__(reason.value)
        self.reason = reason
        self.detail = detail
        self.retry_after = retry_after
        self.legs = legs

    def copy(self) -> "Denied":
        """The same denial without this one's traceback."""
        return Denied(self.reason, self.detail, retry_after=self.retry_after, legs=self.legs)
