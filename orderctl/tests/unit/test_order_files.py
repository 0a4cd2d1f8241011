"""Files of order commands: what is a line, what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from orderctl.errors import OperatorError
from orderctl.main import app
from orderctl.order_files import Line, read_lines, require_readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from shared.kafka.connection import KafkaConnection

    Place = Callable[..., tuple[int, str, str, list[bytes]]]

GOOD = b'{"type":"CancelOrder","orderId":"o-1","userId":"user_1"}'


def test_a_line_goes_as_it_stands_and_is_keyed_by_its_order(tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_bytes(b"\n" + GOOD + b" \r\n\nno json\n" + GOOD)
    lines = read_lines(file)
    assert [(line.number, line.key) for line in lines] == [(2, b"o-1"), (4, None), (5, b"o-1")]
    assert lines[0].value == GOOD + b" "
    assert lines[0].type == "CancelOrder"


@pytest.mark.parametrize(
    "line",
    [b"[" * 100_000, b'{"orderId":"a b"}', b'{"orderId":7}', b'["orderId"]', b"\xff\xfe"],
)
def test_f4_a_line_without_a_readable_id_has_no_key(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_bytes(line)
    assert read_lines(file)[0].key is None


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"nowhere\.jsonl can't be read: No such file"):
        read_lines(tmp_path / "nowhere.jsonl")


def test_an_unreadable_line_is_refused_with_its_number(tmp_path: Path) -> None:
    file = tmp_path / "orders.jsonl"
    file.write_bytes(GOOD + b"\n\n" + GOOD.replace(b"userId", b"user"))
    with pytest.raises(OperatorError, match=r"line 3: .*userId.*Nothing was published"):
        require_readable(str(file), read_lines(file))
    require_readable(str(file), read_lines(file)[:1])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Places a file of this content: exit code, stdout, stderr, and what was published."""

    def run(
        content: bytes, *options: str, piped: bool = False
    ) -> tuple[int, str, str, list[bytes]]:
        published: list[bytes] = []

        async def publish(connection: KafkaConnection, lines: Iterable[Line]) -> int:
            published.extend(line.value for line in lines)
            return len(published)

        monkeypatch.setattr("orderctl.order_commands.publish", publish)
        file = tmp_path / "orders.jsonl"
        file.write_bytes(content)
        name = "-" if piped else str(file)
        arguments = ["place", name, "--bootstrap-servers", "nowhere:1", *options]
        result = CliRunner().invoke(app, arguments, input=content if piped else None)
        return result.exit_code, result.stdout, result.stderr, published

    return run


def test_one_message_is_one_message(place: Place) -> None:
    assert place(GOOD) == (0, "published 1 message\n", "", [GOOD])
    assert place(GOOD + b"\n" + GOOD)[1] == "published 2 messages\n"


def test_standard_input_is_a_file(place: Place) -> None:
    assert place(GOOD + b"\n", piped=True) == (0, "published 1 message\n", "", [GOOD])
    code, _, error, _ = place(b"what", piped=True)
    assert (code, error.startswith("orderctl: standard input, line 1: no JSON")) == (1, True)


@pytest.mark.parametrize("content", [b"", b"\n \n\r\n"])
@pytest.mark.parametrize("options", [(), ("--as-is",)])
def test_an_empty_file_is_an_error(place: Place, content: bytes, options: tuple[str, ...]) -> None:
    code, said, error, published = place(content, *options)
    assert (code, said, published) == (2, "", [])
    assert error.endswith("orders.jsonl holds no message\n")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"[\n  " + GOOD + b"\n]", "one JSON object a line"),
        (b"[" + GOOD + b"]", "one JSON object a line"),
        (GOOD.replace(b",", b",\n"), "one JSON object a line"),
        (b'"PlaceOrder"', "one JSON object a line"),
        (
            b'{"type":"ReceiveStock","commandId":"c-1"}',
            '"ReceiveStock" is no order command; place takes PlaceOrder, PayOrder and CancelOrder',
        ),
    ],
    ids=["array over lines", "array", "object over lines", "text", "no order command"],
)
def test_a_file_of_something_else_is_told_what_is_taken(
    place: Place, content: bytes, told: str
) -> None:
    code, said, error, published = place(content)
    assert (code, said, published) == (1, "", [])
    assert "line 1: " in error
    assert told in error


def test_an_unknown_field_is_warned_of_once_and_published(
    place: Place,
) -> None:
    order = (
        b'{"type":"PlaceOrder","orderId":"o-1","userId":"user_1","couponID":"C","\\u001b":1,'
        b'"items":[{"productId":"P001","quantity":1,"qty":2}],"payment":{"point":3}}'
    )
    code, said, error, published = place(GOOD + b"\n" + order + b"\n" + order)
    assert (code, said) == (0, "published 3 messages\n")
    assert published == [GOOD, order, order]
    told = [line.partition("line 2: ")[2] for line in error.splitlines()]
    assert told == [
        f"`{field}` is not a field of PlaceOrder: ignored"
        for field in ("couponID", "?", "items[].qty", "payment.point")
    ]


def test_warnings_are_bounded(place: Place) -> None:
    fields = b"".join(b'"x%d":0,' % number for number in range(50))
    error = place(GOOD.replace(b"{", b"{" + fields))[2].splitlines()
    assert len(error) == 21
    assert error[-1] == "orderctl: and 30 more unknown fields"
