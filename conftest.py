"""Fixtures of every test of the project."""

import orderctl  # noqa: F401
import shared  # noqa: F401
