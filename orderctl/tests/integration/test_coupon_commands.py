"""`orderctl coupon` and `orderctl lottery` against a real instance of coupon."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from orderctl import lottery_evidence
from orderctl.main import app
from shared.contracts import lottery
from shared.contracts.coupon import (
    CampaignKind,
    CampaignPut,
    CouponIssued,
    LotteryDrawn,
    LotteryEntered,
)
from shared.contracts.topics import TOPICS
from shared.kafka.connection import KafkaConnection
from shared.kafka.publisher import partition_of
from shared.testing.kafka import Record, Topics
from shared.testing.processes import Instance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from local_stack import Environment
    from shared.contracts.base import Message
    from shared.testing.databases import Database, Template
    from shared.testing.proxy import Proxy

EVENTS = "coupon.events.v1"
SEED = "5eed" * 16
USERS = [f"user_{number}" for number in range(12)]
Said = tuple[int, str, str]

ALWAYS = "open from now on, closes with no date, coupons are good for good"


class Operated:
    """An instance of coupon, and an operator who speaks to it."""

    def __init__(self, instance: Instance, topics: Topics, database: Database) -> None:
        self.instance = instance
        self.topics = topics
        self.database = database

    async def orderctl(self, *arguments: str, given: str | None = None, **settings: str) -> Said:
        """In a thread, since a command has an event loop of its own."""
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": self.topics.connection.bootstrap_servers,
            "KAFKA_TOPIC_PREFIX": self.topics.prefix,
            "ADMIN_URL_COUPON_0": self.instance.admin_url,
        }
        result = await asyncio.to_thread(
            CliRunner().invoke, app, arguments, env=environment | settings, input=given
        )
        return result.exit_code, result.stdout, result.stderr

    async def enter(self, coupon_id: str, *users: str) -> None:
        """Entries as coupon's tables have them."""
        async with self.database.connection("coupon") as connection:
            await connection.execute(
                "INSERT INTO campaign (coupon_id, kind, coupon_limit, issued, discount_type,"
                " discount_value, currency, seed_hash, entries_hash, entered) VALUES"
                " ($1, 'lottery', 5, 0, 'fixed', 500, 'KRW', $2, '', $3) ON CONFLICT DO NOTHING",
                coupon_id, lottery.seed_hash(SEED), len(users),
            )  # fmt: skip
            await connection.executemany(
                "INSERT INTO lottery_entry VALUES ($1, $2, $3, $4, now())",
                [(coupon_id, user, number, f"e-{user}") for number, user in enumerate(users, 1)],
            )


@pytest.fixture(scope="module")
async def coupon(
    template: Template, environment: Environment, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Operated]:
    topics = Topics(
        KafkaConnection(
            environment.kafka_bootstrap_servers, topic_prefix=f"t{secrets.token_hex(4)}."
        )
    )
    await topics.create(service="coupon")
    async with template.clone() as database:
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": environment.kafka_bootstrap_servers,
            "KAFKA_TOPIC_PREFIX": topics.prefix,
            "DATABASE_URL": database.dsn("coupon"),
            "REDIS_URL": environment.redis_url,
        }
        instance = Instance(
            "coupon.main", "coupon-0", settings, folder=tmp_path_factory.mktemp("coupon")
        )
        await instance.start(ready_within_s=60)
        yield Operated(instance, topics, database)
        await instance.discard()
    await topics.close()
    await topics.delete()


def campaign(coupon_id: str, **fields: object) -> str:
    return json.dumps(
        {
            "couponId": coupon_id, "kind": "first_come", "limit": 5,
            "discount": {"type": "percent", "value": 10, "cap": 5000},
        }
        | fields
    )  # fmt: skip


def draw_events(coupon_id: str) -> list[Message]:
    """What an honest draw publishes."""
    put = CampaignPut(
        command_id="put-1", coupon_id=coupon_id, kind=CampaignKind.LOTTERY, limit=5,
        seed_hash=lottery.seed_hash(SEED),
    )  # fmt: skip
    entered = [
        LotteryEntered(
            command_id=f"e-{user}",
            coupon_id=coupon_id,
            user_id=user,
            seed_hash=lottery.seed_hash(SEED),
        )
        for user in USERS
    ]
    drawn = LotteryDrawn(
        command_id="draw-1", coupon_id=coupon_id, seed=SEED,
        entries_hash=lottery.entries_hash(USERS), entry_count=len(USERS), winner_count=5,
    )  # fmt: skip
    issued = [
        CouponIssued(
            command_id=f"e-{user}", coupon_id=coupon_id, user_id=user, sequence=number,
            issued_at=datetime.now(UTC),
        )
        for number, user in enumerate(lottery.winners(SEED, USERS, 5), 1)
    ]  # fmt: skip
    return [put, *entered, drawn, *issued]


