"""The command's start: settings of Python that would trip it, and packages of others that are called like ours."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import ganflow
from tests.conftest import PROJECT, environment


def launched(folder: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """The command as its script starts it, in `folder`, which is not where Python looks."""
    script = folder.with_name(f"{folder.name}-bin") / "ganflow"
    script.parent.mkdir()
    script.write_text(f"import sys; sys.path.append({str(PROJECT)!r}); import ganflow; ganflow.main()")
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, cwd=folder, env=environment(**extra), capture_output=True, text=True)


def package(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise SystemExit('another project')")
    return folder


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"PYTHONOPTIMIZE": "2"}, {}),
        ({"PYTHONWARNINGS": "error"}, {}),
        ({"PYTHONWARNINGS": "default,e::UserWarning"}, {}),
        ({"PYTHONWARNINGS": "ignore:an error"}, {"PYTHONWARNINGS": "ignore:an error"}),
        ({"PYTHONWARNINGS": "ignore"}, {"PYTHONWARNINGS": "ignore"}),
        ({"PYTHONIOENCODING": "ascii:strict"}, {}),
        ({"PYTHONIOENCODING": "UTF-8"}, {"PYTHONIOENCODING": "UTF-8"}),
        # An empty entry is the current folder.
        ({"PYTHONPATH": f"{os.pathsep}/nowhere"}, {"PYTHONPATH": "/nowhere"}),
    ],
)
def test_settings_of_python(given: dict[str, str], taken: dict[str, str]) -> None:
    assert ganflow.fitting(given, "utf-8") == {"PYTHONSAFEPATH": "1", **taken}


def test_text_is_utf8() -> None:
    assert ganflow.fitting({}, "ANSI_X3.4-1968") == {"PYTHONSAFEPATH": "1", "PYTHONUTF8": "1"}


@pytest.mark.parametrize("name", ["components", "flows", "random", "pydantic"])
def test_folders_whose_modules_take_the_place_of_others_are_left_out(tmp_path: Path, name: str) -> None:
    harmless = package(tmp_path / "kept", "somebodys")
    path = os.pathsep.join([str(package(tmp_path / "left", name)), str(harmless)])
    assert ganflow.fitting({"PYTHONPATH": path}, "utf-8")["PYTHONPATH"] == str(harmless)


def test_the_command_starts_among_other_projects(tmp_path: Path) -> None:
    """In a folder with packages and modules called like ours, like Python's and like our dependencies'."""
    package(tmp_path, "components", "flows", "gan", "tests", "torch", "pydantic", "typer")
    for name in ("random", "types", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('another project')")
    odd = {"PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2", "LC_ALL": "C", "PYTHONUTF8": "0", "COLUMNS": "20"}
    odd |= {"PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii", "TERM": "dumb", "NO_COLOR": "1", "TZ": "No/Where"}
    started = launched(tmp_path, "--version", **odd)
    assert (started.returncode, started.stderr) == (0, "")
    assert started.stdout.startswith("ganflow ")


def test_another_projects_pythonpath(tmp_path: Path) -> None:
    other = package(tmp_path / "other", "components", "flows")
    started = launched(tmp_path, "--version", PYTHONPATH=str(other))
    assert (started.returncode, started.stderr) == (0, "")


def test_a_name_that_the_locale_cannot_show(tmp_path: Path) -> None:
    folder = tmp_path / "späce 日本"
    started = launched(
        tmp_path, "run", "--workspace", str(folder), "--dry-run", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"
    )
    assert started.returncode == 0, started.stderr
    assert (folder / "params.yaml").exists()


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    (gone := tmp_path / "gone").mkdir()
    code = f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); import ganflow; ganflow.main()"
    command = [sys.executable, "-c", code, "status"]
    started = subprocess.run(command, env=environment(PYTHONPATH=str(PROJECT)), capture_output=True, text=True)
    assert started.returncode == 2
    assert "is gone" in started.stderr and "Traceback" not in started.stderr


@pytest.mark.long
def test_a_wheel_has_what_the_commands_read(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*build, str(PROJECT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "from pathlib import Path; import ganflow; from components.workspace.project import PROJECT, project_file\n"
        "names = ['params.yaml', 'prefect.yaml', 'constraints.txt']\n"
        "print(PROJECT); print(all(map(Path.exists, map(project_file, names))))\n"
    )
    environ = environment(PYTHONPATH=str(tmp_path / "site"))
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert told.stdout.splitlines() == [str(tmp_path / "site"), "True"], told.stderr


def test_python_runs_it_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ganflow", "--version"]
    result = subprocess.run(
        command, cwd=tmp_path, env=environment(PYTHONPATH=str(PROJECT)), capture_output=True, text=True
    )
    assert result.returncode == 0 and result.stdout.startswith("ganflow ")
