"""What one link's worker side knows: unanswered requests, shapes, leases. No I/O; the caller brings locks and clocks.

A request ends once: by its reply, by the loss of the link, or because its caller gave up. What arrives for one whose
caller gave up is dropped; a lease among it is given back.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

from .. import wire
from ..errors import LeaseLost, OutcomeUnknown, PgactorError, PoolClosing, ProtocolError
from ..messages import (
    PROTOCOL_VERSION,
    SHAPES_PER_LINK,
    Acquire,
    Cancel,
    Done,
    Failed,
    Granted,
    Heartbeat,
    Hello,
    LeaseEnded,
    Message,
    Part,
    Release,
    Request,
    Results,
    Rows,
    Token,
    Welcome,
)
from ..messages.copying import Chunk, CopyIn, CopyOut, Credit
from ..messages.listening import Gap, Notification, Unlisten
from ..messages.operating import Moved
from ..messages.pool import StatusReport
from ..messages.session import Notice, Opened, Prepared, Settings
from ..messages.unions import FromSupervisor
from ..rows import RowDecoder
from ..version import __version__
from .acquirer import Entered
from .failures import exception
from .inbox import Ears, Inbox
from .options import Options
from .pending import Pending, PendingCopy, PendingLease, Reply

_PENDING: dict[type, type[Pending]] = {CopyOut: PendingCopy, CopyIn: PendingCopy, Acquire: PendingLease}
"""What is known of requests that are not like most."""


class LostLink(ConnectionError):
    """The link is of no more use. reason: an error of pgactor's own behind it, to be raised as it is."""

    def __init__(self, text: str, reason: PgactorError | None = None) -> None:
        super().__init__(text)
        self.reason = reason


class Unsent(Exception):
    """The request was not run: it may be sent again, by another link."""


class HeldLease(Protocol):
    """A lease as its owner's side holds it."""

    token: Token
    ttl: float
    entered: Entered | None

    def ended(self, error: BaseException) -> None:
        """The lease has ended without its owner's doing."""

    def renewed(self, at: float) -> bool:
        """A heartbeat for it is sent. False: it has expired, and stays so."""

    def pushed(self, message: Settings | Notice) -> None:
        """The supervisor says something of the lease's session."""


