"""The means of proof that every test of the project uses.

    signals     wait for a condition or an event, never for a time
    proxy       a TCP proxy that delays, cuts, swallows and starves on request
    ports       ports that nobody else can take
    serving     a server of HTTP that answers as a test says
    processes   service instances as child processes: kill, freeze, crash, restart
    deployment  the instances of one service between a broker, a database and Redis
    chaos       faults on a seeded schedule while work goes on
    databases   a database of its own for each test, cloned from a migrated template
                (module_databases: for each module, emptied after each test)
    replicas    instances of a service without Kafka, which run chunks and keep what they answer
    kafka       topics of its own for each test; publish, read to the end, wait for lag 0
    answers     what is said of many commands, while it is said
    arrivals    who came in which order, and who was overtaken
    valkey      a database number of its own for each test
    builders    messages with sensible defaults
    heard       records as who follows topics takes them
    strategies  Hypothesis strategies for every message of the contracts

Nothing here starts infrastructure: addresses come from the fixtures of the root conftest.
Production code must not import this package.
"""
