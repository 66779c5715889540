"""Images in Parquet files, as bytes in a column."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...gan.errors import UserError
from ...workspace.text import printable, shortened
from ..names import LABEL_COLUMNS
from ..pairs.names import others_of, plain
from ..parts import Builder, Note, in_archive
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


class _Columns(NamedTuple):
    """Which columns of a table are read: those of images, of which one may hold the inputs of another; and labels."""

    images: tuple[str, ...]
    label: str | None

    @property
    def names(self) -> list[str]:
        return [*self.images, *([self.label] if self.label else [])]


def read_parquet(path: Path, laid: Path, builder: Builder, archive: str, given: str | None = None) -> None:
    """List the images of a Parquet file, whose bytes are laid one after another in the file `laid`.

    Where the column `given` holds the inputs of images, the images of both columns count as lying in folders that are
    called as the columns.
    """
    import pyarrow.parquet as pq

    with container(path, "a Parquet file"):
        table = pq.ParquetFile(path)
        columns = _columns(path, table.schema_arrow, given)
        names = _classes(table.schema_arrow, columns.label)
        builder.order = names or builder.order
        _rows(path, table, laid, columns, names, builder, archive)
        unused = [name for name in table.schema_arrow.names if name not in columns.names]
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


def image_columns(path: Path) -> list[str]:
    """Return the columns of image bytes of a Parquet file; none of one that is damaged."""
    import pyarrow.parquet as pq

    try:
        return _image_columns(pq.read_schema(path))
    # Whoever reads it says what is wrong.
    except Exception:
        return []


def _columns(path: Path, schema: Any, given: str | None) -> _Columns:
    """Return the columns of images and of labels.

    Raises:
        UserError: it is not told which column holds what is made of the inputs.
    """
    images = _image_columns(schema)
    label = next((name for name in LABEL_COLUMNS if name in schema.names), None)
    if given in images:
        known = [name for name in images if plain(name) in others_of(given)]
        others = known[:1] or [name for name in images if name != given]
        if len(others) != 1:
            listed = shortened(printable(", ".join(others))) or "none"
            raise UserError(
                f"preprocess.input is {given}, and {printable(path.name)} must have one other column of image bytes, "
                f"with what is made of these (it has: {listed}): drop the others"
            )
        return _Columns((others[0], given), label)
    return _Columns((next((name for name in IMAGE_COLUMNS if name in images), images[0]),), label)


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
    laid: Path,
    columns: _Columns,
    names: list[str] | None,
    builder: Builder,
    archive: str,
) -> None:
    """Lay the image bytes in the file `laid`, because rows of Parquet cannot be read singly."""
    limit = max(_SMALL, builder.limits.growth * path.stat().st_size)
    _check_sizes(path, table.metadata, columns, limit, builder)
    staged, offset = laid.with_suffix(".tmp"), 0
    with staged.open("wb") as file:
        for row, column, value, text in _values(table, columns):
            several = value if isinstance(value, list) else [value]
            for number, one in enumerate(several):
                content, inner = (one.get("bytes"), one.get("path")) if isinstance(one, dict) else (one, None)
                place = f"#{row}" + (f"[{number}]" if len(several) > 1 else "")
                if len(columns.images) > 1:
                    name = os.fsencode(f"{column.replace('/', '_')}/{place}")
                else:
                    name = os.fsencode(place + (f" {inner}" if isinstance(inner, str) and inner else ""))
                known = names is None or (isinstance(text, int) and 0 <= text < len(names))
                if not content or text is None or not known:
                    why = "has no image bytes" if not content else _NO_LABEL if text is None else "unknown label"
                    builder.reject(in_archive(archive, name), why)
                    continue
                if offset + len(content) > limit:
                    raise grown(path, builder.limits)
                label = None if columns.label is None else names[text] if names and isinstance(text, int) else str(text)
                builder.add(laid, name, len(content), offset, label=label, archive=archive)
                offset += file.write(content)
    staged.replace(laid)


def _check_sizes(path: Path, metadata: Any, columns: _Columns, limit: int, builder: Builder) -> None:
    """Refuse what the file itself says would unfold to too much, before any of it is read."""
    size = rows = 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        rows += group.num_rows
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema.partition(".")[0] in columns.names:
                size += column.total_uncompressed_size
    if size > limit:
        raise grown(path, builder.limits)
    if rows > builder.limits.entries:
        raise UserError(f"{printable(path.name)} has {rows:,} rows: raise preprocess.limits.entries")


def _values(table: Any, columns: _Columns) -> Iterator[tuple[int, str, Any, Any]]:
    """Yield row, column, image and label of all images, empty text where the table has no labels."""
    row = 0
    for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=columns.names):
        labels = batch.column(columns.label).to_pylist() if columns.label else [""] * len(batch)
        for place, text in enumerate(labels):
            for column in columns.images:
                yield row + place, column, batch.column(column)[place].as_py(), text
        row += len(batch)