def partition(coupon_id: str) -> int:
    return partition_of(coupon_id.encode(), TOPICS[EVENTS].partitions)


def neighbour_of(coupon_id: str) -> str:
    """Another campaign in the same partition."""
    names = (f"N{number}" for number in range(1_000))
    return next(name for name in names if partition(name) == partition(coupon_id))


async def test_a_campaign_is_put_shown_and_listed(coupon: Operated) -> None:
    code, said, noted = await coupon.orderctl("coupon", "put", "-", given=campaign("C-put"))
    assert (code, said) == (
        0,
        f"put C-put: first_come, 5 coupons; {ALWAYS}\n",
    )
    assert "the command's id is orderctl-" in noted
    code, said, _ = await coupon.orderctl("coupon", "show", "C-put", "--json")
    assert code == 0
    shown = json.loads(said)
    assert (shown["life"], shown["limit"], shown["left"]) == ("open", 5, 5)
    assert shown["discount"] == {"type": "percent", "value": 10, "cap": 5000, "currency": "KRW"}
    code, said, _ = await coupon.orderctl("coupon", "list", "--life", "open")
    assert code == 0
    assert "C-put first_come open 5 0 5 10%" in " ".join(said.split())


async def test_a_repeat_is_answered_again_and_a_refusal_is_told(coupon: Operated) -> None:
    call = ["coupon", "put", "-", "--command-id", "put-again"]
    for _ in range(2):
        told = await coupon.orderctl(*call, given=campaign("C-again"))
        assert told == (
            0,
            f"put C-again: first_come, 5 coupons; {ALWAYS}\n",
            "",
        )
    euros = {"type": "fixed", "value": 5, "currency": "EUR"}
    code, said, noted = await coupon.orderctl(
        "coupon", "put", "-", given=campaign("C-again", discount=euros)
    )
    assert (code, said) == (1, "")
    assert "orderctl: coupon refuses: discounts are in KRW here, not in EUR\n" in noted


async def test_what_is_no_lottery_is_not_drawn(coupon: Operated) -> None:
    await coupon.orderctl("coupon", "put", "-", given=campaign("C-plain"))
    code, said, noted = await coupon.orderctl("lottery", "draw", "C-plain")
    assert (code, said) == (1, "")
    assert "orderctl: coupon refuses: the campaign C-plain is first_come" in noted
    code, said, noted = await coupon.orderctl("lottery", "verify", "C-plain")
    assert (code, said) == (2, "")
    assert noted == "orderctl: C-plain is first_come, which is not drawn\n"


async def test_a_draw_is_verified_from_what_is_published(coupon: Operated) -> None:
    events = draw_events("L-honest")
    await coupon.enter("L-honest", *USERS)
    await coupon.topics.publish(EVENTS, draw_events(neighbour_of("L-honest")))
    await coupon.topics.publish(EVENTS, [*events, *events[3:9]])
    code, said, noted = await coupon.orderctl("lottery", "verify", "L-honest")
    assert (code, noted) == (0, "")
    for name in ("commitment", "seed", "entries", "entered", "winners", "records"):
        assert re.search(rf"^{name} +ok ", said, re.MULTILINE)
    last = lottery.ticket(SEED, lottery.winners(SEED, USERS, 5)[-1])
    assert f'printf %s "{SEED}:USER" | sha256sum' in said
    assert f"the 5 lowest tickets win, up to {last}" in said


async def test_many_pages_of_entries_are_one_list(
    coupon: Operated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lottery_evidence, "ENTRIES_AT_ONCE", 5)
    await coupon.enter("L-pages", *USERS)
    await coupon.topics.publish(EVENTS, draw_events("L-pages"))
    code, said, _ = await coupon.orderctl("lottery", "verify", "L-pages", "--json")
    found = json.loads(said)
    assert (code, found["verdict"]) == (0, "ok")
    assert found["draw"]["seed"] == SEED


