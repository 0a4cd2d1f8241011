"""`orderctl coupon`: what it asks coupon's admin port and topic, and what it makes of answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from typer.testing import CliRunner

from orderctl import coupon_commands
from orderctl.admin_api import CouponApi
from orderctl.coupon_asking import is_answer
from orderctl.main import app
from shared.contracts.coupon import (
    CampaignKind,
    CampaignPut,
    Discount,
    DiscountType,
    DrawLottery,
    LotteryDrawn,
    PutCampaign,
)
from shared.contracts.refusals import CommandRefusal, CommandRefused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orderctl.coupon_asking import Answer, Command

    Put = Callable[..., tuple[int, str, str]]

LISTED = {
    "couponId": "WELCOME\x1b[2J", "kind": "lottery", "life": "drawn", "limit": 1_000,
    "issued": 12, "entered": 40_000, "left": 988,
    "discount": {"type": "percent", "value": 10, "cap": 5_000, "currency": "KRW"},
    "startsAt": None, "endsAt": "2026-01-31T09:00:00.000Z", "expiresAt": None,
}  # fmt: skip
SHOWN = LISTED | {
    "coupons": {"issued": 9, "held": 1, "used": 2, "expired": 0}, "winners": 1_000,
    "drawnAt": "2026-02-01T09:00:00.000Z", "seedHash": "ab" * 32, "seed": "cd" * 32,
    "rule": None,
    "discountGranted": 7_500, "currency": "KRW",
    "firstIssuedAt": "2026-02-01T09:00:01.000Z", "lastIssuedAt": "2026-02-01T09:00:02.000Z",
}  # fmt: skip
CAMPAIGN: dict[str, Any] = {
    "type": "PutCampaign", "commandId": "c-1", "couponId": "L", "kind": "lottery", "limit": 5,
    "discount": {"type": "fixed", "value": 500},
}  # fmt: skip
ENVIRONMENT = {"ADMIN_URL_COUPON_0": "http://coupon", "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}


def invoke(*arguments: str, given: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["coupon", *arguments], env=ENVIRONMENT, input=given)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Any], list[httpx.Request]]:
    """Lets coupon's admin port always answer so, and returns what it was asked."""

    def start(status: int, body: Any) -> list[httpx.Request]:
        asked: list[httpx.Request] = []

        def handle(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            return httpx.Response(status, json=body)

        transport = httpx.MockTransport(handle)
        monkeypatch.setattr(coupon_commands, "CouponApi", lambda url: CouponApi(url, transport))
        return asked

    return start


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Command]:
    """What coupon was commanded; it puts every campaign but those of `limit` 666."""
    found: list[Command] = []

    async def ask(_: object, command: PutCampaign, *, within_s: float) -> Answer | None:
        found.append(command)
        return refused(command) if command.limit == 666 else done(command)

    monkeypatch.setattr(coupon_commands, "ask_coupon", ask)
    return found


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Puts a campaign from a file with this content."""

    def start(content: Any, *options: str) -> tuple[int, str, str]:
        file = tmp_path / "campaign.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
        return invoke("put", str(file), *options)

    return start


def done(command: PutCampaign) -> CampaignPut:
    return CampaignPut(
        command_id=command.command_id, coupon_id=command.coupon_id, kind=command.kind,
        limit=command.limit, seed_hash="ab" * 32,
    )  # fmt: skip


def refused(command: Command) -> CommandRefused:
    return CommandRefused(
        command_id=command.command_id, command=command.type, key=command.coupon_id,
        reason=CommandRefusal.CAMPAIGN_CONFLICT, detail="667 coupons of L are issued",
    )  # fmt: skip


def test_show_tells_all_of_a_campaign(port: Callable[..., list[httpx.Request]]) -> None:
    requests = port(200, SHOWN)
    code, said, _ = invoke("show", "WELCOME")
    assert code == 0
    assert requests[0].url == "http://coupon/campaigns/WELCOME"
    assert "\x1b" not in said
    facts = {line[:13].strip(): line[13:].strip() for line in said.splitlines()}
    assert facts["discount"] == "10%, at most 5,000 KRW"
    assert facts["entered"] == "40,000"
    assert facts["given out"] == "12; 988 left"
    assert facts["of these"] == "9 issued, 1 held, 2 used, 0 expired"
    assert facts["discounts"] == "7,500 KRW granted"
    assert facts["first, last"] == "2026-02-01 09:00:01 to 2026-02-01 09:00:02"
    assert (facts["seed hash"], facts["seed"]) == ("ab" * 32, "cd" * 32)
    assert "rule" not in facts
    assert json.loads(invoke("show", "WELCOME", "--json")[1]) == SHOWN


def test_a_list_says_how_to_go_on(port: Callable[..., list[httpx.Request]]) -> None:
    fixed = {"type": "fixed", "value": 500, "cap": None, "currency": "KRW"}
    page = {"campaigns": [LISTED, LISTED | {"couponId": "Z", "discount": fixed}], "next": "Z"}
    requests = port(200, page)
    code, said, noted = invoke("list", "--life", "drawn", "--limit", "2", "--after", "A")
    assert code == 0
    assert dict(requests[0].url.params) == {"limit": "2", "life": "drawn", "after": "A"}
    assert " ".join(said.splitlines()[-1].split()) == (
        "Z lottery drawn 1,000 12 988 500 KRW 2026-01-31"
    )
    assert noted == "orderctl: --after Z goes on\n"


@pytest.mark.parametrize(
    ("life", "said"),
    [([], "no campaign is found\n"), (["--life", "open"], "no campaign is open\n")],
)
def test_an_empty_list_says_so(
    port: Callable[..., list[httpx.Request]], life: list[str], said: str
) -> None:
    port(200, {"campaigns": [], "next": None})
    assert invoke("list", *life) == (0, said, "")


def test_an_unknown_campaign_fails_with_what_coupon_says(
    port: Callable[..., list[httpx.Request]],
) -> None:
    port(404, {"title": "Unknown campaign", "detail": "there is no campaign C404"})
    assert invoke("show", "C404") == (
        1, "", "orderctl: Unknown campaign: there is no campaign C404\n",
    )  # fmt: skip


def test_a_campaign_is_put_as_its_file_says(put: Put, asked: list[Command]) -> None:
    code, said, noted = put(CAMPAIGN | {"endsAt": "2126-01-31T09:00:00+09:00", "rule": None})
    assert (code, noted) == (0, "")
    assert said == (
        "put L: lottery, 5 coupons; open from now on, closes 2126-01-31 00:00:00 UTC,"
        f" coupons are good for good\nthe SHA-256 of its seed is {'ab' * 32}\n"
    )
    (command,) = asked
    assert isinstance(command, PutCampaign)
    assert (command.command_id, command.kind) == ("c-1", CampaignKind.LOTTERY)
    assert command.discount == Discount(type=DiscountType.FIXED, value=500)
    assert b'"endsAt":"2126-01-31T00:00:00.000Z"' in command.to_bytes()
    said = invoke("put", "-", "--json", given=json.dumps(CAMPAIGN))[1]
    assert json.loads(said)["seedHash"] == "ab" * 32


def test_type_and_command_id_may_be_left_out(put: Put, asked: list[Command]) -> None:
    short = {name: value for name, value in CAMPAIGN.items() if name not in ("type", "commandId")}
    _, _, noted = put(short)
    assert f"--command-id {asked[0].command_id} a repeat is obeyed once" in noted
    put(short | {"commandId": None})
    assert asked[0].command_id != asked[1].command_id
    assert put(short, "--command-id", "c-2")[::2] == (0, "")
    assert put(CAMPAIGN, "--command-id", "c-1")[::2] == (0, "")
    assert [command.command_id for command in asked[2:]] == ["c-2", "c-1"]


def test_a_refusal_is_told_in_words_and_for_machines(put: Put, asked: list[Command]) -> None:
    assert put(CAMPAIGN | {"limit": 666}) == (
        1, "", "orderctl: coupon refuses: 667 coupons of L are issued\n",
    )  # fmt: skip
    code, said, _ = put(CAMPAIGN | {"limit": 666}, "--json")
    assert (code, json.loads(said)["reason"]) == (1, "campaign_conflict")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "the value is empty"),
        (" ", "the value is blank"),
        ("{", "no JSON"),
        ("[]", "it holds no JSON object"),
        ("7", "it holds no JSON object"),
        ('{"limit": 5, "limit": 6}', "stands twice in one object"),
        ("[" * 40 + "]" * 40, "nested deeper"),
        ({"type": "DrawLottery", "couponId": "L"}, "DrawLottery"),
        (CAMPAIGN | {"limit": 0}, "limit: must be at least 1"),
        (CAMPAIGN | {"kind": "raffle"}, "kind: must be"),
        (CAMPAIGN | {"commandId": "a b"}, "commandId: must be 1 to 64 characters"),
        ({"couponId": "L", "kind": "lottery", "limit": 5}, "discount: is missing"),
        (CAMPAIGN | {"startAt": "2126-01-31T09:00:00Z"}, "`startAt` is no field of PutCampaign"),
        (
            CAMPAIGN | {"discount": {"type": "fixed", "value": 5, "top": 5}},
            "`discount.top` is no field",
        ),
        (CAMPAIGN | {"endsAt": "tomorrow"}, "endsAt: must be a time as in"),
        (
            CAMPAIGN | {"startsAt": "2026-02-01T00:00:00Z", "endsAt": "2026-01-01T00:00:00Z"},
            "endsAt must be after startsAt",
        ),
    ],
    ids=str,
)
def test_what_coupon_would_not_understand_is_not_published(
    put: Put, asked: list[Command], content: Any, problem: str
) -> None:
    code, said, noted = put(content)
    assert (code, said, asked) == (1, "", [])
    assert problem in noted
    assert noted.endswith(". Nothing was published\n")
    assert noted.count("\n") == 1


def test_two_command_ids_are_refused(put: Put, asked: list[Command]) -> None:
    code, _, noted = put(CAMPAIGN, "--command-id", "c-2")
    assert (code, asked) == (1, [])
    assert "has a commandId of its own" in noted


def test_a_file_that_is_not_there_is_told(asked: list[Command], tmp_path: Path) -> None:
    code, _, noted = invoke("put", str(tmp_path / "none.json"))
    assert (code, asked) == (1, [])
    assert "none.json can't be read: No such file or directory" in noted


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "a b"],
        ["list", "--life", "dead"],
        ["list", "--after", "a b"],
        ["list", "--limit", "0"],
        ["put", "-", "--within", "0"],
        ["put", "-", "--command-id", "a:b"],
    ],
    ids=" ".join,
)
def test_a_wrong_call_asks_nobody(
    port: Callable[..., list[httpx.Request]], asked: list[Command], arguments: list[str]
) -> None:
    requests = port(200, {})
    code, said, noted = invoke(*arguments, given=json.dumps(CAMPAIGN))
    assert (code, said, requests, asked) == (2, "", [], [])
    assert noted


def test_an_answer_is_told_from_others_of_its_id() -> None:
    command = PutCampaign.model_validate_json(json.dumps(CAMPAIGN))
    draw = DrawLottery(command_id="c-1", coupon_id="L")
    drawn = LotteryDrawn(
        command_id="c-1", coupon_id="L", seed="ab" * 16, entries_hash="ab" * 32, entry_count=0,
        winner_count=0,
    )  # fmt: skip
    right = done(command)
    assert is_answer(right, command)
    assert is_answer(refused(command), command)
    assert is_answer(drawn, draw)
    for other in (
        right.model_copy(update={"command_id": "c-2"}),
        right.model_copy(update={"coupon_id": "M"}),
        right.model_copy(update={"limit": 6}),
        refused(draw),
        drawn,
    ):
        assert not is_answer(other, command)
    assert not is_answer(drawn.model_copy(update={"coupon_id": "M"}), draw)
    assert not is_answer(right, draw)
