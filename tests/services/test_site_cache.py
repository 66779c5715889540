"""A workspace that a stranger made, and a machine with other users: neither DVC nor git runs code of theirs."""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.gan.errors import UserError
from components.services import site_cache, versioning
from components.services.site_cache import VARIABLE
from components.workspace.workspace import Workspace
from tests.conftest import PROJECT, environment


class Marker:
    """An object whose pickle makes a file when it is read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.file),)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home directory; and the environment, which `prepare` changes, is afterwards as it was."""
    before = dict(os.environ)
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv(VARIABLE, raising=False)
    yield home
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def tracked(tmp_path: Path) -> Workspace:
    """A workspace whose data are in DVC's cache, and not yet in `data/`."""
    workspace = Workspace(tmp_path / "workspace")
    workspace.data.mkdir(parents=True)
    (workspace.data / "image").write_bytes(b"12345")
    subprocess.run(["git", "init", "-q", str(workspace.root)], check=True)
    assert "is tracked" in versioning.add(workspace)
    return workspace


def dvc(workspace: Workspace, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """As it is typed by hand."""
    command = [sys.executable, "-m", "dvc", *arguments]
    named = {key: value for key, value in environment(**variables).items() if key != VARIABLE or key in variables}
    return subprocess.run(command, cwd=workspace.root, env=named, capture_output=True, text=True, check=False)


def forget(workspace: Workspace) -> None:
    """Leave the data in the remote alone."""
    shutil.rmtree(workspace.data, ignore_errors=True)
    shutil.rmtree(workspace.root / ".dvc" / "cache", ignore_errors=True)


@pytest.fixture
def planted(tracked: Workspace, tmp_path: Path) -> Path:
    """A site cache whose every entry makes the folder `ran` when it is read, as an unguarded `dvc` shows."""
    cache, ran = tmp_path / "planted", tmp_path / "ran"
    config = tracked.root / ".dvc" / "config"
    config.write_text(f"[core]\n    remote = r\n['remote \"r\"']\n    url = {tmp_path}/remote\n")
    assert dvc(tracked, "push").returncode == 0
    forget(tracked)
    assert dvc(tracked, "pull", **{VARIABLE: str(cache)}).returncode == 0
    databases = list(cache.rglob("cache.db"))
    assert databases
    for file in databases:
        with sqlite3.connect(file) as database:
            database.execute("UPDATE Cache SET mode = 4, value = ?, filename = NULL", (pickle.dumps(Marker(ran)),))
        database.close()
    forget(tracked)
    dvc(tracked, "pull", **{VARIABLE: str(cache)})
    assert ran.is_dir()
    ran.rmdir()
    forget(tracked)
    return cache


def test_pickles_that_others_planted_are_not_read(
    tracked: Workspace,
    planted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    config, local = tracked.root / ".dvc" / "config", tracked.root / ".dvc" / "config.local"
    # By the environment, in a folder like DVC's default.
    planted.chmod(0o777)
    monkeypatch.setenv(VARIABLE, str(planted))
    with pytest.raises(UserError, match=f"{VARIABLE} names .*others can write it: unset it"):
        versioning.pull(tracked)
    monkeypatch.delenv(VARIABLE)
    # By a setting that came with the workspace, beside another one.
    planted.chmod(0o755)
    local.write_text(
        f"['remote \"kept\"']\n    url = elsewhere\n[CORE]\n    Site_Cache_Dir = {planted}\n    jobs = 1\n"
    )
    versioning.pull(tracked)
    assert (tracked.data / "image").read_bytes() == b"12345"
    assert f"named '{planted}' as DVC's site cache; it names your own now" in capfd.readouterr().err
    assert (
        str(planted) not in local.read_text() and "elsewhere" in local.read_text() and "jobs = 1" in local.read_text()
    )
    forget(tracked)
    assert dvc(tracked, "pull").returncode == 0
    # By one that is committed.
    forget(tracked)
    config.write_text(config.read_text().replace("[core]\n", f"[core]\n    site_cache_dir = {planted}\n"))
    with pytest.raises(UserError, match=r"sets core.site_cache_dir, .*delete that setting"):
        versioning.pull(tracked)
    assert not (tmp_path / "ran").exists()


def test_the_cache_is_this_users_alone_and_outside_of_workspaces(tracked: Workspace, home: Path) -> None:
    cache = site_cache.prepare(tracked.root)
    assert cache == home / ".cache" / "ganflow" / "dvc" and cache.stat().st_mode & 0o777 == 0o700
    assert f"site_cache_dir = {cache}" in (tracked.root / ".dvc" / "config.local").read_text()
    git = ["git", "-C", str(tracked.root), "status", "--porcelain", "--untracked-files=all"]
    assert "config.local" not in subprocess.run(git, capture_output=True, text=True, check=True).stdout
    # A workspace around the home directory gets one elsewhere.
    assert not site_cache.site_cache(home, {"HOME": str(home)}).is_relative_to(home)
    for open_to_others in (0o770, 0o777):
        cache.chmod(open_to_others)
        with pytest.raises(UserError, match="others can write it: delete it: rm -r"):
            site_cache.site_cache(tracked.root, {"HOME": str(home)})
    cache.chmod(0o700)
    # Where others may put another folder in its place.
    home.chmod(0o777)
    assert not site_cache.site_cache(tracked.root, {"HOME": str(home)}).is_relative_to(home)
    with pytest.raises(UserError, match=f"others can write {home}"):
        site_cache.site_cache(tracked.root, {VARIABLE: str(cache)})
    home.chmod(0o700)
    with pytest.raises(UserError, match="it is in the workspace"):
        site_cache.site_cache(tracked.root, {VARIABLE: str(tracked.data)})


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_another_users_folder_is_not_taken(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o755)
    os.chown(theirs, 65534, 65534)
    with pytest.raises(UserError, match="it is no folder of yours"):
        site_cache.site_cache(tmp_path / "workspace", {VARIABLE: str(theirs)})
    (tmp_path / "link").symlink_to(theirs)
    with pytest.raises(UserError, match="it is no folder of yours"):
        site_cache.site_cache(tmp_path / "workspace", {VARIABLE: str(tmp_path / "link")})


def test_other_settings_of_a_stranger(tracked: Workspace, tmp_path: Path) -> None:
    config, local = tracked.root / ".dvc" / "config", tracked.root / ".dvc" / "config.local"
    # What is written for `dvc` does not go where a link leads.
    other = tmp_path / "other"
    other.write_text("[core]\n    jobs = 1\n")
    local.unlink()
    local.symlink_to(other)
    site_cache.prepare(tracked.root)
    assert other.read_text() == "[core]\n    jobs = 1\n" and not local.is_symlink()
    config.write_text("['remote \"r\"']\n    url = s3://bucket\n    configpath = ../aws\n")
    with pytest.raises(UserError, match="configpath of the remote r is a file that came with the workspace"):
        versioning.pull(tracked)
    config.write_text("[core\n")
    with pytest.raises(UserError, match="cannot be read"):
        versioning.pull(tracked)


@pytest.mark.parametrize("file", ["config", "config.local"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        # An archive may bring what lies beside the workspace, too.
        ("['remote \"r\"']\n    url = s3://bucket\n    configpath = ../../beside/aws\n", "came with the workspace"),
        ("['remote \"r\"']\n    url = s3://bucket\n    credentialpath = ~nobody-of-this-name/aws\n", "came with"),
        ("['remote \"r\"']\n    url = s3://bucket\n    configpath = a\0b\n", "came with the workspace"),
        ("[core]\n    remote = %(nothing)s\n", "cannot be read"),
        ("core = 3\n", "cannot be read"),
        ("remote = 3\n", "cannot be read"),
    ],
)
def test_settings_that_are_odd_are_refused(tmp_path: Path, file: str, text: str, message: str) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").touch()
    (tmp_path / ".dvc" / file).write_text(text)
    with pytest.raises(UserError, match=message):
        site_cache.prepare(tmp_path)


def test_make_readies_a_workspace_for_dvc(tracked: Workspace, home: Path) -> None:
    (tracked.root / ".dvc" / "config.local").unlink()
    asked = subprocess.run(
        [sys.executable, "-m", "components.services.site_cache"],
        cwd=tracked.root,
        env=environment(PYTHONPATH=str(PROJECT), HOME=str(home), **{VARIABLE: ""}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout == f"{home}/.cache/ganflow/dvc\n"
    assert asked.stdout.strip() in (tracked.root / ".dvc" / "config.local").read_text()


def test_settings_of_a_repository_start_no_program(tracked: Workspace, tmp_path: Path) -> None:
    ran, program = tmp_path / "ran", tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >>{ran}\n')
    program.chmod(0o755)

    def git(*arguments: str) -> None:
        named = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", "-C", str(tracked.root), *named, *arguments], check=True, capture_output=True)

    git("add", ".")
    git("commit", "-qm", "first")
    tree = subprocess.run(
        ["git", "-C", str(tracked.root), "cat-file", "commit", "HEAD"], capture_output=True, text=True, check=True
    ).stdout
    head, _, message = tree.partition("\n\n")
    signed = f"{head}\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n AAAA\n -----END PGP SIGNATURE-----\n\n{message}"
    made = subprocess.run(
        ["git", "-C", str(tracked.root), "hash-object", "-t", "commit", "-w", "--stdin"],
        input=signed,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    git("update-ref", "HEAD", made)
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-index-change", "pre-commit"):
        shutil.copy(program, hooks / name)
    for key, value in {
        "core.fsmonitor": str(program),
        "core.hooksPath": str(hooks),
        "log.showSignature": "true",
        "gpg.program": str(program),
        "remote.origin.url": str(tmp_path),
        "remote.origin.uploadpack": str(program),
        "remote.origin.promisor": "true",
        "extensions.partialClone": "origin",
    }.items():
        git("config", key, value)
    # They do start it.
    for arguments in (["status"], ["log"], ["cat-file", "-p", "1" * 40]):
        ran.unlink(missing_ok=True)
        unguarded = {name: value for name, value in os.environ.items() if not name.startswith("GIT_CONFIG_")}
        command = ["git", "-C", str(tracked.root), *arguments]
        subprocess.run(command, env=unguarded, capture_output=True, check=False)
        assert ran.exists(), arguments
    ran.unlink()
    versioning.named_objects(tracked)
    versioning.data_version(tracked)
    for arguments in (["describe", "--always", "--dirty"], ["status"], ["log"], ["cat-file", "-p", "1" * 40]):
        versioning._git(tracked.root, *arguments)
    # DVC opens no repository of which a part is elsewhere.
    git("config", "--unset", "extensions.partialClone")
    versioning.pull(tracked)
    assert not ran.exists(), ran.read_text()
