"""The payment gateway as a part of the stack, and ports for its callbacks."""

import json
import os
import stat
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from local_stack import SERVICES, Service, Stack

MakeStack = Callable[..., Stack]

CHARGE = {"amount": 5, "currency": "KRW", "reference": "o-1", "customer": "ann"}


def ask(environment: Mapping[str, str], path: str, body: Any = None) -> Any:
    """The JSON of an answer, with the key that the stack tells."""
    request = urllib.request.Request(
        environment["GATEWAY_URL"] + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {environment['GATEWAY_API_KEY']}",
            "Idempotency-Key": "k",
        },
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_its_book_and_its_secrets_outlive_kills_and_restarts(make_stack: MakeStack) -> None:
    stack = make_stack(infrastructure=("valkey", "gateway"))
    first = stack.up()
    charge = ask(first, "/v1/charges", CHARGE)
    killed = stack.kill("gateway")
    assert stack.wait_healthy("gateway", 30) != killed
    assert ask(first, f"/v1/charges/{charge['id']}") == charge
    stack.down()
    second = stack.up()
    names = ("GATEWAY_URL", "GATEWAY_API_KEY", "GATEWAY_WEBHOOK_SECRET")
    assert [second[name] for name in names] == [first[name] for name in names]
    assert ask(second, "/v1/charges")["charges"] == [charge | {"refunds": []}]
    stack.wipe()
    third = stack.up()
    assert not {third[name] for name in names[1:]} & {first[name] for name in names[1:]}
    assert ask(third, "/v1/charges")["charges"] == []


def test_services_are_given_its_address_and_its_secrets(make_stack: MakeStack) -> None:
    stack = make_stack(infrastructure=("valkey", "gateway"))
    environment = stack.up()
    seen = fetch(environment.admin_url("fake-0"))
    for name in ("GATEWAY_URL", "GATEWAY_API_KEY", "GATEWAY_WEBHOOK_SECRET"):
        assert seen[name] == environment[name]
    for file in (stack.folder.path / "secrets.json", stack.folder.state_file):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask({**environment, "GATEWAY_API_KEY": "other"}, "/v1/charges")


def test_each_replica_that_listens_has_a_port_of_its_own(make_stack: MakeStack) -> None:
    stack = make_stack(replicas=2, listens=("CALLBACK",))
    environment = stack.up()
    urls = []
    for number in range(2):
        seen = fetch(environment.admin_url(f"fake-{number}"))
        url = environment[f"CALLBACK_URL_FAKE_{number}"]
        assert url == f"http://{seen['CALLBACK_HOST']}:{seen['CALLBACK_PORT']}"
        urls.append(url)
    assert len(set(urls)) == 2
    stack.kill("fake-1")
    stack.wait_healthy("fake-1", 30)
    assert stack.env()["CALLBACK_URL_FAKE_1"] == urls[1]
    stack.down()
    assert [stack.up()[f"CALLBACK_URL_FAKE_{number}"] for number in range(2)] == urls
    assert make_stack(replicas=2, listens=("CALLBACK",)).up(as_asked=True)


def test_payment_listens_for_callbacks_and_the_storefront_for_users() -> None:
    assert {service.name: service.listens for service in SERVICES if service.listens} == {
        "payment": ("CALLBACK",),
        "storefront": ("HTTP",),
    }


def test_who_does_not_ask_for_it_has_none(make_stack: MakeStack) -> None:
    environment = make_stack().up()
    assert not [name for name in environment if name.startswith(("GATEWAY_", "CALLBACK_"))]
    assert "CALLBACK_PORT" not in fetch(environment.admin_url("fake-0")).keys() - os.environ.keys()
    assert Service("a", "b", "c").listens == ()


def fetch(admin_url: str) -> dict[str, str]:
    with urllib.request.urlopen(f"{admin_url}/environment", timeout=10) as answer:
        content: dict[str, str] = json.load(answer)
    return content
