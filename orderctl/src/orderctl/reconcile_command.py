"""`orderctl payment reconcile`: our book beside the gateway's."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

import asyncpg
import typer

from orderctl.errors import OperatorError
from orderctl.gateway_access import access_to
from orderctl.options import AsJson, Database, GatewayUrl, checked
from orderctl.reconcile_text import print_reconciliation
from orderctl.running import fail, run
from shared.reconciliation import GatewayBook, GatewayError, reconcile

if TYPE_CHECKING:
    from shared.reconciliation import GatewayAccess, Reconciliation

UNKNOWN: Final = 2
"""Exit code where the books could not be looked at."""


def reconcile_command(
    database_url: Database,
    gateway_url: GatewayUrl = "",
    order: Annotated[
        str,
        typer.Option(
            metavar="ORDER",
            help="Only this order's lines, by their keys.",
            callback=checked("order", optional=True),
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Compare our book with the gateway's, line by line. Writes nothing.

    Orders may flow: each difference is looked at once more. Exit code 0: the books agree, apart
    from what is open; 1: they differ; 2: they could not be looked at.

    Example: orderctl payment reconcile
    """
    access = access_to(gateway_url)
    if access is None:
        fail(
            "GATEWAY_URL is not set: the gateway's address, as http://host:port, or in"
            " GATEWAY_URL_FILE the file that holds it; `export $(make -s env)` sets it",
            UNKNOWN,
        )
    found = run(_compare(database_url, access, order), url=database_url, code=UNKNOWN)
    print_reconciliation(found, order, as_json=as_json)
    sys.exit(0 if found.is_equal else 1)


async def _compare(dsn: str, access: GatewayAccess, order: str) -> Reconciliation:
    try:
        async with GatewayBook(access) as book:
            connection = await asyncpg.connect(
                dsn, server_settings={"application_name": "reconcile"}
            )
            try:
                return await reconcile(connection, book, order_id=order or None)
            finally:
                await connection.close()
    except GatewayError as error:
        raise OperatorError(str(error)) from error
