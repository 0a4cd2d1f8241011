"""Starting, watching and ending operating-system processes."""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

MARKER = "LOCAL_STACK_STATE"
"""Environment variable that names the state folder in everything the stack starts."""

_PR_SET_PDEATHSIG = 1
_PROGRAMS = frozenset({"postgres", "initdb", "valkey-server", "java", "tansu"})
_DEAD = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
_libc = ctypes.CDLL(None, use_errno=True)


def spawn(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    log: int,
    death_signal: signal.Signals,
) -> "subprocess.Popen[bytes]":
    """Start a process that is sent `death_signal` when this one dies, even by kill -9.

    Call it from the main thread only: the kernel sends the signal when the thread ends that
    started the process. `log` is a descriptor for both outputs.
    """
    parent = os.getpid()

    def before_exec() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:
            os._exit(1)

    return subprocess.Popen(  # noqa: S603 - commands are this package's own
        list(command),
        env=dict(environment),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=before_exec,
    )


async def wait_for_exit(process: "subprocess.Popen[bytes]") -> int:
    """The exit code, once the process has ended; negative for a signal."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:  # an old kernel
        while process.poll() is None:  # noqa: ASYNC110 - there is nothing to wait on
            await asyncio.sleep(0.05)
        return int(process.returncode)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return process.wait()


async def stop(
    process: "subprocess.Popen[bytes]", stop_signal: signal.Signals, grace_s: float
) -> None:
    """End the process: ask, wait for `grace_s`, then kill it and what it left in its group."""
    if process.poll() is None:
        process.send_signal(stop_signal)
        process.send_signal(signal.SIGCONT)  # a frozen one would not hear it
        try:
            await asyncio.wait_for(wait_for_exit(process), grace_s)
        except TimeoutError:
            process.kill()
            await wait_for_exit(process)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def is_alive(pid: int, created: float | None = None) -> bool:
    """Whether this very process runs; a zombie does not, nor does a later one of that pid."""
    try:
        process = psutil.Process(pid)
        if created is not None and abs(process.create_time() - created) > 1.0:
            return False
        return bool(process.status() not in _DEAD)
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(pid: int, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while is_alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def find_left_over(state: Path, folders: Iterable[Path] = ()) -> list[psutil.Process]:
    """Processes that belong to the stack in `state`, whoever their parent is by now.

    They are known by the marker in their environment. Postgres overwrites that memory with its
    title, so its processes, and those of the other programs, are known by their working folder,
    which lies in the state folder or in one of `folders`.
    """
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    roots = (state, *folders)
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in own and (_is_program_in(process, roots) or _is_marked(process, state))
    ]


def end_left_over(state: Path, folders: Iterable[Path] = ()) -> list[str]:
    """End every process of the stack in `state`; returns their names, empty where none was left."""
    folders = tuple(folders)
    ended: list[str] = []
    for attempt in range(100):
        found = find_left_over(state, folders)
        if not found:
            break
        if attempt == 0:
            ended = [f"{process.pid}" for process in found]
        _end(found, gently=attempt == 0)
    return ended


def end_left_over_in(folder: Path) -> None:
    """End the programs that work in a part's folder, before the part starts there again."""
    for attempt in range(100):
        found = [process for process in psutil.process_iter() if _is_program_in(process, (folder,))]
        if not found:
            break
        _end(found, gently=attempt == 0)


def _end(processes: Sequence[psutil.Process], *, gently: bool) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if gently:
                process.terminate()
            else:
                process.kill()
    psutil.wait_procs(processes, timeout=1.5 if gently else 0.5)


def _is_program_in(process: psutil.Process, folders: Sequence[Path]) -> bool:
    try:
        if process.name() not in _PROGRAMS or process.status() in _DEAD:
            return False
        working_folder = Path(process.cwd().removesuffix(" (deleted)"))
    except (psutil.Error, OSError):
        return False
    return any(working_folder.is_relative_to(folder) for folder in folders)


def _is_marked(process: psutil.Process, state: Path) -> bool:
    try:
        return process.status() not in _DEAD and process.environ().get(MARKER) == str(state)
    except (psutil.Error, OSError):
        return False


def tail(path: Path, offset: int = 0, lines: int = 25) -> str:
    """The last lines of a log, of what was written from `offset` on."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(offset if offset <= size else 0, size - 16_384))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.strip().splitlines()[-lines:])
