"""A payment provider that is none: a book of charges behind HTTP, with faults on demand.

    request ─▶ app ─▶ fault drawn ─▶ ┌── one SQLite transaction ──┐ ─▶ answer, unless a fault
                                     │ key · charge · its events  │        keeps it back
                                     └────────────────────────────┘ ─▶ webhooks, until taken
                                        ▲ clockwork: what is late, what settles later

It is somebody else's system as far as the rest of this repository is concerned: it knows none of
our packages. What holds, whatever is killed and whatever fault strikes: a key is charged at most
once while it is remembered; refunds never exceed their charge; nothing is answered before it is
stored. Start with `app`, read on with `book` and `faults`.
"""
