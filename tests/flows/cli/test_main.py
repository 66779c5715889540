"""Bad input, as a user meets it: one sentence, exit code 2, nothing half-written, earlier results intact."""

from __future__ import annotations

import importlib.metadata
import os
import pty
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from components.workspace.artifacts import Dataset
from flows.cli import main
from flows.cli.commands import COMMANDS
from tests.conftest import PROJECT, environment, ganflow, refused, succeeded


def test_help_lists_every_command_under_a_subject_in_a_line() -> None:
    out = CliRunner().invoke(main.app, ["--help"], env={"COLUMNS": "80"}).output
    listed = {line.split()[0] for line in out.partition("Data:")[2].splitlines() if line.startswith("  ")}
    assert COMMANDS.keys() <= listed
    assert len(COMMANDS) > 25
    assert "..." not in out.partition("Data:")[2]
    assert "\nCommands:" not in out


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {"data"}))
def test_each_command_shows_its_options_and_an_example_or_its_exit_codes(name: str) -> None:
    out = CliRunner().invoke(main.app, [name, "--help"], env={"COLUMNS": "200"}).output
    assert f"{name} [OPTIONS]" in out
    assert f"ganflow {name}" in out.partition("--help")[2] or "Exit code" in out


def test_a_command_imports_the_files_of_no_other() -> None:
    code = (
        "import sys; from flows.cli.main import app; app(['presets'], standalone_mode=False);"
        "print(sorted(name for name in sys.modules if name.startswith('flows.cli.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert {"flows.cli.run", "flows.cli.status", "flows.cli.maintenance"}.isdisjoint(
        done.stdout.splitlines()[-1].split("'")
    )


def test_a_mistyped_command_is_answered_with_the_one_that_was_meant() -> None:
    assert "Did you mean 'evaluate'?" in CliRunner().invoke(main.app, ["evalute"]).output


def test_version() -> None:
    assert CliRunner().invoke(main.app, ["--version"]).output == f"ganflow {importlib.metadata.version('ganflow')}\n"


def test_an_unknown_parameter(make_workspace: Callable[..., Path]) -> None:
    root = make_workspace()
    assert "did you mean images?" in refused(root, "run", "--set", "train.imgaes=1")
    assert "train.batch = 1 is not allowed" in refused(root, "train", "--set", "train.batch=1")


