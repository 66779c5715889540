"""Public data sets, fetched when the user asks for one, checked, and converted to what ganflow reads."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...gan.errors import UserError
from ...workspace.files import staging
from ...workspace.workspace import Workspace
from .catalogue import DATA_SETS
from .distribution import DataSet
from .places import UnavailableError, bring, candidates, check


def describe() -> str:
    """One line for each data set: its name, content, size and licence."""
    width = max(map(len, DATA_SETS))
    return "\n".join(
        f"{data_set.name:{width}}  {data_set.title}: {data_set.content}, {data_set.megabytes} MB. {data_set.licence}"
        for data_set in DATA_SETS.values()
    )


def fetch(name: str, into: Path, source: str | None = None) -> Path:
    """Fill the folder `data` of the workspace `into` with the data set `name`, and return that folder.

    `source` is a folder with the files, one of the files, or the http(s) or file address of either; without it the
    places are tried where the data set is known to lie.

    Raises:
        UserError: the name is unknown, `into` cannot take it, a file is not to be had or is not the right one.
    """
    data_set = DATA_SETS.get(name)
    if data_set is None:
        raise UserError(f"there is no data set `{name}`: choose one of {', '.join(DATA_SETS)}")
    _refuse_unfit(into)
    data = Workspace(into).data
    if data_set.collect is not None:
        with staging(data) as out:
            print(data_set.collect(source, out))
            _write_licence(data_set, out)
        return data
    tried = candidates(data_set, source)
    with staging(data) as out, tempfile.TemporaryDirectory(prefix=".data-", dir=into) as scratch:
        reasons = []
        for distribution, place in tried:
            try:
                files = bring(distribution, place, Path(scratch))
            except UnavailableError as error:
                reasons.append(str(error))
                continue
            for needed, path in zip(distribution.files, files, strict=True):
                check(needed, path, place)
            distribution.convert(files, out)
            break
        else:
            raise UserError(_what_to_do(data_set, into, reasons))
        _write_licence(data_set, out)
    return data


def _write_licence(data_set: DataSet, out: Path) -> None:
    text = f"{data_set.title}: {data_set.content}\n\n{data_set.licence}\n\n{data_set.origin}\n"
    (out / "LICENSE.txt").write_text(text)


def _refuse_unfit(into: Path) -> None:
    if (into / "flows" / "cli" / "main.py").exists() and (into / "data.dvc").exists():
        raise UserError(f"{into} is ganflow's clone, whose data/ is tracked: name another folder with --into")
    if into.exists() and not into.is_dir():
        raise UserError(f"{into} is a file: name a folder with --into")
    data = Workspace(into).data
    if data.is_symlink() or (data.exists() and (not data.is_dir() or any(data.iterdir()))):
        raise UserError(f"{data} is not an empty folder: remove it, or name another workspace with --into")


def _what_to_do(data_set: DataSet, into: Path, reasons: Sequence[str]) -> str:
    files = " or ".join(
        f"{', '.join(file.names[0] for file in distribution.files)} ({distribution.brought_by})"
        for distribution in data_set.distributions
    )
    return (
        f"{data_set.title} was not found ({'; '.join(reasons)}): put {files} into a folder and run "
        f"`ganflow data fetch {data_set.name} --into {into} --from FOLDER`"
    )
