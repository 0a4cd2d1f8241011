"""Which letters are replayed. Pure.

Ids of a replay are what they were, and they are free: a refusal keeps none (docs/adr/0006). So
the first replay that can be obeyed is obeyed, and the inbox of its service recognises every further
one, for as long as it remembers. With `force` only: a letter older than that, and a saga's letter
that no inbox was asked for: the saga sends its message again by itself, so that it is likelier than
others to be obeyed by now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from orderctl.dead_letters.advice import Remedy, advise, used_up
from orderctl.dead_letters.inboxes import Known
from orderctl.dead_letters.letter import identity_of
from orderctl.errors import OperatorError
from shared.contracts.base import Message, message_id
from shared.contracts.reading import MAX_BYTES, Unreadable
from shared.contracts.topics import TOPICS, service_of
from shared.settings import ServiceSettings

if TYPE_CHECKING:
    from orderctl.dead_letters.letter import Letter

REMEMBERED_S: Final[float] = ServiceSettings.model_fields["keep_inbox_s"].default
"""What KEEP_INBOX_S is unless a deployment says otherwise."""

OBEYED: Final = "obeyed already"
SUPERSEDED: Final = "superseded"
UNREADABLE: Final = "unreadable"
NO_USE: Final = "of no use"
TOO_OLD: Final = "too old"
NOT_ASKED: Final = "not asked for"
DONE: Final = frozenset({OBEYED, SUPERSEDED})
"""Nothing is left to do."""


class Due(NamedTuple):
    """A letter that is to be replayed."""

    letter: Letter
    message: Message
    value: bytes
    key: bytes | None

    @property
    def name(self) -> str:
        """The message, as people call it."""
        return f"{self.message.type} {message_id(self.message)}"


class Left(NamedTuple):
    """A letter that isn't replayed, and why."""

    letter: Letter
    kind: str
    """One of a few words, to count by."""
    why: str


class Rules(NamedTuple):
    """What is replayed at all."""

    now_ms: int
    remembered_s: float = REMEMBERED_S
    force: bool = False
    """Also what was obeyed, is older than inboxes remember, or was not asked for there."""
    chosen: bool = True
    """The letters were named one by one: also those that are likely to be refused again."""


def judge(letter: Letter, known: Known, rules: Rules) -> Due | Left:
    """Whether that letter is to be replayed as it is. Pure."""
    advice = advise(letter, known)
    if known in (Known.OBEYED, Known.OTHERWISE) and not rules.force:
        return Left(letter, OBEYED if known is Known.OBEYED else SUPERSEDED, advice.why)
    message = letter.read()
    if isinstance(message, Unreadable) or letter.is_cut:
        if advice.remedy is Remedy.NOTHING:
            return Left(letter, NO_USE, advice.why)
        told = message.detail if isinstance(message, Unreadable) else advice.why
        return Left(letter, UNREADABLE, f"as it is nobody can obey it ({told}); {_edit(letter)}")
    if advice.remedy is not Remedy.REPLAY and not rules.chosen:
        return Left(letter, NO_USE, f"{letter.reason}: {advice.why}")
    unsure = beyond_reach(letter, known, rules)
    if unsure is not None:
        return unsure
    return Due(letter, message, letter.value or b"", letter.key)


def judge_edited(letter: Letter, value: bytes, known: Known, rules: Rules) -> Due | Left:
    """Whether `value` is to be sent in that letter's place; `known` is of `value`.

    Raises OperatorError where the contract refuses the value, or where it can't be obeyed.
    """
    message = letter.read(value)
    if isinstance(message, Unreadable):
        raise OperatorError(
            f"the value given can't be read as a message on {letter.origin}: {message.detail}."
            " Nothing was sent"
        )
    _require_same_step(letter, message)
    if known is Known.OBEYED and not rules.force:
        return Left(letter, OBEYED, "this very content was obeyed already")
    if known is Known.OTHERWISE:
        raise OperatorError(
            f"other content was obeyed as {message.type} {message_id(message)}: this would be"
            " refused; give it a new id. Nothing was sent"
        )
    order = used_up(letter)
    if order is not None and getattr(message, "order_id", None) == order:
        raise OperatorError(
            f"order {order} has its outcome: it was rejected when this letter could not be read, if"
            " it was not placed before. Give the corrected order another orderId. Nothing was sent"
        )
    unsure = beyond_reach(letter, known, rules)
    if unsure is not None:
        return unsure
    key = TOPICS[letter.origin].key_of(message).encode()
    return Due(letter, message, value, key)


def beyond_reach(letter: Letter, known: Known, rules: Rules) -> Left | None:
    """The letter, where nobody can tell that a second effect is impossible; `force` takes it."""
    if rules.force:
        return None
    age_s = (rules.now_ms - letter.at_ms) / 1000
    if age_s > rules.remembered_s:
        return Left(
            letter,
            TOO_OLD,
            f"it is {age_s / 86_400:.1f} days old, and inboxes remember"
            f" {rules.remembered_s / 86_400:g} days: whether it was obeyed meanwhile, nobody may"
            " know any more. Look at what it was to do; --force replays it",
        )
    if letter.is_of_saga and known is Known.NOT_ASKED:
        return Left(
            letter,
            NOT_ASKED,
            "it is a saga's, which may have sent it again since: whether it was obeyed, and can be"
            f" recognised, only the inbox of {service_of(letter.group)} tells, and DATABASE_URL is"
            " not set. `export $(make -s env)` sets it; --force replays the letter unasked",
        )
    return None


def _edit(letter: Letter) -> str:
    return (
        f"edit its value: `orderctl dlq show {letter.place} --raw > letter.json`, correct it, then"
        f" `orderctl dlq replay {letter.place} --value letter.json`"
    )


def _require_same_step(letter: Letter, message: Message) -> None:
    """A saga waits for one command: its ids may be read, but not changed."""
    if not letter.is_of_saga:
        return
    was, now = identity_of(letter.read()), identity_of(message)
    if was is not None and now is not None and was.id != now.id:
        raise OperatorError(
            f"the letter is {was.id} and the value given is {now.id}: a saga's messages keep their"
            " commandId. Nothing was sent"
        )
    known = {message.__name__ for message in TOPICS[letter.origin].messages}
    if was is not None and now is not None and was.type in known and was.type != now.type:
        raise OperatorError(
            f"the letter is a {was.type} and the value given a {now.type}: a saga's messages keep"
            " their type. Nothing was sent"
        )
    order, own = letter.order_id(), getattr(message, "order_id", None)
    if order is not None and own != order:
        raise OperatorError(
            f"the letter is of order {order} and the value given of order {own}: a saga's messages"
            " keep their orderId. Nothing was sent"
        )


def read_value(content: bytes) -> bytes:
    """The value in a file: without the line's end that editors add. Raises OperatorError."""
    value = content.removesuffix(b"\n").removesuffix(b"\r")
    if len(value) > MAX_BYTES:
        raise OperatorError(
            f"the value given has {len(value)} bytes; at most {MAX_BYTES} are allowed."
            " Nothing was sent"
        )
    return value
