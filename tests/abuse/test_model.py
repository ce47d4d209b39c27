"""Whatever happens, in whatever order: a model of the service's life, and what must hold throughout.

Threats A5, F12, G1, G3 to G7, I4. Hypothesis plays users, attackers, operators, providers and clocks
against the whole pipeline; after each of its steps the promises of the README are checked.
"""

import asyncio
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ext_authz._protos.external_auth_pb2 import CheckRequest, CheckResponse
from ext_authz.access_log.outcomes import Outcomes
from ext_authz.audit.log import AuditLog
from ext_authz.exchange.failure_memory import FailureMemory
from ext_authz.exchange.refusals import LEG_1, LEG_2
from ext_authz.exchange.token_cache import TokenCache
from ext_authz.issuers import Issuers
from ext_authz.reasons import Reason
from ext_authz.server import build_check
from tests.abuse import envoys_view
from tests.abuse.simulated_world import (
    CHECK_SECONDS,
    EXCHANGE_SECONDS,
    Person,
    UserToken,
    World,
    stamp_of,
)
from tests.abuse.virtual_time import Clocks, VirtualLoop
from tests.doubles.audit_records import said_in
from tests.doubles.inline_worker import InlineWorker
from tests.doubles.loopback import Dial
from tests.doubles.signing_keys import signing_key
from tests.doubles.tokens import ABSENT, base64url
from tests.unit.check_requests import check_request

HOUR: Final = 3600
DAY: Final = 24 * HOUR  # for which an issuer's keys serve on through an outage
LEEWAY: Final = 30
MAX_KEYS: Final = 100
ROOM: Final = 3  # access tokens, and failures, that are kept: fewer than there are persons
A_MOMENT: Final = 0.001

ALICE: Final = Person(
    issuer="https://idp-a.corp.example", subject="alice", session="s1", agent="desktop"
)
PERSONS: Final = [  # each differs from Alice in one thing
    ALICE,
    replace(ALICE, issuer="https://idp-b.corp.example"),
    replace(ALICE, subject="bob"),
    replace(ALICE, session="s2"),
    replace(ALICE, agent="cli"),
]
SERVERS: Final = ["crm", "wiki", "hr"]
MALLORY: Final = signing_key("ES256", "mallory").private
TROUBLES: Final = {
    "late": Dial(delay=1),
    "very late": Dial(delay=2.85),
    "silent": Dial(delay=HOUR),
    "cut off": Dial(cut=True),
    "server error": Dial(status=500),
    "too many requests": Dial(status=429, headers={"retry-after": "20"}),
    "HTML": Dial(body=b"<html>"),
    "another issuer": Dial(members={"issuer": "https://evil.example"}),
    "no token": Dial(members={"access_token": ABSENT}),
    "another type": Dial(members={"token_type": "DPoP"}),
    "no life": Dial(members={"expires_in": 0}),
    "no keys": Dial(members={"keys": []}),
    "keys without end": Dial(
        members={"keys": [signing_key().jwk(kid=f"junk-{n}") for n in range(2 * MAX_KEYS)]}
    ),
}
OF_KEYS: Final = ("cut off", "server error", "HTML", "no keys", "keys without end")
CODES: Final = sorted({*LEG_1, *LEG_2, "no_such_code"})

persons = st.sampled_from(PERSONS)
servers = st.sampled_from(SERVERS)
lifetimes = st.sampled_from([600, 10 * HOUR, 100 * HOUR])
moments = st.sampled_from([0, 0.02, 0.06, 0.3, 1, 3])


@dataclass(slots=True, kw_only=True)
class Asked:
    """One Check under way, and the earliest that either clock has shown since it began."""

    token: UserToken
    server: str
    began: float
    wall: float
    monotonic: float
    keys_from: int


@dataclass(slots=True)
class Audit:
    """The audit file, read on as it grows; a correction takes the place of what was read before."""

    file: Path
    records: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    _read: int = 0

    def read(self) -> dict[str, list[dict[str, Any]]]:
        with self.file.open("rb") as stream:
            stream.seek(self._read)
            lines = stream.read()
        self._read += len(lines)
        for record in said_in(lines):
            of_one = self.records[record["decision_id"]]
            if record["is_correction"]:
                of_one[-1] = record
            else:
                of_one.append(record)
        return self.records


# ---- what people try


def _expired(world: World, person: Person, _victim: Person) -> UserToken:
    return world.provider_of(person).sign_in(person, -2 * HOUR)


