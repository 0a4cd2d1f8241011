"""The OpenAPI document, from what the routes say of themselves."""

from __future__ import annotations

import inspect
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import models_json_schema

from shared.contracts.base import Record
from shared.contracts.ids import ID_PATTERN
from storefront import documents
from storefront.documents import ProblemDocument, UnderWayDocument
from storefront.endpoint import EVENT_STREAM, Endpoint, Says, Stream
from storefront.problems import MEDIA_TYPE
from storefront.requests import KEY_CHARS, KEY_PATTERN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.routing import BaseRoute

HTTP_JSON: Final = "application/json"
_REF: Final = "#/components/schemas/{model}"
_ALWAYS: Final = (400, 401, 503)
_WITH_BODY: Final = (408, 413, 415)
_MEANS: Final = {
    204: "There is nothing more to tell",
    304: "As `If-None-Match` says",
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
DESCRIPTION: Final = (
    "Orders, payments, carts, coupons and stock. Requests become commands on the bus; an answer"
    " comes once their outcome is known."
)
ID_SCHEMA: Final = {"type": "string", "pattern": ID_PATTERN}
_KEY: Final = {
    "name": "Idempotency-Key", "in": "header", "required": False,
    "schema": {
        "type": "string", "minLength": 1, "maxLength": KEY_CHARS, "pattern": KEY_PATTERN,
    },
    "description": "Makes the request safe to send again",
}  # fmt: skip


def in_query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    """A parameter of the query that may be left out."""
    return {
        "name": name, "in": "query", "required": False, "schema": schema,
        "description": description,
    }  # fmt: skip


BY_USER: Final = in_query("userId", ID_SCHEMA, "Whose; may be left out where a token says it")


def document_of(routes: Iterable[BaseRoute]) -> dict[str, Any]:
    """The OpenAPI document of those routes that say something of themselves."""
    paths: dict[str, dict[str, Any]] = {}
    for each in routes:
        endpoint = getattr(each, "endpoint", None)
        if isinstance(endpoint, Endpoint):
            (method,) = getattr(each, "methods", set()) - {"HEAD"}
            paths.setdefault(endpoint.path, {})[method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Storefront", "version": "1", "description": DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
        "security": [{"bearer": []}, {}],
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    says = endpoint.says
    summary, _, more = inspect.cleandoc(endpoint.serve.__doc__ or "").partition(". ")
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": ID_SCHEMA}
        for name in re.findall(r"\{(\w+)\}", endpoint.path)
    ]
    operation: dict[str, Any] = {
        "tags": [says.tag],
        "operationId": endpoint.serve.__qualname__,
        "summary": summary.rstrip(".").replace("\n", " "),
        "description": more.replace("\n", " "),
        "parameters": [*in_path, *says.parameters, *([_KEY] if says.keyed else ())],
        "responses": _responses(says),
    }
    if says.body is not None:
        content = {HTTP_JSON: {"schema": {"$ref": _REF.format(model=says.body.__name__)}}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _responses(says: Says) -> dict[str, Any]:
    if says.answer is None:
        found: dict[str, Any] = {"204": {"description": HTTPStatus.NO_CONTENT.phrase}}
    elif issubclass(says.answer, Stream):
        content = {EVENT_STREAM: {"schema": {"type": "string"}}}
        found = {"200": {"description": "OK", "content": content}}
    else:
        found = {"200": _content("OK", HTTP_JSON, says.answer)}
    for status in sorted({*says.others, *_ALWAYS, *(_WITH_BODY if says.body else ())}):
        if status == HTTPStatus.ACCEPTED:
            found[str(status)] = _content(_MEANS[status], HTTP_JSON, UnderWayDocument)
        elif status < HTTPStatus.BAD_REQUEST:
            found[str(status)] = {"description": _MEANS[status]}
        else:
            found[str(status)] = _content(_MEANS[status], MEDIA_TYPE, ProblemDocument)
    return found


def _content(means: str, media_type: str, model: type[Record]) -> dict[str, Any]:
    schema = {"$ref": _REF.format(model=model.__name__)}
    return {"description": means, "content": {media_type: {"schema": schema}}}


def _schemas() -> dict[str, Any]:
    models = [
        each
        for each in vars(documents).values()
        if isinstance(each, type) and issubclass(each, Record) and each is not Record
    ]
    _, found = models_json_schema(
        [(model, "validation") for model in models], ref_template=_REF
    )  # fmt: skip
    schemas: dict[str, Any] = found["$defs"]
    return schemas
