"""The state folder: where everything of one stack lies, and the locks on it.

options.json     what the stack was asked to be
state.json       what it is now, replaced atomically by the supervisor
secrets.json     generated passwords and keys, kept from start to start, readable by the owner only
ports.json       ports of the last start, used again where they are still free
lock             held by up, down and wipe while they work
supervisor.lock  held by the supervisor as long as it lives: the one proof that it does
hold/<part>      while this file is there, a part that died is not started again
override/<part>.json  further environment of a part, read whenever it starts
logs/            one log for each part
postgres/ valkey/ kafka/ gateway/ services/   data and working folders
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local_stack.errors import StackError

_LOG_LIMIT_BYTES = 20_000_000
_LOCK = "lock"
_GITIGNORE = ".gitignore"
_IGNORE_ALL = "*\n"


class StateFolder:
    """Paths and files of one stack."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).resolve()
        self.logs = self.path / "logs"
        self.options_file = self.path / "options.json"
        self.state_file = self.path / "state.json"
        self.ports_file = self.path / "ports.json"
        self._secrets_file = self.path / "secrets.json"

    def create(self) -> None:
        """Make the folder where it is missing, ignored by git wherever it lies."""
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path / _GITIGNORE, _IGNORE_ALL)
        except OSError as error:
            raise StackError(f"the state folder {self.path} can't be written: {error}") from error

    def part_folder(self, name: str) -> Path:
        folder = self.path / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def open_log(self, name: str) -> int:
        """A descriptor that appends to the part's log; a log grown large is put aside once."""
        path = self.log(name)
        if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def password(self, name: str) -> str:
        """The password called `name`, generated the first time it is asked for."""
        known: dict[str, str] = read_json(self._secrets_file) or {}
        if name not in known:
            known[name] = secrets.token_urlsafe(24)
            write_atomically(self._secrets_file, json.dumps(known, indent=2), mode=0o600)
        return known[name]

    def hold_file(self, part: str) -> Path:
        return self.path / "hold" / part

    def override_file(self, part: str) -> Path:
        return self.path / "override" / f"{part}.json"

    @contextlib.contextmanager
    def locked(self, timeout_s: float = 180.0) -> Iterator[None]:
        """Keep other ups, downs and wipes of this folder out. Raises StackError in the end."""
        deadline = time.monotonic() + timeout_s
        if self.holds_anything() and not self.is_of_a_stack():
            raise StackError(
                f"{self.path} holds other things than a stack: name a folder that is new or empty"
            )
        while True:
            self.create()
            descriptor = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if _try_lock(descriptor) and _is_file(descriptor, self.path / _LOCK):
                    yield
                    return
            finally:
                os.close(descriptor)
            if time.monotonic() > deadline:
                raise StackError(f"another command is still at work on {self.path}")
            time.sleep(0.05)

    def hold_supervisor_lock(self) -> bool:
        """Take the supervisor's lock for the life of this process; False: another one lives."""
        descriptor = os.open(self.path / "supervisor.lock", os.O_RDWR | os.O_CREAT, 0o600)
        if not _try_lock(descriptor):
            return False
        os.truncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        return True

    def supervisor_pid(self) -> int | None:
        """The process that holds the supervisor's lock, None where nobody does."""
        try:
            descriptor = os.open(self.path / "supervisor.lock", os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            if _try_lock(descriptor):
                return None
            written = os.read(descriptor, 20)
            return int(written) if written.isdigit() else None
        finally:
            os.close(descriptor)

    def holds_anything(self) -> bool:
        """Whether the folder is there and not empty."""
        return self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir()))

    def is_of_a_stack(self) -> bool:
        """Whether a stack made the folder: its own files are there."""
        try:
            ignored = (self.path / _GITIGNORE).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return False
        own = (self.path / _LOCK, self.options_file, self.state_file)
        return ignored == _IGNORE_ALL and any(file.is_file() for file in own)

    def remove(self) -> None:
        """Delete the folder and all that the stack ever stored. Raises StackError for any other."""
        if not self.is_of_a_stack():
            raise StackError(f"{self.path} is no state folder of a stack; nothing was deleted")
        for entry in self.path.iterdir():
            # What tells whose folder it is goes last: a wipe that was killed can be run again.
            if entry.name not in (_GITIGNORE, _LOCK):
                remove_tree(entry)
        remove_tree(self.path)


def remove_tree(path: Path) -> None:
    """Delete a file, or a folder with all that it holds, where it is there."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        shutil.rmtree(path)


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace `path` by `text`: a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(temporary).chmod(mode)
    Path(temporary).replace(path)


def read_json(path: Path) -> Any:
    """The file's content, None where it is missing or, after a crash, not whole."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_file(descriptor: int, path: Path) -> bool:
    """Whether the locked file is still the one at `path`: a wipe may have taken it away."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
