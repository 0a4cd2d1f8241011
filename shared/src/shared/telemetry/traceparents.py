"""What a `traceparent` looks like (W3C), for whoever hears one from outside."""

from __future__ import annotations

import re
from typing import Final

TRACEPARENT: Final = re.compile(rb"(00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16})-[0-9a-f]{2}")
"""Group 1 is all but the flags. Ids of zeros are none."""
