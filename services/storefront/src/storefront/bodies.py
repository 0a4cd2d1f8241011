"""Bodies of requests: bounded in bytes and time, and as strict as messages are."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import ValidationError

from shared.admin import read_body
from shared.contracts.base import Record
from shared.contracts.explaining import explain
from shared.contracts.reading import MAX_DEPTH, ambiguity, deeper_than
from storefront.problems import ProblemError, invalid

if TYPE_CHECKING:
    from starlette.requests import Request

_Body = TypeVar("_Body", bound=Record)

JSON: Final = "application/json"


class Bodies:
    """Reads the bodies of requests."""

    def __init__(self, *, bytes_at_most: int, within_s: float) -> None:
        """A body that is longer, or takes longer, is cut off."""
        self._bytes_at_most = bytes_at_most
        self._within_s = within_s

    async def read(self, request: Request, model: type[_Body]) -> _Body:
        """The body as a `model`. Raises ProblemError."""
        media_type = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
        if media_type != JSON:
            raise ProblemError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"send the body as {JSON}",
                reason="wrong_media_type",
                headers={"accept-post": JSON},
            )
        try:
            async with asyncio.timeout(self._within_s):
                value = await read_body(request, self._bytes_at_most)
        except TimeoutError:
            raise ProblemError(
                HTTPStatus.REQUEST_TIMEOUT,
                f"the body did not come within {self._within_s:g} s",
                reason="body_late",
                headers={"connection": "close"},
            ) from None
        if value is None:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"at most {self._bytes_at_most} bytes are read",
                reason="body_too_large",
                headers={"connection": "close"},
            )
        return parse(value, model)


def parse(value: bytes, model: type[_Body]) -> _Body:
    """`value` as a `model`. Raises ProblemError."""
    if not value:
        raise invalid("the body is empty; send one JSON object")
    if deeper_than(value, MAX_DEPTH):
        raise invalid(f"nested deeper than {MAX_DEPTH} levels")
    try:
        body: Any = model.__pydantic_validator__.validate_json(value, by_alias=True, by_name=False)
    except ValidationError as error:
        raise invalid(explain(error, value, ())[1]) from None
    if problem := ambiguity(value):
        raise invalid(problem)
    found: _Body = body
    return found
