"""`orderctl payment reconcile` between a real database and a gateway of the test's own."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from orderctl.main import app
from shared.reconciliation import comparing
from shared.reconciliation import gateway as reading
from shared.testing.ports import ReservedPort

from .conftest import API_KEY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from shared.testing.databases import Database

    from .conftest import FakeGateway, OurBook

    Reconcile = Callable[..., Awaitable[tuple[int, str, str]]]

COLUMNS = {"COLUMNS": "140"}
VARIABLES = ("GATEWAY_URL", "GATEWAY_API_KEY", "DATABASE_URL")


@pytest.fixture
def reconcile(database: Database, gateway: FakeGateway) -> Reconcile:
    """The command in a thread, since it has an event loop of its own."""

    async def run(*arguments: str, **settings: str) -> tuple[int, str, str]:
        cleared = dict.fromkeys((*VARIABLES, *(f"{name}_FILE" for name in VARIABLES)), "")
        environment = cleared | COLUMNS | {
            "DATABASE_URL": database.operator_dsn,
            "GATEWAY_URL": gateway.url,
            "GATEWAY_API_KEY": API_KEY,
        }  # fmt: skip
        result = await asyncio.to_thread(
            CliRunner().invoke, app, ["payment", "reconcile", *arguments],
            env=environment | settings,
        )  # fmt: skip
        return result.exit_code, result.stdout, result.stderr

    return run


@pytest.fixture
def found(reconcile: Reconcile) -> Callable[..., Awaitable[Any]]:
    """What it says for programs."""

    async def run(*arguments: str) -> Any:
        code, said, noted = await reconcile("--json", *arguments)
        assert noted == ""
        document = json.loads(said)
        assert code == (0 if document["equal"] else 1)
        return document

    return run


def kinds(document: Any) -> list[tuple[str, str | None]]:
    listed = document["differences"]["listed"]
    assert len(listed) == document["differences"]["count"]
    return [(one["difference"], one["orderId"]) for one in listed]


async def agreeing(gateway: FakeGateway, book: OurBook) -> None:
    """Two captures, one of them given back, and all that leaves no money anywhere."""
    for order_id in ("o-1", "o-2"):
        charge = gateway.charge(order_id)
        await book.call(order_id, "SUCCEEDED", reference=charge["id"])
    gateway.refund(charge)
    await book.call("o-2", "SUCCEEDED", "refund", reference=charge["id"])
    gateway.charge("o-3", "declined")
    await book.call("o-3", "DECLINED")
    await book.call("o-4", "DECLINED")
    await book.call("o-5", "VOID")
    await book.call("o-6", "WATCHED")


async def test_books_that_agree_are_told_with_their_sums(
    reconcile: Reconcile, found: Any, gateway: FakeGateway, book: OurBook
) -> None:
    await agreeing(gateway, book)
    document = await found()
    moved = {"captured": 2000, "refunded": 1000, "net": 1000}
    assert document == {
        "equal": True, "lines": {"ours": 7, "theirs": 4},
        "totals": {"KRW": {"ours": moved, "theirs": moved}},
        "open": {"count": 0, "oldestAgeSeconds": None},
        "byHand": {"count": 0, "listed": []},
        "differences": {"count": 0, "byKind": {}, "listed": []}, "runbook": None,
    }  # fmt: skip
    assert len(gateway.asked) == 1, "what agrees is not asked for again"
    code, said, noted = await reconcile()
    assert (code, noted) == (0, "")
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert lines[1:] == [
        "here 2,000 KRW 1,000 KRW 1,000 KRW",
        "at the gateway 2,000 KRW 1,000 KRW 1,000 KRW",
        "7 lines here, 4 lines at the gateway",
        "the books agree",
    ]


async def test_empty_books_agree(reconcile: Reconcile) -> None:
    code, said, _ = await reconcile()
    assert (code, said) == (0, "0 lines here, 0 lines at the gateway\nthe books agree\n")


async def differing(gateway: FakeGateway, book: OurBook) -> None:
    """One difference of each kind, and some open ones."""
    await agreeing(gateway, book)
    await book.call("twice", "SUCCEEDED", reference=gateway.charge("twice")["id"])
    gateway.charge("twice", idempotencyKey="another")
    gateway.charge("more", amount=1300)
    await book.call("more", "SUCCEEDED")
    await book.call("gone", "SUCCEEDED", reference="ch_404")
    gateway.refund(gateway.charges[0], idempotencyKey="by-hand", amount=400)
    gateway.charge("late")
    await book.call("late", "WATCHED")
    await book.call("odd", "QUARANTINED")
    await book.call("young", "UNKNOWN", age_s=60)
    await book.call("old", "INTENDED", age_s=7_200)
    gateway.charge("old")


async def test_each_difference_is_told_with_what_to_do(
    reconcile: Reconcile, found: Any, gateway: FakeGateway, book: OurBook
) -> None:
    await differing(gateway, book)
    document = await found()
    assert kinds(document) == [
        ("charged_twice", "twice"), ("contradicts", "more"), ("missing_there", "gone"),
        ("unknown_to_us", "o-1"), ("late_capture", "late"), ("quarantined", "odd"),
    ]  # fmt: skip
    assert document["differences"]["byKind"] == dict.fromkeys(
        [kind for kind, _ in kinds(document)], 1
    )
    assert document["open"]["count"] == 2
    assert 7_200 <= document["open"]["oldestAgeSeconds"] < 7_300
    twice, more, gone, by_hand, *_ = document["differences"]["listed"]
    assert [one["key"] for one in twice["theirs"]] == ["payment:twice", "another"]
    assert (more["ours"]["amount"], more["theirs"][0]["amount"]) == (1000, 1300)
    assert (gone["ours"]["reference"], gone["theirs"]) == ("ch_404", [])
    assert (by_hand["ours"], by_hand["theirs"][0]["kind"]) == (None, "refund")
    code, said, _ = await reconcile()
    assert code == 1
    told = " ".join(said.split())
    assert "2 open, the oldest for 2h 0m" in told
    assert "6 differences: 1 charged twice, 1 contradicts, 1 missing there, 1 unknown" in told
    assert "late capture late charge WATCHED 1,000 KRW charge captured 1,000 KRW ch_000007" in told
    assert "quarantined odd charge QUARANTINED 1,000 KRW (1300 KRW was captured) nothing" in told
    assert "charged twice: somebody paid twice for one order" in told
    assert said.endswith("docs/runbooks/gateway-differs.md\n")


async def test_pages_of_both_books_add_up(
    found: Any, gateway: FakeGateway, book: OurBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(reading, "CHARGES_AT_ONCE", 2)
    await differing(gateway, book)
    document = await found()
    assert document["lines"] == {"ours": 14, "theirs": 10}
    assert document["differences"]["count"] == 6


async def test_many_differences_are_counted_and_the_first_are_shown(
    reconcile: Reconcile, found: Any, gateway: FakeGateway, book: OurBook,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(comparing, "STANDING_AT_MOST", 3)
    monkeypatch.setattr(comparing, "LISTED", 22)
    for number in range(30):
        gateway.charge(f"o-{number:02}")
    document = await found()
    assert document["differences"]["count"] == 30
    assert len(document["differences"]["listed"]) == 22
    again = [asked for asked in gateway.asked if "idempotencyKey" in asked]
    assert len(again) == 3, "a book that nobody here knows is not asked for line by line"
    _, said, _ = await reconcile()
    assert said.count("unknown to us ") == 20
    assert "and 10 more; --json lists the first of each kind" in said


def once(work: Callable[[], Awaitable[None]], asked_for: str = "/v1/") -> Any:
    """Does it with the first request that asks for this."""
    todo = [work]

    async def hook(asked: str) -> None:
        if todo and asked_for in asked:
            await todo.pop()()

    return hook


async def test_what_is_charged_between_the_readings_is_no_difference(
    found: Any, gateway: FakeGateway, book: OurBook
) -> None:
    await book.call("late", "WATCHED")
    await book.call("sent", "SUCCEEDED", reference=gateway.charge("sent")["id"])

    async def go_on() -> None:
        await book.call("new", "SUCCEEDED", reference=gateway.charge("new")["id"])
        gateway.charge("under-way")
        await book.call("under-way", "INTENDED")
        await book.call("late", "SUCCEEDED", reference=gateway.charge("late")["id"])
        gateway.refund(gateway.charges[0])
        await book.call("sent", "SUCCEEDED", "refund", reference="ch_000001")

    gateway.before = once(go_on)
    document = await found()
    assert document["equal"], document["differences"]
    assert document["open"]["count"] == 1
    moved = {"captured": 3000, "refunded": 1000, "net": 2000}
    assert document["totals"]["KRW"]["ours"] == moved
    assert document["totals"]["KRW"]["theirs"] == {"captured": 4000, "refunded": 1000, "net": 3000}


async def test_what_was_known_before_the_page_was_made_is_asked_for_again(
    found: Any, gateway: FakeGateway, book: OurBook
) -> None:
    """A page of the book is older than what is answered about a single line."""
    charge = gateway.charge("o-1", "processing")
    await book.call("o-1", "SUCCEEDED", reference=charge["id"])
    refund = gateway.refund(gateway.charge("o-2"), "processing")
    await book.call("o-2", "SUCCEEDED", reference="ch_000002")
    await book.call("o-2", "SUCCEEDED", "refund")

    async def settle() -> None:
        charge["status"] = "captured"
        gateway.refunds[0] = refund | {"status": "succeeded"}

    gateway.forgotten = {"payment:o-1"}
    gateway.before = once(settle, "/v1/charges/ch_000001")
    assert (await found())["equal"]


async def test_a_row_that_changes_while_it_is_looked_at_is_looked_at_once_more(
    found: Any, gateway: FakeGateway, book: OurBook
) -> None:
    """The gateway captures between our row and its answer: neither was wrong."""
    await book.call("o-1", "SUCCEEDED", reference="ch_000001")

    async def undo() -> None:
        await book.call("o-1", "VOID")

    gateway.after = once(undo, "idempotencyKey")
    document = await found()
    assert document["equal"], document["differences"]
    assert len([asked for asked in gateway.asked if "idempotencyKey" in asked]) == 2


async def test_a_row_that_never_stands_still_is_open(
    found: Any, gateway: FakeGateway, book: OurBook
) -> None:
    await book.call("o-1", "SUCCEEDED", reference="ch_404")

    async def change(asked: str) -> None:
        if "idempotencyKey" in asked:
            await book.call("o-1", "SUCCEEDED", reference=f"ch_404_{len(gateway.asked)}")

    gateway.after = change
    document = await found()
    assert document["equal"], document["differences"]
    assert document["open"]["count"] == 1


async def test_f26_a_forgotten_key_is_no_difference_and_a_second_charge_under_it_is(
    found: Any, gateway: FakeGateway, book: OurBook
) -> None:
    """The gateway no longer finds what it has by the key; the charge's id finds it for good."""
    for order_id in ("o-1", "o-2"):
        await book.call(order_id, "SUCCEEDED", reference=gateway.charge(order_id)["id"])
        gateway.forgotten.add(f"payment:{order_id}")
    gateway.charge("o-2")
    document = await found()
    assert kinds(document) == [("charged_twice", "o-2")]
    assert document["differences"]["listed"][0]["ours"]["reference"] == "ch_000002"


