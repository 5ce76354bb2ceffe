"""A lease that listens: asyncpg's listeners by channel, whatever shell is around them. No I/O."""

from __future__ import annotations

from ..messages.listening import Notification
from .leased import Callback, Leased
from .pending import Pending


class Listened(Leased):
    """What is to be called for each channel: each callback once."""

    _channels: dict[str, dict[Callback, None]] | None = None

    def forget_channels(self) -> None:
        """The session listens to nothing any more."""
        if self._channels is not None:
            self._channels.clear()

    def listeners_left(self) -> dict[str, int]:
        """How many listeners of each kind the owner has not removed."""
        return {"notification": sum(map(len, (self._channels or {}).values())), **super().listeners_left()}

    def ended(self, error: BaseException) -> None:
        """The lease has ended without its owner's doing."""
        self.forget_channels()
        super().ended(error)

    def give_back(self) -> None:
        """The owner has released it: nobody listens any more."""
        if self._channels is not None:
            self._connected.requests.ears.leases.pop(self.token.fence, None)
            self._channels = None
        super().give_back()

    def _begin_listening(self) -> dict[str, dict[Callback, None]]:
        if self._channels is None:
            self._channels = {}
            self._connected.requests.ears.leases[self.token.fence] = self._heard
        return self._channels

    def _remove(self, channel: str, callback: Callback) -> bool:
        """The callback is not to be called any more; whether it was the channel's last."""
        callbacks = (self._channels or {}).get(channel)
        if self._channels is None or callbacks is None or callback not in callbacks:
            return False
        del callbacks[callback]
        if not callbacks:
            del self._channels[channel]
        return not callbacks

    def _heard(self, message: Notification | None) -> list[Pending]:
        """A notification has come, or (None) the lease has ended. Returns who waits for that."""
        if message is not None and self._channels is not None:
            for callback in list(self._channels.get(message.channel, ())):
                self._dispatch(callback, self, message.pid, message.channel, message.payload)
        return []
