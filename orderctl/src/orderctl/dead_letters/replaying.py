"""One call of `orderctl dlq replay`: letters are found, judged, sent, and told about."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from orderctl.dead_letters.advice import Remedy, advise
from orderctl.dead_letters.inboxes import Known
from orderctl.dead_letters.judging import DONE, Due, Left, judge, judge_edited
from orderctl.dead_letters.letter import Identity, identity_of
from orderctl.dead_letters.text import one_line, saga_hints

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orderctl.dead_letters.inboxes import Inboxes
    from orderctl.dead_letters.judging import Rules
    from orderctl.dead_letters.letter import Letter, Place
    from orderctl.dead_letters.reading import Letters
    from orderctl.dead_letters.selection import Selection
    from orderctl.dead_letters.sending import Sender
    from shared.contracts.base import Message
    from shared.contracts.reading import Unreadable

SHOWN: Final = 20
SENT_AT_ONCE_LETTERS: Final = 200
SENT_AT_ONCE_BYTES: Final = 4 * 1_048_576


@dataclass(slots=True)
class Report:
    """What was done, or would be. Counts are whole, examples bounded."""

    sent: bool
    """Whether anything was sent at all, or it was a dry run."""
    due: int = 0
    examples: list[tuple[Due, Place | None]] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    why: dict[str, Left] = field(default_factory=dict)
    """Of each kind that is left, the first."""
    of_sagas: bool = False

    @property
    def failed(self) -> bool:
        """Whether a letter is left that isn't done with."""
        return not DONE.issuperset(self.left)

    def add_due(self, due: Sequence[Due], places: Sequence[Place | None]) -> None:
        """Letters that were sent to `places`, or would be."""
        self.due += len(due)
        self.of_sagas |= any(one.letter.is_of_saga for one in due)
        room = max(SHOWN - len(self.examples), 0)
        self.examples.extend(list(zip(due, places, strict=True))[:room])

    def add_left(self, left: Left) -> None:
        """A letter that stays."""
        self.left[left.kind] += 1
        self.why.setdefault(left.kind, left)

    def document(self) -> dict[str, Any]:
        """For machines."""
        return {
            "dryRun": not self.sent,
            "replayed": self.due,
            "examples": [
                {
                    "place": str(due.letter.place),
                    "message": due.name,
                    "to": str(place or due.letter.origin),
                    "advice": _against(due),
                }
                for due, place in self.examples
            ],
            "left": [
                {
                    "kind": kind,
                    "count": count,
                    "example": str(self.why[kind].letter.place),
                    "why": self.why[kind].why,
                }
                for kind, count in self.left.most_common()
            ],
        }

    def text(self, *, group: bool) -> str:
        """For people."""
        did = "replayed" if self.sent else "would replay"
        lines = [f"{did} {_letters(self.due)}{':' if self.due else ''}"]
        for due, place in self.examples:
            goes = f"to {place or due.letter.origin}"
            lines.append(one_line(f"  {due.letter.place}  {due.name}  {goes}"))
            if _against(due):
                lines.append(one_line(f"    may be refused again: {_against(due)}"))
        if self.due > len(self.examples):
            lines.append(f"  and {self.due - len(self.examples):,} more")
        for kind, count in self.left.most_common():
            first = self.why[kind]
            where = "as" if count > 1 else "at"
            lines.append(f"left {_letters(count)}, {kind}, {where} {first.letter.place}:")
            lines.append(f"  {first.why}")
        if not self.sent:
            lines.append(f"nothing was sent{'; --yes sends it' if group and self.due else ''}")
        elif self.of_sagas:
            order = self.examples[0][0].letter.order_id()
            if self.due == 1 and order is not None:
                lines += saga_hints(order)
            else:
                lines += [
                    "their sagas go on by themselves once answers come: orderctl list --stuck",
                    "where one stays stuck: orderctl retry ORDER --note 'a dead letter was mended'",
                ]
        return "\n".join(lines)


class Replaying:
    """Finds, judges and sends."""

    def __init__(
        self,
        letters: Letters,
        inboxes: Inboxes,
        sender: Sender,
        rules: Rules,
        progress: Callable[[int, int], None],
    ) -> None:
        self._letters = letters
        self._inboxes = inboxes
        self._sender = sender
        self._rules = rules
        self._progress = progress

    async def places(self, places: Sequence[Place], edited: bytes | None, *, send: bool) -> Report:
        """Replay the letters at these places; all are judged before the first is sent.

        `edited` is sent in place of the value of the only one. Raises OperatorError.
        """
        report = Report(send)
        due: list[Due] = []
        for place in places:
            letter = await self._letters.at(place)
            value = letter.read(edited) if edited is not None else letter.read()
            known = await self._known([(letter, value)])
            judged = (
                judge(letter, known[place], self._rules)
                if edited is None
                else judge_edited(letter, edited, known[place], self._rules)
            )
            if isinstance(judged, Left):
                report.add_left(judged)
            else:
                due.append(judged)
        await self._send(due, report)
        return report

    async def group(self, selection: Selection, *, limit: int | None, send: bool) -> Report:
        """Replay the letters of a group, up to `limit`, in the order in which they lie in their
        partitions. Letters that come meanwhile, as a replay that is refused, are not read."""
        report = Report(send)
        waiting: list[Letter] = []
        size = 0
        async for batch in self._letters.scan(selection.topics, selection.since_ms, self._progress):
            for letter in filter(selection.takes, batch):
                waiting.append(letter)
                size += letter.size
                if len(waiting) >= SENT_AT_ONCE_LETTERS or size >= SENT_AT_ONCE_BYTES:
                    await self._go_on(waiting, report, limit)
                    waiting, size = [], 0
                    if limit is not None and report.due >= limit:
                        return report
        await self._go_on(waiting, report, limit)
        return report

    async def _go_on(self, letters: Sequence[Letter], report: Report, limit: int | None) -> None:
        known = await self._known([(letter, letter.read()) for letter in letters])
        due: list[Due] = []
        for letter in letters:
            if limit is not None and report.due + len(due) >= limit:
                break
            judged = judge(letter, known[letter.place], self._rules)
            if isinstance(judged, Left):
                report.add_left(judged)
            else:
                due.append(judged)
        await self._send(due, report)

    async def _send(self, due: Sequence[Due], report: Report) -> None:
        if not due:
            return
        places = await self._sender.send(due) if report.sent else [None] * len(due)
        report.add_due(due, places)

    async def _known(
        self, read: Sequence[tuple[Letter, Message | Unreadable]]
    ) -> dict[Place, Known]:
        asked: list[tuple[Letter, Identity | None]] = [
            (letter, identity_of(message)) for letter, message in read
        ]
        return await self._inboxes.known(asked)


def _against(due: Due) -> str:
    """Why a letter that was named may be refused again, or ""."""
    if due.value != due.letter.value:
        return ""
    advice = advise(due.letter, Known.NOT_ASKED)
    return "" if advice.remedy is Remedy.REPLAY else advice.why


def _letters(count: int) -> str:
    return f"{count:,} letter{'' if count == 1 else 's'}"