async def test_what_a_person_gave_back_is_settled(
    found: Any, gateway: FakeGateway, book: OurBook
) -> None:
    """A second charge, a capture after a decline, one of somebody else, and a refund of ours that
    somebody else made: no money is where it does not belong."""
    await book.call("twice", "SUCCEEDED", reference=gateway.charge("twice")["id"])
    second = gateway.charge("twice", idempotencyKey="another")
    declined = gateway.charge("declined", amount=1300)
    await book.call("declined", "DECLINED", reference=declined["id"])
    stray = gateway.charge(None, idempotencyKey="stray")
    assert kinds(await found()) == [
        ("charged_twice", "twice"), ("contradicts", "declined"), ("unknown_to_us", None),
    ]  # fmt: skip
    for number, charge in enumerate((second, declined, stray)):
        gateway.refund(charge, idempotencyKey=f"by-hand-{number}")
    given_back = gateway.charge("given-back")
    await book.call("given-back", "SUCCEEDED", reference=given_back["id"])
    await book.call("given-back", "SUCCEEDED", "refund", reference=given_back["id"])
    assert kinds(await found()) == [("missing_there", "given-back")]
    gateway.refund(given_back, idempotencyKey="by-hand-4")
    document = await found()
    assert document["equal"], document["differences"]
    assert document["totals"]["KRW"]["ours"]["net"] == 1000
    assert document["totals"]["KRW"]["theirs"]["net"] == 1000


