"""DVC: versions of the data and the lock of the stages. The only file that imports it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ..gan.errors import UserError
from ..workspace.data_hashes import md5_of_files
from ..workspace.workspace import Workspace
from ..workspace.yaml_text import read_yaml
from . import site_cache
from .address import masked
from .git_environment import NO_FETCH, harmless

# DVC takes hours for more small files.
MANY_FILES = 20_000


def add(workspace: Workspace, many: int = MANY_FILES) -> str:
    """Track `data/` by `dvc add`, where the workspace lies in a git repository; one sentence on what was done.

    `many`: more files than that are left alone, because DVC is very slow on them.

    Raises:
        UserError: the workspace's settings of DVC would run code that came with it.
    """
    git = next((folder for folder in (workspace.root, *workspace.root.parents) if (folder / ".git").exists()), None)
    if git is None:
        return "data/ is not tracked, because the workspace is not in a git repository"
    files = sum(len(names) for _, _, names in os.walk(workspace.data))
    if files > many:
        return f"data/ is not tracked: DVC is slow on {files:,} files; pack them as tar shards, then `dvc add data`"
    site_cache.prepare(workspace.root)
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    try:
        inside = any((folder / ".dvc").is_dir() for folder in (workspace.root, *workspace.root.parents))
        repo = Repo(str(workspace.root)) if inside else Repo.init(str(workspace.root), subdir=workspace.root != git)
        with repo:
            repo.add(str(workspace.data))
        if not inside:
            site_cache.prepare(workspace.root)
    # DVC lets through what its libraries for git raise: a foreign owner, a locked index.
    except Exception as error:
        return f"data/ is not tracked: {masked(' '.join(str(error).split()))}; run `dvc add data`"
    return "data/ is tracked by data.dvc: commit it with params.yaml"


def pull(workspace: Workspace) -> None:
    """Get the data that `data.dvc` names from its remote, where they are not there already.

    Raises:
        UserError: the remote has them not or cannot be reached, `data/` has changes that would be lost, or
            the settings of DVC would run code that came with the workspace.
    """
    if not (workspace.root / "data.dvc").exists() or not any(
        (f / ".dvc").is_dir() for f in (workspace.root, *workspace.root.parents)
    ):
        return
    site_cache.prepare(workspace.root)
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    try:
        with Repo(str(workspace.root)) as repo:
            # DVC takes names from where the process is.
            repo.pull([str(workspace.root / "data.dvc")])
    except Exception as error:
        reason = masked(" ".join(str(error).split()))
        raise UserError(
            f"`dvc pull data.dvc` did not work: {reason}; mend that, or the remote in .dvc/config"
        ) from None


def record(workspace: Workspace, stages: Sequence[str]) -> str:
    """Write what lies in the workspace to `dvc.lock`, as if `dvc repro` had made it; one sentence on what was done.

    Called after a complete flow on the workspace's own parameters, never by a stage: `dvc repro` holds DVC's lock.

    Raises:
        UserError: DVC is busy or refuses.
    """
    if not (workspace.root / "dvc.yaml").exists() or not (workspace.root / ".dvc").is_dir():
        return "not recorded: the workspace is not under DVC"
    site_cache.prepare(workspace.root)
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    try:
        with Repo(str(workspace.root)) as repo:
            if (workspace.root / "data.dvc").exists() and repo.status([str(workspace.root / "data.dvc")]):
                return "not recorded: data/ differs from data.dvc: run `dvc add data`, then `dvc repro`"
            for stage in stages:
                repo.commit(f"{workspace.root / 'dvc.yaml'}:{stage}", force=True)
    except Exception as error:
        reason = masked(" ".join(str(error).split()))
        raise UserError(
            f"the results are complete, but DVC could not record them ({reason}): run `dvc repro`, which will"
        ) from None
    return "recorded in dvc.lock"


def remotes(workspace: Workspace) -> list[str]:
    """Folders and addresses of the remotes that the settings of DVC here name, read without it."""
    found = []
    for folder in (workspace.root, *workspace.root.parents):
        for file in (folder / ".dvc" / "config", folder / ".dvc" / "config.local"):
            settings = ConfigParser(interpolation=None, strict=False)
            with suppress(OSError, ValueError, ConfigParserError):
                settings.read(file, encoding="utf-8")
            urls = [settings[name]["url"] for name in settings.sections() if settings.has_option(name, "url")]
            # DVC takes a path from where its file of settings lies.
            found += [url if "://" in url else str(file.parent / url) for url in urls]
    return found


@contextmanager
def own_cache(workspace: Workspace, hold: bool) -> Iterator[Path | None]:
    """Folder of the objects in DVC's cache, None if there are none; with `hold`, no command of DVC runs meanwhile.

    Raises:
        UserError: other workspaces may use the cache too, or DVC is busy.
    """
    objects = workspace.root / ".dvc" / "cache" / "files" / "md5"
    if not objects.is_dir():
        yield None
        return
    site_cache.prepare(workspace.root)
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    with ExitStack() as opened:
        try:
            repo = opened.enter_context(Repo(str(workspace.root)))
            settings = repo.config["cache"]
            if (
                settings.get("dir")
                or settings.get("shared")
                or objects.resolve() != workspace.root.resolve().joinpath(".dvc", "cache", "files", "md5")
            ):
                raise UserError("DVC's cache is shared by its settings, and other workspaces may need them")
            if hold:
                opened.enter_context(repo.lock)
        except (DvcException, OSError) as error:
            raise UserError(f"DVC cannot tell ({' '.join(str(error).split())})") from None
        yield objects


def named_objects(workspace: Workspace) -> tuple[set[str], set[str]]:
    """Hashes that `*.dvc` and `dvc.lock` in the workspace name, and those in git: of all commits, logs and the index.

    Not by `Repo.used_objs`, which `dvc gc` calls: for 150 commits it takes 30 s instead of 0.15 s, gets lists that are
    missing from the remote, and does not look into reflogs and the index.

    Raises:
        UserError: git cannot be asked, or has not the whole history.
    """
    now: set[str] = set()
    for place, folders, names in os.walk(workspace.root):
        here = Path(place)
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and here / name not in (workspace.data, workspace.mlruns)
        ]
        for name in names:
            if name == "dvc.lock" or name.endswith(".dvc"):
                now |= _hashes((here / name).read_text(errors="replace"))
    if not any((folder / ".git").exists() for folder in (workspace.root, *workspace.root.parents)):
        return now, set()
    files = ("--", ":(top,glob)**/*.dvc", ":(top,glob)**/dvc.lock")
    every = ("--all", "--reflog", "--full-history", "-m", "--raw", "--no-abbrev", "--no-renames", "--format=")
    shallow = _git(workspace.root, "rev-parse", "--is-shallow-repository")
    logged = _git(workspace.root, "-c", "log.showRoot=true", "log", *every, *files)
    staged = _git(workspace.root, "ls-files", "--stage", *files)
    if shallow != "false" or logged is None or staged is None:
        raise UserError("git may name them, and cannot tell, or has not the whole history: `git fetch --unshallow`")
    blobs = {name for name in re.findall(r"\b[0-9a-f]{40,64}\b", f"{logged} {staged}") if name.strip("0")}
    contents = _git(workspace.root, "cat-file", "--batch", stdin="\n".join(sorted(blobs)))
    if contents is None or re.search(r"^[0-9a-f]+ missing$", contents, re.MULTILINE):
        raise UserError("git may name them, and has not all that its commits hold: `git fetch --refetch`")
    return now, _hashes(contents)


def _hashes(text: str) -> set[str]:
    return {*re.findall(r"\b[0-9a-f]{32}(?:\.dir)?\b", text)}


def data_version(workspace: Workspace) -> tuple[str | None, str | None]:
    """DVC's hash of the files in `data/` if it is the one in `data.dvc`, and the git commit that has this `data.dvc`.

    The commit is `unknown` where git refuses to say.

    Read without DVC, which takes seconds to import and may hold its lock at the moment.
    """
    tracked = workspace.root / "data.dvc"
    try:
        text = tracked.read_bytes()
        (out,) = read_yaml(text.decode())["outs"]
        version, size, count = str(out["md5"]), out["size"], out["nfiles"]
    except (OSError, ValueError, KeyError, TypeError):
        return None, None
    found = (Path(place, name) for place, _, names in os.walk(workspace.data) for name in names)
    try:
        files = {path.relative_to(workspace.data).as_posix(): path for path in found if path.is_file()}
    # Python's own walk ends at about a thousand folders within each other.
    except RecursionError:
        return None, None
    # Before any of them is read.
    if len(files) != count or sum(path.stat().st_size for path in files.values()) != size:
        return None, None
    hashes = md5_of_files(workspace.data, workspace.state)
    entries = [{"md5": hashes.get(name), "relpath": name} for name in sorted(files)]
    if f"{hashlib.md5(json.dumps(entries).encode()).hexdigest()}.dir" != version:
        return None, None
    held = _git(workspace.root, "show", "HEAD:./data.dvc")
    if held is None and git_refusal(workspace.root):
        return version, "unknown"
    commit = _git(workspace.root, "rev-parse", "HEAD") if held == text.decode().strip() else None
    return version, commit


def code_commit() -> str | None:
    """Return the git commit of ganflow's code, with `-dirty` if it was changed since; None if git does not track it.

    `unknown` where git refuses to say.
    """
    project = Path(__file__).parents[2]
    if git_refusal(project):
        return "unknown"
    if _git(project, "ls-files", "components/workspace/workspace.py") != "components/workspace/workspace.py":
        return None
    return _git(project, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def git_refusal(folder: Path) -> str | None:
    """Return why git says nothing of the repository around `folder`, if there is one and it does not."""
    if not any((place / ".git").exists() for place in (folder, *folder.parents)):
        return None
    try:
        asked = _asked_git(folder, "rev-parse", "--git-dir")
    except OSError:
        return "git is not installed"
    return None if asked.returncode == 0 else " ".join(asked.stderr.split())[:300] or "git gives no reason"


def _git(folder: Path, *arguments: str, stdin: str = "") -> str | None:
    try:
        asked = _asked_git(folder, *arguments, stdin=stdin)
    except OSError:
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None


def _asked_git(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    # A repository's own settings start no program, and nothing waits for a lock.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    environment = {**os.environ, "LC_ALL": "C", **harmless(), **NO_FETCH}
    return subprocess.run(command, input=stdin, capture_output=True, text=True, errors="replace", env=environment)
