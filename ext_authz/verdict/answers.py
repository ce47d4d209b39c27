"""The closed table of answers: for each reason what the caller sees and what to do about it.

Three rules made it. 401 only where a new sign-in mends it: an MCP client answers 401 with a browser
window, so a wrong 401 is a login loop. 403 where policy, or the request itself, says no. 502 and 503
where a provider or this service is at fault. Never 400, 404 or 405: MCP clients read those as "an
old server" and fall back to an old transport (MCP 2026-07-28, Streamable HTTP).
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ext_authz.reasons import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One row: what the caller gets for a reason, and what the operator is told about it.

    `challenge` is the RFC 6750 `error` of the `WWW-Authenticate` header: None sends no such header,
    "" sends one without an error (RFC 6750 section 3.1: no credentials, no error). `retry_after` is
    in seconds.
    """

    status: int
    text: str
    meaning: str
    fix: str
    challenge: str | None = None
    retry_after: int | None = None


_SIGN_IN: Final = "Sign in again."
_REFUSED: Final = "The request was refused."
_NOT_ALLOWED: Final = "Your organisation does not allow this."
_UPSTREAM: Final = "The MCP server cannot be reached on your behalf right now."
_UNAVAILABLE: Final = "Authorization is temporarily unavailable."

ANSWERS: Final = MappingProxyType(
    {
        Reason.REQUEST_MALFORMED: Answer(
            status=403,
            text=_REFUSED,
            meaning="Envoy's CheckRequest holds no readable HTTP request.",
            fix="Check that the caller is Envoy's HTTP ext_authz filter, and the header's encoding.",
        ),
        Reason.HTTP_METHOD_REFUSED: Answer(
            status=403,
            text=_REFUSED,
            meaning="MCP's Streamable HTTP knows POST, GET and DELETE; this was another method.",
            fix="Answer CORS preflights with Envoy's cors filter, before ext_authz.",
        ),
        Reason.SERVER_UNKNOWN: Answer(
            status=403,
            text=_REFUSED,
            meaning="The route names no MCP server, or one that the settings do not know.",
            fix="Set `mcp.server` in the route's context_extensions to a name under `servers`.",
        ),
        Reason.MESSAGE_MALFORMED: Answer(
            status=403,
            text=_REFUSED,
            meaning="The body is not exactly one JSON-RPC message in strict JSON.",
            fix="Look at the client: batches, duplicate keys and other content types are refused.",
        ),
        Reason.MESSAGE_HEADER_MISMATCH: Answer(
            status=403,
            text=_REFUSED,
            meaning="`Mcp-Method` or `Mcp-Name` says something else than the body.",
            fix="Look at the client: MCP 2026-07-28 requires both to agree.",
        ),
        Reason.TOKEN_MISSING: Answer(
            status=401,
            challenge="",
            text="Sign in to use this MCP server.",
            meaning="The request carried no Authorization header.",
            fix="Nothing: the client is told where to sign in.",
        ),
        Reason.TOKEN_MALFORMED: Answer(
            status=401,
            challenge="invalid_token",
            text=_SIGN_IN,
            meaning="Authorization is not one well-formed Bearer JWT, or the token stood in the URL.",
            fix="Look at the client: one `Authorization: Bearer <JWT>` header, no other place.",
        ),
        Reason.TOKEN_ISSUER_UNKNOWN: Answer(
            status=401,
            challenge="invalid_token",
            text=_SIGN_IN,
            meaning="The user token's `iss` is no issuer of `identity_providers`, to the letter.",
            fix="Compare the token's `iss` with `issuer` in the settings, trailing slash included.",
        ),
        Reason.TOKEN_SIGNATURE_INVALID: Answer(
            status=401,
            challenge="invalid_token",
            text=_SIGN_IN,
            meaning="The user token was not signed by a current key of its issuer.",
            fix="One user: a stale or forged token. All users: compare the issuer's JWKS and `algorithms`.",
        ),
        Reason.TOKEN_EXPIRED: Answer(
            status=401,
            challenge="invalid_token",
            text=_SIGN_IN,
            meaning="The user token is past its `exp`.",
            fix="Nothing, unless every user is affected: then check this machine's clock.",
        ),
        Reason.TOKEN_AUDIENCE_WRONG: Answer(
            status=401,
            challenge="invalid_token",
            text=_SIGN_IN,
            meaning="The user token was issued for another client or API.",
            fix="Add its `aud` to the identity provider's `audience`, or mend the client's sign-in.",
        ),
        Reason.TOKEN_CLAIMS_INVALID: Answer(
            status=401,
            challenge="invalid_token",
            text=_SIGN_IN,
            meaning="A claim of the user token is missing, of the wrong type, or of another token kind.",
            fix="See `detail`; compare `subject_token` with what the client sends.",
        ),
        Reason.ISSUER_KEYS_UNAVAILABLE: Answer(
            status=503,
            retry_after=5,
            text=_UNAVAILABLE,
            meaning="The identity provider's keys could not be fetched and none are at hand.",
            fix="Fetch the issuer's /.well-known/openid-configuration from this host.",
        ),
        Reason.SUBJECT_TOKEN_REFUSED: Answer(
            status=401,
            challenge="invalid_token",
            text=_SIGN_IN,
            meaning="The identity provider no longer accepts the user token: revoked, or the user is disabled.",
            fix="Look the user up at the identity provider.",
        ),
        Reason.SIGN_IN_LOOP: Answer(
            status=403,
            text=_NOT_ALLOWED,
            meaning="The same user token came back after the identity provider had refused it.",
            fix="The client did not sign in anew; if it did, the identity provider refuses the user.",
        ),
        Reason.STEP_UP_REQUIRED: Answer(
            status=401,
            challenge="insufficient_user_authentication",
            text="A stronger sign-in is needed.",
            meaning="The identity provider wants a stronger or fresher sign-in (RFC 9470).",
            fix="Nothing: the client is told so.",
        ),
        Reason.POLICY_DENIED: Answer(
            status=403,
            text=_NOT_ALLOWED,
            meaning="The identity provider's policy does not let this user use this MCP server.",
            fix="Assign the user, or the connection, at the identity provider.",
        ),
        Reason.SCOPE_DENIED: Answer(
            status=403,
            text=_NOT_ALLOWED,
            meaning="None of the server's `scopes` was granted to this user.",
            fix="Compare `scopes` with what the identity provider and the server's AS allow.",
        ),
        Reason.HUB_CLIENT_REFUSED: Answer(
            status=503,
            retry_after=30,
            text=_UNAVAILABLE,
            meaning="The identity provider does not accept our own client or grant.",
            fix="Check `client` of the identity provider: id, auth, key or secret, allowed grants.",
        ),
        Reason.IDP_UNAVAILABLE: Answer(
            status=503,
            retry_after=5,
            text=_UNAVAILABLE,
            meaning="The identity provider did not answer in time, or with a server error.",
            fix="Look at the identity provider's status and the network path to it.",
        ),
        Reason.IDP_RATE_LIMITED: Answer(
            status=503,
            retry_after=30,
            text=_UNAVAILABLE,
            meaning="The identity provider answered 429.",
            fix="Raise its limit, or look for a client that makes many user sessions.",
        ),
        Reason.IDP_ANSWER_INVALID: Answer(
            status=502,
            text=_UNAVAILABLE,
            meaning="The identity provider's token response breaks RFC 8693 section 2.2.",
            fix="See `detail`; check that ID-JAG issuance is switched on for our client.",
        ),
        Reason.ID_JAG_INVALID: Answer(
            status=502,
            text=_UNAVAILABLE,
            meaning="The ID-JAG is not for this server and our client there: possibly a mix-up attack.",
            fix="See `detail` for the claim; compare the connection at the identity provider.",
        ),
        Reason.ID_JAG_REFUSED: Answer(
            status=502,
            text=_UPSTREAM,
            meaning="The server's AS refused two fresh ID-JAGs (invalid_grant).",
            fix="Check that it trusts the identity provider, knows the user, and that clocks agree.",
        ),
        Reason.RESOURCE_REFUSED: Answer(
            status=502,
            text=_UPSTREAM,
            meaning="The server's AS does not know the `resource` (invalid_target).",
            fix="Compare `resource` with the server's protected resource metadata.",
        ),
        Reason.USER_NOT_PROVISIONED: Answer(
            status=403,
            text=_NOT_ALLOWED,
            meaning="The server's AS knows the grant but does not let this user in (access_denied).",
            fix="Provision or license the user at the MCP server.",
        ),
        Reason.SERVER_CLIENT_REFUSED: Answer(
            status=503,
            retry_after=30,
            text=_UPSTREAM,
            meaning="The server's AS does not accept our client or grant.",
            fix="Check `client` of the authorization server: id, auth, key or secret, allowed grants.",
        ),
        Reason.AS_UNAVAILABLE: Answer(
            status=503,
            retry_after=5,
            text=_UPSTREAM,
            meaning="The server's AS did not answer in time, or with a server error.",
            fix="Look at that authorization server's status and the network path to it.",
        ),
        Reason.AS_RATE_LIMITED: Answer(
            status=503,
            retry_after=30,
            text=_UPSTREAM,
            meaning="The server's AS answered 429.",
            fix="Raise its limit for our client.",
        ),
        Reason.AS_METADATA_INVALID: Answer(
            status=503,
            retry_after=30,
            text=_UPSTREAM,
            meaning="The AS metadata is missing, or names another issuer (RFC 8414 section 3.3).",
            fix="Copy `issuer` from the metadata to the letter, or set `token_endpoint`.",
        ),
        Reason.AS_ANSWER_INVALID: Answer(
            status=502,
            text=_UPSTREAM,
            meaning="The AS's token response breaks RFC 6749 section 5.1, or grants more than asked.",
            fix="See `detail`.",
        ),
        Reason.DEADLINE_EXCEEDED: Answer(
            status=503,
            retry_after=1,
            text=_UNAVAILABLE,
            meaning="The Check ran out of its time.",
            fix="Look at the providers' response times; keep Envoy's timeout above `check_timeout`.",
        ),
        Reason.EXCHANGE_OVERLOADED: Answer(
            status=503,
            retry_after=1,
            text=_UNAVAILABLE,
            meaning="More Checks of one user session wait for the same exchange than may wait for one.",
            fix="Look for a client that floods, and at the providers' response times.",
        ),
        Reason.AUDIT_UNAVAILABLE: Answer(
            status=503,
            retry_after=5,
            text=_UNAVAILABLE,
            meaning="The audit record could not be written, so nothing is allowed.",
            fix="Look at the audit file's disk and permissions.",
        ),
        Reason.AUDIT_OVERLOADED: Answer(
            status=503,
            retry_after=5,
            text=_UNAVAILABLE,
            meaning="More audit records wait to be written than the queue holds.",
            fix="Look at the audit disk's speed, or share the load among more replicas.",
        ),
        Reason.AUDIT_SLOW: Answer(
            status=503,
            retry_after=5,
            text=_UNAVAILABLE,
            meaning="The audit record was not written, or not synced, in the Check's time.",
            fix="Look at the audit disk's latency; `durability: synced` waits for it.",
        ),
        Reason.INTERNAL: Answer(
            status=503,
            retry_after=5,
            text=_UNAVAILABLE,
            meaning="A defect of this service; `detail` names the exception's type.",
            fix="Please report it with the decision id.",
        ),
        Reason.ABANDONED: Answer(
            status=503,
            text=_UNAVAILABLE,
            meaning="Envoy or the client gave up before a verdict; nobody saw an answer.",
            fix="If frequent: compare Envoy's timeout with the providers' response times.",
        ),
    }
)
