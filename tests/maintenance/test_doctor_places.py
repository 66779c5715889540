"""`ganflow doctor` on odd places: what is mended, what is not, and what to do about it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from components.maintenance.doctor import machine, places, versions
from components.services import versioning
from components.workspace.workspace import Workspace


@pytest.mark.parametrize(
    ("file", "content", "found"),
    [
        (".env", "export A=1\nPREFECT_API_URL=http://gone/api\n", True),
        (".env", "DATABASE=x\n", False),
        ("prefect.toml", "", True),
        ("pyproject.toml", "[tool.prefect]\napi.url = 'http://gone/api'\n", True),
        ("pyproject.toml", "[tool.other]\n", False),
        ("pyproject.toml", "this is no TOML", False),
    ],
)
def test_settings_of_another_project(tmp_path: Path, file: str, content: str, found: bool) -> None:
    (tmp_path / file).write_text(content)
    diagnosis = places.settings(tmp_path)
    assert (diagnosis.ok is None and file in diagnosis.words) == found
    assert diagnosis.ok is not False


def test_another_packages_components(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert places.code().ok
    described = tmp_path / "strangers_kit-1.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers-kit\nVersion: 1\n")
    (described / "top_level.txt").write_text("components\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    diagnosis = places.code()
    assert diagnosis.ok is False and "strangers-kit" in diagnosis.words and diagnosis.remedy


def test_the_shell() -> None:
    assert [each.ok for each in places.shell({}, [])] == [True]
    (mended,) = places.shell({"GANFLOW_RESTARTED": "PYTHONOPTIMIZE"}, ["TZ=x is no time zone: not used"])
    assert mended.ok and "PYTHONOPTIMIZE" in mended.words and "TZ=x" in mended.words
    wrong, _ = places.shell({"ALL_PROXY": "socks5://127.0.0.1:1"}, [])
    assert wrong.ok is False and "socks5" in wrong.words and wrong.remedy


def test_the_path(tmp_path: Path) -> None:
    assert places.path(Workspace(tmp_path / "späce #1")).ok
    wrong = places.path(Workspace(tmp_path / "a?b"))
    assert wrong.ok is False and "'?'" in wrong.words and wrong.remedy


def test_file_systems(tmp_path: Path) -> None:
    assert places.file_system(Workspace(tmp_path)).ok
    assert places.file_system(Workspace(tmp_path / "none")).ok is None
    # Nobody, root included, makes files there.
    assert places.file_system(Workspace(Path("/proc/self"))).ok is False
    assert machine.shared_memory(Path("/proc/self")).ok is False
    assert not list(tmp_path.iterdir())


def test_address_space() -> None:
    assert machine.address_space(-1).ok
    assert machine.address_space(3_000_000_000).ok is False


def test_repositories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path / "inside")
    workspace.root.mkdir()
    assert places.repository(workspace).ok is None
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert places.repository(workspace).ok
    (lock := tmp_path / ".git" / "index.lock").touch()
    assert places.repository(workspace).ok is False
    # The sentence, and nothing else, where DVC meets it.
    workspace.data.mkdir()
    (workspace.data / "image").write_bytes(b"12345")
    assert versioning.add(workspace).startswith("data/ is not tracked: ")
    lock.unlink()
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    foreign = places.repository(workspace)
    assert foreign.ok is False and "safe.directory" in foreign.remedy


def test_advisories_asked_of_the_service() -> None:
    """Of a package that no index has the service can tell nothing, which is said."""
    diagnosis = versions.online({"ganflow": "0.1.0", "no-such-package-of-anybody": "1.0+cpu"})
    assert diagnosis.ok is False
    assert "no-such-package-of-anybody" in diagnosis.words or "did not answer" in diagnosis.words
