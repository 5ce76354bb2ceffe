"""The golden vectors of protocols/vectors, replayed with the real code in both directions."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any, Never

import asyncpg
import jsonschema
import msgspec
import pytest

from pgactor import wire
from pgactor.actors.conductor import Conductor
from pgactor.actors.peer import Peer
from pgactor.config import Settings
from pgactor.errors import BY_CODE, ProtocolError
from pgactor.messages import PROTOCOL_VERSION, Failed, Hello, Message, Rows
from pgactor.records import Record, WorkerRecord
from pgactor.rows import Column, ColumnKind, RowDecoder, RowEncoder
from pgactor.values import ExtCode, WorkerDate, WorkerDatetime, pack_argument, pack_result, unpack
from protocols import cases, forms, generate
from protocols.cases import local_offset

HERE = Path(generate.__file__).parent
CAP = 64 * 1024 * 1024

decode = msgspec.msgpack.Decoder(ext_hook=unpack).decode
encode = msgspec.msgpack.encode


def load(name: str) -> list[dict[str, Any]]:
    content = json.loads((HERE / "vectors" / f"{name}.json").read_text(encoding="utf-8"))
    assert content["protocol_version"] == PROTOCOL_VERSION
    entries: list[dict[str, Any]] = content["cases"]
    names = [entry["name"] for entry in entries]
    assert len(set(names)) == len(names)
    return entries


def vectors(name: str) -> pytest.MarkDecorator:
    entries = load(name)
    return pytest.mark.parametrize("vector", entries, ids=[entry["name"] for entry in entries])


def portrait(value: Any) -> Any:
    """All of a value that must survive: its type, its text, and those of all in it."""
    if isinstance(value, list | tuple):
        return type(value), [portrait(element) for element in value]
    if isinstance(value, asyncpg.Path):  # a polygon, too; their repr tells nothing
        return type(value), value.is_closed, portrait(value.points)
    return type(value), repr(value)


# -- messages --------------------------------------------------------------------------------------------------

DIRECTIONS: dict[str, tuple[tuple[cases.MessageCase, ...], wire.FrameDecoder[Any]]] = {
    "from_worker": (cases.FROM_WORKER, wire.worker_frames(CAP)),
    "from_supervisor": (cases.FROM_SUPERVISOR, wire.supervisor_frames(CAP)),
}
MESSAGES = [(direction, vector) for direction in DIRECTIONS for vector in load(direction)]
messages = pytest.mark.parametrize(
    ("direction", "vector"), MESSAGES, ids=[f"{direction}: {vector['name']}" for direction, vector in MESSAGES]
)


def expected(direction: str, vector: dict[str, Any]) -> list[Message]:
    (case,) = (case for case in DIRECTIONS[direction][0] if case.name == vector["name"])
    return list(case.messages)


@messages
def test_a_frame_is_read_as_its_messages(direction: str, vector: dict[str, Any]) -> None:
    read = list(DIRECTIONS[direction][1].decode(bytes.fromhex(vector["hex"])))
    assert read == expected(direction, vector)
    assert [type(message) for message in read] == [type(message) for message in expected(direction, vector)]


@messages
def test_messages_are_written_as_their_frame(direction: str, vector: dict[str, Any]) -> None:
    sent = [cases.packed(message) for message in expected(direction, vector)]
    assert wire.encode(sent).hex() == vector["hex"]
    assert wire.join([wire.encode_message(message) for message in sent]).hex() == vector["hex"]


@messages
def test_the_json_form_is_the_frame(direction: str, vector: dict[str, Any]) -> None:
    assert forms.to_form(bytes.fromhex(vector["hex"])) == vector["messages"]
    assert forms.from_form(vector["messages"]).hex() == vector["hex"]


@pytest.fixture(scope="module")
def validators() -> dict[str, jsonschema.Draft202012Validator]:
    """Of each direction's messages."""
    schemas = {
        each: json.loads((HERE / "schema" / f"{each}.json").read_text(encoding="utf-8")) for each in DIRECTIONS
    }
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    return {direction: jsonschema.Draft202012Validator(schema) for direction, schema in schemas.items()}


