"""The machine's own limits, and what machine it is.

Figures mean little without them: machines differ, and one machine differs from hour to hour.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import platform
import re
import time
from pathlib import Path

import asyncpg
import psutil

from bench.errors import BenchError
from bench.record import Machine
from local_stack.postgres import binaries

DATABASE = "bench_limit"
MAX_WAL = "4GB"
BETWEEN_LOOKS = 200
OUTPUT_SHOWN = 500

_ORDER = {
    "type": "PlaceOrder",
    "orderId": "loop-1",
    "userId": "user_1",
    "items": [{"productId": "P001", "quantity": 1}],
}


async def pgbench(admin_url: str, *, scale: int, seconds: int) -> float:
    """Single-row transactions a second of the stack's own Postgres, in a database of their own.

    Raises BenchError where it fails.
    """
    connection = await asyncpg.connect(admin_url)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {DATABASE}")
        await connection.execute("CHECKPOINT")  # each time from the same state
        host, _, rest = admin_url.rpartition("/")
        url = f"{host}/{DATABASE}?{rest.partition('?')[2]}"
        await _run("-q", "-i", "-s", str(scale), url)
        output = await _run(
            "-N", "-M", "prepared", "-c", "16", "-j", "2", "-T", str(seconds), url
        )  # fmt: skip
        found = re.search(r"tps = ([0-9.]+)", output)
        if found is None:
            raise BenchError(f"pgbench said no figure: {output[-OUTPUT_SHOWN:]}")
        return float(found[1])
    finally:
        try:
            await connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
            await connection.execute("CHECKPOINT")  # what it wrote is no phase's burden
        finally:
            await connection.close()


async def _run(*arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        str(binaries() / "pgbench"),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await process.communicate()
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    if process.returncode != 0:
        end = errors.decode(errors="replace").strip()[-OUTPUT_SHOWN:]
        raise BenchError(f"pgbench exited with {process.returncode}: {end}")
    return output.decode()


def loop(seconds: float) -> float:
    """Rounds of a fixed piece of Python in a second of processor time: JSON, a hash, a count.

    Processor time, since that is what it is a yardstick for: of time on the clock, a machine with
    other work gives less.
    """
    seen: dict[str, int] = {}
    text, rounds = json.dumps(_ORDER), 0
    started = time.thread_time()
    while (took := time.thread_time() - started) < seconds:
        for _ in range(BETWEEN_LOOKS):
            text = json.dumps(json.loads(text))
            digest = hashlib.sha256(text.encode()).hexdigest()
            seen[digest] = seen.get(digest, 0) + 1
        rounds += BETWEEN_LOOKS
    return rounds / took


async def put_off_checkpoints(admin_url: str) -> None:
    """Let none fall into a run: after one, every page that is touched goes to the log whole."""
    connection = await asyncpg.connect(admin_url)
    try:
        await connection.execute(f"ALTER SYSTEM SET max_wal_size = '{MAX_WAL}'")
        await connection.execute("ALTER SYSTEM SET checkpoint_timeout = '1h'")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


async def describe(admin_url: str, broker: str) -> Machine:
    """What this machine is; nothing that names it."""
    connection = await asyncpg.connect(admin_url)
    try:
        version = await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        processor=_processor(),
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        python=platform.python_version(),
        postgres=str(version),
        broker=broker,
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