def test_no_data(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("")
    assert "dvc pull data.dvc" in refused(tmp_path, "run")
    (tmp_path / "data").mkdir()
    assert "there is no data" in refused(tmp_path, "preprocess")


def test_no_workspace(tmp_path: Path) -> None:
    assert "--workspace" in refused(tmp_path, "run")


@pytest.mark.parametrize("command", ["status", "verify", "clean", "down", "card", "rebuild-registry"])
def test_commands_that_look_make_no_folder(tmp_path: Path, command: str) -> None:
    assert "there is no folder" in refused(tmp_path, command, "--workspace", "nowhere")
    assert not list(tmp_path.iterdir())


def test_a_workspace_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("")
    assert "is a file: name a folder" in refused(tmp_path, "run", "--workspace", "params.yaml")


def test_data_of_one_image(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("")
    for label in ("cats", "dogs"):
        (tmp_path / "data" / label).mkdir(parents=True)
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "data" / label / "one.png")
    # As a flow, whose tracebacks would be Prefect's.
    assert "distinct images" in refused(tmp_path, "run")


def test_an_empty_class(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("")
    (tmp_path / "data" / "cats").mkdir(parents=True)
    (tmp_path / "data" / "cats" / "a.png").write_bytes(b"x")
    (tmp_path / "data" / "dogs").mkdir()
    assert "folders are empty, the first: dogs" in ganflow(tmp_path, "preprocess").stdout
    assert "folders are empty, the first: dogs" in refused(tmp_path, "preprocess", "--set", "preprocess.strict=true")


def test_a_resolution_that_the_network_cannot_do(make_workspace: Callable[..., Path]) -> None:
    """Before any image is prepared."""
    root = make_workspace()
    for stage in ("preprocess", "run"):
        assert "cannot make images of 30x30" in refused(root, stage, "--set", "preprocess.resolution=30")
    assert not (root / "artifacts").exists()


def test_a_damaged_artifact(make_workspace: Callable[..., Path]) -> None:
    root = make_workspace()
    succeeded(ganflow(root, "preprocess"))
    shard = root / "artifacts" / "dataset" / "training-00000.npy"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    assert "does not have the recorded hash" in refused(root, "train")
    shard.write_bytes(b"short")
    assert "delete that folder and run" in refused(root, "run")


def test_a_stage_without_its_input(make_workspace: Callable[..., Path]) -> None:
    assert "there is no dataset" in refused(make_workspace(), "train")


@pytest.mark.parametrize("variable", ["RAY_ADDRESS", "PREFECT_API_URL", "MLFLOW_TRACKING_URI"])
def test_a_server_that_does_not_answer(make_workspace: Callable[..., Path], variable: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    scheme = {"RAY_ADDRESS": "", "PREFECT_API_URL": "http://", "MLFLOW_TRACKING_URI": "http://"}[variable]
    sentence = refused(make_workspace(), "run", **{variable: f"{scheme}127.0.0.1:{port}"})
    assert f"{variable}=" in sentence
    assert "does not answer" in sentence


def test_no_space(make_workspace: Callable[..., Path]) -> None:
    root = make_workspace()
    succeeded(ganflow(root, "preprocess"))
    before = Dataset.load(root / "artifacts" / "dataset").verified()

    def limit() -> None:
        # A file may not grow beyond this, which fails as a full disk does.
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    command = [str(Path(sys.executable).parent / "ganflow"), "preprocess", "--set", "preprocess.holdout=0.3"]
    result = subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True, preexec_fn=limit)
    assert result.returncode == 2, result.stderr
    assert "cannot write" in result.stderr
    assert "earlier results are intact" in result.stderr
    assert Dataset.load(root / "artifacts" / "dataset").verified() == before
    assert [path.name for path in (root / "artifacts").iterdir()] == ["dataset"]


def test_another_workspace_is_filled_from_the_project(tmp_path: Path) -> None:
    out = succeeded(ganflow(tmp_path, "run", "--dry-run", "--workspace", str(tmp_path / "new")))
    assert out.count("would run") == 6
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [".ganflow", "data", "params.yaml"]
    shutil.rmtree(tmp_path / "new")


def test_a_size_that_the_networks_cannot_make_is_refused_before_images_are_prepared(
    make_workspace: Callable[..., Path],
) -> None:
    root = make_workspace()
    told = refused(root, "preprocess", "--set", "preprocess.resolution=30")
    assert "dcgan cannot make images of 30x30" in told and "preprocess.resolution" in told
    assert not (root / "artifacts").exists()


@pytest.mark.parametrize("arguments", [("--help",), ("presets",), ("runs", "--n", "none"), ("compare", "1", "2")])
def test_nothing_is_coloured_on_a_terminal_either(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """So NO_COLOR has nothing to turn off, and FORCE_COLOR nothing to turn on."""
    ours, theirs = pty.openpty()
    command = [str(Path(sys.executable).parent / "ganflow"), *arguments]
    asked = environment(TERM="xterm-256color", FORCE_COLOR="1")
    process = subprocess.Popen(command, cwd=tmp_path, env=asked, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    # Reading from a terminal that nobody has open any more is an error.
    with suppress(OSError):
        while read := os.read(ours, 65536):
            shown += read
    os.close(ours)
    process.wait()
    assert shown
    assert b"\x1b[" not in shown


def test_a_prefect_server_that_does_not_start_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{number}.png")
    (tmp_path / "params.yaml").write_text("preprocess: {resolution: 16}\n")
    said = refused(tmp_path, "run", PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="0")
    assert "temporary server has not started in 0 s" in said and "run the same command again" in said
