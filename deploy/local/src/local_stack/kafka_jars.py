"""The jars of Apache Kafka: fetched by Maven once a user, pinned by their SHA-256."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from local_stack.errors import PartError
from local_stack.folder import StateFolder
from local_stack.part import Tool

DEPLOY = Path(__file__).resolve().parents[2]
POM = DEPLOY / "pom.xml"
PINS = DEPLOY / "kafka.sha256"

_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_OLDEST_JAVA = 17


def missing_tools() -> str | None:
    """Which of Java and Maven is missing or too old, in words; None where Kafka can run."""
    java = _java_version()
    if java is None:
        return "there is no `java`"
    if java < _OLDEST_JAVA:
        return f"`java` is version {java}"
    if shutil.which("mvn") is None and not is_cached():
        return "there is no `mvn`"
    return None


def cache_folder() -> Path:
    """Where the pinned jars lie for all stacks of this user."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    pins = hashlib.sha256(PINS.read_bytes()).hexdigest()[:12]
    return base / "order-system" / f"kafka-{kafka_version()}-{pins}"


def kafka_version() -> str:
    found = re.search(r"<artifactId>kafka_2.13</artifactId>\s*<version>(.+?)<", POM.read_text())
    if found is None:
        raise PartError(f"{POM} names no version of kafka_2.13")
    return found.group(1)


def is_cached() -> bool:
    return cache_folder().exists() and wrong_jars(cache_folder()) == []


async def fetch_jars(state: StateFolder) -> Path:
    """The folder of the jars, fetched where it is not there yet. Raises PartError."""
    folder = cache_folder()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder.parent / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise PartError(f"the cache {folder.parent} can't be written: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # stacks that start together fetch once
        if not is_cached():
            shutil.rmtree(folder, ignore_errors=True)
            await _download(state, folder)
    finally:
        os.close(lock)
    return folder


async def _download(state: StateFolder, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        jars = Path(temporary) / "jars"
        jars.mkdir()
        await copy_dependencies(state, jars)
        wrong = wrong_jars(jars)
        if wrong:
            raise PartError(
                f"what Maven fetched is not what {PINS.name} pins: {', '.join(wrong)}. "
                "Nothing of it was run"
            )
        jars.rename(folder)


async def copy_dependencies(state: StateFolder, target: Path) -> None:
    """Let Maven put all jars that the POM asks for into `target`."""
    command = ["mvn", "-q", "-B", "-f", str(POM), _PLUGIN, f"-DoutputDirectory={target}"]
    await Tool("kafka", state, target.parent).run(command, timeout_s=600.0)


async def pin_jars() -> int:
    """Write the pins anew from what the POM asks for; how many there are."""
    with tempfile.TemporaryDirectory() as temporary:
        state = StateFolder(temporary)
        state.create()
        jars = state.part_folder("jars")
        await copy_dependencies(state, jars)
        lines = [f"{_digest(jar)}  {jar.name}\n" for jar in sorted(jars.glob("*.jar"))]
    PINS.write_text("".join(lines))
    return len(lines)


def _digest(jar: Path) -> str:
    with jar.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wrong_jars(folder: Path) -> list[str]:
    """Names of jars that are missing, not pinned, or other than their pin."""
    pins = {
        name: digest for digest, name in (line.split() for line in PINS.read_text().splitlines())
    }
    found = {path.name: path for path in folder.glob("*.jar")}
    wrong = sorted(set(pins) ^ set(found))
    wrong += [name for name in set(pins) & set(found) if _digest(found[name]) != pins[name]]
    return wrong


def _java_version() -> int | None:
    """The major version of the `java` on the path, of JAVA_HOME where that is set."""
    try:
        said = subprocess.run(  # noqa: S603
            [java_program(), "-version"], check=False, capture_output=True, timeout=20
        ).stderr.decode(errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(\d+)', said)
    return int(found.group(1)) if found else None


def java_program() -> str:
    home = os.environ.get("JAVA_HOME")
    inside = Path(home) / "bin" / "java" if home else None
    return str(inside) if inside and inside.exists() else "java"
