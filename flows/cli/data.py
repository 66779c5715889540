"""The commands that bring data into a workspace: `ganflow init` and `ganflow data fetch`."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from components.gan.errors import NotThereError, UserError
from components.services import versioning
from components.workspace.files import disk_errors, write_whole
from components.workspace.params import Limits, Promote
from components.workspace.presets import require_task
from components.workspace.workspace import Workspace
from flows.cli.shared import JsonOption, typed

if TYPE_CHECKING:
    from components.ingest.survey import Proposal, Survey
    from components.ingest.task_proposal import TaskProposal

data_app = typer.Typer(help="List and fetch public data sets.", no_args_is_help=True)


def init(
    data: Annotated[Path, typer.Option("--data", metavar="PATH", help="folder, zip, tar or Parquet file of images")],
    folder: Annotated[
        Path, typer.Option("--workspace", metavar="DIR", help="folder for params.yaml, data/ and results")
    ] = Path(),
    link: Annotated[bool, typer.Option("--link", help="make data/ a link to PATH instead of a copy")] = False,
    task: Annotated[
        str | None,
        typer.Option(
            "--task", metavar="TASK", help="make pictures from pictures: super_resolve, inpaint, restore, colorize"
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="refuse data of which anything is lost or guessed, before anything is made")
    ] = False,
) -> None:
    """Inspect your images, propose parameters, create a workspace.

    The proposal suits the images and this machine; edit params.yaml as you like.
    """
    if task is not None:
        require_task(task)
    workspace, data = Workspace(typed(folder)), typed(data)
    if not data.exists():
        raise NotThereError(f"there is no {data}: name a folder or a file with images by --data")
    if workspace.root.is_file():
        raise UserError(f"{workspace.root} is a file: name a folder by --workspace")
    if data.is_dir() and workspace.root.resolve().is_relative_to(data.resolve()):
        raise UserError(f"{workspace.root} lies in the folder of the images, {data}: name another one by --workspace")
    for path in (workspace.params, workspace.data):
        if path.exists() and path != data and (path.is_file() or any(path.iterdir())):
            raise UserError(f"{path} is there already: name another folder by --workspace, or remove it")
    import components.ingest.survey as survey
    import components.ingest.task_proposal as for_task
    from components.ingest.names import IMAGE_ENDINGS
    from components.services.cluster import placement

    if data.is_file() and data.suffix[1:].lower() in IMAGE_ENDINGS:
        raise UserError(f"{data} is a single image: name the folder that it lies in by --data")
    sheet = workspace.root / "survey.png"
    with disk_errors(workspace.root), _whole(workspace.root, workspace.state, workspace.data, sheet):
        workspace.state.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=workspace.state) as scratch:
            found = survey.survey(data, Path(scratch), strict)
        _show_survey(data, found)
        name = workspace.root.name if data == workspace.data else data.stem
        here = placement.local_resources()
        proposal = for_task.propose_task(found, task, name, *here) if task else survey.propose(found, name, *here)
        _place(data, workspace, found, link)
        shown_images = (for_task.given_sheet if task else survey.sample_sheet)(found, proposal)
        shown_images.save(sheet)
        write_whole(workspace.params, _yaml(data, found, proposal))
    if isinstance(proposal, for_task.TaskProposal):
        _show_task(workspace, found, proposal)
    else:
        _show_proposal(workspace, found, proposal)
    lacking = found.lacking
    if isinstance(proposal, for_task.TaskProposal) and proposal.pieces is not None:
        lacking = proposal.lacking
    if lacking:
        print(f"\nBefore you run: {lacking}")
    if not found.labelled or task:
        from components.measures.features import require_feature_net

        try:
            require_feature_net(proposal.image)
        except NotThereError as error:
            print(f"\nBefore you run: {error}")
    if not link:
        print(f"Versions: {versioning.add(workspace)}")
    where = "" if workspace.root == Path.cwd() else f" --workspace {shown(workspace.root)}"
    print(f"\nLook at {shown(sheet)}, edit {shown(workspace.params)} if you like, then:\n")
    print(f"  ganflow run{where}")


@data_app.command("fetch", epilog="Example: ganflow data fetch fashion-mnist --into ~/fashion")
def fetch(
    name: Annotated[str, typer.Argument(help="see `ganflow data list`")],
    into: Annotated[Path, typer.Option("--into", metavar="WORKSPACE", help="the data goes to WORKSPACE/data")],
    source: Annotated[
        str | None, typer.Option("--from", metavar="PATH_OR_URL", help="folder or address that has the files")
    ] = None,
) -> None:
    """Fetch a public data set, check and convert it."""
    from components.ingest.public_data import fetch as get

    folder = get(name, typed(into), source)
    print(f"{name} in {shown(folder)}, licence in {shown(folder / 'LICENSE.txt')}")
    print(f"Next: ganflow init --data {shown(folder)} --workspace {shown(into)}")


@data_app.command("list")
def list_data_sets(as_json: JsonOption = False) -> None:
    """List the data sets that can be fetched, with sizes and licences."""
    from components.ingest.public_data import describe
    from components.ingest.public_data.catalogue import DATA_SETS

    if as_json:
        fields = ("name", "title", "content", "megabytes", "licence")
        found = [{name: getattr(each, name) for name in fields} for each in DATA_SETS.values()]
        print(json.dumps(found, indent=2))
        return
    print(describe())


def shown(path: Path) -> str:
    """`path` as short as a user would type it here."""
    relative = os.path.relpath(path)
    return str(path.absolute()) if relative.startswith("..") else relative


@contextmanager
def _whole(*paths: Path) -> Iterator[None]:
    """Take away what is made at these places, and the folders above them, if not all of it can be made."""
    wanted = {above for path in paths for above in (path, *path.parents)}
    new = sorted(path for path in wanted if not os.path.lexists(path))
    try:
        yield
    except BaseException:
        for path in new:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise


def _place(data: Path, workspace: Workspace, found: Survey, link: bool) -> None:
    """Make `data` the workspace's data/, by a copy or a link."""
    if data == workspace.data:
        return
    if workspace.data.exists():
        workspace.data.rmdir()
    if link:
        if data.is_dir():
            workspace.data.symlink_to(data, target_is_directory=True)
        else:
            workspace.data.mkdir()
            (workspace.data / data.name).symlink_to(data)
        return
    free = shutil.disk_usage(workspace.root).free
    if found.size > 0.9 * free:
        raise UserError(
            f"copying {_size(found.size)} to {workspace.data} leaves no room ({_size(free)} are free): use --link, "
            "which makes a link instead"
        )
    staged = workspace.root / f".data-{secrets.token_hex(8)}"
    try:
        staged.mkdir()
        if data.is_dir():
            _copy_tree(data, staged)
        else:
            shutil.copy2(data, staged)
        staged.replace(workspace.data)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _copy_tree(data: Path, target: Path) -> None:
    """Copy a folder, without what lies deeper in it than is read."""
    deepest = len(data.parts) + Limits().depth + 1

    def left_out(folder: str, names: list[str]) -> list[str]:
        return names if len(Path(folder).parts) >= deepest else []

    shutil.copytree(data, target, symlinks=True, dirs_exist_ok=True, ignore=left_out)