async def test_an_entry_that_was_slipped_in_is_found(coupon: Operated, tmp_path: Path) -> None:
    await coupon.enter("L-slipped", *USERS, "friend")
    await coupon.topics.publish(EVENTS, draw_events("L-slipped"))
    code, said, _ = await coupon.orderctl("lottery", "verify", "L-slipped", "--json")
    checks = {one["name"]: one for one in json.loads(said)["checks"]}
    assert code == 1
    assert checks["entries"]["found"] == "there are 13, and 12 were drawn from"
    assert checks["entered"]["found"] == "friend is an entry without a LotteryEntered"
    # the list as it was saved before tells that the draw itself was right
    saved = tmp_path / "entries.txt"
    saved.write_text("".join(f"{user}\n" for user in USERS))
    call = ["lottery", "verify", "L-slipped", "--entries", str(saved)]
    assert (await coupon.orderctl(*call, ADMIN_URL_COUPON_0=""))[0] == 0


async def test_a_topic_without_its_beginning_leaves_the_commitment_open(coupon: Operated) -> None:
    put, *rest = draw_events("L-old")
    await coupon.enter("L-old", *USERS)
    await coupon.topics.publish(EVENTS, [put])
    await coupon.topics.lose(EVENTS, [partition("L-old")])
    await coupon.topics.publish(EVENTS, rest)
    code, said, _ = await coupon.orderctl("lottery", "verify", "L-old", "--json")
    found = json.loads(said)
    assert (code, found["verdict"]) == (2, "open")
    assert [one["name"] for one in found["checks"] if one["verdict"] == "open"] == [
        "commitment", "seed",
    ]  # fmt: skip


async def test_a_record_that_nobody_can_read_is_told(coupon: Operated) -> None:
    await coupon.enter("L-spoilt", *USERS)
    spoilt = [Record(b'{"type":"CouponIssued"', "L-spoilt"), Record(b'{"type":"New"}', "L-spoilt")]
    await coupon.topics.publish(EVENTS, [*draw_events("L-spoilt"), *spoilt])
    code, said, _ = await coupon.orderctl("lottery", "verify", "L-spoilt")
    assert code == 2
    assert "1 record under its key can't be read" in said


@pytest.mark.parametrize(
    ("coupon_id", "events", "problem"),
    [
        ("L-404", 0, "tells of no lottery L-404"),
        ("L-waits", 5, "L-waits isn't drawn, as far as is published"),
    ],
)
async def test_without_a_draw_it_says_why(
    coupon: Operated, coupon_id: str, events: int, problem: str
) -> None:
    await coupon.topics.publish(EVENTS, draw_events(coupon_id)[:events])
    code, said, noted = await coupon.orderctl("lottery", "verify", coupon_id)
    assert (code, said) == (2, "")
    assert problem in noted


async def test_entries_must_come_from_somewhere(coupon: Operated, tmp_path: Path) -> None:
    code, _, noted = await coupon.orderctl("lottery", "verify", "L", ADMIN_URL_COUPON_0="")
    assert (code, "--entries FILE" in noted) == (2, True)
    await coupon.topics.publish(EVENTS, draw_events("L-list"))
    saved = tmp_path / "entries.txt"
    saved.write_text("user_1\nuser 2\n")
    call = ["lottery", "verify", "L-list"]
    code, _, noted = await coupon.orderctl(*call, "--entries", str(saved))
    assert (code, 'line 2: "user 2" is no user id' in noted) == (2, True)
    code, _, noted = await coupon.orderctl(*call, "--url", "http://127.0.0.1:1")
    assert (code, "coupon's admin port http://127.0.0.1:1 can't be reached" in noted) == (2, True)


async def test_f49_a_broker_that_falls_silent_ends_every_command(
    coupon: Operated, kafka_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.kafka.reading.SILENCE_S", 2.0)
    monkeypatch.setattr(lottery_evidence, "SILENCE_S", 2.0)
    kafka_proxy.half_open()
    for call in (
        ["lottery", "verify", "L"],
        ["lottery", "draw", "L", "--within", "2"],
        ["coupon", "put", "-", "--within", "2"],
    ):
        async with asyncio.timeout(30):
            code, said, noted = await coupon.orderctl(
                *call, given=campaign("C"), KAFKA_BOOTSTRAP_SERVERS=kafka_proxy.address
            )
        assert (code, said) == (2 if "verify" in call else 1, "")
        assert "the broker says nothing for 2 s" in noted