async def test_a_second_refund_under_another_key_is_a_difference(
    found: Any, gateway: FakeGateway, book: OurBook
) -> None:
    charge = gateway.charge("o-1", amount=2000)
    await book.call("o-1", "SUCCEEDED", reference=charge["id"], amount=2000)
    gateway.refund(charge, amount=1000)
    await book.call("o-1", "SUCCEEDED", "refund", reference=charge["id"])
    gateway.refund(charge, "processing", amount=1000, idempotencyKey="by-hand")
    assert kinds(await found()) == [("unknown_to_us", "o-1")]
    gateway.refunds[-1]["status"] = "succeeded"
    assert kinds(await found()) == [("unknown_to_us", "o-1")]


async def test_a_decline_that_is_tried_again_is_no_second_charge(
    found: Any, gateway: FakeGateway, book: OurBook
) -> None:
    gateway.charge("o-1", "declined")
    await book.call("o-1", "SUCCEEDED", reference=gateway.charge("o-1")["id"])
    assert kinds(await found()) == [("unknown_to_us", "o-1")]


async def closed(gateway: FakeGateway, book: OurBook, given_back: int) -> None:
    """A charge of another amount, and a refund of another one, each closed by hand; so much was
    given back by hand of 1,300, in two parts."""
    charge = gateway.charge("o-1", amount=1300)
    await book.call("o-1", "DECLINED", reference=charge["id"], closed_by="ann")
    await book.call("o-1", "VOID", "refund")
    gateway.refund(charge, idempotencyKey="hand-1", amount=300)
    gateway.refund(charge, idempotencyKey="hand-2", amount=given_back - 300)
    charge = gateway.charge("o-2", amount=1000)
    await book.call("o-2", "SUCCEEDED", reference=charge["id"])
    await book.call("o-2", "SUCCEEDED", "refund", reference=charge["id"], closed_by="ann")
    gateway.refund(charge, amount=400)
    gateway.refund(charge, idempotencyKey="hand-3", amount=given_back - 700)
    await book.call("o-3", "DECLINED", closed_by="ann")


