"""The command line: `python -m local_stack up|down|wipe|env|status --state DIR`."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from local_stack import supervisor
from local_stack.errors import StackError
from local_stack.folder import StateFolder
from local_stack.layout import SERVICES, STEPS, missing_modules
from local_stack.stack import Stack

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
        (_supervise, "what `up` starts in the background"),
    ):
        command = commands.add_parser(run.__name__.removeprefix("_"), help=text)
        command.add_argument("--state", type=Path, default=DEFAULT_STATE, metavar="DIR")
        command.set_defaults(run=run)
        if run is _up:
            _add_up_options(command)
    return parser


def _add_up_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--infrastructure", action="store_true", help="Postgres, Valkey and Kafka alone"
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
    services, steps = (), ()
    if not arguments.infrastructure:
        missing = missing_modules((*SERVICES, *STEPS))
        services = tuple(part for part in SERVICES if part.module not in missing)
        steps = tuple(part for part in STEPS if part.module not in missing)
        if missing:
            print(f"left out, not there yet: {', '.join(missing)}")
    try:
        stack = Stack(
            arguments.state,
            services=services,
            steps=steps,
            replicas=dict(arguments.replicas),
            ports=dict(arguments.port),
            kafka_proxy_port=arguments.kafka_proxy_port,
            tell=lambda line: print(line, flush=True),
        )
    except ValueError as error:
        raise StackError(str(error)) from error
    stack.up()
    print(f"logs: {stack.folder.logs}; addresses: make env; stop: make down")
    return 0


def _down(arguments: argparse.Namespace) -> int:
    print("stopped" if Stack(arguments.state).down() else "nothing was running")
    return 0


def _wipe(arguments: argparse.Namespace) -> int:
    Stack(arguments.state).wipe()
    print(f"{arguments.state} is gone")
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


def _supervise(arguments: argparse.Namespace) -> int:
    return supervisor.main(StateFolder(arguments.state))


if __name__ == "__main__":
    sys.exit(main())
