"""How a lottery is drawn: what its service does, and what anyone recomputes.

The seed is chosen when the campaign is put, and its hash is published before the first entry. The
entries are hashed one by one as they come, so that none can be slipped in, left out or moved later.
Once they are closed, the seed is published, and each entry has a ticket that nobody could know
before, who didn't know the seed. The lowest tickets win; the order of tickets is the order of the
coupons.
"""

import hashlib
import heapq
from collections.abc import Iterable
from typing import Final

NO_ENTRIES: Final = "0" * 64


def seed_hash(seed: str) -> str:
    """What `CampaignPut` commits itself to: the SHA-256 of the seed's text, in hex."""
    return _sha256(seed)


def entries_hash(user_ids: Iterable[str], before: str = NO_ENTRIES) -> str:
    """What `LotteryDrawn` calls the entries, in the order of their numbers: a chain of hashes, in
    hex, that begins with `NO_ENTRIES`; each is the SHA-256 of the one before, a colon and the user.

    `before` is the hash of the entries that came before these.
    """
    chain = before
    for user_id in user_ids:
        chain = _sha256(f"{chain}:{user_id}")
    return chain


def ticket(seed: str, user_id: str) -> str:
    """A user's ticket: the SHA-256 of seed, colon and user id, in hex."""
    return _sha256(f"{seed}:{user_id}")


def winners(seed: str, user_ids: Iterable[str], limit: int) -> list[str]:
    """At most `limit` users with the lowest tickets, in the order of their coupons' sequence."""
    return heapq.nsmallest(limit, user_ids, key=lambda user_id: (ticket(seed, user_id), user_id))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