async def test_what_was_closed_by_hand_and_given_back_is_no_difference(
    reconcile: Reconcile, found: Any, gateway: FakeGateway, book: OurBook
) -> None:
    await closed(gateway, book, given_back=1300)
    document = await found()
    assert document["equal"], document["differences"]
    told = [(one["key"], one["ours"] and one["ours"]["closedBy"])
            for one in document["byHand"]["listed"]]  # fmt: skip
    assert sorted(told) == [
        ("hand-1", None), ("hand-2", None), ("hand-3", None), ("payment:o-1", "ann"),
        ("payment:o-3", "ann"), ("refund:o-2", "ann"),
    ]  # fmt: skip
    assert document["byHand"]["count"] == 6
    net = {side: sums["net"] for side, sums in document["totals"]["KRW"].items()}
    assert net == {"ours": 0, "theirs": 0}
    code, said, _ = await reconcile()
    told_text = " ".join(said.split())
    assert code == 0
    assert "6 closed by hand, and no money of them is at the gateway" in told_text
    assert "by hand o-1 charge DECLINED 1,000 KRW ch_000001 (closed by ann)" in told_text
    assert said.endswith("the books agree\n")
    for order_id, count in (("o-1", 1), ("o-2", 1), ("o-3", 1)):
        alone = await found("--order", order_id)
        assert (alone["equal"], alone["byHand"]["count"]) == (True, count)


async def test_money_that_is_still_there_stays_a_difference_whoever_closed_it(
    found: Any, gateway: FakeGateway, book: OurBook
) -> None:
    await closed(gateway, book, given_back=1299)
    document = await found()
    assert sorted(kinds(document)) == [
        ("contradicts", "o-1"), ("contradicts", "o-2"), ("unknown_to_us", "o-1"),
        ("unknown_to_us", "o-1"), ("unknown_to_us", "o-2"),
    ]  # fmt: skip
    assert [one["key"] for one in document["byHand"]["listed"]] == ["payment:o-3"]
    assert kinds(await found("--order", "o-1")) == [("contradicts", "o-1")]
    assert kinds(await found("--order", "o-2")) == [("contradicts", "o-2")]


