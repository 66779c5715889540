"""Whether new files can become part of the data, and as what: they join what is there and change none of its meaning.

Pictures go where they are named for, if that gives them a class as the others have one; rows of a table go into the
table of the data; an archive stays one where the data are such archives, and else its pictures go to the classes that
the data have. What cannot join waits.
"""

from __future__ import annotations

import io
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ...gan.errors import UserError
from ...workspace.params import Preprocess
from ...workspace.text import printable, shortened
from ..files.folders import Listed, listed
from ..files.kinds import FOREIGN, Kind
from ..formats import find_raw_images
from ..layout import Layout, class_in_name, read_layout
from ..names import stem
from ..pairs.folders import without_partner
from ..pairs.table import pair_tables
from ..parts import BY_CONTENT, HOLDOUT, TRAINING, Builder, Source, contents_of
from ..split_names import role_of
from ..summary import class_counts
from ..table_files import parsed
from ..tables import Images
from .table_rows import Merged, NotJoinedError, merged

_PART = 1_000
_OTHERS = "set preprocess.source: all to use several kinds"


class Piece(NamedTuple):
    """A file for `data/`: its name there, and its content or where that lies."""

    name: str
    content: bytes | Path


class Joining:
    """Decides about new files; `scratch` is a folder for what must be unpacked."""

    def __init__(self, data: Path, scratch: Path, options: Preprocess) -> None:
        self._data, self._scratch, self._options = data, scratch, options
        self._listed, self._source = Listed(), None
        if data.exists():
            self._listed = listed(data, Builder(data, _PART, options.limits, options.follow_links))
            self._source = self._understood(data, options)
        self._folders: Counter[str] = Counter()
        self._names: dict[str, list[str]] = defaultdict(list)
        for picture in self._listed.pictures:
            folder, _, name = os.fsdecode(picture.name).rpartition("/")
            self._folders[folder] += 1
            self._names[folder].append(name)
        self._told: set[str] = set()
        side = options.input if self._source is not None and not options.halves else None
        self._side = side
        pictures = Images(os.fsdecode(picture.name) for picture in self._listed.pictures)
        found = pair_tables(self._listed.texts, options.limits.file_bytes, side, pictures) if side else []
        self._pair_columns = {table.name: table.column for table in found}
        self._unpaired: dict[str, str] = {}
        self._layouts: dict[str, str | Layout] = {}

    def _understood(self, data: Path, options: Preprocess) -> Source | None:
        """Return what the data are; None where nothing is read from them, so that nothing can contradict it."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        try:
            return find_raw_images(data, self._scratch, _PART, options.model_copy(update={"strict": False}))
        except UserError:
            return None

    @property
    def _kinds(self) -> set[Kind]:
        return {packed.kind for packed in self._listed.files}

    # --- tables ---

    def rows(self, name: str, content: bytes, arriving: Iterable[str]) -> tuple[str, Merged] | None:
        """Return the name of the data's table that new rows go into, and that table with them; None where it is new.

        `arriving`: names of pictures that come with it.

        Raises:
            NotJoinedError: they cannot be added.
        """
        if self._source is None:
            return None
        tables = {text.name: text for text in self._listed.texts}
        if name not in tables:
            same = [other for other in self._source.tables if other.rpartition("/")[2] == name.rpartition("/")[2]]
            if len(same) != 1:
                used = ", ".join(map(printable, self._source.tables)) or "none"
                raise NotJoinedError(f"the data have no table of this name, to which rows could go (theirs: {used})")
            name = same[0]
        present = [path for part in self._source.parts for path in part.paths()]
        found = merged(name, tables[name].read(), content, Images([*present, *arriving]))
        self._told |= found.named
        if name in self._pair_columns:
            self._told |= _inputs(name, found.content, self._pair_columns[name], Images([*present, *arriving]))
        return name, found

    # --- pictures ---

    def expect(self, arriving: Iterable[str]) -> None:
        """Hear which pictures arrive together, of which some are partners of others."""
        if self._side is not None and not self._pair_columns and self._listed.pictures:
            present = (os.fsdecode(picture.name) for picture in self._listed.pictures)
            try:
                self._unpaired = without_partner(dict.fromkeys((*present, *arriving)), self._side)
            except UserError as error:
                self._unpaired = dict.fromkeys(arriving, shortened(str(error), 300))

    def _check_pair(self, name: str) -> None:
        """Check that a picture would be in a pair.

        Raises:
            NotJoinedError: it would not.
        """
        if self._pair_columns:
            if name not in self._told:
                listed = printable(", ".join(self._pair_columns))
                raise NotJoinedError(f"no row of {shortened(listed)} makes a pair of it")
        elif name in self._unpaired:
            raise NotJoinedError(self._unpaired[name])
        elif name.rpartition("/")[0] not in self._folders:
            raise NotJoinedError("lies in no folder of the pairs that the data have")

    def check_picture(self, name: str, beside: int = 1) -> None:
        """Check that a picture of this name, below the data, would be used; `beside` as many arrive in its folder.

        Raises:
            NotJoinedError: it would not.
        """
        if self._source is None:
            return
        if not self._listed.pictures:
            if self._options.source != "all":
                kinds = ", ".join(sorted(self._kinds))
                raise NotJoinedError(f"the data are of another kind ({kinds}): pack it so, or {_OTHERS}")
            if "/" not in name and len(self._source.classes) > 1:
                raise NotJoinedError("lies in no folder, which would tell its class")
            return
        if self._side is not None and not self._listed.files:
            self._check_pair(name)
            return
        if self._source.tables:
            if name not in self._told:
                raise NotJoinedError(f"no row of {printable(self._source.tables[0])} names it")
            return
        if self._listed.files:
            return
        folder, _, last = name.rpartition("/")
        if folder not in self._layouts:
            self._layouts[folder] = self._layout_with(folder, last, beside)
        layout = self._layouts[folder]
        if isinstance(layout, str):
            raise NotJoinedError(layout)
        if layout.by_name and class_in_name(last) is None:
            raise NotJoinedError("its name tells no class, as those of the data do")

    def _layout_with(self, folder: str, name: str, count: int) -> str | Layout:
        """Return the layout of the data with a folder of `count` more pictures, or why these would not be used."""
        options = self._options
        splits = options.splits == "auto"
        before = read_layout(self._folders, self._names.__getitem__, options.labels, splits)
        more = self._folders + Counter({folder: count})
        names = {**self._names, folder: [*self._names.get(folder, ()), name]}
        after = read_layout(more, names.__getitem__, options.labels, splits)
        moved = any(after.placed[each] != placed for each, placed in before.placed.items())
        if moved or after.by_name != before.by_name:
            return "its folder would change what the folders of the data mean"
        placed = after.placed[folder]
        if placed.why:
            return placed.why
        labelled = any(each.label is not None for each in before.placed.values())
        if labelled and placed.label is None:
            return "lies in no folder of a class, as those of the data do"
        if folder not in before.placed and placed.split == BY_CONTENT and any(map(role_of, folder.split("/"))):
            return "its folder is named as a split, and the data have none of that name"
        # The next folder joins these as well.
        self._folders, self._names[folder] = more, names[folder]
        return after

    # --- archives ---

    def pieces(self, files: Mapping[str, Path], kind: Kind) -> Iterator[Piece | str]:
        """Yield what archives or tables of images become: themselves, or their pictures; and why others wait.

        Raises:
            NotJoinedError: none can join.
        """
        allowed = self._options.source in ("all", *(["idx"] if kind.startswith("IDX") else ["archives"]))
        alike = {each for each in self._kinds if each == kind or (each.startswith("IDX") and kind.startswith("IDX"))}
        if self._source is None:
            yield from (Piece(name, file) for name, file in files.items())
        elif alike or allowed:
            self._check_beside(files)
            yield from (Piece(name, file) for name, file in files.items())
        elif self._listed.pictures:
            yield from self._pictures_of(files)
        else:
            kinds = ", ".join(sorted(self._kinds))
            raise NotJoinedError(f"the data are of another kind ({kinds}): {_OTHERS}")

    def _check_beside(self, files: Mapping[str, Path]) -> None:
        """Check that archives beside those of the data add images to classes that there are, and change no other."""
        assert self._source is not None
        trial = self._scratch / "trial"
        shutil.rmtree(trial, ignore_errors=True)
        there = {os.fsdecode(picture.name): self._data / os.fsdecode(picture.name) for picture in self._listed.pictures}
        there |= {packed.name: packed.path for packed in self._listed.files}
        there |= {text.name: self._data / text.name for text in self._listed.texts}
        for name, file in (there | {**files}).items():
            link = trial / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.resolve())
        options = self._options.model_copy(update={"follow_links": True, "strict": False})
        try:
            after = find_raw_images(trial, self._scratch, _PART, options)
        except UserError as error:
            words = str(error).replace(str(trial), "the data")
            raise NotJoinedError(f"beside the data it is refused: {shortened(words, 300)}") from None
        finally:
            shutil.rmtree(trial, ignore_errors=True)
        _check_classes(class_counts(self._source), class_counts(after))

    def _pictures_of(self, files: Mapping[str, Path]) -> Iterator[Piece | str]:
        """Yield the pictures of archives under the names that they have in the data, by their classes."""
        assert self._source is not None
        if self._source.pairs:
            raise NotJoinedError("the data are pairs of pictures in folders: unpack it into these folders")
        if self._source.tables:
            table = printable(self._source.tables[0])
            raise NotJoinedError(f"the classes of the data stand in {table}: unpack it, and add rows for its pictures")
        folder = self._scratch / "new"
        shutil.rmtree(folder, ignore_errors=True)
        for name, file in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(file.resolve())
        options = self._options.model_copy(
            update={"source": "all", "labels": "auto", "strict": False, "follow_links": True}
        )
        try:
            # A single one by itself, for its name is no class then.
            only = next(iter(files.values())) if len(files) == 1 else None
            source = find_raw_images(folder / next(iter(files)) if only else folder, self._scratch, _PART, options)
        except UserError as error:
            raise NotJoinedError(shortened(str(error).replace(str(folder), "it"), 300)) from None
        homes = _Homes(self._source)
        waiting = Counter[str]()
        yield from (f"{name}: {why}" for name, why in source.rejected)
        for part in source.parts:
            names = part.raw_names()
            for row, content in enumerate(contents_of(part)):
                label, split = source.classes[int(part.labels[row])], int(part.splits[row])
                home = homes.of(label, split)
                if isinstance(content, str):
                    waiting[content] += 1
                    continue
                if home is None:
                    waiting[f"of the class {label}, which the data have not"] += 1
                    continue
                if part.shape is not None:
                    content = _as_png(content, part.shape)
                target = f"{home}/" if home else ""
                target += _file_name(next(iter(files)), os.fsdecode(names[row]), label)
                try:
                    self.check_picture(target)
                except NotJoinedError as error:
                    waiting[str(error)] += 1
                    continue
                yield Piece(target, content)
        yield from (f"{count:,} of its pictures: {why}" for why, count in waiting.most_common())


def _inputs(name: str, content: bytes, column: int, images: Images) -> set[str]:
    """Return the pictures that a table names as inputs."""
    table, folder = parsed(name, lambda: content), name.rpartition("/")[0]
    rows = [] if isinstance(table, str) else table.rows
    return {path for row in rows for path in images.found(row[column], f"{folder}/" if folder else "")}


def _check_classes(before: Mapping[str, int], after: Mapping[str, int]) -> None:
    if len(before) == len(after) == 1:
        before, after = ({"": sum(counts.values())} for counts in (before, after))
    new = sorted(after.keys() - before.keys())
    if new:
        raise NotJoinedError(f"of classes that the data have not: {shortened(', '.join(new), 100)}")
    if any(after.get(name, 0) < count for name, count in before.items()):
        raise NotJoinedError("beside it images of the data would be read otherwise")
    if sum(after.values()) == sum(before.values()):
        raise NotJoinedError("none of its images would be used")


class _Homes:
    """In which folder of the data the pictures of each class, and split, lie."""

    def __init__(self, source: Source) -> None:
        self._labelled = len(source.classes) > 1
        counts: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
        for part in source.parts:
            for path, label, split in zip(part.paths(), part.labels.tolist(), part.splits.tolist(), strict=True):
                counts[source.classes[label], split][path.rpartition("/")[0]] += 1
        self._homes = {key: folders.most_common(1)[0][0] for key, folders in counts.items()}

    def of(self, label: str, split: int) -> str | None:
        """Return the folder for a picture of this class, of this split if there is one; None where there is none."""
        names = [label] if self._labelled else [name for name, _ in self._homes]
        for wanted in (split, TRAINING, BY_CONTENT, HOLDOUT):
            for name in names:
                if (name, wanted) in self._homes:
                    return self._homes[name, wanted]
        return None


def _file_name(archive: str, entry: str, label: str) -> str:
    """Return the name of a picture that lay in an archive: its own, or for a row the archive's with its number."""
    last = entry.rpartition("/")[2].replace("\\", "_")
    if "#" in entry or not stem(last):
        return f"{stem(archive)}-{last.lstrip('#') or label}"
    return last


def _as_png(pixels: bytes, shape: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.frombytes("L", shape[::-1], pixels).save(buffer, "PNG")
    return buffer.getvalue()


def refused(kind: Kind, why: str) -> str | None:
    """Return why a file of this kind is not taken at all."""
    if kind == "foreign":
        return f"{why}, which is not read: {FOREIGN[why]}"
    return why if kind in ("litter", "left out") or (kind == "picture" and why) else None
