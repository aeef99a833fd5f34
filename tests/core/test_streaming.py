"""A long export leaves in chunks, under both kinds of server, as it is made."""

import asyncio
import threading
import warnings
from collections.abc import AsyncIterator, Iterator

from django.core.handlers.asgi import ASGIRequest
from django.test import AsyncRequestFactory, RequestFactory

from guardreview.core.streaming import CHUNK_BYTES, stream


def lines(count: int, made: list[int]) -> Iterator[str]:
    for number in range(count):
        made.append(number)
        yield f"{number:>999}\n"


def test_a_synchronous_server_gets_chunks_as_they_are_made() -> None:
    made: list[int] = []
    chunks = stream(lines(200, made), request=RequestFactory().get("/"))
    assert isinstance(chunks, Iterator)
    first = next(chunks)
    assert len(made) == -(-CHUNK_BYTES // 1000)
    rest = list(chunks)
    assert b"".join([first, *rest]) == "".join(lines(200, [])).encode()
    assert all(len(chunk) < CHUNK_BYTES + 1000 for chunk in [first, *rest])


def test_an_asynchronous_server_gets_them_from_another_thread_as_they_are_made() -> None:
    made: list[int] = []
    threads = set()

    def watched() -> Iterator[str]:
        for line in lines(200, made):
            threads.add(threading.get_ident())
            yield line

    async def read() -> bytes:
        request = AsyncRequestFactory().get("/")
        assert isinstance(request, ASGIRequest)
        chunks = stream(watched(), request=request)
        assert isinstance(chunks, AsyncIterator)
        first = await anext(chunks)
        assert len(made) == -(-CHUNK_BYTES // 1000)
        return first + b"".join([chunk async for chunk in chunks])

    assert asyncio.run(read()) == "".join(lines(200, [])).encode()
    assert threads
    assert threading.get_ident() not in threads


def test_a_reader_that_goes_away_ends_the_reading_in_the_thread_that_reads() -> None:
    ended: list[int] = []

    def endless() -> Iterator[str]:
        try:
            while True:
                yield "x" * CHUNK_BYTES
        finally:
            ended.append(threading.get_ident())

    async def read_one() -> None:
        chunks = stream(endless(), request=AsyncRequestFactory().get("/"))
        assert isinstance(chunks, AsyncIterator)
        await anext(chunks)
        await chunks.aclose()  # type: ignore[attr-defined]

    asyncio.run(read_one())
    assert len(ended) == 1
    assert ended != [threading.get_ident()]


def test_nothing_is_an_empty_answer() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(stream(iter(()), request=RequestFactory().get("/"))) == []  # type: ignore[arg-type]