@messages
def test_the_json_form_obeys_the_schema(
    direction: str, vector: dict[str, Any], validators: dict[str, jsonschema.Draft202012Validator]
) -> None:
    other = "from_supervisor" if direction == "from_worker" else "from_worker"
    for message in vector["messages"]:
        validators[direction].validate(message)
        goes_both_ways = message[0] in {generate.tag_of(struct) for struct in generate.BOTH_WAYS}
        assert validators[other].is_valid(message) is goes_both_ways


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_message_has_a_vector(direction: str) -> None:
    told = {message[0] for vector in load(direction) for message in vector["messages"]}
    union = dict(generate.DIRECTIONS)[direction]
    assert told == {generate.tag_of(struct) for struct in generate.structs_of(union)}


@vectors("other_versions")
def test_a_message_of_another_version_is_read(vector: dict[str, Any]) -> None:
    (case,) = (case for case in cases.OTHER_VERSIONS if case.name == vector["name"])
    read = list(wire.worker_frames(CAP).decode(bytes.fromhex(vector["hex"])))
    assert read == [case.message]
    assert forms.to_form(wire.encode([case.message])) == vector["read_as"]
    assert forms.from_form(vector["messages"]).hex() == vector["hex"]


# -- values ----------------------------------------------------------------------------------------------------


def offset_of(text: str) -> timedelta | None:
    return time.fromisoformat(f"00:00:00{text}").utcoffset()


def value_case(vector: dict[str, Any]) -> cases.ValueCase:
    (case,) = (case for case in cases.VALUES if case.name == vector["name"])
    return case


@vectors("values")
def test_a_value_is_written_as_an_argument(vector: dict[str, Any]) -> None:
    with local_offset(vector.get("worker_offset", "+00:00")):
        assert encode(pack_argument(value_case(vector).value)).hex() == vector["argument"]["hex"]


@vectors("values")
def test_a_value_is_written_as_a_result(vector: dict[str, Any]) -> None:
    assert encode(pack_result(value_case(vector).value)).hex() == vector["result"]["hex"]


@vectors("values")
def test_a_value_is_read_from_a_result(vector: dict[str, Any]) -> None:
    assert portrait(decode(bytes.fromhex(vector["result"]["hex"]))) == portrait(value_case(vector).value)


@vectors("values")
def test_a_value_is_read_from_an_argument(vector: dict[str, Any]) -> None:
    given, value = value_case(vector).value, decode(bytes.fromhex(vector["argument"]["hex"]))
    if "worker_offset" in vector:
        assert type(value) is (WorkerDatetime if isinstance(given, datetime) else WorkerDate)
        assert repr(value) == repr(given)
        has_none = given == datetime.min
        assert value.worker_offset == (None if has_none else offset_of(vector["worker_offset"]))
    elif isinstance(given, Record):
        assert type(value) is WorkerRecord
        assert repr(value) == repr(given)
    else:
        assert portrait(value) == portrait(given)


@vectors("values")
@pytest.mark.parametrize("direction", ["argument", "result"])
def test_the_json_form_is_the_value(direction: str, vector: dict[str, Any]) -> None:
    assert forms.from_form(vector[direction]["form"]).hex() == vector[direction]["hex"]


def test_every_ext_type_has_a_vector() -> None:
    told_forms = [vector[direction]["form"] for vector in load("values") for direction in ("argument", "result")]
    told = {form["$ext"][0] for form in told_forms if isinstance(form, dict) and "$ext" in form}
    assert told == set(ExtCode)


