"""Who asks (F66): only what the issuer has signed for this audience, of now."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from starlette.requests import Request

from storefront import identity
from storefront.identity import Caller, Identity
from storefront.problems import ProblemError
from storefront.settings import Settings

if TYPE_CHECKING:
    from shared.testing.tokens import Issuer


@pytest.fixture
def checked(issuer: Issuer) -> Identity:
    return Identity(settings(issuer))


def settings(issuer: Issuer, **more: Any) -> Settings:
    return Settings(
        kafka_bootstrap_servers="k", instance_id="storefront-0", stock_url="http://s",
        orchestrator_url="http://o", **issuer.fields, **more,
    )  # fmt: skip


def asking(header: str | None) -> Request:
    headers = [] if header is None else [(b"authorization", header.encode("latin-1"))]
    return Request({"type": "http", "headers": headers})


def caller(who: Identity, token: str) -> Caller:
    return who.caller(asking(f"Bearer {token}"))


def refusal(who: Identity, header: str | None) -> ProblemError:
    with pytest.raises(ProblemError) as refused:
        who.caller(asking(header))
    return refused.value


def test_a_good_token_says_who_it_is(checked: Identity, issuer: Issuer) -> None:
    assert caller(checked, issuer.token("ann")) == Caller("ann")
    assert checked.caller(asking(f"bearer  {issuer.token('bob')} ")) == Caller("bob")
    gold = caller(checked, issuer.token("ann", facts={"tier": "gold"}))
    assert gold.facts is not None
    assert gold.facts.user == {"tier": "gold"}


def unsigned(claims: dict[str, Any]) -> str:
    head = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "JWT"}).encode()).rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    return f"{head.decode()}.{body.decode()}."


def by_public_key(issuer: Issuer, algorithm: str = "HS256") -> str:
    """HMAC with the public key as its secret, which a checker that trusts `alg` takes."""
    head = base64.urlsafe_b64encode(json.dumps({"alg": algorithm}).encode()).rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(issuer.claims("ann")).encode()).rstrip(b"=")
    signed = head + b"." + body
    digest = hmac.new(issuer.public_key.encode(), signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(digest).rstrip(b"=")).decode()


NOW = int(time.time())
WRONG: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://other"},
    "issuers in a list": {"iss": ["https://id.example"]},
    "another audience": {"aud": "other"},
    "no audience": {"aud": None},
    "expired": {"exp": NOW - identity.LEEWAY_S - 1},
    "without an end": {"exp": None},
    "an end that is no number": {"exp": "soon"},
    "not valid yet": {"nbf": NOW + 86_400},
    "of the future": {"iat": NOW + 86_400},
    "nobody": {"sub": None},
    "no id": {"sub": "a b"},
    "a user with a line end": {"sub": "ann\n"},
    "an empty user": {"sub": ""},
    "a number": {"sub": 7},
    "a long user": {"sub": "a" * 65},
    "facts of another form": {"facts": ["gold"]},
    "facts with fractions": {"facts": {"rate": 0.5}},
}


@pytest.mark.parametrize("kind", WRONG)
def test_f66_claims_that_are_not_good(checked: Identity, issuer: Issuer, kind: str) -> None:
    problem = refusal(checked, f"Bearer {issuer.token('ann', **WRONG[kind])}")
    assert (problem.status, problem.document.reason) == (401, "unauthorised")
    assert problem.headers["www-authenticate"].startswith("Bearer")


def test_f66_forged_tokens(checked: Identity, issuer: Issuer) -> None:
    good = issuer.token("ann")
    head, body, signature = good.split(".")
    other = base64.urlsafe_b64encode(json.dumps(issuer.claims("bob")).encode()).rstrip(b"=")
    deep = base64.urlsafe_b64encode(b"[" * 2_000).decode()
    forged = [
        unsigned(issuer.claims("ann")), unsigned(issuer.claims("ann")) + signature,
        by_public_key(issuer), by_public_key(issuer, "RS256"), by_public_key(issuer, "ES256"),
        type(issuer)().token("ann"), f"{head}.{other.decode()}.{signature}",
        f"{head}.{body}.", f"{head}.{body}", f"{head}.{body}.{signature[:-4]}AAAA", good + "A",
        f"{deep}.{body}.{signature}", "", ".", "..", "ann", "é.é.é", "a" * 5_000, "\x00",
    ]  # fmt: skip
    for token in forged:
        assert refusal(checked, f"Bearer {token}").status == 401
    for header in (None, "", "Bearer", good, f"Basic {good}", f"Bearer,{good}"):
        assert refusal(checked, header).status == 401
    assert caller(checked, good) == Caller("ann")


def test_only_a_token_that_was_sent_is_called_bad(checked: Identity, issuer: Issuer) -> None:
    """RFC 6750, 3.1: without credentials there is no error code."""
    for header in (None, "", "Bearer", "Basic abc"):
        assert refusal(checked, header).headers["www-authenticate"] == "Bearer"
    for token in (issuer.token("ann", aud="other"), "a" * 5_000):
        found = refusal(checked, f"Bearer {token}").headers["www-authenticate"]
        assert found == 'Bearer error="invalid_token"'


def test_no_token_is_kept(checked: Identity, issuer: Issuer) -> None:
    caller(checked, issuer.token("ann"))
    assert [len(kept) for kept in checked._sessions] == [hashlib.sha256().digest_size]


def test_the_order_of_facts_does_not_count(checked: Identity, issuer: Issuer) -> None:
    one, two = ({"a": 1, "b": ["x", "y"]}, {"b": ["x", "y"], "a": 1})
    found = [caller(checked, issuer.token("ann", facts=facts)).facts for facts in (one, two)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].model_dump_json() == found[1].model_dump_json()


def test_f69_a_refusal_does_not_show_the_token(checked: Identity, issuer: Issuer) -> None:
    token = issuer.token("ann", aud="other")
    shown = refusal(checked, f"Bearer {token}").response().body.decode()
    assert not [part for part in token.split(".") if part in shown]


def test_a_session_ends_with_its_token(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    checked = Identity(settings(issuer, session_cache_s=3_600))
    token = issuer.token("ann", exp=int(now) + 1_000)
    assert caller(checked, token) == Caller("ann")
    monkeypatch.setattr(jwt, "decode", fails)
    assert caller(checked, token) == Caller("ann")  # not checked again
    monkeypatch.undo()
    monkeypatch.setattr(identity.time, "time", lambda: now + 1_000 + 1)
    monkeypatch.setattr(jwt, "decode", fails)
    assert refusal(checked, f"Bearer {token}").status == 401


def test_a_session_is_checked_again_after_its_time(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    checked = Identity(settings(issuer, session_cache_s=10))
    token = issuer.token("ann", exp=int(now) + 1_000)
    caller(checked, token)
    monkeypatch.setattr(identity.time, "time", lambda: now + 60)
    monkeypatch.setattr(jwt, "decode", fails)
    assert refusal(checked, f"Bearer {token}").status == 401


def fails(*arguments: object, **named: object) -> Any:
    raise jwt.InvalidTokenError("asked")


def test_sessions_are_bounded(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "TOKENS_REMEMBERED", 3)
    checked = Identity(settings(issuer))
    tokens = [issuer.token(f"user_{number}") for number in range(4)]
    for token in tokens:
        caller(checked, token)
    monkeypatch.setattr(jwt, "decode", fails)
    assert refusal(checked, f"Bearer {tokens[0]}").status == 401
    assert caller(checked, tokens[3]) == Caller("user_3")


def test_a_token_acts_for_its_user_alone() -> None:
    ann = Caller("ann")
    assert ann.acting_as(None) == ann.acting_as("ann") == ann.owner(None, "x") == "ann"
    with pytest.raises(ProblemError) as refused:
        ann.acting_as("bob")
    assert refused.value.status == 403
    with pytest.raises(ProblemError) as refused:
        ann.owner("bob", "cart of bob")
    assert refused.value.status == 404


def test_without_tokens_a_request_says_who_it_is() -> None:
    anybody = Caller(None)
    assert anybody.acting_as("ann") == anybody.owner("ann", "x") == "ann"
    for ask in (anybody.acting_as, lambda named: anybody.owner(named, "x")):
        with pytest.raises(ProblemError) as refused:
            ask(None)
        assert refused.value.status == 400
