"""What an audit found."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VIOLATIONS_LISTED = 100
ROWS_IN_TABLE = 5
ROW_CHARACTERS = 200
VALUE_CHARACTERS = 1_000


class Moment(StrEnum):
    """When an invariant holds."""

    ALWAYS = "always"
    AT_REST = "at rest"


@dataclass(frozen=True, slots=True)
class Check:
    """One invariant, looked at once."""

    name: str
    place: str
    """The schema, group or topic that was looked at."""
    invariant: int
    """Its number in the list of invariants."""
    moment: Moment
    text: str
    """What holds, in words."""
    violations: Sequence[Mapping[str, Any]] = ()
    """The rows that violate it: all, or the first of many (see `more`)."""
    more: bool = False
    """Whether there are more violations than are listed."""
    error: str = ""
    """Why it could not be looked at; that is no proof that it holds."""
    looked_at: int | None = None
    """How many messages, partitions or orders were looked at, where that is known."""
    took_s: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.violations and not self.error

    def found(
        self, violations: Sequence[Mapping[str, Any]], started_at: float, *, looked_at: int
    ) -> Check:
        """The same with what was found, the first of it; `started_at` is of the monotonic clock."""
        return replace(
            self,
            violations=tuple(violations[:VIOLATIONS_LISTED]),
            more=len(violations) > VIOLATIONS_LISTED,
            looked_at=looked_at,
            took_s=time.monotonic() - started_at,
        )

    def unchecked(self, why: str) -> Check:
        """The same where it could not be looked at."""
        return replace(self, error=why)


@dataclass(frozen=True, slots=True)
class Report:
    """The checks of an audit; reports of several audits add up."""

    checks: Sequence[Check] = field(default_factory=tuple)

    @property
    def violations(self) -> list[Check]:
        """The checks that found something, or could not be made."""
        return [check for check in self.checks if not check.ok]

    @property
    def violated(self) -> list[Check]:
        """The checks that found something."""
        return [check for check in self.checks if check.violations]

    @property
    def unchecked(self) -> list[Check]:
        """The checks that could not be made."""
        return [check for check in self.checks if check.error]

    @property
    def ok(self) -> bool:
        """Whether everything holds. An audit that looked at nothing proves nothing."""
        return bool(self.checks) and not self.violations

    def __add__(self, other: Report) -> Report:
        return Report((*self.checks, *other.checks))

    def require(self) -> None:
        """Raises AssertionError with the table unless everything holds."""
        if not self.ok:
            raise AssertionError(f"invariants are violated:\n{self.table()}")

    def to_json(self) -> str:
        """One JSON object: `ok`, and `checks` with all their fields; long values are cut off."""
        checks = [
            {
                **asdict(replace(check, violations=())),
                "violations": [
                    {name: _bounded(value) for name, value in row.items()}
                    for row in check.violations
                ],
                "ok": check.ok,
            }
            for check in self.checks
        ]
        return json.dumps({"ok": self.ok, "checks": checks}, default=str, indent=2)

    def table(self) -> str:
        """Plain text: one line a check, and below it the first rows that violate it."""
        if not self.checks:
            return "nothing was checked"
        place_width = max(len(check.place) for check in self.checks)
        name_width = max(len(check.name) for check in self.checks)
        lines = []
        for check in sorted(self.checks, key=lambda check: (check.invariant, check.place)):
            lines.append(
                f"{check.invariant:>3}  {check.place:<{place_width}}  {check.name:<{name_width}}  "
                f"{check.moment:<7}  {_verdict(check):<14}  {check.text}"
            )
            lines.extend(f"       {_row(row)}" for row in check.violations[:ROWS_IN_TABLE])
            if check.error:
                lines.append(f"       {check.error}")
        broken = len(self.violations)
        lines.append(f"{len(self.checks)} checks, {broken or 'none'} violated")
        return "\n".join(lines)


def _verdict(check: Check) -> str:
    if check.error:
        return "NOT CHECKED"
    count = len(check.violations)
    return f"{count}{'+' if check.more else ''} VIOLATED" if count else "holds"


def _bounded(value: Any) -> Any:
    if isinstance(value, (str, list, dict)) and len(text := str(value)) > VALUE_CHARACTERS:
        return f"{text[:VALUE_CHARACTERS]}…"
    return value


def _row(row: Mapping[str, Any]) -> str:
    text = "  ".join(f"{name}={value}" for name, value in row.items())
    return text if len(text) <= ROW_CHARACTERS else f"{text[:ROW_CHARACTERS]}…"
