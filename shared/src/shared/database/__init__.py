"""Postgres: the pool, named statements, migrations, and which errors are whose fault."""

from shared.database.pool import Connection, Pool, connect_pool
from shared.database.queries import Queries, Statement
from shared.database.writes import Write, write_all

__all__ = ["Connection", "Pool", "Queries", "Statement", "Write", "connect_pool", "write_all"]
