"""A Parquet file as JSON lines on standard output: `python -m guardreview.learning.import_parquet FILE MAX_ROWS MAX_CHARS`.

In a process of its own with bounded memory and time: a few kilobytes of Parquet may unfold to any size, and what it says of its
own size need not be true. The last line is the one word `end`: without it the file was not read to its end.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any

MAX_MEMORY = 1 << 30
"""Of addresses, a third of which the libraries take. With 700 MB, files of 50 MB are refused that are as they should be."""
MAX_SECONDS = 120
MAX_COLUMNS = 200
BATCH = 200


def main(path: str, max_rows: int, max_chars: int) -> int:
    """0, or 1 with a line on standard error that says what is wrong with the file."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path, memory_map=False)
        if file.metadata.num_rows > max_rows:
            return _refuse(f"it has {file.metadata.num_rows:,} rows, and {max_rows:,} are taken at most")
        if len(file.schema_arrow) > MAX_COLUMNS:
            return _refuse(f"it has more than {MAX_COLUMNS} columns")
        names = [field.name for field in file.schema_arrow if _is_plain(field.type)]
        # Columns of text stay as they are packed, so that one long text that many rows name is held once.
        texts = [
            field.name for field in file.schema_arrow if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        ]
        file = pq.ParquetFile(path, memory_map=False, read_dictionary=texts)
        for batch in file.iter_batches(batch_size=BATCH, columns=names, use_threads=False):
            columns = {name: _values(batch.column(name), max_chars) for name in names}
            for values in zip(*columns.values(), strict=True):
                print(json.dumps(dict(zip(names, values, strict=True)), default=str))
    except MemoryError:
        return _refuse("it unfolds to more than is taken")
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        return _refuse(f"it is not a readable Parquet file ({type(error).__name__})")
    print("end")
    return 0


def _is_plain(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return not pa.types.is_nested(kind) and not pa.types.is_binary(kind)


def _values(column: Any, max_chars: int) -> list[Any]:
    """Texts are cut one character beyond what is taken, so that they are refused and not held."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        return list(column.to_pylist())
    known = [None if text is None else text[: max_chars + 1] for text in column.dictionary.to_pylist()]
    return [None if index is None else known[index] for index in column.indices.to_pylist()]


def _refuse(why: str) -> int:
    print(why, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
