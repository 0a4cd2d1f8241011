"""One database for the tests of a module."""

from shared.testing.module_databases import database, module_database

__all__ = ["database", "module_database"]