@vectors("bad_values")
def test_a_bad_value_is_refused_wherever_it_is(vector: dict[str, Any]) -> None:
    payload = bytes.fromhex(vector["payload"])
    with pytest.raises(ValueError, match=r"unknown ext type|malformed"):
        unpack(vector["ext"], memoryview(payload))
    bad = msgspec.msgpack.Ext(vector["ext"], payload)
    frame = encode([["fetch", 7, 1, None, "select $1", [1, bad]], ["cancel", 7]])
    first, second = wire.worker_frames(CAP).decode(frame)
    assert isinstance(first, wire.Malformed)
    assert first.id == 7
    assert not isinstance(second, wire.Malformed)
    with pytest.raises(ProtocolError, match=r"unknown ext type|malformed"):
        RowDecoder((Column("c", ColumnKind.ANY, "x"),)).decode(encode([[bad]]))


# -- rows ------------------------------------------------------------------------------------------------------


@vectors("rows")
def test_rows_are_read_and_written_by_their_columns(vector: dict[str, Any]) -> None:
    (case,) = (case for case in cases.ROWS if case.name == vector["name"])
    columns = tuple(msgspec.convert(vector["columns"], list[Column]))
    assert columns == case.columns
    records = RowDecoder(columns).decode(bytes.fromhex(vector["hex"]))
    assert portrait([tuple(record) for record in records]) == portrait(case.rows)
    assert RowEncoder(columns).encode(case.rows).hex() == vector["hex"]
    assert forms.from_form(vector["rows"]).hex() == vector["hex"]


def test_every_kind_of_column_has_a_vector() -> None:
    assert {column[1] for vector in load("rows") for column in vector["columns"]} == set(ColumnKind)


# -- bad frames ------------------------------------------------------------------------------------------------


def frame_of(vector: dict[str, Any]) -> bytes:
    return b"".join(bytes.fromhex(piece) * times for piece, times in vector["frame"])


@vectors("bad_frames")
def test_a_bad_frame_is_read_as_told(vector: dict[str, Any]) -> None:
    frames = wire.worker_frames(vector["max_frame_bytes"])
    if "error" in vector:
        with pytest.raises(ProtocolError) as caught:
            frames.decode(frame_of(vector))
        assert type(caught.value) is BY_CODE[vector["error"]]
        return
    read = frames.decode(frame_of(vector))
    assert [message.id if isinstance(message, wire.Malformed) else True for message in read] == vector["read"]
    assert all(message.reason for message in read if isinstance(message, wire.Malformed))


class Link(Peer):
    """The far end of a link: what was sent to it."""

    road = "ipc"

    def __init__(self) -> None:
        super().__init__(max_frame_bytes=CAP)
        self.received: list[Any] = []

    def write(self, frame: bytes, rest: bytes = b"") -> None:
        self.received += wire.supervisor_frames(CAP).decode(frame + rest)

    def close(self, reason: str) -> None:
        self.flush()
        self.closed = True


async def no_database() -> Never:
    await asyncio.Event().wait()
    raise AssertionError


def told(reply: Any) -> list[Any]:
    assert not isinstance(reply, Rows)
    return [reply.id, reply.code if isinstance(reply, Failed) else generate.tag_of(type(reply))]


@vectors("bad_frames")
async def test_a_bad_frame_is_answered_as_told(vector: dict[str, Any]) -> None:
    settings = Settings(max_frame_bytes=max(1024, vector["max_frame_bytes"]))
    conductor = Conductor(settings, connect=no_database, epoch=cases.EPOCH)
    if vector["max_frame_bytes"] < 1024:
        conductor.dialogue._frames = wire.worker_frames(vector["max_frame_bytes"])
    link = Link()
    if vector["greeted"]:
        conductor.dialogue.frame(link, wire.encode([Hello(PROTOCOL_VERSION)]))
        link.flush()
        link.received.clear()
    conductor.dialogue.frame(link, frame_of(vector))
    link.flush()
    assert [told(reply) for reply in link.received] == vector["replies"]
    assert link.closed is vector["closes"]
    await conductor.drain(0)
