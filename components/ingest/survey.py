"""A look at raw images before anything is run: what they are, and parameters that suit them and this machine."""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from pydantic import ValidationError
from tqdm import tqdm

from ..gan.dataset import Split, to_image
from ..gan.errors import UserError
from ..gan.models import build
from ..gan.network_options import DCGAN
from ..gan.options import Execution, ImageFormat, TrainingOptions
from ..gan.training_loop import bf16, training_loop
from ..pictures.opening import hush, is_heic, reads_heic
from ..workspace.params import Preprocess
from ..workspace.text import printable
from .class_sizes import MIN_HELD_OUT, MIN_TRAINING_IMAGES
from .decoding import used_bits
from .formats import find_raw_images
from .pair_decoding import images_of, look_at
from .pair_finding import LEAST_SHARE
from .pair_folders import Agreement, agreements
from .parts import HOLDOUT, Content, Source, read, thinned
from .summary import class_counts, summary

LOOKED_AT = 3_000
SIDES = (16, 28, 32, 48, 64, 96, 128)
CPU_SIDE, GPU_SIDE = 64, 128
MOST_OBLONG = 4
# Fewer images than this are learned by heart without augmentation.
FEW_IMAGES = 5_000
HOLDOUT_SHARE = 0.2
TRAINING_SECONDS = 600
SHEET_IMAGES = 80
# Pictures whose names are compared, to tell whether they might be pairs.
MOST_NAMES = 200_000
# Of the steps that the speed is measured by, where they are slow: the first one prepares what all need.
LEAST_STEPS, MEASURED_SECONDS = 4, 5.0


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

    @property
    def lacking(self) -> str:
        """What has to be mended before anything is run, in a sentence; empty where nothing is."""
        least = MIN_TRAINING_IMAGES + MIN_HELD_OUT
        if self.looked_at < self.images or len(self.distinct) >= least:
            return ""
        return f"{len(self.distinct)} distinct images are too few: at least {least} are needed, so add some to data/"


@dataclass(frozen=True)
class Proposal:
    """Parameters for `params.yaml`, and what they will cost here."""

    params: dict[str, dict[str, Any]]
    image: ImageFormat
    images_per_second: float
    training_seconds: float
    disk_bytes: int


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


