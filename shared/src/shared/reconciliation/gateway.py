"""The gateway's own book, over HTTP: page after page, or a single line of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

CHARGES_AT_ONCE: Final = 1_000
"""Of one page: as many as the gateway gives."""
ANSWER_WITHIN_S: Final = 10.0
TRIES: Final = 5
"""Of one request, while the gateway is away, out of order or asks for patience."""
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 10.0

_NO_ADDRESS: Final = "GATEWAY_URL is no address; write it as http://host:port"

_Id = Annotated[str, Field(min_length=1, max_length=255)]
_Amount = Annotated[int, Field(ge=0, lt=2**63)]


class GatewayError(Exception):
    """The gateway's book can't be read. The message says why and what helps."""


@dataclass(frozen=True, slots=True)
class GatewayAccess:
    """Where the gateway is, and how one gets in."""

    url: str
    """As `http://127.0.0.1:9400`, without `/v1`."""
    api_key: str = field(repr=False)


class _Read(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", frozen=True, strict=True)


class Refund(_Read):
    """Money that the gateway gave back, or is about to."""

    id: _Id
    idempotency_key: _Id
    charge: _Id
    status: Literal["processing", "succeeded", "failed"]
    amount: _Amount
    currency: str


class Charge(_Read):
    """Money that the gateway took, is about to take, or declined to. Of its refunds, the sum is
    told always, and each of them in the book alone."""

    id: _Id
    idempotency_key: _Id
    status: Literal["processing", "captured", "declined"]
    amount: _Amount
    currency: str
    reference: str | None = None
    refunded: _Amount = 0
    refunds: tuple[Refund, ...] = ()


class _Charges(_Read):
    charges: tuple[Charge, ...]
    next: str | None = None


class _Refunds(_Read):
    refunds: tuple[Refund, ...]


_Answer = TypeVar("_Answer", bound=_Read)


class GatewayBook:
    """Reads the gateway's book. Each method raises GatewayError."""

    def __init__(
        self, access: GatewayAccess, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """Raises GatewayError where the address is none, or the key is missing."""
        self._place = f"GATEWAY_URL ({_host(access.url)})"
        if not access.api_key:
            raise GatewayError(
                "GATEWAY_API_KEY is not set (`export $(make -s env)` sets it): the key that lets us"
                " into the gateway, or in GATEWAY_API_KEY_FILE the file that holds it"
            )
        try:
            self._client = httpx.AsyncClient(
                base_url=access.url,
                headers={"Authorization": f"Bearer {access.api_key}"},
                timeout=ANSWER_WITHIN_S,
                transport=transport,
            )
        except httpx.InvalidURL as error:
            raise GatewayError(_NO_ADDRESS) from error
        except UnicodeEncodeError as error:
            raise GatewayError("GATEWAY_API_KEY holds what no key does; is it the key?") from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def pages(self) -> AsyncIterator[Sequence[Charge]]:
        """The whole book in the order in which it was written, each charge with its refunds."""
        after: dict[str, str] = {}
        while True:
            page = await self._read(_Charges, "/v1/charges", limit=str(CHARGES_AT_ONCE), **after)
            yield page.charges
            if page.next is None:
                return
            if not page.charges or page.next == after.get("startingAfter"):
                raise GatewayError(f"the book at {self._place} doesn't go on behind {page.next!r}")
            after = {"startingAfter": page.next}

    async def charges_of(self, key: str) -> Sequence[Charge]:
        """The charge under this idempotency key, while the gateway remembers the key."""
        return (await self._read(_Charges, "/v1/charges", idempotencyKey=key)).charges

    async def refunds_of(self, key: str) -> Sequence[Refund]:
        """The refund under this idempotency key, while the gateway remembers the key."""
        return (await self._read(_Refunds, "/v1/refunds", idempotencyKey=key)).refunds

    async def charge(self, charge_id: str) -> Charge | None:
        """The charge of this id."""
        response = await self._get(f"/v1/charges/{quote(charge_id, safe='')}", {})
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return self._parsed(Charge, response)

    async def _read(self, kind: type[_Answer], path: str, **asked: str) -> _Answer:
        return self._parsed(kind, await self._get(path, asked))

    def _parsed(self, kind: type[_Answer], response: httpx.Response) -> _Answer:
        if not response.is_success:
            raise GatewayError(self._refused(response))
        try:
            return kind.model_validate_json(response.content)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, fault["loc"])) or "the answer"
            raise GatewayError(
                f"what {self._place} answers is no book: {where}: {fault['msg']}; is that the"
                " gateway's address?"
            ) from error

    async def _get(self, path: str, asked: dict[str, str]) -> httpx.Response:
        """The answer, whichever it is, once it is no 429 and no 5xx."""
        for attempt in range(TRIES):
            pause_s = min(FIRST_PAUSE_S * 2**attempt, LONGEST_PAUSE_S)
            try:
                response = await self._client.get(path, params=asked)
            except httpx.HTTPError as error:
                problem = (
                    f"the gateway at {self._place} can't be reached:"
                    f" {error or type(error).__name__}; is it up, and is GATEWAY_URL its address?"
                )
            else:
                status = response.status_code
                if status != httpx.codes.TOO_MANY_REQUESTS and not response.is_server_error:
                    return response
                problem = self._refused(response)
                pause_s = max(pause_s, _asked_patience_s(response))
            if attempt < TRIES - 1:
                await asyncio.sleep(pause_s)
        raise GatewayError(problem)

    def _refused(self, response: httpx.Response) -> str:
        status = response.status_code
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            return (
                f"the gateway at {self._place} answers {status}: it doesn't know GATEWAY_API_KEY."
                " Set it to the gateway's key, or in GATEWAY_API_KEY_FILE the file that holds it"
            )
        if status == httpx.codes.NOT_FOUND:
            return (
                f"{self._place} answers 404 to {response.url.path}: is that the gateway's address,"
                " without /v1?"
            )
        return f"the gateway at {self._place} answers {status}{_problem(response)}"


def _host(url: str) -> str:
    """Host and port alone: what else an address holds is secret. Raises GatewayError."""
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError as error:
        raise GatewayError(_NO_ADDRESS) from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise GatewayError(_NO_ADDRESS)
    return f"{parts.hostname}{port}"


def _asked_patience_s(response: httpx.Response) -> float:
    """What the gateway asks for, within bounds."""
    told = response.headers.get("Retry-After", "")
    return min(float(told), LONGEST_PAUSE_S) if told.isascii() and told.isdigit() else 0.0


def _problem(response: httpx.Response) -> str:
    try:
        told: Any = response.json()
    except ValueError:
        return ""
    detail = told.get("detail") or told.get("title") if isinstance(told, dict) else None
    return f": {str(detail)[:200]}" if detail else ""
