"""A campaign in a file: one `PutCampaign` as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from orderctl.errors import OperatorError
from orderctl.message_files import called, content_of, unknown_parts
from shared.contracts.coupon import Discount, PutCampaign
from shared.contracts.reading import Reader, Unreadable, ambiguity, type_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_READER: Final = Reader([PutCampaign], public=True, key="couponId")


def campaign_in(path: Path, command_id: str, draw_id: Callable[[], str]) -> PutCampaign:
    """The command that a file holds. Raises OperatorError where coupon would not understand it, or
    where it has a field that the contract doesn't know: a date that is ignored is a campaign that
    begins at once.

    `type` may be left out. Where the file has no `commandId` it is `command_id`, or else what
    `draw_id` gives, which is asked once the rest is in order.
    """
    try:
        return _read(content_of(path), command_id, draw_id)
    except _NoCampaignError as problem:
        raise OperatorError(f"{called(path)}: {problem}. Nothing was published") from problem


class _NoCampaignError(Exception):
    pass


def _read(content: bytes, command_id: str, draw_id: Callable[[], str]) -> PutCampaign:
    given = _object(content)
    if "commandId" in given and command_id not in ("", given["commandId"]):
        raise _NoCampaignError("it has a commandId of its own; leave out --command-id, or that one")
    complete = {"type": type_name(PutCampaign), "commandId": command_id or "any"} | given
    command = _message(complete)
    if unknown := list(unknown_parts(complete, command)):
        within = Discount if unknown[0].startswith("discount.") else PutCampaign
        raise _NoCampaignError(
            f"{', '.join(f'`{field}`' for field in unknown)} is no field of PutCampaign; known are"
            f" {', '.join(str(field.alias) for field in within.model_fields.values())}"
        )
    if command_id or "commandId" in given:
        return command
    return command.model_copy(update={"command_id": draw_id()})


def _object(content: bytes) -> dict[str, object]:
    """The fields that are given; null is absent."""
    found = _READER.read(content)
    if isinstance(found, Unreadable) and found.reason not in ("invalid", "unknown_type"):
        raise _NoCampaignError(found.detail)
    if problem := ambiguity(content):
        raise _NoCampaignError(problem)
    parsed = json.loads(content)
    if not isinstance(parsed, dict):
        raise _NoCampaignError("it holds no JSON object; it has one PutCampaign")
    return {name: value for name, value in parsed.items() if value is not None}


def _message(fields: dict[str, object]) -> PutCampaign:
    found = _READER.read(json.dumps(fields).encode())
    if isinstance(found, Unreadable):
        raise _NoCampaignError(found.detail)
    assert isinstance(found, PutCampaign)  # the reader knows no other message
    return found