def _show_survey(data: Path, found: Survey) -> None:
    seen = "all" if found.looked_at >= found.images else f"{found.looked_at:,} of them"
    print(f"{data}: {found.kind}, {found.images:,} images, {_size(found.size)}; looked at {seen}")
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


def _show_proposal(workspace: Workspace, found: Survey, proposal: Proposal) -> None:
    from components.evaluation.gate import expected_power

    image, train = proposal.image, proposal.params["train"]
    colours = {1: "grey", 3: "RGB"}.get(image.channels, f"{image.channels} channels")
    free = shutil.disk_usage(workspace.root).free
    augment = ", ".join(train["augment"]) or "none"
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
    print(f"  disk         about {_size(proposal.disk_bytes)}; {_size(free)} are free")
    print(f"  model        {proposal.params['register']['name']}")


def _show_task(workspace: Workspace, found: Survey, proposal: TaskProposal) -> None:
    from components.ingest.task_proposal import GATE_PHOTOS

    image, train = proposal.image, proposal.params["train"]
    free = shutil.disk_usage(workspace.root).free
    size, photos = f"{image.width}x{image.height}", f"{proposal.photos:,} photos"
    name, *options = train["task"].values()
    print("\nProposed (in params.yaml)")
    print(f"  task         {' '.join(map(str, (name, *options)))}, by the network {train['network']['name']}")
    if proposal.pieces is None:
        print(f"  images       {photos}, each whole at {size}: what colour a thing has is told by all around it")
    else:
        print(f"  pieces       {proposal.pieces:,} of {size}, of {photos}, {_size(proposal.pieces_bytes)}")
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
    print(f"  disk         about {_size(proposal.disk_bytes)}; {_size(free)} are free")
    print(f"  model        {proposal.params['register']['name']}")


def _yaml(data: Path, found: Survey, proposal: Proposal) -> str:
    head = (
        f"# Proposed by `ganflow init` for {found.images:,} images ({found.kind}). `ganflow params` shows every key.\n"
        "# Change what you like: only the stages that it touches run again.\n"
    )
    sections: Mapping[str, Any] = proposal.params
    return head + "\n".join(
        yaml.safe_dump({name: values}, sort_keys=False, default_flow_style=None) for name, values in sections.items()
    )


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
