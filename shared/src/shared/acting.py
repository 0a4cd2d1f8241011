"""An operator's action on an admin port: who acts and why, read from the body of a request."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.admin import faults, json_problem, read_body
from shared.contracts.base import MAX_NOTE_CHARS

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

MAX_BODY_BYTES: Final = 16_384
MAX_OPERATOR_CHARS: Final = 64
_NO_NUL: Final = r"^[^\x00]*$"


class Action(BaseModel):
    """Who acts, and why: both are kept."""

    model_config = ConfigDict(extra="forbid")

    operator: Annotated[str, Field(min_length=1, max_length=MAX_OPERATOR_CHARS, pattern=_NO_NUL)]
    note: Annotated[str, Field(min_length=1, max_length=MAX_NOTE_CHARS, pattern=_NO_NUL)]


_Action = TypeVar("_Action", bound=Action)


async def read_action(request: Request, model: type[_Action]) -> _Action | Response:
    """What the operator asks for, or the problem to answer with where the body is none such."""
    body = await read_body(request, MAX_BODY_BYTES)
    if body is None:
        detail = f"at most {MAX_BODY_BYTES} bytes"
        return json_problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Body too large", detail)
    try:
        return model.model_validate(json.loads(body or b"{}"))
    except (ValueError, RecursionError) as error:
        detail = (
            faults(error) if isinstance(error, ValidationError) else "the body is no JSON object"
        )
        return json_problem(HTTPStatus.BAD_REQUEST, "Invalid action", detail)
