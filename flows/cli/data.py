"""The commands that bring data into a workspace: `ganflow init` and `ganflow data fetch`."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from components.gan.errors import NotThereError, UserError
from components.services import versioning
from components.workspace.files import disk_errors, write_whole
from components.workspace.params import Limits
from components.workspace.presets import require_task
from components.workspace.workspace import Workspace
from flows.cli.proposals import show_carrying, show_proposal, show_survey, show_task, size_of
from flows.cli.shared import JsonOption, typed

if TYPE_CHECKING:
    from PIL import Image

    from components.ingest.proposals.proposal import Proposal
    from components.ingest.proposals.survey import Survey

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
            "--task",
            metavar="TASK",
            help="make pictures from pictures: super_resolve, inpaint, restore, colorize; translate (by pairs), "
            "restyle (by folders of two kinds or more)",
        ),
    ] = None,
    given: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="NAME",
            help="of pairs: the folder or column of the inputs, or the half, left or right; else it is looked for",
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
    if given is not None and task != "translate":
        raise UserError("--input names the inputs of pairs: add --task translate, which learns from pairs")
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
    from components.ingest.names import IMAGE_ENDINGS
    from components.ingest.pairs.finding import find_pairs
    from components.ingest.proposals.carrying import CarryingProposal
    from components.ingest.proposals.degrading import TaskProposal
    from components.ingest.proposals.survey import survey

    if data.is_file() and data.suffix[1:].lower() in IMAGE_ENDINGS:
        raise UserError(f"{data} is a single image: name the folder that it lies in by --data")
    sheet = workspace.root / "survey.png"
    with disk_errors(workspace.root), _whole(workspace.root, workspace.state, workspace.data, sheet):
        workspace.state.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=workspace.state) as scratch:
            if task == "translate" and given is None:
                pairs = find_pairs(data, Path(scratch))
                given = pairs.input
                print(f"preprocess.input is {given}: {pairs.why}")
            found = survey(data, Path(scratch), strict, given)
        show_survey(data, found)
        name = workspace.root.name if data == workspace.data else data.stem
        proposal, sheet_of = _proposed(found, task, given, name)
        _place(data, workspace, found, link)
        sheet_of(found, proposal).save(sheet)
        write_whole(workspace.params, _yaml(data, found, proposal))
    if isinstance(proposal, TaskProposal):
        show_task(workspace, found, proposal)
    elif isinstance(proposal, CarryingProposal):
        show_carrying(workspace, found, proposal)
    else:
        show_proposal(workspace, found, proposal)
    lacking = found.lacking
    if isinstance(proposal, TaskProposal) and proposal.pieces is not None:
        lacking = proposal.lacking
    if isinstance(proposal, CarryingProposal):
        lacking = lacking or proposal.lacking
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


def _proposed(
    found: Survey, task: str | None, given: str | None, name: str
) -> tuple[Proposal, Callable[[Survey, Proposal], Image.Image]]:
    """Return what is proposed for the images, and how the sheet is made that shows them."""
    import components.ingest.proposals.carrying as carrying
    import components.ingest.proposals.degrading as degrading
    import components.ingest.proposals.generating as generating
    from components.services.cluster import placement

    here = placement.local_resources()
    if task is None:
        return generating.propose(found, name, *here), generating.sample_sheet
    if task not in carrying.CARRYING:
        return degrading.propose_task(found, task, name, *here), degrading.given_sheet
    proposal = carrying.propose_carrying(found, task, given, name, *here)
    return proposal, generating.sample_sheet if given is None else carrying.pairs_sheet


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
            f"copying {size_of(found.size)} to {workspace.data} leaves no room ({size_of(free)} are free): use --link, "
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


def _yaml(data: Path, found: Survey, proposal: Proposal) -> str:
    head = (
        f"# Proposed by `ganflow init` for {found.images:,} images ({found.kind}). `ganflow params` shows every key.\n"
        "# Change what you like: only the stages that it touches run again.\n"
    )
    sections: Mapping[str, Any] = proposal.params
    return head + "\n".join(
        yaml.safe_dump({name: values}, sort_keys=False, default_flow_style=None) for name, values in sections.items()
    )
