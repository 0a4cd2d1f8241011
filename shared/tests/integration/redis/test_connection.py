"""Asked again where an answer was lost, as often as the settings say and no oftener."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shared.redis import RETRIES, Cache, RedisAwayError
from shared.settings import ServiceSettings

if TYPE_CHECKING:
    from shared.testing.proxy import Proxy
    from shared.testing.valkey import Valkey


async def ask(valkey: Valkey, proxy: Proxy, *, retries: int, lost: int) -> dict[str, str]:
    """What a value is, where so many replies are lost."""
    cache = Cache(proxy.through(valkey.url), "asked:", keep_s=60, retries=retries)
    try:
        await cache.write({"key": "value"})
        proxy.lose_reply_to(b"MGET", times=lost)
        return await cache.read(["key"])
    finally:
        await cache.close()


@pytest.mark.parametrize("retries", [1, RETRIES])
async def test_as_many_answers_may_be_lost_as_there_are_retries(
    valkey: Valkey, valkey_proxy: Proxy, retries: int
) -> None:
    found = await ask(valkey, valkey_proxy, retries=retries, lost=retries)
    assert found == {"key": "value"}


@pytest.mark.parametrize("retries", [0, 1, RETRIES])
async def test_one_more_and_redis_is_away(
    valkey: Valkey, valkey_proxy: Proxy, retries: int
) -> None:
    with pytest.raises(RedisAwayError):
        await ask(valkey, valkey_proxy, retries=retries, lost=retries + 1)


def test_the_setting_has_the_default_of_the_client() -> None:
    assert ServiceSettings.model_fields["redis_retries"].default == RETRIES
