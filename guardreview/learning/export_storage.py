"""Where exports lie: a folder, or an object store that `fsspec` has a driver for. Read in pieces, so that downloads can go on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
from django.conf import settings

from guardreview.learning.models import Export

PIECE = 2**18
DRIVERS = ("botocore", "aiobotocore", "s3fs", "gcsfs", "adlfs", "azure")
"""Whose errors are not always an OSError."""


def content_files(export: Export) -> list[dict[str, Any]]:
    """The files of a finished export whose bytes, one after the other, are what is downloaded: name, rows, bytes, sha256."""
    in_parts = export.format in (Export.Format.JSONL, Export.Format.CSV)
    return list(export.parts if in_parts else export.parts[-1:])


def content_size(export: Export) -> int:
    """Bytes of what is downloaded."""
    return sum(file["bytes"] for file in content_files(export))


class StorageFailed(Exception):
    """The storage of exports cannot be used; the message says what is wrong, for whoever set GUARDREVIEW_EXPORTS."""


class _Hashing:
    """A file that counts and hashes what is written to it, from its beginning to its end and never anywhere else."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes = 0
        self._sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        view = memoryview(data).cast("B")
        self.bytes += view.nbytes
        self._sha256.update(view)
        self._file.write(view)
        return view.nbytes

    def tell(self) -> int:
        return self.bytes

    def seekable(self) -> bool:
        return False

    def seek(self, *place: int) -> int:
        raise OSError("written in one go")

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Whoever opened it closes it."""

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()


class Storage:
    """The files below one address, `GUARDREVIEW_EXPORTS` unless said otherwise. Raises StorageFailed from every method."""

    def __init__(self, address: str = "") -> None:
        address = address or settings.EXPORTS
        with _told(address):
            self._files, root = fsspec.core.url_to_fs(address)
        self._root = root.rstrip("/")
        self._address = address

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def writing(self, name: str) -> Iterator[_Hashing]:
        """A new file, or in place of an old one. What breaks off in the middle is overwritten by the next try."""
        path = self._path(name)
        with _told(self._address):
            folder = path.rpartition("/")[0]
            if self._is_local:
                Path(folder).mkdir(parents=True, exist_ok=True, mode=0o700)
            else:
                self._files.makedirs(folder, exist_ok=True)
            with self._files.open(path, "wb") as file:
                yield _Hashing(cast(BinaryIO, file))

    @contextmanager
    def reading(self, name: str) -> Iterator[BinaryIO]:
        with _told(self._address), self._files.open(self._path(name), "rb") as file:
            yield cast(BinaryIO, file)

    def bytes(self, names: Sequence[tuple[str, int]], start: int, end: int) -> Iterator[bytes]:
        """Bytes `start` to `end` of files, given with their sizes, as if they were one."""
        before = 0
        for name, size in names:
            first, last = max(start - before, 0), min(end - before, size)
            before += size
            if first >= last:
                continue
            with self.reading(name) as file:
                file.seek(first)
                left = last - first
                while left and (piece := file.read(min(left, PIECE))):
                    left -= len(piece)
                    yield piece
                if left:
                    raise StorageFailed(f"{name} is shorter than it was")

    def remove(self, name: str) -> None:
        with _told(self._address):
            if self._files.exists(self._path(name)):
                self._files.rm(self._path(name))

    def remove_folder(self, name: str) -> None:
        """With all that is in it, also what no part names: a worker may have been lost over it."""
        with _told(self._address):
            if self._files.exists(self._path(name)):
                self._files.rm(self._path(name), recursive=True)

    @property
    def _is_local(self) -> bool:
        return "file" in (self._files.protocol if isinstance(self._files.protocol, tuple) else (self._files.protocol,))


@contextmanager
def _told(address: str) -> Iterator[None]:
    scheme = address.partition("://")[0] if "://" in address else "file"
    try:
        yield
    except StorageFailed:
        raise
    except ImportError as error:
        raise StorageFailed(f"GUARDREVIEW_EXPORTS names {scheme}://, for which a package is missing: {error}"[:400]) from error
    except ValueError as error:
        if "rotocol" not in str(error):
            raise
        raise StorageFailed(f"GUARDREVIEW_EXPORTS names {scheme}://, which fsspec does not know") from error
    except Exception as error:
        if not isinstance(error, OSError) and not type(error).__module__.startswith(
            ("botocore", "s3fs", "gcsfs", "adlfs", "azure")
        ):
            raise
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise StorageFailed(f"The storage of exports ({scheme}) failed: {reason}") from error
