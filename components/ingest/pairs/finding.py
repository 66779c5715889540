"""How pictures in pairs lie on a disk, as people have them: which side of them is the input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ...gan.errors import UserError
from ...pictures.opening import reads_heic
from ...workspace.params import Preprocess
from ...workspace.text import printable, shortened
from ..decoding import Look, look
from ..files.parquet import image_columns
from ..formats import Gathered, gathered
from ..parts import Part, Source, contents_of, thinned
from ..table_files import Table, parsed
from ..tables import Images
from .folders import SEVERAL, TOLD_BY_TABLE, Agreement, agreements
from .names import SIDES, plain
from .table import names_pictures

# Of the pictures of two sides, in pairs at least: where fewer names agree, they do so by chance.
LEAST_SHARE = 0.5
# Pictures whose sizes are looked at, and the share of them that has to be twice as wide as high.
_LOOKED_AT, _TWICE_AS_WIDE = 200, 0.9
_INPUTS = frozenset(given for given, _ in SIDES) - {"a"} | {"input_path", "lq_path", "conditioning_image_path"}


class Found(NamedTuple):
    """What `preprocess.input` is to be, and why, in a sentence."""

    input: str
    why: str


def find_pairs(data: Path, scratch: Path) -> Found:
    """Recognise how pictures lie in pairs: in columns, by a table, in folders, or as halves of each.

    Raises:
        UserError: no such layout is known, with what would be.
    """
    options = Preprocess(heic=reads_heic())
    raw = gathered(data, scratch, 10_000, options)
    parts = raw.builder.parts()
    agreed = agreements(parts)
    if found := _columns(raw) or _table(raw, parts) or _folders(agreed) or _halves(parts, options):
        return found
    if agreed:
        raise UserError(_disagreement(agreed[0]))
    folders = dict.fromkeys(folder for part in parts for path in part.paths() for folder in path.split("/")[:-1])
    listed = shortened(", ".join(map(printable, [*folders][:8])), 120) or "none"
    raise UserError(
        f"no pairs are recognised under {printable(str(data))} (its folders: {listed}): say by --input which folder, "
        "column or half (left, right) holds the inputs, or lay them in folders A and B under equal names; pictures of "
        "which no two belong together are for --task restyle"
    )


def _disagreement(agreed: Agreement) -> str:
    if agreed.unclear > agreed.pictures / 2:
        return (
            f"{agreed.unclear:,} of {agreed.pictures:,} pictures in {printable(agreed.input)} and "
            f"{printable(agreed.target)} share a name with several on the other side ({SEVERAL}): {TOLD_BY_TABLE}"
        )
    return (
        f"{agreed.pairs:,} of {agreed.pictures:,} pictures in {printable(agreed.input)} and "
        f"{printable(agreed.target)} have a partner of the same name, so they are no pairs: --task restyle learns from "
        f"such domains, and --input {printable(agreed.input)} takes the few that agree; "
        "a labels.csv with columns path and input says of other names which belong together"
    )


def _columns(raw: Gathered) -> Found | None:
    """Recognise two columns of images in a Parquet file."""
    for packed in raw.packed:
        names = image_columns(packed.path) if packed.kind == "Parquet" else []
        by_plain = {plain(name): name for name in names}
        for given, targets in SIDES:
            other = next((by_plain[target] for target in targets if target in by_plain), None)
            if given in by_plain and other is not None:
                return Found(by_plain[given], f"the columns {by_plain[given]} and {other} hold inputs and targets")
    return None


def _table(raw: Gathered, parts: Sequence[Part]) -> Found | None:
    """Recognise a table with a column of inputs."""
    images = Images(path for part in parts for path in part.paths())
    for text in raw.texts[:20]:
        table = None if text.size > raw.builder.limits.file_bytes else parsed(text.name, text.read)
        if not isinstance(table, Table):
            continue
        for place, column in enumerate(table.columns):
            known = plain(column.strip()).replace(" ", "_") in _INPUTS
            if known and names_pictures(text.name, table, place, images):
                return Found(column.strip(), f"{printable(text.name)} names inputs in its column {printable(column)}")
    return None


def _folders(agreed: Sequence[Agreement]) -> Found | None:
    if not agreed or agreed[0].share < LEAST_SHARE:
        return None
    best = agreed[0]
    return Found(best.input, f"pictures in {printable(best.input)} and {printable(best.target)} have equal names")


def _halves(parts: Sequence[Part], options: Preprocess) -> Found | None:
    """Take pictures of which nearly all are twice as wide as high for two of them side by side."""
    looks = [
        look(content, options, part.shape)
        for part in thinned(Source("", (), [*parts]), _LOOKED_AT)
        for content in contents_of(part)
        if isinstance(content, bytes)
    ]
    sizes = [each.size for each in looks if isinstance(each, Look)]
    twice = sum(width == 2 * height for width, height in sizes)
    if not sizes or twice < _TWICE_AS_WIDE * len(sizes):
        return None
    return Found("left", "pictures are twice as wide as high, so two side by side; `--input right` turns them round")
