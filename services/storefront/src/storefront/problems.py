"""What can go wrong with a request, as exceptions that become problem documents (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from storefront.documents import ProblemDocument, json_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.contracts.order_document import OrderDocument

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1


class ProblemError(Exception):
    """An answer that is no success."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        reason: str | None = None,
        order_id: str | None = None,
        order: OrderDocument | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = dict(headers or {})
        self.document = ProblemDocument(
            type="about:blank",
            title=status.phrase,
            status=status.value,
            detail=detail,
            reason=reason,
            order_id=order_id or (order.order_id if order else None),
            order=order,
        )

    def response(self) -> Response:
        """As it goes out."""
        return Response(json_bytes(self.document), self.status, self.headers, media_type=MEDIA_TYPE)


def invalid(detail: str) -> ProblemError:
    """The request can't be read; `detail` says which field, and what to do."""
    return ProblemError(HTTPStatus.BAD_REQUEST, detail, reason="invalid_request")


def unknown(what: str) -> ProblemError:
    """There is no such thing, or it is somebody else's."""
    return ProblemError(HTTPStatus.NOT_FOUND, f"there is no {what}", reason="unknown")


class NotSentError(ProblemError):
    """Nothing happened, and nothing will."""


def not_sent() -> NotSentError:
    """The broker takes no commands now."""
    return NotSentError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "nothing was sent, since the broker takes no commands now; try again",
        reason="not_sent",
        headers={"retry-after": str(RETRY_AFTER_S)},
    )


def unavailable(detail: str, *, reason: str, order_id: str | None = None) -> ProblemError:
    """Not now."""
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        detail,
        reason=reason,
        order_id=order_id,
        headers={"retry-after": str(RETRY_AFTER_S)},
    )
