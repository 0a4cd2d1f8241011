"""What routes say of themselves in the OpenAPI document.

Bodies are read by `bodies`, as strictly as messages are, and answers are written as bytes: FastAPI
routes, and describes what it is told here.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import models_json_schema
from starlette.responses import Response

from shared.contracts.base import Record
from shared.contracts.ids import ID_PATTERN
from storefront import documents
from storefront.documents import ProblemDocument
from storefront.problems import MEDIA_TYPE

if TYPE_CHECKING:
    from fastapi import FastAPI

HTTP_JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"
_REF: Final = "#/components/schemas/{model}"
_ALWAYS: Final = (400, 401, 503)
_WITH_BODY: Final = (408, 413, 415)
_SAYS: Final = {
    202: "It takes longer: ask where `Location` says",
    400: "The request can't be read; `detail` says what to mend",
    401: "No token, or none that is good",
    403: "`userId` is not the token's",
    404: "There is none, or it is another user's",
    408: "The body did not come in time",
    409: "Refused; `reason` and `detail` say why",
    413: "The body is too large",
    415: "The body is no JSON",
    422: "The Idempotency-Key, or the id, came with other content before",
    429: "Too many at once; come again later",
    503: "Not now; come again as `Retry-After` says",
}


def described(
    answer: type[Record] | None,
    *others: int,
    body: type[Record] | None = None,
    keyed: bool = False,
    streams: bool = False,
    parameters: tuple[dict[str, Any], ...] = (),
) -> dict[str, Any]:
    """The arguments of a route: `answer` is what 200 has (None: 204, and nothing), `others` are
    further statuses beside those that any route may answer."""
    responses: dict[int | str, dict[str, Any]] = {}
    if answer is None and not streams:
        responses[204] = {"description": HTTPStatus.NO_CONTENT.phrase}
    elif answer is None:
        responses[200] = {"description": "OK", "content": {EVENT_STREAM: {"schema": _TEXT}}}
    else:
        responses[200] = _content("OK", HTTP_JSON, answer)
    for status in sorted({*others, *_ALWAYS, *(_WITH_BODY if body else ())}):
        if status == HTTPStatus.ACCEPTED and answer is not None:
            responses[status] = _content(_SAYS[status], HTTP_JSON, documents.UnderWayDocument)
        else:
            responses[status] = _content(_SAYS[status], MEDIA_TYPE, ProblemDocument)
    extra: dict[str, Any] = {"parameters": [*parameters, *([_KEY] if keyed else ())]}
    if body is not None:
        schema = {"$ref": _REF.format(model=body.__name__)}
        extra["requestBody"] = {"required": True, "content": {HTTP_JSON: {"schema": schema}}}
    return {
        "status_code": 200 if answer is not None or streams else 204,
        "response_class": Response,
        "response_model": None,
        "responses": responses,
        "openapi_extra": extra,
    }


def in_query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    """A parameter of the query that may be left out."""
    return {
        "name": name, "in": "query", "required": False, "schema": schema,
        "description": description,
    }  # fmt: skip


_TEXT: Final = {"type": "string"}
ID_SCHEMA: Final = {"type": "string", "pattern": ID_PATTERN}
BY_USER: Final = in_query("userId", ID_SCHEMA, "Whose; may be left out where a token says it")
_KEY: Final = {
    "name": "Idempotency-Key", "in": "header", "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
    "description": "Makes the request safe to send again",
}  # fmt: skip


def _content(description: str, media_type: str, model: type[Record]) -> dict[str, Any]:
    schema = {"$ref": _REF.format(model=model.__name__)}
    return {"description": description, "content": {media_type: {"schema": schema}}}


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of `app`, with all the models that `described` names."""
    from fastapi.openapi.utils import get_openapi

    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    models = [
        each
        for each in vars(documents).values()
        if isinstance(each, type) and issubclass(each, Record) and each is not Record
    ]
    _, found = models_json_schema(
        [(model, "validation" if model.__name__.endswith("Request") else "serialization")
         for model in models],
        ref_template=_REF,
    )  # fmt: skip
    document.setdefault("components", {})["schemas"] = found["$defs"]
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    }
    document["security"] = [{"bearer": []}, {}]
    return document
