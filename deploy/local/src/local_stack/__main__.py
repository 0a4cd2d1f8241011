"""Runs the whole system on this machine."""

import argparse
import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from local_stack import supervisor
from local_stack.errors import StackError
from local_stack.folder import StateFolder
from local_stack.kafka import ADDRESS_VARIABLE
from local_stack.kafka_jars import PINS, missing_tools, pin_jars
from local_stack.layout import AUDIT, SERVICES, STEPS, Service, Step, missing_modules
from local_stack.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable

P = TypeVar("P", Service, Step)

DEFAULT_STATE = Path(".state/up")


def main() -> int:
    arguments = _parser().parse_args()
    command: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return command(arguments)
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="local_stack", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for run, text in (
        (_up, "start what is not running, and wait until it is healthy"),
        (_down, "stop everything"),
        (_wipe, "stop everything and delete its data"),
        (_env, "print addresses and pids as NAME=value"),
        (_status, "print how each part is"),
        (_run, "start the stack, run a command with its addresses, stop the stack"),
        (_check, "say whether this machine can run the tests' broker"),
        (_pin_kafka, "write down the hashes of the jars that pom.xml asks for"),
        (_supervise, "what `up` starts in the background"),
    ):
        command = commands.add_parser(run.__name__.removeprefix("_").replace("_", "-"), help=text)
        command.add_argument("--state", type=Path, default=DEFAULT_STATE, metavar="DIR")
        command.set_defaults(run=run)
        if run is _up:
            _add_up_options(command)
        if run is _run:
            command.add_argument("--fresh", action="store_true", help="forget an earlier run first")
            command.add_argument("command", nargs="+", metavar="COMMAND", help="after `--`")
    return parser


def _add_up_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--infrastructure", action="store_true", help="Postgres, Valkey, Kafka and the gateway"
    )
    command.add_argument(
        "--no-seed", action="store_true", help="without the demo's products, users and campaigns"
    )
    command.add_argument(
        "--audit", action="store_true", help="look at the invariants all the time (part audit-0)"
    )
    command.add_argument(
        "--replicas", type=_assignment, action="append", default=[], metavar="SERVICE=N"
    )
    command.add_argument(
        "--port", type=_assignment, action="append", default=[], metavar="PART=PORT"
    )
    command.add_argument(
        "--kafka-proxy-port", type=int, metavar="PORT", help="a proxy will stand there; 0: any"
    )


def _assignment(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    return name, int(number)


def _up(arguments: argparse.Namespace) -> int:
    whole = not arguments.infrastructure
    try:
        stack = Stack(
            arguments.state,
            services=_present((*SERVICES, AUDIT) if arguments.audit else SERVICES) if whole else (),
            steps=_present(STEPS) if whole else (),
            replicas=dict(arguments.replicas),
            ports=dict(arguments.port),
            kafka_proxy_port=arguments.kafka_proxy_port,
            allow_trial_broker=True,
            tell=_tell,
        )
    except ValueError as error:
        raise StackError(str(error)) from error
    environment = stack.up(as_asked=True)
    if whole and not arguments.no_seed:
        from local_stack.seed import seed_once  # the supervisor, which starts here too, needs none

        seed_once(environment, stack.folder.path / "seeded", _tell)
    which = "" if arguments.state == DEFAULT_STATE else f" STATE={arguments.state}"
    if "STOREFRONT_URL" in environment:
        print(f"shop: {environment['STOREFRONT_URL']}/api/products")
    print(f"logs: {stack.folder.logs}; addresses: make env{which}; stop: make down{which}")
    return 0


def _tell(line: str) -> None:
    print(line, flush=True)


def _present(parts: tuple[P, ...]) -> tuple[P, ...]:
    """Those whose module is there; the others are named on the terminal."""
    missing = missing_modules(parts)
    if missing:
        _tell(f"left out, not there yet: {', '.join(missing)}")
    return tuple(part for part in parts if part.module not in missing)


def _down(arguments: argparse.Namespace) -> int:
    print("stopped" if Stack(arguments.state).down() else "nothing was running")
    return 0


def _wipe(arguments: argparse.Namespace) -> int:
    wiped = Stack(arguments.state).wipe()
    print(f"{arguments.state} is gone" if wiped else "nothing is there")
    return 0


def _env(arguments: argparse.Namespace) -> int:
    for name, value in sorted(Stack(arguments.state).env().items()):
        print(f"{name}={value}")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    parts = Stack(arguments.state).parts()
    for name, part in parts.items():
        health = "healthy" if part.healthy else f"not healthy: {part.detail}"
        print(f"{name:24} pid {part.pid or '-':<8} starts {part.starts:<4} {health}")
    return 0 if all(part.healthy for part in parts.values()) else 1


def _run(arguments: argparse.Namespace) -> int:
    stack = Stack(
        arguments.state,
        services=_present(SERVICES),
        steps=_present(STEPS),
        owner_pid=os.getpid(),
        allow_trial_broker=True,
        tell=_tell,
    )
    if arguments.fresh:
        stack.wipe()
    try:
        environment = stack.up()
        return subprocess.run(  # noqa: S603
            arguments.command, check=False, env={**os.environ, **environment}
        ).returncode
    finally:
        stack.down()


def _check(_: argparse.Namespace) -> int:
    lack = missing_tools()
    if lack and not os.environ.get(ADDRESS_VARIABLE):
        raise StackError(
            f"the tests need a Kafka broker. One is started where Java 17 or newer and Maven are "
            f"installed, but {lack}. Install them, or name a broker: {ADDRESS_VARIABLE}=host:port"
        )
    return 0


def _pin_kafka(_: argparse.Namespace) -> int:
    print(f"pinned {asyncio.run(pin_jars())} jars in {PINS}")
    return 0


def _supervise(arguments: argparse.Namespace) -> int:
    return supervisor.main(StateFolder(arguments.state))


if __name__ == "__main__":
    sys.exit(main())
