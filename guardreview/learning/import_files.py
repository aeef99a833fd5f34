"""The rows of a labelled file, JSON lines, CSV or Parquet, one after the other and bounded, whoever wrote it."""

from __future__ import annotations

import codecs
import csv
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings

PROJECT = Path(__file__).resolve().parents[2]
KINDS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
ENCODINGS = {"utf-8-sig": "UTF-8", "utf-16": "UTF-16", "cp1252": "Windows-1252"}
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
MAX_UNFOLDED = 2
"""Characters of text for each byte that a file may have: a few kilobytes of Parquet hold any number of equal ones."""
_PIECE = 2**20


class InvalidFile(ValueError):
    """A file that is not taken; the message says why, and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class FileForm:
    """How a file is read: `kind`, and of a text its encoding and, in CSV, what stands between two cells."""

    kind: str
    encoding: str = ""
    delimiter: str = ""


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it stands in the file, counted from 1 without the header; `cells` is None if it could not be read."""

    number: int
    cells: Mapping[str, Any] | None


def form_of(path: Path, name: str) -> FileForm:
    """Guessed from the file's name and its bytes. Raises InvalidFile."""
    kind = KINDS.get(Path(name).suffix.lower(), "")
    with path.open("rb") as file:
        head = file.read(65_536)
    if not head.strip():
        raise InvalidFile("The file is empty.")
    if path.stat().st_size > settings.IMPORT_MAX_BYTES:
        raise InvalidFile(f"The file is larger than {settings.IMPORT_MAX_BYTES // 2**20} MB.")
    if head.startswith(b"PAR1"):
        return FileForm("parquet")
    if not kind or kind == "parquet":
        raise InvalidFile("Name the file .jsonl, .csv or .parquet, as what it is.")
    if head.startswith((b"PK\x03\x04", b"\x1f\x8b", b"\xd0\xcf\x11\xe0")):
        raise InvalidFile("The file is packed, or a spreadsheet. Save it as CSV, JSON lines or Parquet.")
    encoding = _encoding(path, head)
    if kind != "csv":
        return FileForm(kind, encoding)
    first = head.decode(encoding, errors="ignore").partition("\n")[0]
    return FileForm(kind, encoding, max(DELIMITERS, key=first.count))


def _encoding(path: Path, head: bytes) -> str:
    """UTF-16 says so itself; what is UTF-8 to its end is that, and all else is taken for Windows' own."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in head:
        raise InvalidFile("The file is no text: save it as UTF-8.")
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        try:
            while piece := file.read(_PIECE):
                decoder.decode(piece)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8-sig"


def rows_of(path: Path, form: FileForm) -> Iterator[RawRow]:
    """Every row. Raises InvalidFile, perhaps after some rows."""
    rows = {"jsonl": _json_lines, "csv": _csv, "parquet": _parquet}[form.kind](path, form)
    chars, most = 0, MAX_UNFOLDED * settings.IMPORT_MAX_BYTES
    for row in rows:
        if row.number > settings.IMPORT_MAX_ROWS:
            raise InvalidFile(f"The file has more than {settings.IMPORT_MAX_ROWS:,} rows.")
        chars += _chars(row.cells.values()) if row.cells else 0
        if chars > most:
            raise InvalidFile(f"The file unfolds to more than {most:,} characters of text: divide it.")
        yield row


def _chars(cells: Iterable[Any]) -> int:
    texts = (each for cell in cells for each in (cell if isinstance(cell, list) else (cell,)))
    return sum(len(text) for text in texts if isinstance(text, str))


def _max_line() -> int:
    """Of a JSON line: two texts, each character escaped, and as much again for the rest."""
    return 4 * 6 * int(settings.MAX_TEXT_CHARS)


def _json_lines(path: Path, form: FileForm) -> Iterator[RawRow]:
    try:
        with path.open(encoding=form.encoding, newline="\n") as file:
            number = 0
            while line := file.readline(_max_line()):
                if len(line) == _max_line() and not line.endswith("\n"):
                    raise InvalidFile(f"Row {number + 1} is longer than any that is taken.")
                if line.strip():
                    number += 1
                    yield RawRow(number, _object(line))
    except UnicodeError as error:
        raise _undecodable(form) from error


def _object(line: str) -> Mapping[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _csv(path: Path, form: FileForm) -> Iterator[RawRow]:
    """A cell of a spreadsheet that begins with an apostrophe before `=`, `+`, `-` or `@` begins with what follows it."""
    csv.field_size_limit(max(csv.field_size_limit(), 2 * settings.MAX_TEXT_CHARS))
    try:
        with path.open(encoding=form.encoding, newline="") as file:
            reader = csv.reader(file, delimiter=form.delimiter, strict=True)
            header = [name.strip() for name in next(reader, [])]
            if not any(header) or len(set(header)) < len(header) or len(header) > 200:
                raise InvalidFile("The first line must name the columns, each once, and 200 at most.")
            number = 0
            for cells in reader:
                if not cells:
                    continue
                number += 1
                fits = len(cells) == len(header)
                yield RawRow(number, dict(zip(header, map(_unguarded, cells), strict=True)) if fits else None)
    except UnicodeError as error:
        raise _undecodable(form) from error
    except csv.Error as error:
        raise InvalidFile(f"The CSV breaks in line {reader.line_num}: {str(error)[:80]}.") from error


def _unguarded(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and cell[1:2] in ("=", "+", "-", "@", "\t", "\r") else cell


def _undecodable(form: FileForm) -> InvalidFile:
    return InvalidFile(f"The file is not in {ENCODINGS[form.encoding]}. Save it as UTF-8, or choose another encoding.")


def _parquet(path: Path, form: FileForm) -> Iterator[RawRow]:
    limits = [str(settings.IMPORT_MAX_ROWS), str(settings.MAX_TEXT_CHARS)]
    command = [sys.executable, "-m", "guardreview.learning.import_parquet", str(path.resolve()), *limits]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            ended = False
            lines = iter(partial(child.stdout.readline, _max_line() + 1), "") if child.stdout else iter(())
            for number, line in enumerate(lines, start=1):
                if len(line) > _max_line():
                    raise InvalidFile(f"Row {number} is longer than any that is taken.")
                ended = line == "end\n"
                if not ended:
                    yield RawRow(number, _object(line))
            said = child.stderr.read().strip().splitlines() if child.stderr else []
            if not ended:
                told = said[-1] if child.wait() == 1 and said else "it takes more memory or time than is given to it"
                raise InvalidFile(f"The Parquet file is not taken: {told[:200]}.")
        finally:
            child.kill()
