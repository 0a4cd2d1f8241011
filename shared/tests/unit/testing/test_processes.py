"""Instances against a small program that behaves like a service."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from shared.testing.processes import CRASHED, KILLED, Instance, InstanceFailed
from shared.testing.signals import eventually, stays

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PROGRAM = """
import http.server, os, signal, sys

print("instance", os.environ["INSTANCE_ID"], "greets", os.environ.get("GREETING"), flush=True)
if os.environ.get("FAIL"):
    sys.exit("cannot start: no database")
visits = 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global visits
        visits += 1
        if os.environ.get("CRASH_POINT") == f"visit:{visits}":
            os._exit(137)
        ready = visits > 2
        self.send_response(200 if ready else 503)
        self.end_headers()
        self.wfile.write(b'{"ready": %s}' % (b"true" if ready else b"false"))

    def log_message(self, *arguments):
        pass


def stop(*_):
    if not os.environ.get("STUBBORN"):
        print("stops in order", flush=True)
        sys.exit(0)


signal.signal(signal.SIGTERM, stop)
address = ("127.0.0.1", int(os.environ["ADMIN_PORT"]))
http.server.HTTPServer(address, Handler).serve_forever()
"""


@pytest.fixture
async def instance(tmp_path: Path) -> AsyncIterator[Instance]:
    (tmp_path / "small_service.py").write_text(textwrap.dedent(PROGRAM))
    environment = {"GREETING": "hello", "PYTHONPATH": str(tmp_path)}
    instance = Instance("small_service", "small-0", environment, folder=tmp_path / "run")
    yield instance
    await instance.stop()
    assert not instance.is_running


async def test_start_waits_until_it_is_ready(instance: Instance) -> None:
    await instance.start()
    assert await instance.readiness() == {"ready": True}
    assert "instance small-0 greets hello" in instance.log()


async def test_the_environment_of_the_tests_is_not_handed_on(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL", "1")
    monkeypatch.setenv("CRASH_POINT", "visit:1")
    await instance.start(GREETING="good day")
    assert "greets good day" in instance.log()


async def test_a_start_that_fails_shows_the_log(instance: Instance) -> None:
    with pytest.raises(InstanceFailed, match="cannot start: no database"):
        await instance.start(FAIL="1")
    assert instance.exit_code == 1


async def test_kill_and_restart_keep_the_identity(instance: Instance) -> None:
    await instance.start()
    first_pid, first_url = instance.pid, instance.admin_url
    await instance.kill()
    assert instance.exit_code == KILLED
    assert "stops in order" not in instance.log()
    await instance.restart()
    assert instance.pid != first_pid
    assert instance.admin_url == first_url
    assert instance.log().count("instance small-0") == instance.starts == 2


async def test_a_crash_point_ends_one_run_only(instance: Instance) -> None:
    await instance.start(crash_point="visit:4")
    with pytest.raises(httpx.TransportError):
        await instance.readiness()
    assert await instance.exited() == CRASHED
    await instance.start()
    assert await instance.readiness() == {"ready": True}


async def test_freeze_stops_it_in_place_and_thaw_lets_it_go_on(instance: Instance) -> None:
    await instance.start()
    pid = instance.pid
    instance.freeze()

    with pytest.raises(httpx.ReadTimeout):
        await instance.readiness()
    await stays(lambda: instance.is_running, for_s=0.1)
    instance.thaw()
    assert await instance.readiness() == {"ready": True}
    assert instance.pid == pid


async def test_terminate_waits_for_an_orderly_end(instance: Instance) -> None:
    await instance.start()
    assert await instance.terminate() == 0
    assert "stops in order" in instance.log()


async def test_one_that_does_not_stop_is_a_failure(instance: Instance) -> None:
    await instance.start(STUBBORN="1")
    with pytest.raises(InstanceFailed, match="still runs"):
        await instance.terminate(within_s=0.3)
    await instance.kill()


async def test_it_does_not_outlive_the_tests(tmp_path: Path) -> None:
    (tmp_path / "small_service.py").write_text(textwrap.dedent(PROGRAM))
    tests = tmp_path / "tests.py"
    tests.write_text(
        textwrap.dedent(f"""
        import asyncio, os, pathlib, signal
        from shared.testing.processes import Instance

        async def main():
            folder = pathlib.Path({str(tmp_path)!r})
            small = Instance("small_service", "small-0", {{"PYTHONPATH": str(folder)}},
                             folder=folder)
            await small.start()
            print(small.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
        """)
    )
    killed = await asyncio.create_subprocess_exec(
        sys.executable, str(tests), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await killed.communicate()
    assert killed.returncode == KILLED
    pid = int(output)
    await eventually(lambda: not psutil.pid_exists(pid), describe="the instance is gone too")
