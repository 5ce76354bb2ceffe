"""The arguments of executemany, taken as they are needed and sent in chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import msgspec
import pytest

from pgactor.client import calls, replies
from pgactor.client.chunks import CHUNK_BYTES, Chunk, aiochunked, chunked
from pgactor.messages import Done, Failed

from .test_calls import pending

ROW = 100_000
"""The size of a row, so that ten of them fill a chunk."""


def sized(count: int) -> Iterator[tuple[int, str]]:
    return ((number, "x" * ROW) for number in range(count))


def collect(args: Any) -> list[Chunk]:
    async def gather() -> list[Chunk]:
        return [chunk async for chunk in aiochunked(args)]

    return asyncio.run(gather())


def places(chunks: list[Chunk]) -> list[tuple[int, int, bool]]:
    """Where each chunk begins, how many it has, whether it is the last."""
    return [(chunk.first, len(chunk.args), chunk.last) for chunk in chunks]


def test_what_fits_into_one_chunk_is_one() -> None:
    (chunk,) = chunked(iter([(1, "a"), [2, None]]))
    assert (chunk.first, chunk.args, chunk.last) == (0, [[1, "a"], [2, None]], True)


def test_nothing_is_one_empty_chunk() -> None:
    assert places(list(chunked([]))) == [(0, 0, True)]


def test_chunks_end_when_they_are_large_enough() -> None:
    chunks = list(chunked(sized(25)))
    assert places(chunks) == [(0, 10, False), (10, 10, False), (20, 5, True)]
    assert [row[0] for chunk in chunks for row in chunk.args] == list(range(25))
    assert all(len(msgspec.msgpack.encode(chunk.args)) <= CHUNK_BYTES + 2 * ROW for chunk in chunks)


def test_a_chunk_that_is_full_at_the_end_is_the_last_one() -> None:
    assert places(list(chunked(sized(10)))) == [(0, 10, True)]


def test_a_large_element_is_a_chunk_by_itself() -> None:
    chunks = chunked([(b"x" * 3 * CHUNK_BYTES,), (1,), (b"x" * 3 * CHUNK_BYTES,), (2,)])
    assert places(list(chunks)) == [(0, 1, False), (1, 2, False), (3, 1, True)]


def test_elements_are_taken_only_as_they_are_needed() -> None:
    taken = 0

    def elements() -> Iterator[tuple[str]]:
        nonlocal taken
        while True:
            taken += 1
            yield ("x" * ROW,)

    chunks = chunked(elements())
    for number in range(1, 4):
        assert len(next(chunks).args) == 10
        assert taken == 10 * number + 1


def test_async_iterables_are_chunked_alike() -> None:
    async def elements() -> AsyncIterator[tuple[int, str]]:
        for each in sized(25):
            await asyncio.sleep(0)
            yield each

    assert places(collect(elements())) == places(collect(sized(25))) == places(list(chunked(sized(25))))


def test_an_element_of_a_later_chunk_is_named_by_its_index_in_all() -> None:
    def elements(last: Any) -> Iterator[Any]:
        yield from sized(15)
        yield last

    with pytest.raises(asyncpg.DataError, match="argument sequence element #15: expected a sequence, got int"):
        list(chunked(elements(5)))
    with pytest.raises(asyncpg.DataError, match=r"in element #15 of the argument sequence: query argument \$1"):
        list(chunked(elements((object(),))))
    with pytest.raises(asyncpg.DataError, match=r"argument \$2 in element #15 of executemany\(\) sequence") as caught:
        list(chunked(elements((1, "\ud800"))))
    assert isinstance(caught.value.__cause__, UnicodeEncodeError)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "invalid input for query argument $1 in element #7 of executemany() sequence: 'x' (an int is required)",
            "invalid input for query argument $1 in element #27 of executemany() sequence: 'x' (an int is required)",
        ),
        (
            "query argument $2 in element #0 of executemany() sequence: no such type",
            "query argument $2 in element #20 of executemany() sequence: no such type",
        ),
        ("the server expects 1 argument for this query, 2 were passed",) * 2,
        ("'query argument $2 in element #0 of executemany() sequence'",) * 2,
    ],
)
def test_an_element_that_asyncpg_names_is_counted_from_all(message: str, expected: str) -> None:
    request = calls.executemany("x", [], None, None)
    failure = Failed(1, "asyncpg", message, "DataError", {"detail": None, "hint": None})
    with pytest.raises(asyncpg.DataError) as caught:
        replies.done(pending(failure), request, 20)
    assert str(caught.value) == expected
    replies.done(pending(Done(1)), request, 20)
