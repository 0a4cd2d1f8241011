"""Postgres: the pool, named statements, migrations, and which errors are whose fault."""

from shared.database.pool import Connection, Pool, connect_pool
from shared.database.queries import Queries, Statement

__all__ = ["Connection", "Pool", "Queries", "Statement", "connect_pool"]