class Requests:
    """The dialogue on one link, from hello to its end.

    moved: another supervisor serves the endpoint now: what is new is for another link. `on_moved` was called then.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.welcome: Welcome | None = None
        self.leases: dict[int, HeldLease] = {}
        self.granted: set[int] = set()  # fences of leases on their way to their owners
        self.lost: BaseException | None = None
        self.pending: dict[int, Pending] = {}
        self.begun = 0  # how many, and the next one's id
        self.ears = Ears()
        self._waits = 0
        self.epoch = 0
        self.moved = False
        self.on_moved: Callable[[], None] = lambda: None
        self._over = False  # the supervisor is no more: what it has not answered was not run
        self._shapes: dict[int, RowDecoder] = {}
        self._frames = wire.supervisor_frames(max(options.max_frame_bytes, 1024))

    def __len__(self) -> int:
        return len(self.pending)

    def hello(self) -> Hello:
        """The first message."""
        options = self.options
        library = f"pgactor {__version__}"
        return Hello(PROTOCOL_VERSION, options.label, os.getpid(), library, options.max_frame_bytes, options.pool)

    def begin(self, request: Request, waiter: Any = None, patience: float | None = None, link: Any = None) -> Pending:
        """Number the request and await its reply."""
        number = request.id = self.begun
        request.epoch = self.epoch
        self.begun = number + 1
        make = _PENDING.get(type(request), Pending)
        pending = self.pending[number] = make(number, waiter, patience, link)
        return pending

    def forget(self, pending: Pending) -> Cancel | None:
        """The caller waits no more. Returns what to tell the supervisor; None if it has ended already."""
        if self.pending.pop(pending.id, None) is None:
            return None
        return Cancel(pending.id)

    @property
    def is_idle(self) -> bool:
        """Whether nobody needs the link for what was begun on it."""
        return not (self.pending or self.leases or self.granted)

    def heartbeat(self, now: float) -> Heartbeat:
        """The renewal of all leases that have not expired, counted from now, when it is sent."""
        return Heartbeat([lease.token for lease in list(self.leases.values()) if lease.renewed(now)])

    def wait_for(self, inbox: Inbox) -> Pending | None:
        """Wait for notes as for a reply; None: there are some."""
        self._waits += 1
        pending = Pending(-self._waits)
        if not inbox.wait(pending):
            return None
        self.pending[pending.id] = pending
        return pending

    def wait_no_more(self, inbox: Inbox, pending: Pending) -> None:
        """Wait for notes no more."""
        inbox.wait_no_more(pending)
        self.pending.pop(pending.id, None)

    def feed(self, frame: bytes) -> tuple[list[Pending], list[Message]]:
        """Take in a frame. Returns the requests that it ends, or brings something for, and what to tell the
        supervisor: of leases and channels that nobody wants.

        Raises `LostLink` when the supervisor ends the dialogue or cannot be understood; `lose` then returns those too
        that the frame has ended before.
        """
        ended: list[Pending] = []
        unwanted: list[Message] = []
        try:
            messages = self._frames.decode(frame)
        except ProtocolError as error:
            raise LostLink(str(error), error) from None
        try:
            for message in messages:
                if type(message) is Rows:  # nearly all are
                    if message.columns is not None:
                        self._learn(message.shape, RowDecoder(tuple(message.columns)))
                    pending = self.pending.pop(message.id, None)
                    if pending is not None:
                        pending.rows = self._shapes.get(message.shape)
                        pending.reply = message
                        ended.append(pending)
                elif type(message) is Notification:
                    for inbox in self.ears.take(message, ended):
                        unwanted.append(Unlisten(self.begun, self.epoch, None, list(inbox.channels)))
                        self.begun += 1  # nobody waits for its answer
                else:
                    self._take_in(message, ended, unwanted)
        except LostLink:
            self.pending.update((pending.id, pending) for pending in ended)
            raise
        return ended, unwanted

    def _take_in(
        self, message: FromSupervisor | wire.Malformed, ended: list[Pending], unwanted: list[Message]
    ) -> None:
        match message:
            case Part():
                self._take_part(message)
            case Results(id=id):
                results = message.results
                shapes = tuple([self._shape_of(each) if isinstance(each, Rows) else None for each in results])
                pending = self.pending.pop(id, None)
                if pending is not None:
                    pending.shapes = shapes
                    pending.reply = message
                    ended.append(pending)
            case Failed(id=None):
                reason = exception(message)
                raise LostLink(message.message, reason if isinstance(reason, PgactorError) else None)
            case Done() | Failed() | StatusReport() | Prepared() | Opened():
                pending = self.pending.pop(message.id, None) if message.id is not None else None
                if pending is not None:
                    if self.moved and type(message) is Failed and message.code == PoolClosing.code:
                        pending.error = Unsent(message.message)
                    else:
                        pending.reply = message
                    ended.append(pending)
            case Granted():
                pending = self.pending.pop(message.id, None)
                if pending is not None:
                    self.granted.add(message.lease.fence)
                    pending.reply = message
                    ended.append(pending)
                else:
                    unwanted += self.unwanted(message)
            case LeaseEnded(lease=token):
                if lease := self.leases.pop(token.fence, None):
                    lease.ended(exception(Failed(None, message.code, message.message)))
                ended += self.ears.lease_ended(token.fence)
            case Gap():
                ended += self.ears.gap(message)
            case Settings(lease=token) | Notice(lease=token):
                if lease := self.leases.get(token.fence):
                    lease.pushed(message)
            case Chunk(id=id, data=data):
                pending = self.pending.get(id)
                if isinstance(pending, PendingCopy):
                    pending.chunks.append(data)
                    ended.append(pending)
            case Credit(id=id, bytes=more):
                pending = self.pending.get(id)
                if isinstance(pending, PendingCopy):
                    pending.credit += more
                    ended.append(pending)
            case Moved(over=over):
                if not self.moved:
                    self.moved = True
                    self.on_moved()
                    ended += self.ears.wake()
                if over:
                    self._over = True
                    raise LostLink("another supervisor has taken its place")
            case Welcome():
                self.welcome = message
                self.epoch = message.epoch
            case wire.Malformed(reason=text):
                raise LostLink(f"the supervisor sent what cannot be read: {text}")

    def _take_part(self, part: Part) -> None:
        """Rows are read as they come: meanwhile the supervisor makes the next ones."""
        if part.columns is not None:
            self._learn(part.shape, RowDecoder(tuple(part.columns)))
        pending, shape = self.pending.get(part.id), self._shapes.get(part.shape)
        if pending is None:
            return
        try:
            if shape is None:
                raise ProtocolError(f"the supervisor never told the columns of shape {part.shape}")
            rows = shape.decode(part.data)
        except ProtocolError as error:
            raise LostLink(str(error), error) from None
        if pending.parts is None:
            pending.parts = rows
        else:
            pending.parts += rows

    def hold(self, lease: HeldLease) -> None:
        """The lease has come to its owner."""
        self.granted.discard(lease.token.fence)
        self.leases[lease.token.fence] = lease

    def unwanted(self, reply: Reply) -> list[Release]:
        """What to give back of a reply that nobody takes."""
        if isinstance(reply, Granted):
            self.granted.discard(reply.lease.fence)
        return [Release(reply.lease)] if isinstance(reply, Granted) else []

    def lose(self, cause: BaseException) -> list[Pending]:
        """The link is lost. Returns the requests that it ends: their outcome is unknown."""
        self.lost = cause
        ended = list(self.pending.values())
        self.pending.clear()
        for pending in ended:
            if pending.reply is None and pending.error is None and self._over:
                copies = isinstance(pending, PendingCopy)
                pending.error = LeaseLost(f"the lease has ended: {cause}") if copies else Unsent(str(cause))
            elif pending.reply is None and pending.error is None:
                pending.error = OutcomeUnknown(
                    f"the link to the supervisor at {self.options.endpoint} was lost before it answered: {cause}; "
                    "the request may have taken effect"
                )
        for lease in list(self.leases.values()):
            lease.ended(
                LeaseLost(f"the link to the supervisor was lost, and the lease with it: {cause}; acquire again")
            )
        self.leases.clear()
        return ended + self.ears.lose()

    def _shape_of(self, rows: Rows) -> RowDecoder | None:
        """The shape of these rows, learned if it is told with them. Another one may push it out at once."""
        if rows.columns is not None:
            self._learn(rows.shape, RowDecoder(tuple(rows.columns)))
        return self._shapes.get(rows.shape)

    def _learn(self, number: int, shape: RowDecoder) -> None:
        if len(self._shapes) >= SHAPES_PER_LINK:
            del self._shapes[next(iter(self._shapes))]
        self._shapes[number] = shape