async def test_a_charge_without_an_order_is_told_by_its_key(
    reconcile: Reconcile, gateway: FakeGateway
) -> None:
    gateway.charge(None, idempotencyKey="\x1b[2Jsomebody")
    code, said, _ = await reconcile()
    assert code == 1
    assert "unknown to us  key \\x1b[2Jsomebody  nothing" in " ".join(said.split(" "))
    assert "\x1b" not in said


async def test_one_order_is_asked_for_by_its_keys_alone(
    found: Any, reconcile: Reconcile, gateway: FakeGateway, book: OurBook
) -> None:
    await differing(gateway, book)
    assert (await found("--order", "o-2"))["totals"]["KRW"]["theirs"]["net"] == 0
    assert kinds(await found("--order", "late")) == [("late_capture", "late")]
    assert kinds(await found("--order", "gone")) == [("missing_there", "gone")]
    assert (await found("--order", "young"))["open"]["count"] == 1
    assert not [asked for asked in gateway.asked if "limit" in asked]
    code, said, _ = await reconcile("--order", "o-404")
    assert (code, said) == (0, "neither book has a line of o-404\n")


async def test_of_one_order_a_forgotten_refund_is_known_by_its_charge(
    found: Any, gateway: FakeGateway, book: OurBook
) -> None:
    for order_id, given_back in (("o-1", 1000), ("o-2", 400), ("o-3", 0)):
        charge = gateway.charge(order_id)
        await book.call(order_id, "SUCCEEDED", reference=charge["id"])
        await book.call(order_id, "SUCCEEDED", "refund", reference=charge["id"])
        if given_back:
            gateway.refund(charge, amount=given_back)
        gateway.forgotten |= {f"payment:{order_id}", f"refund:{order_id}"}
    assert (await found("--order", "o-1"))["equal"]
    assert kinds(await found("--order", "o-2")) == [("contradicts", "o-2")]
    assert kinds(await found("--order", "o-3")) == [("missing_there", "o-3")]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"GATEWAY_URL": ""}, "GATEWAY_URL is not set: the gateway's address, as http://host:port"),
        ({"GATEWAY_API_KEY": ""}, "GATEWAY_API_KEY is not set ("),
        ({"GATEWAY_API_KEY": "wrong"}, "answers 401: it doesn't know GATEWAY_API_KEY"),
        ({"GATEWAY_URL": "gateway:9"}, "GATEWAY_URL is no address; write it as http://"),
        (
            {"GATEWAY_API_KEY": "", "GATEWAY_API_KEY_FILE": "/nowhere/key"},
            "the file that GATEWAY_API_KEY_FILE names can't be read: ",
        ),
        ({"DATABASE_URL": "postgresql://operator@127.0.0.1:1/shop"}, "can't be reached"),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
async def test_what_can_not_be_looked_at_says_what_to_set(
    reconcile: Reconcile, settings: dict[str, str], problem: str
) -> None:
    code, said, noted = await reconcile(**settings)
    assert (code, said) == (2, "")
    assert problem in noted
    assert noted.count("\n") == 1


async def test_f33_a_gateway_that_is_away_is_told(
    reconcile: Reconcile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "FIRST_PAUSE_S", 0.0)
    port = ReservedPort("127.0.0.1")
    code, said, noted = await reconcile(GATEWAY_URL=f"http://127.0.0.1:{port.port}")
    port.release()
    assert (code, said) == (2, "")
    assert f"the gateway at GATEWAY_URL (127.0.0.1:{port.port}) can't be reached" in noted


async def test_settings_may_lie_in_files(
    reconcile: Reconcile, gateway: FakeGateway, tmp_path: Path
) -> None:
    for name, value in (("GATEWAY_URL", gateway.url), ("GATEWAY_API_KEY", API_KEY)):
        (tmp_path / name).write_text(f"{value}\n")
    files = {f"{path.name}_FILE": str(path) for path in tmp_path.iterdir()}
    assert (await reconcile(GATEWAY_URL="", GATEWAY_API_KEY="", **files))[0] == 0


async def test_a_wrong_call_asks_nobody(reconcile: Reconcile, gateway: FakeGateway) -> None:
    code, said, noted = await reconcile("--order", "a b")
    assert (code, said, gateway.asked) == (2, "", [])
    assert "is no order id" in noted