def _signed_with_a_key_of_ones_own(world: World, _person: Person, victim: Person) -> UserToken:
    provider = world.provider_of(victim)
    key = replace(provider.keys[-1], private=MALLORY)
    return provider.signed(victim, HOUR, key, is_genuine=False)


def _signed_by_the_other_provider(world: World, _person: Person, victim: Person) -> UserToken:
    (other,) = (each for each in world.providers if each.issuer != victim.issuer)
    return world.provider_of(victim).signed(victim, HOUR, other.keys[-1], is_genuine=False)


def _with_somebody_elses_claims(world: World, person: Person, victim: Person) -> UserToken:
    header, _, signature = world.provider_of(person).sign_in(person, HOUR).text.split(".")
    theirs = world.provider_of(victim).sign_in(victim, HOUR)
    text = f"{header}.{theirs.text.split('.')[1]}.{signature}"
    return replace(theirs, text=text, is_genuine=False)


def _without_a_signature(world: World, _person: Person, victim: Person) -> UserToken:
    theirs = world.provider_of(victim).sign_in(victim, HOUR)
    header = base64url(b'{"alg":"none","kid":"key-0"}')
    text = f"{header}.{theirs.text.split('.')[1]}.{base64url(b'none')}"
    return replace(theirs, text=text, is_genuine=False)


LIES: Final[dict[str, Callable[[World, Person, Person], UserToken]]] = {
    lie.__name__: lie
    for lie in (
        _expired,
        _signed_with_a_key_of_ones_own,
        _signed_by_the_other_provider,
        _with_somebody_elses_claims,
        _without_a_signature,
    )
}


