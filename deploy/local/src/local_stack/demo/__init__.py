"""`make demo`: the example orders, sent through the whole system from Kafka to Kafka.

    stack up ─▶ seed ─▶ place ─▶ every order has its outcome ─▶ rest ─▶ audit ─▶ report ─▶ stop

`expectations` says what should become of each kind of order, `placing` publishes the lines as
upstream systems would, `results` reads from the topics what became of them, `report` prints it.
Nothing here looks into a service: what is shown was read from the public topics, and checked by
the same audit that operators run.
"""
