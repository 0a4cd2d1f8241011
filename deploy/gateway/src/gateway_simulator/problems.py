"""Refusals, as problem documents with a code that programs can tell apart."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import ValidationError


class Refusal(Exception):  # noqa: N818 - a "no" of the provider, not a mistake
    """A request that is answered with a problem. Whatever it did to the book is taken back."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        """`extra` are further members of the document."""
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers
        self.extra = extra

    def response(self) -> JSONResponse:
        """The problem document."""
        return JSONResponse(
            {
                "code": self.code,
                "title": HTTPStatus(self.status).phrase,
                "detail": self.detail,
                "status": self.status,
                **self.extra,
            },
            status_code=self.status,
            headers=self.headers,
            media_type="application/problem+json",
        )


def invalid(detail: str) -> Refusal:
    """A request that isn't one; `detail` names the field."""
    return Refusal(400, "invalid_request", detail)


def told(error: ValidationError) -> str:
    """What is wrong, each field with its fault."""
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'body'}: "
        f"{fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    )
