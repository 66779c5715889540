"""Images in Parquet files, as bytes in a column."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..gan.errors import UserError
from ..workspace.text import printable, shortened
from .names import LABEL_COLUMNS
from .parts import Builder, Note, in_archive
from .unpacking import container, grown

IMAGE_COLUMNS = ("image", "img", "images", "jpg", "png", "picture", "pixel_values")
# Rows that share one value are a value each in memory.
BATCH_ROWS = 16
# What a file may hold, however small it is.
_SMALL = 2**24
_NO_LABEL = "has no label"


def columns_without_images(path: Path) -> list[str] | None:
    """Return the columns of a Parquet file that holds no image bytes; None of others, and of one that is damaged."""
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        return None if _image_columns(schema) else [*schema.names]
    # Whoever reads it says what is wrong.
    except Exception:
        return None


def read_parquet(path: Path, plain: Path, builder: Builder, archive: str) -> None:
    """List the images of a Parquet file, whose bytes are laid one after another in the file `plain`."""
    import pyarrow.parquet as pq

    with container(path, "a Parquet file"):
        table = pq.ParquetFile(path)
        image, label = _columns(table.schema_arrow)
        names = _classes(table.schema_arrow, label)
        builder.order = names or builder.order
        _rows(path, table, plain, (image, label), names, builder, archive)
        unused = [name for name in table.schema_arrow.names if name not in (image, label)]
        if unused:
            listed = shortened(", ".join(map(printable, unused)))
            builder.note_once(Note(f"not used are the columns {listed} of {printable(path.name)} and its like", False))


def _image_columns(schema: Any) -> list[str]:
    """Return the columns of image bytes: bytes, a struct with them as public hubs have it, or lists of either."""
    import pyarrow.types as types

    def holds_bytes(kind: Any) -> bool:
        if types.is_list(kind) or types.is_large_list(kind):
            return holds_bytes(kind.value_type)
        if types.is_struct(kind):
            fields = [kind.field(i) for i in range(kind.num_fields)]
            return any(field.name == "bytes" and holds_bytes(field.type) for field in fields)
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    return [column.name for column in schema if holds_bytes(column.type)]


def _columns(schema: Any) -> tuple[str, str | None]:
    """Return the columns of images and of labels."""
    images = _image_columns(schema)
    image = next((name for name in IMAGE_COLUMNS if name in images), images[0])
    return image, next((name for name in LABEL_COLUMNS if name in schema.names), None)


def _classes(schema: Any, label: str | None) -> list[str] | None:
    """Return the names of the classes, where the file's metadata tell them."""
    try:
        described = json.loads((schema.metadata or {})[b"huggingface"])
        names = described["info"]["features"][label]["names"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return None
    return [printable(str(name)) for name in names] if isinstance(names, list) else None


def _rows(
    path: Path,
    table: Any,
    plain: Path,
    columns: tuple[str, str | None],
    names: list[str] | None,
    builder: Builder,
    archive: str,
) -> None:
    """Lay the image bytes in the file `plain`, because rows of Parquet cannot be read singly."""
    limit = max(_SMALL, builder.limits.growth * path.stat().st_size)
    _check_sizes(path, table.metadata, columns, limit, builder)
    staged, offset = plain.with_suffix(".tmp"), 0
    with staged.open("wb") as file:
        for row, (value, text) in enumerate(_values(table, *columns)):
            several = value if isinstance(value, list) else [value]
            for number, one in enumerate(several):
                content, inner = (one.get("bytes"), one.get("path")) if isinstance(one, dict) else (one, None)
                place = f"#{row}" + (f"[{number}]" if len(several) > 1 else "")
                name = os.fsencode(place + (f" {inner}" if isinstance(inner, str) and inner else ""))
                known = names is None or (isinstance(text, int) and 0 <= text < len(names))
                if not content or text is None or not known:
                    why = "has no image bytes" if not content else _NO_LABEL if text is None else "unknown label"
                    builder.reject(in_archive(archive, name), why)
                    continue
                if offset + len(content) > limit:
                    raise grown(path, builder.limits)
                label = None if columns[1] is None else names[text] if names and isinstance(text, int) else str(text)
                builder.add(plain, name, len(content), offset, label=label, archive=archive)
                offset += file.write(content)
    staged.replace(plain)


def _check_sizes(path: Path, metadata: Any, columns: tuple[str, str | None], limit: int, builder: Builder) -> None:
    """Refuse what the file itself says would unfold to too much, before any of it is read."""
    size = rows = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        rows += group.num_rows
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema.partition(".")[0] in columns:
                size += column.total_uncompressed_size
    if size > limit:
        raise grown(path, builder.limits)
    if rows > builder.limits.entries:
        raise UserError(f"{printable(path.name)} has {rows:,} rows: raise preprocess.limits.entries")


def _values(table: Any, image: str, label: str | None) -> Iterator[tuple[Any, Any]]:
    """Yield image and label of each row, empty text where the table has no labels."""
    for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=[name for name in (image, label) if name]):
        labels = batch.column(label) if label else [None] * len(batch)
        for value, text in zip(batch.column(image), labels, strict=True):
            yield value.as_py(), text.as_py() if label else ""
