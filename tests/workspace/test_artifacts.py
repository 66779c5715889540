"""Artifacts, checkpoints and the lock of a workspace: whole, found by their key, and damage is noticed."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.gan.errors import BusyError, DamagedError, NotThereError, UserError
from components.gan.options import Execution
from components.training.checkpoints import Checkpoint, CheckpointWriter, TrainingFolder
from components.workspace.artifacts import Key, Registration
from components.workspace.files import disk_errors, staging
from components.workspace.graph import stage_named
from components.workspace.workspace import Workspace
from tests.conftest import ganflow

KEY = Key(options="a", inputs="b", code="c")
FACTS = {"name": "ganflow", "version": 1, "model_key": "k", "tracking": "embedded"}


def publish(out: Path, text: str = "text", key: Key = KEY) -> Registration:
    with staging(out) as folder:
        (folder / "file.txt").write_text(text)
        Registration.describe(folder, key, **FACTS)
    return Registration.load(out)


def test_is_found_by_its_key_alone(tmp_path: Path) -> None:
    stage, workspace = stage_named("register"), Workspace(tmp_path)
    assert stage.find(workspace, KEY) is None
    made = publish(workspace.registration)
    assert stage.find(workspace, KEY) == made
    assert stage.find(workspace, Key(options="a", inputs="b", code="other")) is None


def test_content_depends_on_files_and_facts_alone(tmp_path: Path) -> None:
    one = publish(tmp_path / "one")
    assert publish(tmp_path / "two", key=Key(options="x", inputs="y", code="z")).content == one.content
    assert publish(tmp_path / "three", "other").content != one.content
    assert str(tmp_path) not in (tmp_path / "one" / "registration.json").read_text()


def test_a_failure_leaves_the_old_artifact_and_nothing_else(tmp_path: Path) -> None:
    publish(tmp_path / "out")
    with pytest.raises(ZeroDivisionError), staging(tmp_path / "out") as folder:
        (folder / "file.txt").write_text("half")
        raise ZeroDivisionError
    assert (tmp_path / "out" / "file.txt").read_text() == "text"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    publish(tmp_path / "out", "new")
    assert (tmp_path / "out" / "file.txt").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("damage", ["x", "TEXT", ""])
def test_damage_is_noticed(tmp_path: Path, damage: str) -> None:
    publish(tmp_path / "out")
    (tmp_path / "out" / "file.txt").write_text(damage)
    with pytest.raises(UserError, match=r"is damaged \(file.txt .*delete that folder"):
        Registration.load(tmp_path / "out").verified()


def test_a_damaged_artifact_is_not_taken_for_one_that_is_not_there(tmp_path: Path) -> None:
    stage, workspace = stage_named("register"), Workspace(tmp_path)
    with pytest.raises(NotThereError, match="there is no registration"):
        stage.load(workspace)
    publish(workspace.registration)
    (workspace.registration / "file.txt").unlink()
    with pytest.raises(DamagedError, match=r"file\.txt is missing"):
        stage.find(workspace, KEY)


def test_a_damaged_description_is_noticed(tmp_path: Path) -> None:
    publish(tmp_path / "out")
    path = tmp_path / "out" / "registration.json"
    path.write_text(path.read_text().replace('"version"', '"versoin"'))
    with pytest.raises(UserError, match="is damaged"):
        Registration.load(tmp_path / "out")


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no space left.*earlier results are intact"), disk_errors(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


# --- the folder of a training ---


def checkpoint(images: int, score: float, before: list[dict[str, float]]) -> Checkpoint:
    import torch

    from components.gan.training_loop import State

    history = [*before, {"images": images, "generator_loss": 1.0, "score": score}]
    state = State({"ema/weight": torch.full((2, 2), float(images))}, images, images // 64)
    return Checkpoint(state, history, Execution(workers=1, threads=1, device="cpu", precision="fp32"))


def test_the_best_and_the_newest_two_checkpoints_are_kept(tmp_path: Path) -> None:
    run = TrainingFolder(tmp_path)
    history: list[dict[str, float]] = []
    for images, score in ((64, 9.0), (128, 3.0), (160, 7.0), (192, 5.0), (256, 4.0)):
        saved = checkpoint(images, score, history)
        history = saved.history
        run.save(saved)
    kept = ["000000000128", "000000000192", "000000000256"]
    assert sorted(path.name for path in run.checkpoints.iterdir()) == kept
    assert run.best().state.images == 128
    newest = run.newest()
    assert newest is not None
    assert newest.state.images == 256
    assert newest.history == history
    assert newest.state.tensors["ema/weight"].tolist() == [[256, 256], [256, 256]]


def test_a_damaged_checkpoint_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = TrainingFolder(tmp_path)
    first = checkpoint(64, 2.0, [])
    run.save(first)
    run.save(checkpoint(128, 3.0, first.history))
    data = run.checkpoints / "000000000128" / "state.safetensors"
    data.write_bytes(data.read_bytes()[:-1] + b"x")
    newest = run.newest()
    assert newest is not None
    assert newest.state.images == 64
    assert "checkpoint 000000000128 is damaged" in capsys.readouterr().err


@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_of_any_file_is_noticed(tmp_path: Path, data: st.DataObject) -> None:
    """Bytes flipped, cut off or added in a checkpoint, or in an artifact and its description."""
    run = TrainingFolder(tmp_path / "run")
    if not tmp_path.joinpath("out").exists():
        publish(tmp_path / "out")
        run.save(checkpoint(64, 2.0, []))
    files = [file for file in sorted(tmp_path.rglob("*")) if file.is_file()]
    file = data.draw(st.sampled_from(files))
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytes([whole[at] ^ data.draw(st.integers(1, 255))])
    damaged = data.draw(st.sampled_from([whole[:at] + flipped + whole[at + 1 :], whole[:at], whole + flipped]))
    file.write_bytes(damaged)
    try:
        if "run" in file.parts[len(tmp_path.parts)]:
            assert [folder.name for folder, _ in run.damaged()] == ["000000000064"]
            assert run.newest() is None
        else:
            with pytest.raises(UserError, match="is damaged"):
                Registration.load(tmp_path / "out").verified()
    finally:
        file.write_bytes(whole)


def test_a_checkpoint_is_written_beside_the_training(tmp_path: Path) -> None:
    run, published = TrainingFolder(tmp_path), []
    with CheckpointWriter(run, lambda: published.append(len(list(run.checkpoints.iterdir())))) as writer:
        first = checkpoint(64, 2.0, [])
        writer.save(first)
        writer.save(checkpoint(128, 3.0, first.history))
        writer.progressed()
    assert run.newest() is not None
    assert published[:2] == [1, 2]


def test_a_checkpoint_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to("/proc/nowhere")
    with (
        pytest.raises(OSError, match="checkpoints"),
        CheckpointWriter(TrainingFolder(tmp_path / "run"), lambda: None) as writer,
    ):
        writer.save(checkpoint(64, 2.0, []))


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "artifacts" / ".model-killed").mkdir(parents=True)
    with Workspace(tmp_path).exclusive():
        assert not list((tmp_path / "artifacts").iterdir())
    run = TrainingFolder(tmp_path / "run")
    (run.checkpoints / "000000000064.tmp").mkdir(parents=True)
    run.start_progress([])
    assert not list(run.checkpoints.iterdir())


# --- one process at a time ---

HOLD = """
import sys
from pathlib import Path
from components.workspace.workspace import Workspace
Workspace(Path(sys.argv[1])).exclusive()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_workspace_is_held_by_one_process_until_it_dies(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(BusyError, match=rf"in use by process {holder.pid} on .* since 20.*--workspace"):
        workspace.exclusive()
    (tmp_path / "params.yaml").write_text("")
    out = ganflow(tmp_path, "preprocess")
    assert (out.returncode, len(out.stderr.splitlines())) == (3, 1), out.stderr
    holder.kill()
    holder.wait()
    with workspace.exclusive(), workspace.exclusive():
        pass


def test_progress_is_read_by_whole_lines_also_after_a_resume(tmp_path: Path) -> None:
    run = TrainingFolder(tmp_path)
    assert run.read_progress() == ([], (0, 0))
    run.start_progress([])
    run.append_progress({"images": 64})
    with run.progress.open("a") as file:
        file.write('{"images": 1')
    rows, position = run.read_progress()
    assert rows == [{"images": 64}]
    with run.progress.open("a") as file:
        file.write("28}\n")
    rows, position = run.read_progress(position)
    assert rows == [{"images": 128}]
    run.start_progress([{"images": 64}])
    rows, _ = run.read_progress(position)
    assert rows == [{"images": 64}]
