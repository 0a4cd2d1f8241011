"""What tests of the storefront share."""

from __future__ import annotations

import pytest

from shared.testing.tokens import Issuer


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    """Who makes the tokens."""
    return Issuer()
