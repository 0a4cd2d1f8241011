"""The whole system as processes on one machine, without containers and without root.

    up    starts a supervisor, detached, and waits until it reports that all is healthy
    supervisor   Postgres, Valkey, Kafka, gateway  ->  migrations, topics  ->  the services
    down  tells the supervisor to stop, and ends whatever a crash has left

What holds, whatever is killed: one supervisor a state folder (a lock that dies with it); no child
outlives it for long; nothing of an earlier start is left when a new one begins; the state file is
whole. Start with `stack.Stack`, read on with `supervisor` and `keeper`.
"""

from local_stack.environment import Environment
from local_stack.errors import StackError
from local_stack.layout import SERVICES, STEPS, Service, Step
from local_stack.stack import Stack

__all__ = ["SERVICES", "STEPS", "Environment", "Service", "Stack", "StackError", "Step"]
