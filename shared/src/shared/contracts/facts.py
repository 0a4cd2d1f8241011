"""`Facts`: what a request tells about its user and order, for the rule of a campaign."""

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, WithJsonSchema

from shared.contracts.base import MAX_MONEY, NO_NUL_PATTERN, Record

MAX_FACTS: Final = 50
"""Entries in one map of facts, and elements in one list there."""
MAX_FACT_CHARS: Final = 256
FACT_NAME_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"


def _check_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """One error for the first fact that is wrong, where pydantic would list 50,000."""
    if len(facts) > MAX_FACTS:
        raise ValueError(f"{len(facts)} entries, at most {MAX_FACTS} are allowed")
    for name, fact in facts.items():
        if not _FACT_NAME.match(name):
            raise ValueError("a name must be 1 to 64 of A-Z a-z 0-9 _ and begin with no digit")
        if isinstance(fact, list):
            if len(fact) > MAX_FACTS:
                raise ValueError(
                    f"{name} has {len(fact)} elements, at most {MAX_FACTS} are allowed"
                )
            if not all(_is_scalar(element) for element in fact):
                raise ValueError(f"{name} may list texts, integers and booleans only")
        elif not _is_scalar(fact):
            raise ValueError(f"{name} must be text, an integer, a boolean or a list of these")
    return facts


def _is_scalar(fact: object) -> bool:
    if isinstance(fact, str):
        return len(fact) <= MAX_FACT_CHARS and "\0" not in fact
    return isinstance(fact, int) and -MAX_MONEY <= fact <= MAX_MONEY


_FACT_NAME: Final = re.compile(FACT_NAME_PATTERN.replace("$", r"\Z"))
_SCALAR_SCHEMA: Final[list[dict[str, Any]]] = [
    {"type": "boolean"},
    {"type": "integer", "minimum": -MAX_MONEY, "maximum": MAX_MONEY},
    {"type": "string", "maxLength": MAX_FACT_CHARS, "pattern": NO_NUL_PATTERN},
]
_FACTS_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "maxProperties": MAX_FACTS,
    "propertyNames": {"pattern": FACT_NAME_PATTERN},
    "additionalProperties": {
        "anyOf": [
            *_SCALAR_SCHEMA,
            {"type": "array", "maxItems": MAX_FACTS, "items": {"anyOf": _SCALAR_SCHEMA}},
        ]
    },
}
FactMap = Annotated[dict[str, Any], AfterValidator(_check_facts), WithJsonSchema(_FACTS_SCHEMA)]


class Facts(Record):
    """What a campaign's rule may look at: text, integers, booleans and lists of these.

    No fractions: two parsers may read one differently, and a rule must not hang on that.
    """

    user: FactMap | None = None
    order: FactMap | None = None
