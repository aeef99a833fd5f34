"""Send a long export in constant memory, whether the server is synchronous or not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

CHUNK_BYTES = 64 * 1024


def stream(lines: Iterator[str], *, request: HttpRequest) -> Iterator[bytes] | AsyncIterator[bytes]:
    """What a `StreamingHttpResponse` may carry in answer to `request`: the lines in chunks of some 64 kB.

    Under ASGI Django would read a plain iterator to its end before it sends the first byte. There the chunks are made
    one by one in the request's own thread, which also holds the database connection that the lines are read from.
    """
    return stream_bytes(_chunks(lines), request=request)


def stream_bytes(
    chunks: Generator[bytes, None, None], *, request: HttpRequest
) -> Generator[bytes, None, None] | AsyncIterator[bytes]:
    """The same for what comes in chunks already, none of them empty."""
    return _in_thread(chunks) if isinstance(request, ASGIRequest) else chunks


def _chunks(lines: Iterator[str]) -> Generator[bytes, None, None]:
    held: list[bytes] = []
    size = 0
    for line in lines:
        held.append(line.encode())
        size += len(held[-1])
        if size >= CHUNK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def _next(chunks: Iterator[bytes]) -> bytes:
    return next(chunks, b"")


async def _in_thread(chunks: Generator[bytes, None, None]) -> AsyncIterator[bytes]:
    try:
        while chunk := await sync_to_async(_next)(chunks):
            yield chunk
    finally:  # the reader may have gone away in the middle
        await sync_to_async(chunks.close)()
