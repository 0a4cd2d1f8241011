"""Ups, downs and what lies between, with Valkey and a fake service."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local_stack import Stack, StackError, Step
from local_stack.folder import remove_tree, write_atomically
from local_stack.processes import MARKER, find_left_over, is_alive

MakeStack = Callable[..., Stack]


def test_up_twice_is_up_once(make_stack: MakeStack) -> None:
    stack = make_stack(replicas=2)
    first = stack.up()
    said: list[str] = []
    again = Stack(stack.folder.path, tell=said.append).up()
    assert dict(again) == dict(first)
    assert said == ["the stack is up already"]
    assert {"PID_FAKE_0", "PID_FAKE_1", "PID_VALKEY", "REDIS_URL"} <= set(first)
    assert set(stack.parts()) == {"valkey", "fake-0", "fake-1"}


def test_down_leaves_nothing_running(make_stack: MakeStack) -> None:
    stack = make_stack()
    environment = stack.up()
    pids = [int(value) for name, value in environment.items() if name.startswith("PID_")]
    assert len(pids) == 3
    assert stack.down()
    assert not any(is_alive(pid) for pid in pids)
    assert find_left_over(stack.folder.path) == []
    assert not stack.running()
    assert not stack.down()
    with pytest.raises(StackError, match="not up"):
        stack.env()


def test_data_and_ports_outlive_a_restart_and_wipe_ends_them(make_stack: MakeStack) -> None:
    stack = make_stack()
    first = stack.up()
    stack.down()
    assert stack.up()["REDIS_URL"] == first["REDIS_URL"]
    assert stack.wipe()
    assert not stack.folder.path.exists()
    assert not stack.wipe(), "nothing is there"


@pytest.mark.parametrize("own", [(), (".gitignore",), ("lock",), ("options.json", "logs")])
def test_a_folder_that_no_stack_made_is_left_as_it_is(tmp_path: Path, own: tuple[str, ...]) -> None:
    folder = tmp_path / "thesis"
    (folder / "chapters").mkdir(parents=True)
    for name in ("chapters/1.txt", *own):
        (folder / name).write_text("years of work")
    before = sorted(folder.rglob("*"))
    stack = Stack(folder, infrastructure=("valkey",), owner_pid=os.getpid())
    with pytest.raises(StackError, match="is no state folder of a stack; nothing was deleted"):
        stack.wipe()
    with pytest.raises(StackError, match="holds other things than a stack"):
        stack.up()
    assert not stack.down()
    assert sorted(folder.rglob("*")) == before


def test_a_wipe_that_was_killed_can_be_run_again(
    make_stack: MakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = make_stack()
    stack.up()
    stack.down()
    removed: list[str] = []

    def killed_at_the_folder(path: Path) -> None:
        if path == stack.folder.path:
            raise KeyboardInterrupt
        removed.append(path.name)
        remove_tree(path)

    with monkeypatch.context() as patch:
        patch.setattr("local_stack.folder.remove_tree", killed_at_the_folder)
        with pytest.raises(KeyboardInterrupt):
            stack.wipe()
    assert {"options.json", "valkey"} <= set(removed)
    assert stack.wipe()
    assert not stack.folder.path.exists()


def test_a_stack_that_is_up_with_other_options_is_not_called_up(make_stack: MakeStack) -> None:
    make_stack().up()
    assert make_stack().up(as_asked=True)
    for other in (make_stack(replicas=2), make_stack(environment={"CURRENCY": "EUR"})):
        with pytest.raises(StackError, match="up with other options: run `make down` first"):
            other.up(as_asked=True)
    assert set(make_stack().parts()) == {"valkey", "fake-0"}


def test_services_learn_what_they_need_and_no_more(make_stack: MakeStack) -> None:
    environment = make_stack(replicas=2, environment={"CURRENCY": "KRW"}).up()
    seen = fetch(environment.admin_url("fake-1") + "/environment")
    assert seen["INSTANCE_ID"] == "fake-1"
    assert seen["REDIS_URL"] == environment.redis_url
    assert seen["CURRENCY"] == "KRW"
    assert environment.admin_url("fake-1").endswith(f"{seen['ADMIN_HOST']}:{seen['ADMIN_PORT']}")
    assert "ADMIN_DATABASE_URL" not in seen
    assert "ROLE_PASSWORD" not in seen


def test_a_killed_part_comes_back_where_it_was(make_stack: MakeStack) -> None:
    stack = make_stack(replicas=2)
    before = stack.up()
    for part in ("fake-0", "valkey"):
        killed = stack.kill(part)
        assert stack.wait_healthy(part, 10) != killed
    after = stack.env()
    assert after.admin_url("fake-0") == before.admin_url("fake-0")
    assert after.redis_url == before.redis_url
    assert after.pid("fake-1") == before.pid("fake-1")
    assert stack.part("fake-0").starts == 2


def test_a_held_part_stays_down_until_it_is_released(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.up()
    stack.hold("fake-0")
    with pytest.raises(StackError, match="was not healthy"):
        stack.wait_healthy("fake-0", 0.5)
    stack.override("fake-0", {"EXTRA": "yes"})
    stack.release("fake-0", 10)
    assert fetch(stack.env().admin_url("fake-0") + "/environment")["EXTRA"] == "yes"


def test_a_frozen_part_is_unhealthy_and_left_alone(make_stack: MakeStack) -> None:
    stack = make_stack()
    stack.up()
    pid = stack.pid("valkey")
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: not stack.part("valkey").healthy)
    assert stack.pid("valkey") == pid
    os.kill(pid, signal.SIGCONT)
    assert stack.wait_healthy("valkey", 10) == pid


def test_down_does_not_wait_for_the_frozen(make_stack: MakeStack) -> None:
    stack = make_stack()
    environment = stack.up()
    for name in ("PID_FAKE_0", "PID_SUPERVISOR"):
        os.kill(int(environment[name]), signal.SIGSTOP)
    started = time.monotonic()
    assert stack.down()
    assert time.monotonic() - started < 11
    assert find_left_over(stack.folder.path) == []


def test_up_after_kill_of_everything(make_stack: MakeStack) -> None:
    stack = make_stack()
    first = stack.up()
    pids = [int(value) for name, value in first.items() if name.startswith("PID_")]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    second = stack.up()
    assert not {int(second[name]) for name in second if name.startswith("PID_")} & set(pids)
    stack.wait_all_healthy(5)


def test_children_end_with_a_killed_supervisor(make_stack: MakeStack) -> None:
    stack = make_stack()
    environment = stack.up()
    os.kill(int(environment["PID_SUPERVISOR"]), signal.SIGKILL)
    wait_for(lambda: not is_alive(environment.pid("valkey")))
    wait_for(lambda: not is_alive(environment.pid("fake-0")))
    assert not stack.running()


@pytest.mark.parametrize("command", ["up", "down"])
def test_orphans_are_found_and_ended(make_stack: MakeStack, command: str) -> None:
    stack = make_stack()
    stack.folder.create()
    write_atomically(stack.folder.state_file, "{ half a state fi")
    ignores_term = "trap '' TERM; while true; do sleep 60; done"
    orphan = subprocess.Popen(
        ["/bin/sh", "-c", ignores_term],
        env={**os.environ, MARKER: str(stack.folder.path)},
        start_new_session=True,
    )
    other = subprocess.Popen(["/bin/sleep", "60"], cwd=stack.folder.path)
    try:
        getattr(stack, command)()
        assert not is_alive(orphan.pid)
        assert other.poll() is None, "somebody's own program that merely stands in the folder"
    finally:
        for process in (other, orphan):
            process.kill()
            process.wait()
    assert stack.running() == (command == "up")


def test_a_port_taken_meanwhile_is_replaced(make_stack: MakeStack) -> None:
    stack = make_stack()
    first = stack.up().redis_url
    stack.down()
    with listening(int(first.split(":")[2].split("/")[0])):
        assert stack.up().redis_url != first


def test_a_wished_port_that_is_taken_is_an_error(make_stack: MakeStack) -> None:
    with listening() as port:
        stack = make_stack(ports={"valkey": port})
        with pytest.raises(StackError, match=f"port {port} of valkey is taken"):
            stack.up()
    assert find_left_over(stack.folder.path) == []


def test_a_part_that_fails_says_why(make_stack: MakeStack) -> None:
    stack = make_stack(environment={"FAKE_FAILURE": "no luck today"})
    with pytest.raises(StackError) as failure:
        stack.up()
    assert "fake-0 ended with exit code 1, 3 times" in str(failure.value)
    assert "the fake service fails: no luck today" in str(failure.value)
    assert str(stack.log("fake-0")) in str(failure.value)
    assert find_left_over(stack.folder.path) == []


def test_a_part_that_never_gets_ready_says_what_it_answers(make_stack: MakeStack) -> None:
    stack = make_stack(environment={"FAKE_UNREADY": "1"}, start_timeout_s=1.0)
    with pytest.raises(StackError, match=r'fake-0 was not healthy in time .*503: {"ready": false}'):
        stack.up()


def test_steps_run_before_the_services_and_stop_the_start_when_they_fail(
    make_stack: MakeStack,
) -> None:
    step = Step("prepare", "fake_service", ("step",))
    environment = make_stack(steps=(step,)).up()
    log = make_stack().log("prepare").read_text()
    assert log == f"the step ran on {environment.redis_url}\n"
    failing = make_stack("other", steps=(step,), environment={"FAKE_STEP_CODE": "3"})
    with pytest.raises(StackError, match=r"exited with 3; the end of (.|\n)*the step ran on"):
        failing.up()


def test_a_stack_ends_with_its_owner(tmp_path: Path) -> None:
    program = (
        "import os, sys; from local_stack import Stack\n"
        "Stack(sys.argv[1], infrastructure=('valkey',), owner_pid=os.getpid()).up()\n"
        "print('up', flush=True); sys.stdin.read()"
    )
    state = tmp_path / "state"
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"up\n"
    pid = Stack(state).pid("valkey")
    owner.kill()
    owner.communicate()
    wait_for(lambda: not is_alive(pid))


def test_the_command_line_tells_and_exits_as_it_should(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with listening() as port:
        failed = command("up", "--infrastructure", "--port", f"valkey={port}", state=state)
    assert failed.returncode == 1
    assert f"port {port} of valkey is taken" in failed.stderr
    assert command("env", state=state).returncode == 1
    assert command("down", state=state).stdout == "nothing was running\n"
    assert command("wipe", state=state).stdout == f"{state} is gone\n"
    assert command("wipe", state=state).stdout == "nothing is there\n"
    foreign = command("wipe", state=tmp_path.parent)
    assert foreign.returncode == 1
    assert foreign.stderr.endswith("is no state folder of a stack; nothing was deleted\n")
    unknown = command("up", "--replicas", "stok=2", state=state)
    assert unknown.returncode == 1
    assert "no service stok; there are: stock, coupon, payment, order-orch" in unknown.stderr


def command(*arguments: str, state: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "local_stack", *arguments, "--state", str(state)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def fetch(url: str) -> dict[str, str]:
    with urllib.request.urlopen(url, timeout=5) as answer:
        content: dict[str, str] = json.load(answer)
    return content


@contextlib.contextmanager
def listening(port: int = 0) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", port)) as server:
        yield server.getsockname()[1]


def wait_for(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
