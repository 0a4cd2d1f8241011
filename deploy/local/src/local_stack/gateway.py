"""The payment gateway simulator: somebody else's system, with its own book in its own folder."""

import sys
from collections.abc import Mapping, Sequence

from local_stack.folder import StateFolder
from local_stack.part import Part
from local_stack.ports import HOST, PortBook
from local_stack.program import require_ready

MODULE = "gateway_simulator.main"


class Gateway(Part):
    """`python -m gateway_simulator.main`. Its API key and its secret are generated."""

    def __init__(self, folder: StateFolder, ports: PortBook) -> None:
        super().__init__("gateway", folder, ports)
        self._port = 0

    async def prepare(self) -> None:
        self._port = self.ports.claim(self.name)

    def command(self) -> Sequence[str]:
        return (sys.executable, "-m", MODULE)

    def environment(self) -> Mapping[str, str]:
        return {
            "GATEWAY_HOST": HOST,
            "GATEWAY_PORT": str(self._port),
            "GATEWAY_BOOK": str(self.folder / "book.sqlite"),
            **self._secrets(),
            "PYTHONUNBUFFERED": "1",
        }

    async def probe(self) -> None:
        await require_ready(self._port)

    def addresses(self) -> Mapping[str, str]:
        return {"GATEWAY_URL": f"http://{HOST}:{self._port}", **self._secrets()}

    def _secrets(self) -> Mapping[str, str]:
        return {
            "GATEWAY_API_KEY": self.state_folder.password("gateway-api-key"),
            "GATEWAY_WEBHOOK_SECRET": self.state_folder.password("gateway-webhook-secret"),
        }
