"""Tests of access tokens: their claims, and the refusal of everything else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import Any
from uuid import UUID

import jwt
import pytest

from apex.auth.jwt import Tokens, parse_duration
from apex.errors import NotAuthenticated

SECRET = "a-secret-of-tests-with-more-than-64-bytes-so-that-every-hash-accepts-it"
AUDIENCE, ISSUER = "https://yourdomain.com", "feathers"
TOKENS = Tokens(SECRET, {})
HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def forged(header: Any = None, claims: Any = None, *, secret: str = SECRET, hash: str = "HS256", **changes: Any) -> str:
    """Return a token with any claims, signed with the secret. A claim of ``...`` is left out."""
    now = int(time.time())
    usual = {"iat": now, "exp": now + 60, "aud": AUDIENCE, "iss": ISSUER, "sub": "1", "jti": "a"}
    kept = {name: value for name, value in {**usual, **changes}.items() if value is not ...}
    parts = [{"alg": "HS256", "typ": "access"} if header is None else header, kept if claims is None else claims]
    text = ".".join(encoded(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in parts)
    return f"{text}.{encoded(hmac.digest(secret.encode(), text.encode(), HASHES[hash]))}"


def refused(token: Any, tokens: Tokens = TOKENS) -> NotAuthenticated:
    with pytest.raises(NotAuthenticated) as caught:
        tokens.verify(token)
    return caught.value


def test_a_token_holds_the_claims_of_feathers() -> None:
    token, claims = TOKENS.create(7)
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "access"}
    assert list(claims) == ["iat", "exp", "aud", "iss", "sub", "jti"]
    assert (claims["aud"], claims["iss"], claims["sub"]) == (AUDIENCE, ISSUER, "7")
    assert claims["exp"] - claims["iat"] == 86_400
    assert UUID(claims["jti"]).version == 4
    assert TOKENS.verify(token) == claims


def answer(tokens: Tokens, token: str) -> Any:
    """Return the claims of a token, or the error."""
    try:
        return tokens.verify(token)
    except NotAuthenticated as error:
        return error.message, error.data


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the clock."""

    def at(moment: float) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Clock:
                return cls.fromtimestamp(moment, tz)

        monkeypatch.setattr(time, "time", lambda: moment)
        monkeypatch.setattr("jwt.api_jwt.datetime", Clock)

    return at


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that collects the tokens whose signature is verified."""
    decode, seen = jwt.decode_complete, []

    def noted(token: str, *args: Any, **options: Any) -> Any:
        seen.append(token)
        return decode(token, *args, **options)

    monkeypatch.setattr(jwt, "decode_complete", noted)
    return seen


def test_a_signature_is_looked_at_once(decoded: list[str]) -> None:
    tokens = Tokens(SECRET, {})
    (first, claims), (second, others) = tokens.create(1), tokens.create(2)
    assert [tokens.verify(token) for token in (first, second, first, second)] == [claims, others, claims, others]
    assert decoded == [first, second]


@pytest.mark.parametrize("moment", [0, 999.999, 1000, 1499.5, 1500, 1999.999, 2000, 2000.001, 9e9])
def test_a_token_that_is_remembered_is_answered_as_one_that_is_not(at: Callable[[float], None], moment: float) -> None:
    made = [forged(iat=1000, exp=2000, nbf=nbf) for nbf in (..., 1500, 500)]
    tokens = Tokens(SECRET, {})
    at(1600)
    for token in made:
        tokens.verify(token)
    at(moment)
    for token in made:
        assert answer(tokens, token) == answer(Tokens(SECRET, {}), token)


def test_a_token_that_was_refused_is_looked_at_again(at: Callable[[float], None]) -> None:
    tokens, token = Tokens(SECRET, {}), forged(iat=1000, nbf=1500, exp=2000)
    at(1400)
    assert refused(token, tokens).message == "jwt not active"
    at(1600)
    assert tokens.verify(token)["nbf"] == 1500


@pytest.mark.parametrize("payload", [{"role": "admin"}, {"roles": ["admin"], "of": {"org": [1]}}])
def test_a_call_may_change_its_claims(payload: dict[str, Any]) -> None:
    tokens = Tokens(SECRET, {})
    token, claims = tokens.create(1, payload)
    for _ in range(3):
        given = tokens.verify(token)
        assert given == claims
        for value in given.values():
            if isinstance(value, dict | list):
                value.clear()
        given.clear()


def test_only_so_many_tokens_are_remembered(decoded: list[str]) -> None:
    tokens = Tokens(SECRET, {})
    tokens._verified.size = 3
    made = [tokens.create(number)[0] for number in range(5)]
    for token in (*made, *made[2:], made[0]):
        tokens.verify(token)
    assert decoded == [*made, made[0]]


def test_tokens_share_equal_claims_in_memory() -> None:
    tokens = Tokens(SECRET, {})
    signed = [tokens.create(number)[0] for number in (1, 2)]
    for token in signed:
        tokens.verify(token)
    one, other = map(tokens.verify, signed)
    assert one["iss"] is other["iss"]
    assert one["aud"] is other["aud"]
    assert {id(name) for name in one} == {id(name) for name in other}


@pytest.mark.parametrize("anyone", [False, True])
def test_the_former_parameter_for_tokens_without_a_subject_works_with_a_warning(anyone: bool) -> None:
    with pytest.warns(DeprecationWarning, match="'anyone' is 'requires_subject' now"):
        tokens = Tokens(SECRET, {}, anyone=anyone)  # type: ignore[call-arg]
    token = forged(sub=...)
    if anyone:
        assert "sub" not in tokens.verify(token)
    else:
        with pytest.raises(NotAuthenticated):
            tokens.verify(token)


def test_each_token_has_its_own_id() -> None:
    assert TOKENS.create(1)[1]["jti"] != TOKENS.create(1)[1]["jti"]


def test_a_payload_is_carried_but_replaces_no_claim() -> None:
    token, claims = TOKENS.create(1, {"role": "admin", "sub": "2", "exp": 0})
    assert (claims["role"], claims["sub"]) == ("admin", "1")
    assert TOKENS.verify(token)["role"] == "admin"


def test_options_are_those_of_feathers() -> None:
    options = {"header": {"typ": "x"}, "audience": "a", "issuer": "i", "algorithm": "HS512", "expiresIn": "15m"}
    tokens = Tokens(SECRET, options)
    token, claims = tokens.create(1)
    assert jwt.get_unverified_header(token) == {"alg": "HS512", "typ": "x"}
    assert (claims["aud"], claims["iss"], claims["exp"] - claims["iat"]) == ("a", "i", 900)
    assert tokens.verify(token) == claims


def test_a_forged_token_with_everything_right_is_accepted() -> None:
    assert TOKENS.verify(forged())["sub"] == "1"


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "nOnE", "RS256", "HS384", "hs256", "", None, 1, [], ["HS256"], {}]
)
def test_only_the_algorithm_of_the_settings_counts(alg: Any) -> None:
    refused(forged({"alg": alg, "typ": "access"}))
    refused(forged({"alg": alg, "typ": "access"}).rpartition(".")[0] + ".")


def test_a_stronger_algorithm_than_that_of_the_settings_is_refused() -> None:
    error = refused(forged({"alg": "HS512", "typ": "access"}, hash="HS512"))
    assert (error.message, error.data) == ("invalid algorithm", {"name": "JsonWebTokenError"})


@pytest.mark.parametrize("secret", ["", "another secret", SECRET + "x", SECRET[:-1]])
def test_a_signature_by_another_secret_is_refused(secret: str) -> None:
    error = refused(forged(secret=secret))
    assert (error.message, error.data) == ("invalid signature", {"name": "JsonWebTokenError"})


def test_while_a_secret_is_changed_both_count_and_the_new_one_signs() -> None:
    new = "b" + SECRET
    both, old = Tokens(new, {}, previous=SECRET), TOKENS.create(1)[0]
    assert both.verify(old)["sub"] == Tokens(new, {}).verify(both.create("1")[0])["sub"] == "1"
    assert refused(forged(exp=1), both).message == "jwt expired"
    assert refused(forged(secret="c" + SECRET), both).message == "invalid signature"
    assert refused(old, Tokens(new, {})).message == "invalid signature"


def test_claims_that_were_changed_after_signing_are_refused() -> None:
    (header, _, signature), claims = forged().split("."), forged(sub="2").split(".")[1]
    assert refused(f"{header}.{claims}.{signature}").message == "invalid signature"


def test_a_token_without_signature_is_refused() -> None:
    assert refused(forged().rpartition(".")[0] + ".").message == "jwt signature is required"
    assert refused(forged({"alg": "none"}).rpartition(".")[0] + ".").message == "jwt signature is required"


@pytest.mark.parametrize("name", ["kid", "jwk", "jku", "x5u", "x5c"])
@pytest.mark.parametrize(
    "value", ["../../dev/null", "' OR 1=1", "http://127.0.0.1:1/", {"kty": "oct", "k": "YQ"}, ["a"]]
)
def test_a_key_that_the_token_brings_along_is_not_used(name: str, value: Any) -> None:
    refused(forged({"alg": "HS256", "typ": "access", name: value}, secret="a"))


@pytest.mark.parametrize("typ", ["refresh", "JWT", "Access", "", None, 1, ["access"], ...])
def test_a_token_of_another_type_is_refused(typ: Any) -> None:
    header = {"alg": "HS256"} if typ is ... else {"alg": "HS256", "typ": typ}
    assert refused(forged(header)).message == "invalid token"


@pytest.mark.parametrize("claim", ["iat", "exp", "aud", "iss", "sub", "jti"])
@pytest.mark.parametrize("value", [..., None, [], {}, [[]], True, 1.5])
def test_every_claim_must_be_there_and_of_its_type(claim: str, value: Any) -> None:
    refused(forged(**{claim: value}))


@pytest.mark.parametrize("claim", ["iat", "exp", "nbf"])
@pytest.mark.parametrize("value", ["4000000000", 1e300, -1e300, 1.5, -1, 10**400, 10**18, -(10**18), [4000000000], "x"])
def test_a_time_must_be_a_moment_in_whole_seconds(claim: str, value: Any) -> None:
    refused(forged(**{claim: value}))


@pytest.mark.parametrize("claim", ["iat", "exp", "nbf"])
@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_a_time_that_is_no_number_is_refused(claim: str, value: bytes) -> None:
    claims = json.loads(base64.urlsafe_b64decode(forged().split(".")[1] + "=="))
    rest = json.dumps({name: kept for name, kept in claims.items() if name != claim}).encode()
    refused(forged(claims=rest[:-1] + b', "' + claim.encode() + b'": ' + value + b"}"))


@pytest.mark.parametrize("audience", ["https://else.where", AUDIENCE + "/", [AUDIENCE], [AUDIENCE, 1], ["x"]])
def test_an_audience_other_than_this_one_is_refused(audience: Any) -> None:
    error = refused(forged(aud=audience))
    assert (error.message, error.data) == (f"jwt audience invalid. expected: {AUDIENCE}", {"name": "JsonWebTokenError"})


@pytest.mark.parametrize("issuer", ["feather", "feathersjs", "FEATHERS", [ISSUER], 1])
def test_an_issuer_other_than_this_one_is_refused(issuer: Any) -> None:
    assert refused(forged(iss=issuer)).message == f"jwt issuer invalid. expected: {ISSUER}"


def test_an_expired_token_says_when_it_expired() -> None:
    error = refused(forged(exp=1_700_000_000))
    assert error.message == "jwt expired"
    assert error.data == {"name": "TokenExpiredError", "expiredAt": "2023-11-14T22:13:20.000Z"}


def test_a_token_of_the_future_says_when_it_begins() -> None:
    error = refused(forged(nbf=4_000_000_000))
    assert error.message == "jwt not active"
    assert error.data == {"name": "NotBeforeError", "date": "2096-10-02T07:06:40.000Z"}


def test_a_token_that_was_made_in_the_future_is_refused() -> None:
    assert refused(forged(iat=int(time.time()) + 50)).message == "invalid token"


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("abc", "jwt malformed"),
        ("", "jwt malformed"),
        ("a.b", "jwt malformed"),
        ("a.b.c.d", "jwt malformed"),
        ("." * 100_000, "jwt malformed"),
        ("x.y.z", "invalid token"),
        ("..", "invalid token"),
        ("é.ü.ß", "invalid token"),
        ("eyJhbGciOiJIUzI1NiJ9.e30.!!!", "invalid token"),
        (None, "jwt must be a string"),
        (1, "jwt must be a string"),
        (["a.b.c"], "jwt must be a string"),
        (b"a.b.c", "jwt must be a string"),
    ],
)
def test_a_malformed_token_is_named(token: Any, message: str) -> None:
    error = refused(token)
    assert (error.message, error.data) == (message, {"name": "JsonWebTokenError"})


@pytest.mark.parametrize("part", [b"", b"null", b"[]", b'"a"', b"1", b"{", b"\xff", b"[" * 5_000, b'{"a":' * 1_200])
def test_parts_that_are_no_objects_are_refused(part: bytes) -> None:
    refused(forged(header=part))
    refused(forged(claims=part))


def test_extra_dots_are_refused() -> None:
    token = forged()
    for garbled in (f"{token}.", f".{token}", token.replace(".", ".."), f"{token}.{token}"):
        assert refused(garbled).message == "jwt malformed"


def test_a_token_of_100_kilobytes_is_refused_before_it_is_read() -> None:
    refused(forged(x="x" * 100_000))


def test_an_unknown_critical_header_is_refused() -> None:
    refused(forged({"alg": "HS256", "typ": "access", "crit": ["x"], "x": 1}))


@pytest.mark.parametrize(
    ("duration", "expected"),
    [(60, 60), ("1d", 86_400), ("2h", 7_200), ("15m", 900), ("1w", 604_800), ("30 s", 30), ("100ms", 0), ("5000", 5)],
)
def test_durations_are_those_of_feathers(duration: Any, expected: int) -> None:
    assert parse_duration(duration) == expected


@pytest.mark.parametrize("duration", ["", "x", "1y", "-1d", "1.5h", None, True, [], 1.5])
def test_an_invalid_duration_is_refused(duration: Any) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(duration)
