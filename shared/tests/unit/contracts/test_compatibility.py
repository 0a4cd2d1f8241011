"""The check for breaking changes finds each kind once, and lets pass what breaks nobody."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.contracts import compatibility
from shared.contracts.compatibility import Contracts, breaking_changes, present
from shared.contracts.narrowing import document, narrowings

BEFORE = present()

Change = Callable[[Contracts], None]


def fields(contracts: Contracts, message: str) -> dict[str, Any]:
    schema: dict[str, Any] = contracts["schemas"][message]
    return schema["properties"]  # type: ignore[no-any-return]


def changed(change: Change) -> list[str]:
    now = copy.deepcopy(BEFORE)
    change(now)
    return breaking_changes(BEFORE, now)


def remove(message: str, field: str) -> Change:
    def change(now: Contracts) -> None:
        del fields(now, message)[field]
        required = now["schemas"][message]["required"]
        if field in required:
            required.remove(field)

    return change


def add(message: str, field: str, *, required: bool) -> Change:
    def change(now: Contracts) -> None:
        fields(now, message)[field] = {"type": "integer"}
        if required:
            now["schemas"][message]["required"].append(field)

    return change


def put(message: str, path: str, value: object) -> Change:
    def change(now: Contracts) -> None:
        *way, last = path.split("/")
        part = now["schemas"][message]
        for step in way:
            part = part[int(step)] if isinstance(part, list) else part[step]
        if value is None:
            del part[last]
        else:
            part[last] = value

    return change


def extend(message: str, enum: str) -> Change:
    def change(now: Contracts) -> None:
        now["schemas"][message]["$defs"][enum]["enum"].append("brand_new")

    return change


def shorten(message: str, enum: str) -> Change:
    def change(now: Contracts) -> None:
        now["schemas"][message]["$defs"][enum]["enum"].pop()

    return change


def optional(message: str, field: str) -> Change:
    return lambda now: now["schemas"][message]["required"].remove(field)


def topic(name: str, attribute: str, value: object) -> Change:
    def change(now: Contracts) -> None:
        now["topics"][name][attribute] = value

    return change


def forget(name: str, type_: str) -> Change:
    def change(now: Contracts) -> None:
        del now["topics"][name]["messages"][type_]

    return change


def new_message(name: str) -> Change:
    def change(now: Contracts) -> None:
        now["topics"][name]["messages"]["Brand"] = "Brand"
        now["schemas"]["Brand"] = {"type": "object", "properties": {}}

    return change


BREAKING: dict[str, tuple[Change, str]] = {
    "topic gone": (lambda now: now["topics"].pop("stock.levels.v1"), "the topic is gone"),
    "key changed": (topic("orders.events.v1", "key", "user_id"), "key was order_id"),
    "partitions changed": (topic("orders.events.v1", "partitions", 24), "partitions was 12"),
    "accepted message gone": (forget("orders.commands.v1", "PayOrder"), "PayOrder is gone"),
    "sent message gone": (forget("orders.events.v1", "OrderAccepted"), "OrderAccepted is gone"),
    "new internal command": (new_message("stock.commands.v1"), "Brand is new"),
    "required field removed from what is sent": (
        remove("OrderConfirmed", "total"),
        "OrderConfirmed: total: is gone",
    ),
    "optional field removed from what is sent": (
        remove("OrderCancelled", "note"),
        "OrderCancelled: note: is gone",
    ),
    "field no longer heard": (remove("PlaceOrder", "couponId"), "PlaceOrder: couponId: is gone"),
    "field of a part removed": (
        put("OrderConfirmed", "$defs/PricedLine/properties/unitPrice", None),
        "OrderConfirmed: items[].unitPrice: is gone",
    ),
    "field of an optional part removed": (
        put("PlaceOrder", "$defs/PaymentChoice/properties/points", None),
        "PlaceOrder: payment.points: is gone",
    ),
    "required field new in what is accepted": (
        add("PlaceOrder", "address", required=True),
        "PlaceOrder: address: may be absent",
    ),
    "required field new in an internal command": (
        add("ReserveStock", "priority", required=True),
        "ReserveStock: priority: may be absent, is required by the reader (sent by",
    ),
    "sent field no longer always there": (
        optional("OrderConfirmed", "currency"),
        "OrderConfirmed: currency: may be absent, is required by the reader (read by",
    ),
    "reply field no longer always there": (
        optional("CouponHeld", "discount"),
        "CouponHeld: discount: may be absent, is required by the reader (read by",
    ),
    "accepted field became required": (
        lambda now: now["schemas"]["PlaceOrder"]["required"].append("couponId"),
        "PlaceOrder: couponId: may be absent",
    ),
    "type of a sent field changed": (
        put("OrderConfirmed", "properties/total/type", "string"),
        "OrderConfirmed: total: type is string, read as integer",
    ),
    "type of an accepted field changed": (
        put("TopUpWallet", "properties/amount/type", "string"),
        "TopUpWallet: amount: type is integer, read as string",
    ),
    "integer became number in what is sent": (
        put("StockLevel", "properties/available/type", "number"),
        "StockLevel: available: type is number",
    ),
    "null no longer accepted": (
        put("PlaceOrder", "properties/couponId", {"type": "string"}),
        "PlaceOrder: couponId: type is null, read as string",
    ),
    "upper limit lowered": (
        put("AdjustStock", "properties/delta/maximum", 5),
        "AdjustStock: delta: maximum is 1000000000, read as 5",
    ),
    "lower limit raised": (
        put("PlaceOrder", "$defs/Line/properties/quantity/minimum", 2),
        "PlaceOrder: items[].quantity: minimum is 1, read as 2",
    ),
    "limit of a sent number raised": (
        put("ProductPut", "properties/price/maximum", 10**12),
        "ProductPut: price: maximum is 1000000000000",
    ),
    "sent number unlimited": (
        put("ProductPut", "properties/price/maximum", None),
        "ProductPut: price: maximum is None",
    ),
    "fewer entries accepted": (
        put("PlaceOrder", "properties/items/maxItems", 10),
        "PlaceOrder: items: maxItems is 1000, read as 10",
    ),
    "shorter text accepted": (
        put("PutProduct", "properties/name/maxLength", 10),
        "PutProduct: name: maxLength is 200, read as 10",
    ),
    "pattern narrowed": (
        put("PlaceOrder", "properties/userId/pattern", "^[0-9]+$"),
        "PlaceOrder: userId: pattern is",
    ),
    "pattern of a sent id widened": (
        put("OrderAccepted", "properties/orderId/pattern", "^[A-Za-z0-9._:-]{1,128}$"),
        "OrderAccepted: orderId: pattern is",
    ),
    "new reason for readers outside": (
        extend("OrderRejected", "OutcomeReason"),
        "OrderRejected: reason: brand_new is unknown",
    ),
    "new reason in a reply": (
        extend("StockRefused", "StockRefusal"),
        "StockRefused: reason: brand_new is unknown",
    ),
    "new reason inside details": (
        extend("OrderRejected", "CouponRefusal"),
        "OrderRejected: details[].couponReason: brand_new is unknown",
    ),
    "strategy no longer accepted": (
        shorten("SetStockStrategy", "StockStrategy"),
        "SetStockStrategy: strategy: auto is unknown",
    ),
    "status changed": (
        put("OrderConfirmed", "properties/status/const", "DONE"),
        "OrderConfirmed: status: DONE is unknown",
    ),
    "list opened in what is sent": (
        put("OrderRejected", "$defs/OutcomeReason/enum", None),
        "OrderRejected: reason: any value is sent",
    ),
    "absent means something else": (
        put("PlaceOrder", "properties/pay/default", "later"),
        "PlaceOrder: pay: absent meant now, means later",
    ),
}


@pytest.mark.parametrize("name", BREAKING)
def test_f12_breaking(name: str) -> None:
    change, sentence = BREAKING[name]
    problems = changed(change)
    assert any(sentence in problem for problem in problems), problems


HARMLESS: dict[str, Change] = {
    "nothing": lambda now: None,
    "new optional field accepted": add("PlaceOrder", "gift", required=False),
    "new optional field in a command": add("ReserveStock", "gift", required=False),
    "new field always sent outside": add("OrderConfirmed", "paidAt", required=True),
    "new reason of a request accepted": extend("SetStockStrategy", "StockStrategy"),
    "reason no longer sent outside": shorten("OrderRejected", "OutcomeReason"),
    "accepted limit raised": put("AdjustStock", "properties/delta/maximum", 10**12),
    "sent limit lowered": put("ProductPut", "properties/price/maximum", 10),
    "accepted id widened": put(
        "PlaceOrder", "properties/userId/pattern", "^[A-Za-z0-9._:-]{1,128}$"
    ),
    "required no longer required of outsiders": optional("AdjustStock", "reason"),
    "new public command": new_message("orders.commands.v1"),
    "new event": new_message("stock.events.v1"),
    "new reply, skipped where unknown": new_message("stock.replies.v1"),
    "new topic": lambda now: now["topics"].update({"x.v1": {"messages": {}}}),
    "other words": put("PlaceOrder", "description", "An order."),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_f12_harmless(name: str) -> None:
    assert changed(HARMLESS[name]) == []


def test_a_keyword_without_a_rule_is_no_silent_pass() -> None:
    schema = document({"type": "integer", "multipleOf": 5})
    with pytest.raises(ValueError, match="multipleOf"):
        narrowings(schema, schema)


def test_every_present_schema_has_rules_for_all_its_keywords() -> None:
    for schema in BEFORE["schemas"].values():
        assert narrowings(document(schema), document(schema)) == []


def test_the_contracts_break_nobody_of_the_last_release() -> None:
    assert compatibility.check(compatibility.RELEASED) == []


class TestCommand:
    def test_baseline_check_and_acceptance(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = ["--folder", str(tmp_path)]
        assert compatibility.main(folder) == 1
        assert "no baseline" in capsys.readouterr().err
        assert compatibility.main([*folder, "--release", "0.9.0"]) == 0
        assert compatibility.main(folder) == 0

        older = json.loads((tmp_path / "v0.9.0.json").read_text())
        older["topics"]["stock.gone.v1"] = {"kind": "events", "messages": {}}
        (tmp_path / "v0.10.0.json").write_text(json.dumps(older))
        assert compatibility.main(folder) == 1
        said = capsys.readouterr().err
        assert "breaks v0.10.0: stock.gone.v1: the topic is gone" in said
        assert "two releases" in said

        reasons = {"stock.gone.v1: the topic is gone": "nobody ever read it"}
        (tmp_path / "accepted.json").write_text(json.dumps(reasons))
        assert compatibility.main(folder) == 0
        (tmp_path / "accepted.json").write_text(json.dumps({**reasons, "old": "news"}))
        assert compatibility.main(folder) == 1
        assert "accepted.json: not found: old" in capsys.readouterr().err

    def test_a_release_is_written_once(self, tmp_path: Path) -> None:
        compatibility.write_release(tmp_path, "1.0.0")
        with pytest.raises(FileExistsError):
            compatibility.write_release(tmp_path, "1.0.0")
        with pytest.raises(ValueError, match="no version"):
            compatibility.write_release(tmp_path, "next")
