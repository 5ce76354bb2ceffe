"""Subscriptions that are closed while they begin."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pgactor.client.aiochannel import AioChannel
from pgactor.client.aiosubscription import AsyncSubscription
from pgactor.client.subscription import Subscription
from pgactor.errors import ClientClosed
from pgactor.messages import Done
from pgactor.messages.listening import Listen, Unlisten

from .memory import MemorySupervisor, options
from .tasks import connect as connect_aio
from .threads import connect, open_channel
from .virtual import THREAD_SECONDS, run, turns


def test_a_subscription_that_another_thread_closes_as_it_begins_hears_nothing(
    supervisor: MemorySupervisor,
) -> None:
    with open_channel() as shared:
        connected = connect(shared, supervisor)
        link = supervisor.links[0]
        subscription = Subscription(shared, ("news",), None, 10)
        raised: list[BaseException] = []

        def get() -> None:
            try:
                subscription.get()
            except ClientClosed as error:
                raised.append(error)

        thread = threading.Thread(target=get, daemon=True)
        thread.start()
        listen = link.next_request()
        assert isinstance(listen, Listen)
        subscription.close()
        link.say(Done(listen.id))
        unlisten = link.next_request()
        assert isinstance(unlisten, Unlisten)
        link.say(Done(unlisten.id))
        thread.join(THREAD_SECONDS)
        assert raised
        assert not connected.requests.ears._all()


def test_a_subscription_that_another_task_closes_as_it_begins_hears_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    supervisor = MemorySupervisor().serve(monkeypatch)

    async def story() -> None:
        channel = AioChannel(options())
        connected, link = await connect_aio(channel, supervisor)
        subscription = AsyncSubscription(lambda: channel, ("news",), None, 10)
        getting = asyncio.create_task(subscription.get())
        await turns()
        (listen,) = link.requests
        assert isinstance(listen, Listen)
        await subscription.close()
        link.say(Done(listen.id))
        await turns()
        unlisten = link.requests[-1]
        assert isinstance(unlisten, Unlisten)
        link.say(Done(unlisten.id))
        with pytest.raises(ClientClosed):
            await getting
        assert not connected.requests.ears._all()

    run(story())
