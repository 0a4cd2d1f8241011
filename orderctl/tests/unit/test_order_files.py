"""Files of order commands: what is a line, what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orderctl.errors import OperatorError
from orderctl.order_files import read_lines, require_readable

if TYPE_CHECKING:
    from pathlib import Path

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
        require_readable(file, read_lines(file))
    require_readable(file, read_lines(file)[:1])
