"""What `ganflow init` prints: what was seen of the images, and what is proposed for them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from components.workspace.params import Promote
from components.workspace.text import shortened
from components.workspace.workspace import Workspace

if TYPE_CHECKING:
    from components.ingest.proposals.carrying import CarryingProposal
    from components.ingest.proposals.degrading import TaskProposal
    from components.ingest.proposals.proposal import Proposal
    from components.ingest.proposals.survey import Survey

COLOURS = {1: "grey", 3: "RGB", 4: "RGB with transparency"}


def show_survey(data: Path, found: Survey) -> None:
    """Print what was seen of the images."""
    seen = "all" if found.looked_at >= found.images else f"{found.looked_at:,} of them"
    print(f"{data}: {found.kind}, {found.images:,} images, {size_of(found.size)}; looked at {seen}")
    for line in found.understood:
        print(f"  {line}")
    widths, heights = ([size[i] for size in found.sizes] for i in (0, 1))
    if widths:
        (most, count), *_ = found.sizes.most_common(1)
        spread = f", from {min(widths)}x{min(heights)} to {max(widths)}x{max(heights)}" if len(found.sizes) > 1 else ""
        print(f"  sizes        {most[0]}x{most[1]} ({count / found.sizes.total():.0%}){spread}")
        modes = (f"{mode} {times / found.modes.total():.0%}" for mode, times in found.modes.most_common())
        print(f"  modes        {', '.join(modes)}")
    if found.animated:
        print(f"  animated     {found.animated:,}: the first frame is used; preprocess.frames: all uses every one")
    if found.largest:
        from components.ingest.decoding import used_bits

        bits = used_bits(found.largest)
        print(
            f"  16 bits      {bits} of them are used (the largest value is {found.largest:,}); preprocess.bits decides"
        )
    if {"RGBA", "LA", "PA"} & found.modes.keys():
        print("  transparency is laid on white; preprocess.channels: 4 keeps it")
    print(f"  duplicates   {found.duplicates:,}, left out by preprocessing")
    print(f"  broken       {len(found.broken):,}" + "".join(f"\n    {n}: {why}" for n, why in found.broken[:5]))


def show_proposal(workspace: Workspace, found: Survey, proposal: Proposal) -> None:
    """Print what is proposed for images from noise."""
    from components.evaluation.gate import expected_power

    image, train = proposal.image, proposal.params["train"]
    colours = COLOURS.get(image.channels, f"{image.channels} channels")
    free = shutil.disk_usage(workspace.root).free
    augment = ", ".join(train["augment"]) or "none"
    if found.agreed:
        pairs = found.agreed
        print(f"  pairs        names in {pairs.input} and {pairs.target} agree: if pictures belong together,")
        print(f"               `ganflow init --task translate` learns to make {pairs.target} of {pairs.input}, and")
        print("               preprocess.hidden_pairs: true measures restyle by them")
    print("\nProposed (in params.yaml)")
    print(f"  images       {image.width}x{image.height}, {colours}")
    print(f"  network      {train['network']['name']}, batch {train['batch']}, augmentation {augment}")
    print(f"  training     {train['images']:,} images, about {max(1, round(proposal.training_seconds / 60))} min")
    print(f"               at {proposal.images_per_second:,.0f} images/s, measured here by a few steps")
    print(f"  judged by    {'a classifier of its own labels' if found.labelled else 'EfficientNet-Lite0 features'}")
    held = round(proposal.params["preprocess"]["holdout"] * found.images)
    power = expected_power(held, Promote())
    print(f"  gate         {held:,} held-out images; a KID lower by a third would be promoted with about {power:.0%}")
    print("               at the first look (by errors of digits); more images and promote.feature_nets raise that")
    print(f"  disk         about {size_of(proposal.disk_bytes)}; {size_of(free)} are free")
    print(f"  model        {proposal.params['register']['name']}")


def show_task(workspace: Workspace, found: Survey, proposal: TaskProposal) -> None:
    """Print what is proposed for an image task on photos."""
    from components.ingest.proposals.image_tasks import GATE_PHOTOS

    image, train = proposal.image, proposal.params["train"]
    free = shutil.disk_usage(workspace.root).free
    size, photos = f"{image.width}x{image.height}", f"{proposal.photos:,} photos"
    name, *options = train["task"].values()
    print("\nProposed (in params.yaml)")
    print(f"  task         {' '.join(map(str, (name, *options)))}, by the network {train['network']['name']}")
    if proposal.pieces is None:
        print(f"  images       {photos}, each whole at {size}: what colour a thing has is told by all around it")
    else:
        print(f"  pieces       {proposal.pieces:,} of {size}, of {photos}, {size_of(proposal.pieces_bytes)}")
    if proposal.soft:
        factor = proposal.params["preprocess"].get("reduce", 1)
        done = (
            f"all are made {factor} times smaller before" if factor > 1 else "most are sharp, so none is made smaller"
        )
        print(f"  sharpness    {proposal.soft} of {proposal.measured} photos are soft at full size:")
        print(f"               {done} (preprocess.reduce)")
    if proposal.too_small:
        print(f"  too small    {proposal.too_small:,} photos, of which rejected.csv will tell")
    if found.labelled:
        print("  classes      are not used (preprocess.labels: none)")
    print(f"  training     {train['images']:,} images, about {max(1, round(proposal.training_seconds / 60))} min")
    print(f"               at {proposal.images_per_second:,.0f} images/s, measured here by a few steps")
    print("  judged by    EfficientNet-Lite0 features, beside what is made without a network")
    few = (
        "" if proposal.held >= GATE_PHOTOS else f": with fewer than {GATE_PHOTOS} the gate will abstain, so add photos"
    )
    print(f"  gate         {proposal.held:,} held-out photos{few}")
    print(f"  disk         about {size_of(proposal.disk_bytes)}; {size_of(free)} are free")
    print(f"  model        {proposal.params['register']['name']}")


def show_carrying(workspace: Workspace, found: Survey, proposal: CarryingProposal) -> None:
    """Print what is proposed for pictures of one kind made into another."""
    from components.ingest.proposals.carrying import FEW_OF_A_DOMAIN
    from components.ingest.proposals.image_tasks import GATE_PHOTOS

    image, train = proposal.image, proposal.params["train"]
    size = f"{image.width}x{image.height}, {COLOURS.get(image.channels, f'{image.channels} channels')}"
    free = shutil.disk_usage(workspace.root).free
    print("\nProposed (in params.yaml)")
    print(f"  task         {train['task']['name']}, by the network {train['network']['name']}")
    if image.paired:
        print(f"  pairs        {found.images:,} of {size}; preprocess.input: {proposal.params['preprocess']['input']}")
    else:
        names = ", ".join(shortened(name, 40) for name in image.classes[:8])
        print(f"  domains      {len(image.classes)} ({names}), {found.images:,} pictures of {size}")
    if proposal.few:
        names = ", ".join(shortened(name, 40) for name in proposal.few[:8])
        print(f"  few          {names}: fewer than {FEW_OF_A_DOMAIN} pictures, which are hardly a style")
    if not image.paired and found.agreed:
        print(f"  names        of {found.agreed.input} and {found.agreed.target} agree, as those of pairs do: if they")
        print("               are, --task translate learns more of them")
    print(f"  training     {train['images']:,} images, about {max(1, round(proposal.training_seconds / 60))} min")
    print(f"               at {proposal.images_per_second:,.0f} images/s, measured here by a few steps")
    print("  judged by    EfficientNet-Lite0 features, beside the input as it is")
    few = "" if proposal.held >= GATE_PHOTOS else f": with fewer than {GATE_PHOTOS} the gate will abstain, so add some"
    print(f"  gate         {proposal.held:,} held-out {'pairs' if image.paired else 'pictures'}{few}")
    print(f"  disk         about {size_of(proposal.disk_bytes)}; {size_of(free)} are free")
    print(f"  model        {proposal.params['register']['name']}")


def size_of(count: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
