"""Ports that nobody uses, kept from start to start where that is possible."""

import json
import random
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from local_stack.errors import PartError, StackError
from local_stack.folder import read_json, write_atomically

HOST = "127.0.0.1"
_LOWEST = 15_000
_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")


class PortBook:
    """Which part has which port. Fixed ones are the caller's wish and never replaced."""

    def __init__(self, file: Path, fixed: Mapping[str, int]) -> None:
        self._file = file
        self._fixed = dict(fixed)
        self._ports: dict[str, int] = read_json(file) or {}

    def claim(self, name: str) -> int:
        """A free port for `name`, the one it had before where nobody took it.

        Raises PartError where the port is fixed or settled, and taken.
        """
        if name in self._fixed:
            port = self._fixed[name]
            if not is_free(port):
                raise PartError(f"port {port} of {name} is taken by another program")
        else:
            port = self._ports.get(name, 0)
            others = {taken for other, taken in self._ports.items() if other != name}
            if not port or port in others or not is_free(port):
                port = _free_port(others)
        self._ports[name] = port
        write_atomically(self._file, json.dumps(self._ports, indent=2))
        return port

    def expected(self, name: str) -> int:
        """The port that `name` has or will have: it is reserved for it where it has none yet."""
        if name not in self._ports:
            self._ports[name] = self._fixed.get(name) or _free_port(set(self._ports.values()))
            write_atomically(self._file, json.dumps(self._ports, indent=2))
        return self._ports[name]

    def prefer(self, name: str, port: int) -> None:
        """Give `name` this port at its next claim, where it is free and none is fixed."""
        if name not in self._fixed and port not in self._ports.values() and is_free(port):
            self._ports[name] = port

    def settle(self, names: Iterable[str]) -> None:
        """Fix the ports that these have now: others know them."""
        self._fixed.update({name: self._ports[name] for name in names if name in self._ports})

    def forget(self, name: str) -> None:
        """Let the next claim choose another port: this one turned out to be taken."""
        self._ports.pop(name, None)


def is_free(port: int) -> bool:
    """Whether a server may listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((HOST, port))
            candidate.listen(1)
        except OSError:
            return False
    return True


def _free_port(taken: set[int]) -> int:
    """A free port below the range from which the kernel takes ports of outgoing connections.

    Inside that range a part that restarts may find its port used by somebody's connection,
    even by a client's connection to itself while it waited for the part to come back.
    """
    highest = _ephemeral_start() - 1
    for _ in range(500):
        port = random.randint(min(_LOWEST, highest - 1000), highest)
        if port not in taken and is_free(port):
            return port
    raise StackError("no free TCP port was found")


def _ephemeral_start() -> int:
    try:
        start = int(_RANGE_FILE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768
    return start if start > 4_000 else 32_768
