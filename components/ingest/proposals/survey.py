"""A look at raw images before anything is run: what they are."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from ...gan.errors import UserError
from ...pictures.opening import hush, is_heic, reads_heic
from ...workspace.params import Preprocess
from ...workspace.text import printable
from ..class_sizes import MIN_HELD_OUT, MIN_TRAINING_IMAGES
from ..formats import find_raw_images
from ..pairs.decoding import images_of, look_at
from ..pairs.finding import LEAST_SHARE
from ..pairs.folders import Agreement, agreements
from ..parts import HOLDOUT, Content, Source, read, thinned
from ..summary import class_counts, summary

LOOKED_AT = 3_000
# Of those some are kept, to be shown.
SHEET_IMAGES = 80
# Pictures whose names are compared, to tell whether they might be pairs.
MOST_NAMES = 200_000


class Distinct(NamedTuple):
    """A distinct image: its place, by which its side is decided unless the data state it, (width, height), and class.

    `held_out`: whether the data hold it out.
    """

    place: int
    size: tuple[int, int]
    label: str = ""
    held_out: bool = False

    def is_held_out(self, share: float) -> bool:
        """Whether `preprocess.holdout` of this `share` would hold it out."""
        return self.place < int(share * 2**64)


@dataclass
class Survey:
    """What was seen in `looked_at` of `images` images; `held_out`: how many the data name so, None where none."""

    kind: str
    images: int
    size: int
    class_counts: dict[str, int]
    looked_at: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    animated: int = 0
    heic: bool = False
    duplicates: int = 0
    understood: list[str] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)
    largest: int = 0
    held_out: int | None = None
    distinct: list[Distinct] = field(default_factory=list)
    # Sides of pairs, by the names of folders, where these are not read as such.
    agreed: Agreement | None = None
    samples: list[tuple[Content, tuple[int, int] | None]] = field(default_factory=list)

    @property
    def labelled(self) -> bool:
        return len(self.class_counts) > 1

    def some(self, count: int) -> list[tuple[Content, tuple[int, int] | None]]:
        """Return `count` of the samples at most, evenly over all."""
        return self.samples[:: max(1, len(self.samples) // count)][:count]

    @property
    def lacking(self) -> str:
        """What has to be mended before anything is run, in a sentence; empty where nothing is."""
        least = MIN_TRAINING_IMAGES + MIN_HELD_OUT
        if self.looked_at < self.images or len(self.distinct) >= least:
            return ""
        return f"{len(self.distinct)} distinct images are too few: at least {least} are needed, so add some to data/"


def survey(data: Path, scratch: Path, strict: bool = False, given: str | None = None) -> Survey:
    """Count all images under `data`, and decode up to 3,000, evenly spread; `given`: see `preprocess.input`.

    Raises:
        UserError: nothing known was found, it is damaged, or `strict` allows no loss and no guess.
    """
    options = Preprocess(resolution=64, heic=reads_heic(), strict=strict, input=given)
    hush()
    source = find_raw_images(data, scratch, 10_000, options)
    found = Survey(
        source.kind,
        len(source),
        sum(int(part.sizes.sum()) for part in source.parts),
        class_counts(source),
        understood=summary(source),
        broken=list(source.rejected),
        held_out=sum(int((part.splits == HOLDOUT).sum()) for part in source.parts) or None,
    )
    if given is None and found.images <= MOST_NAMES:
        found.agreed = next((each for each in agreements(source.parts) if each.share >= LEAST_SHARE), None)
    seen: set[bytes] = set()
    every = max(1, min(found.images, LOOKED_AT) // SHEET_IMAGES)
    unreadable: Counter[str] = Counter()
    for name, label, held_out, shape, content in tqdm(
        _contents(source), desc="look at images", unit="img", disable=None, leave=False
    ):
        found.looked_at += 1
        looked, made = look_at(content, options, shape), next(images_of(content, options, shape))
        if isinstance(looked, str) or isinstance(made, str):
            found.broken.append((name, made if isinstance(made, str) else str(looked)))
            unreadable[label] += 1
            continue
        digest = hashlib.sha256(made.pixels.tobytes() + (made.given.pixels.tobytes() if made.given else b"")).digest()
        found.duplicates += digest in seen
        if digest not in seen:
            place = int.from_bytes(made.traits.identity[:8])
            found.distinct.append(Distinct(place, looked.size, label, held_out))
        found.largest = max(found.largest, made.largest)
        seen.add(digest)
        found.sizes[looked.size] += 1
        found.modes[looked.mode] += 1
        found.animated += looked.animated
        found.heic |= isinstance(content, bytes) and is_heic(content)
        if len(found.samples) < SHEET_IMAGES and found.looked_at % every == 0:
            found.samples.append((content, shape))
    if found.looked_at == found.images:
        # Only then it is known of each file whether it is an image.
        found.images -= unreadable.total()
        found.class_counts = {name: count - unreadable[name] for name, count in found.class_counts.items()}
    if not found.sizes:
        raise UserError(
            f"none of {found.looked_at:,} files under {printable(str(data))} can be read (the first: "
            f"{': '.join(found.broken[0]) if found.broken else 'there is none'}): put other images there"
        )
    return found


def _contents(source: Source) -> Iterator[tuple[str, str, bool, tuple[int, int] | None, Content]]:
    """Yield name, class, whether the data hold it out, shape and bytes of some files."""
    for part in thinned(source, LOOKED_AT):
        for row, content in enumerate(read(part)):
            label, held_out = source.classes[int(part.labels[row])], bool(part.splits[row] == HOLDOUT)
            yield part.name(row), label, held_out, part.shape, content