def sample_sheet(found: Survey, proposal: Proposal) -> Image.Image:
    """Return some of the images as the networks will see them."""
    options = Preprocess(**{"bits": used_bits(found.largest), **proposal.params["preprocess"]})
    made = (next(images_of(content, options, shape)) for content, shape in found.samples)
    tiles = [to_image(image.pixels).convert("RGB") for image in made if not isinstance(image, str)]
    factor = max(1, 96 // max(options.shape))
    height, width = (side * factor for side in options.shape)
    columns = 10
    sheet = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for index, tile in enumerate(tiles):
        place = index % columns * width, index // columns * height
        sheet.paste(tile.resize((width, height), Image.Resampling.NEAREST), place)
    return sheet


def propose(found: Survey, name: str, cpus: int, gpus: int) -> Proposal:
    """Parameters for such images, with a training of about ten minutes on this machine's processors."""
    shape = shape_of(found, GPU_SIDE if gpus else CPU_SIDE)
    image = ImageFormat(
        height=shape[0], width=shape[1], channels=channels_of(found), classes=tuple(found.class_counts) or ("image",)
    )
    few = found.images < FEW_IMAGES
    train: dict[str, Any] = {
        "network": {"name": "dcgan", "generator_width": 32 if found.images < 1_000 else 64},
        "batch": 128 if gpus else 64 if found.images >= 1_000 else 32,
        "augment": ["color", "translation", "cutout"] if few else [],
        # Small data sets need a firmer hand on the discriminator.
        "r1_gamma": 5.0 if few else 1.0,
        "seed": 0,
    }
    speed = images_per_second(TrainingOptions(**train), image, cpus, gpus)
    images = int(min(max(speed * TRAINING_SECONDS, 20_000), 4_000_000) // 1_000 * 1_000)
    train |= {"images": images, "log_every": max(images // 100, 500), "checkpoint_every": max(images // 8, 4_000)}
    samples = 8_000 if found.labelled else 5_000
    factor = min(4, 256 // max(shape))
    steps: list[dict[str, Any]] = [
        {"name": "curate", "share": 0.8, "by": "confidence" if found.labelled else "discriminator"}
    ]
    if factor >= 2:
        steps += [{"name": "upscale", "factor": factor}, {"name": "sharpen", "radius": 2, "amount": 0.5}]
    params = {
        "preprocess": {"resolution": shape[0] if shape[0] == shape[1] else list(shape), "holdout": _holdout(found)},
        "train": train,
        "evaluate": {"samples": samples},
        "postprocess": {"images": 250 if found.labelled else 100, "steps": steps},
        "register": {"name": model_name(name)},
    }
    if found.heic:
        params["preprocess"]["heic"] = True
    if found.broken:
        params["preprocess"]["max_rejected"] = max_rejected(len(found.broken), found)
    pixels = shape[0] * shape[1] * image.channels
    # The data set and, while it is made, its parts; samples; some checkpoints.
    disk = 2 * found.images * pixels + samples * pixels + 200 * 2**20
    return Proposal(params, image, speed, images / speed, disk)


def max_rejected(rejected: int, found: Survey) -> float:
    """Return a limit that so many rejected ones of the images looked at do not reach."""
    share = rejected / max(1, found.looked_at + len(found.broken))
    return float(min(1.0, max(0.01, np.ceil(share * 150) / 100)))


def _holdout(found: Survey) -> float:
    """Return the share to hold out: a fifth, or of few images one by which enough stand on either side."""
    if found.held_out is not None or found.looked_at < found.images:
        return HOLDOUT_SHARE
    count = len(found.distinct)
    shares = sorted((share / 100 for share in range(5, 96)), key=lambda share: abs(share - HOLDOUT_SHARE))
    for share in shares:
        held = sum(image.is_held_out(share) for image in found.distinct)
        if held >= MIN_HELD_OUT and count - held >= MIN_TRAINING_IMAGES:
            return share
    return HOLDOUT_SHARE


def shape_of(found: Survey, largest: int) -> tuple[int, int]:
    """(height, width): what nearly all images have if it can be made, else a side that few images fall short of."""
    (most, count), *_ = found.sizes.most_common(1) or [((28, 28), 1)]
    if count >= 0.9 * found.sizes.total() and max(most) <= largest and _can_be_made(most[1], most[0]):
        return most[1], most[0]
    shorter = median(min(size) for size, times in found.sizes.items() for _ in range(times))
    side = max((s for s in SIDES if s <= min(shorter, largest)), default=SIDES[0])
    ratios = sorted(size[0] / size[1] for size, times in found.sizes.items() for _ in range(times))
    low, ratio, high = (ratios[int(q * (len(ratios) - 1))] for q in (0.05, 0.5, 0.95))
    if high / low > 1.1 or 0.8 < ratio < 1.25:
        return side, side
    # All are about equally wide: nothing has to be cut off.
    step = next(2**k for k in range(8, -1, -1) if side % 2**k == 0 and side // 2**k >= 4)
    # Of panoramas and strips the middle.
    longer = max(step, round(side * min(max(ratio, 1 / ratio), MOST_OBLONG) / step) * step)
    return (side, longer) if ratio > 1 else (longer, side)


def _can_be_made(height: int, width: int) -> bool:
    try:
        Preprocess(resolution=(height, width))
        build(DCGAN(), ImageFormat(height=height, width=width, channels=1, classes=("image",)))
    except (UserError, ValidationError):
        return False
    return True


def channels_of(found: Survey) -> int:
    grey = {"grey", "L", "1", "I;16", "I", "array of 1 channels"}
    if found.modes.keys() <= grey:
        return 1
    arrays = [int(mode.split()[2]) for mode in found.modes if mode.startswith("array of")]
    return max([3, *arrays])


def images_per_second(options: TrainingOptions, image: ImageFormat, cpus: int, gpus: int) -> float:
    """Measure a few steps of the proposed training on noise."""
    steps = 12
    options = options.model_copy(update={"images": steps * options.batch, "log_every": options.batch})
    execution = Execution(
        workers=1, threads=cpus, device="cuda" if gpus else "cpu", precision="bf16" if bf16(bool(gpus)) else "fp32"
    )
    rng = np.random.default_rng(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(cpus)
    with tempfile.TemporaryDirectory() as name:
        np.save(Path(name, "training-00000.npy"), rng.integers(0, 256, (options.batch, *image.shape), dtype=np.uint8))
        if image.paired:
            np.save(Path(name, "training-input-00000.npy"), np.load(Path(name, "training-00000.npy")))
        np.save(Path(name, "training-labels.npy"), rng.integers(0, len(image.classes), options.batch))
        times = [time.monotonic()]
        bar = tqdm(total=steps, desc="measure speed", unit="step", disable=None, leave=False)
        for _ in training_loop(options, Split(Path(name), "training", image), execution):
            times.append(time.monotonic())
            bar.update()
            if len(times) > LEAST_STEPS and times[-1] - times[0] > MEASURED_SECONDS:
                break
        bar.close()
    torch.set_num_threads(threads)
    # The fastest step: what else the machine does now, and what the first one prepares, say nothing about the training.
    return 0.9 * options.batch / min(b - a for a, b in pairwise(times)) * max(1, gpus)


def model_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.").lower() or "ganflow"