class Model(RuleBasedStateMachine):
    """Everybody who can do something to the service, and the service."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.loop = VirtualLoop()
        self.clocks = Clocks(self.loop)
        self.world = World(self.clocks)
        self.audit = Audit(Path(self._directory.name) / "audit.jsonl")
        configured = self.world.settings(str(self.audit.file))
        self._log = AuditLog(configured.audit, self.clocks.clock, worker=InlineWorker())
        self.outcomes_due = Outcomes(self._log, self.clocks.clock)
        self.issuers = Issuers(configured, self.world, self.clocks.clock)
        self.check = build_check(
            configured, self.issuers, self._log, self.outcomes_due, self.clocks.clock
        )
        self.tokens = self.check._access_tokens
        self.tokens._cache = TokenCache(self.clocks.clock, max_entries=ROOM)
        self.tokens._failures = FailureMemory(self.clocks.clock, max_entries=ROOM)
        self.under_way: dict[asyncio.Task[None], Asked] = {}
        self.last: Asked | None = None
        self.wrong: list[BaseException] = []
        self.outcomes: Counter[str] = Counter()

    def teardown(self) -> None:
        try:
            self.loop.passes(2 * CHECK_SECONDS)
            self.every_answer_was_right()
            assert not self.under_way
            assert len(self.tokens._flight) == 0
        finally:
            self.loop.finish(self._log.close())
            self.loop.close()
            self._directory.cleanup()

    # ---- people call

    @rule(person=persons, server=servers, seconds=lifetimes, later=moments)
    def call_after_signing_in(
        self, person: Person, server: str, seconds: int, later: float
    ) -> None:
        self._ask(self.world.provider_of(person).sign_in(person, seconds), server)
        self.loop.passes(later)

    @rule(data=st.data(), server=servers, later=moments)
    def call_with_a_token_of_before(self, data: st.DataObject, server: str, later: float) -> None:
        tokens = [token for each in self.world.providers for token in each.signed_in.values()]
        if tokens:
            self._ask(data.draw(st.sampled_from(tokens)), server)
            self.loop.passes(later)

    @precondition(lambda self: self.last is not None)
    @rule(later=moments)
    def call_once_more(self, later: float) -> None:
        assert self.last is not None
        self._ask(self.last.token, self.last.server)
        self.loop.passes(later)

    @rule(people=st.lists(st.tuples(persons, servers), min_size=2, max_size=8))
    def call_all_at_once(self, people: list[tuple[Person, str]]) -> None:
        for person, server in people:
            self._ask(self.world.provider_of(person).sign_in(person, 10 * HOUR), server)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(list(self.under_way))).cancel()
        self.loop.passes(0)

    @rule(person=persons, victim=persons, server=servers, lie=st.sampled_from(sorted(LIES)))
    def lie(self, person: Person, victim: Person, server: str, lie: str) -> None:
        self._ask(LIES[lie](self.world, person, victim), server)
        self.loop.passes(0)

    @precondition(lambda self: self.last is not None)
    @rule(person=persons, lie=st.sampled_from(sorted(LIES)))
    def lie_about_who_was_here(self, person: Person, lie: str) -> None:
        """For them, an access token may be at hand."""
        assert self.last is not None
        self._ask(LIES[lie](self.world, person, self.last.token.person), self.last.server)
        self.loop.passes(0)

    # ---- providers, operators and clocks

    @rule(index=st.integers(0, 9), trouble=st.sampled_from(sorted(TROUBLES)))
    def an_endpoint_gets_into_trouble(self, index: int, trouble: str) -> None:
        sorted(self.world.endpoints.items())[index][1].dial = TROUBLES[trouble]

    @rule(
        index=st.integers(0, 1),
        trouble=st.sampled_from(OF_KEYS),
        seconds=st.sampled_from([600, DAY + HOUR]),
    )
    def keys_cannot_be_had(self, index: int, trouble: str, seconds: int) -> None:
        self.world.providers[index].jwks.dial = TROUBLES[trouble]
        self.loop.passes(seconds)

    @rule(seconds=st.sampled_from([1, 1.9, 2.85]))
    def everybody_is_slow(self, seconds: float) -> None:
        for endpoint in self.world.endpoints.values():
            endpoint.dial = Dial(delay=seconds)

    @rule(index=st.integers(0, 3), code=st.sampled_from(CODES), times=st.integers(1, 2))
    def a_provider_refuses(self, index: int, code: str, times: int) -> None:
        at_tokens = sorted(url for url in self.world.endpoints if url.endswith("/token"))
        self.world.endpoints[at_tokens[index]].next = [Dial(error=code)] * times

    @rule()
    def everything_is_mended(self) -> None:
        self.world.mend()

    @rule(index=st.integers(0, 1), drop=st.booleans())
    def keys_are_rotated(self, index: int, drop: bool) -> None:  # noqa: FBT001
        self.world.providers[index].rotate(drop=drop)

    @rule(index=st.integers(0, 1), subject=st.sampled_from(["alice", "bob"]))
    def a_user_is_disabled_or_enabled(self, index: int, subject: str) -> None:
        self.world.providers[index].disabled ^= {subject}

    @rule(index=st.integers(0, 1), lifetime=st.sampled_from([1, 60, 600, 2 * HOUR]))
    def access_tokens_live(self, index: int, lifetime: int) -> None:
        self.world.authorization_servers[index].lifetime = lifetime

    @rule(seconds=st.sampled_from([3, 10, 40, 300, 1000, 4000, DAY + HOUR]))
    def time_passes(self, seconds: float) -> None:
        self.loop.passes(seconds)

    @rule(seconds=st.sampled_from([-HOUR, HOUR]), is_wall=st.booleans())
    def a_clock_jumps(self, seconds: int, is_wall: bool) -> None:  # noqa: FBT001
        if is_wall:
            self._jump(wall=seconds - self.clocks.wall_is_off)
        else:
            self._jump(monotonic=seconds)

    @rule(others=st.lists(st.tuples(persons, servers), max_size=2))
    def once_all_is_well_everybody_is_served(self, others: list[tuple[Person, str]]) -> None:
        self.world.mend()
        self._jump(wall=-self.clocks.wall_is_off, monotonic=self.clocks.behind)
        self.loop.passes(HOUR)
        self.every_answer_was_right()
        people = [*others, *([(self.last.token.person, self.last.server)] if self.last else [])]
        before = self.outcomes["allow"]
        for person, server in people:
            self._ask(self.world.provider_of(person).sign_in(person, HOUR), server)
            self.loop.passes(1)
        self.every_answer_was_right()
        assert self.outcomes["allow"] == before + len(people)

    # ---- what holds throughout

    @invariant()
    def every_answer_was_right(self) -> None:
        """As judged at the moment of each."""
        if self.wrong:
            raise self.wrong[0]

    @invariant()
    def every_check_is_answered_in_time(self) -> None:
        for asked in self.under_way.values():
            assert self.loop.time() <= asked.began + CHECK_SECONDS + A_MOMENT

    @invariant()
    def every_exchange_ends_in_time(self) -> None:
        assert self.world.seconds_of_exchanges <= EXCHANGE_SECONDS + A_MOMENT

    @invariant()
    def every_check_has_one_record(self) -> None:
        records = self.audit.read().values()
        assert all(len(of_one) == 1 for of_one in records)
        recorded = Counter(of_one[0]["verdict"] for of_one in records)
        assert recorded >= self.outcomes  # first the record, then the answer
        assert recorded.total() - self.outcomes.total() <= len(self.under_way)

    @invariant()
    def nobody_is_exchanged_for_twice_at_once(self) -> None:
        assert self.world.twice_at_once == []

    @invariant()
    def memory_is_bounded(self) -> None:
        cache = self.tokens._cache
        assert len(cache) <= ROOM
        assert len(cache._store._cache) <= ROOM
        assert len(cache._store._handlers) <= ROOM
        assert len(self.tokens._failures) <= ROOM
        assert len(self.tokens._flight) <= len(PERSONS) * len(SERVERS)
        for keys in self.issuers.keys.values():
            assert len(keys._keys) <= MAX_KEYS
            assert len(keys._flight) <= 1

    # ---- asking and judging

    def _ask(self, token: UserToken, server: str) -> None:
        asked = Asked(
            token=token,
            server=server,
            began=self.loop.time(),
            wall=self.clocks.wall(),
            monotonic=self.clocks.monotonic(),
            keys_from=max(0, len(self.world.keys_delivered[token.person.issuer]) - 1),
        )
        self.last = asked if token.is_genuine else self.last
        task = self.loop.create_task(self._answer(asked))
        self.under_way[task] = asked
        task.add_done_callback(self._answered)

    async def _answer(self, asked: Asked) -> None:
        try:
            response = await self.check(_request(asked))
        except asyncio.CancelledError:
            self.outcomes["abandoned"] += 1
            raise
        self._judge(asked, response)

    def _answered(self, task: asyncio.Task[None]) -> None:
        del self.under_way[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self.wrong.append(error)

    def _judge(self, asked: Asked, response: CheckResponse) -> None:
        allowed = envoys_view.allows(response)
        self.outcomes["allow" if allowed else "deny"] += 1
        (record,) = self.audit.read()[envoys_view.metadata(response)["decision_id"]]
        assert record["verdict"] == ("allow" if allowed else "deny")
        assert self.loop.time() <= asked.began + CHECK_SECONDS + A_MOMENT
        if allowed:
            self._judge_user_token(asked)
            self._judge_access_token(asked, envoys_view.bearer(response))
            person = asked.token.person
            assert (record["issuer"], record["subject"]) == (person.issuer, person.subject)
            assert record["server"] == asked.server
        else:
            reason = envoys_view.reason(response)
            assert record["reason"] == reason
            assert reason is not Reason.INTERNAL, record["detail"]
            if reason is Reason.ISSUER_KEYS_UNAVAILABLE:
                self._judge_lack_of_keys(asked.token.person.issuer)

    def _judge_user_token(self, asked: Asked) -> None:
        token = asked.token
        assert token.is_genuine
        assert asked.wall < token.expires + LEEWAY
        in_force = self.world.keys_delivered[token.person.issuer][asked.keys_from :]
        assert any(
            token.key in keys and asked.monotonic - delivery.monotonic <= DAY
            for delivery, keys in in_force
        )

    def _judge_lack_of_keys(self, issuer: str) -> None:
        """What was once had is kept through an outage."""
        for delivery, _keys in self.world.keys_delivered[issuer]:
            assert self.clocks.monotonic() - delivery.monotonic > DAY

    def _judge_access_token(self, asked: Asked, access_token: str) -> None:
        stamp = stamp_of(access_token)
        assert stamp.person == asked.token.person
        assert stamp.resource == f"https://{asked.server}.corp.example/mcp"
        delivery = self.world.tokens_delivered[access_token]
        life = min(delivery.lifetime, HOUR)
        assert asked.wall < delivery.wall + life
        assert asked.monotonic < delivery.monotonic + life

    def _jump(self, *, wall: float = 0.0, monotonic: float = 0.0) -> None:
        self.clocks.jump(wall=wall, monotonic=monotonic)
        for asked in self.under_way.values():
            asked.wall = min(asked.wall, self.clocks.wall())
            asked.monotonic = min(asked.monotonic, self.clocks.monotonic())


def _request(asked: Asked) -> CheckRequest:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "find"}}
    headers = {
        "authorization": f"Bearer {asked.token.text}",
        "content-type": "application/json",
        "x-envoy-auth-partial-body": "false",
    }
    return check_request(
        headers=headers, body=json.dumps(message), extensions={"mcp.server": asked.server}
    )


@pytest.mark.timeout(900)  # to find the smallest way to a failure takes longer than to pass
def test_i4_the_promises_hold_whatever_happens(credentials: None) -> None:
    run_state_machine_as_test(
        Model,
        settings=settings(
            max_examples=500,
            stateful_step_count=40,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
