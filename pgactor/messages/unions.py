"""Which messages may come where."""

from __future__ import annotations

from ..messages import (
    Acquire,
    Batch,
    Bye,
    Cancel,
    Done,
    Execute,
    ExecuteMany,
    Failed,
    Fetch,
    FetchMany,
    Granted,
    Heartbeat,
    Hello,
    LeaseEnded,
    Part,
    Release,
    Results,
    Rows,
    Welcome,
)
from .copying import Chunk, CopyIn, CopyOut, Credit, EndOfChunks
from .listening import Gap, Listen, Notification, Unlisten
from .operating import Drain, Held, Moved, Pause, Resume, TakenOver, TakeOver
from .pool import Expire, Resize, SetConnectArgs, Status, StatusReport
from .session import (
    CloseCursor,
    CloseStatement,
    Describe,
    FetchCursor,
    MoveCursor,
    Notice,
    OpenCursor,
    Opened,
    Prepare,
    Prepared,
    Reset,
    SetCodec,
    Settings,
    Watch,
)

StatementRequest = Execute | ExecuteMany | Fetch | FetchMany | Batch
"""Requests that run SQL, on a lease or by themselves."""

LeaseNotice = CloseStatement | CloseCursor | Watch
"""Notices to a lease's session."""

FromWorker = (
    Hello
    | Execute
    | ExecuteMany
    | Fetch
    | FetchMany
    | Batch
    | Prepare
    | Describe
    | OpenCursor
    | FetchCursor
    | MoveCursor
    | CopyOut
    | CopyIn
    | Listen
    | Unlisten
    | SetCodec
    | Reset
    | Resize
    | SetConnectArgs
    | Acquire
    | Status
    | Expire
    | Heartbeat
    | Release
    | Cancel
    | CloseStatement
    | CloseCursor
    | Watch
    | Chunk
    | EndOfChunks
    | Credit
    | Bye
    | Pause
    | Resume
    | Drain
    | TakeOver
    | TakenOver
)
"""Whatever a worker may send."""

FromSupervisor = (
    Welcome
    | Done
    | Rows
    | Part
    | Prepared
    | Opened
    | Results
    | Granted
    | StatusReport
    | Failed
    | LeaseEnded
    | Notification
    | Gap
    | Notice
    | Settings
    | Chunk
    | Credit
    | Moved
    | Held
)
"""Whatever a supervisor may send."""
