"""Models in one process: each makes images by the code that was packed with it, whatever else is loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from components.services.tracking import packing, registry
from components.workspace.artifacts import Evaluation, Gallery, Model
from components.workspace.workspace import Workspace
from tests.conftest import environment, succeeded, unpack_old_workspace

OLD, NEW, OTHER = 1, 3, 4


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The old workspace with its model registered twice more: by the present code, and by code that inverts images."""
    workspace = Workspace(unpack_old_workspace(tmp_path_factory.mktemp("serving")))
    model, evaluation, gallery = (
        kind.load(folder)
        for kind, folder in (
            (Model, workspace.model),
            (Evaluation, workspace.evaluation),
            (Gallery, workspace.gallery),
        )
    )
    other_code = workspace.root.parent / "gan"
    shutil.copytree(packing.PACKED_CODE, other_code)
    published = other_code / "published.py"
    code = published.read_text()
    inverted = code.replace("return made[: len(inputs)]", "return 255 - made[: len(inputs)]")
    assert inverted != code
    published.write_text(inverted)
    own = packing.PACKED_CODE
    try:
        for number, packed in ((NEW, own), (OTHER, other_code)):
            packing.PACKED_CODE = packed
            key = model.key.model_copy(update={"code": f"{number:064x}"})
            again = model.model_copy(update={"key": key})
            assert registry.register("ganflow", again, evaluation, gallery, None, workspace) == number
    finally:
        packing.PACKED_CODE = own
    return workspace.root


def made(root: Path, script: str, folder: Path) -> list[np.ndarray]:
    """Run a script without the project, which another user of the model need not have; the arrays that it prints."""
    env = environment(MLFLOW_TRACKING_URI=f"sqlite:///{root}/mlruns/mlflow.db", PYTHONPATH="")
    start = textwrap.dedent("""
        import json, sys, threading, mlflow
        def load(version):
            return mlflow.pyfunc.load_model(f"models:/ganflow/{version}")
        def show(model):
            print(json.dumps(model.predict([], params={"n": 4, "seed": 5}).tolist()))
    """)
    command = [sys.executable, "-c", start + textwrap.dedent(script)]
    result = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=200)
    return [np.array(json.loads(line), np.uint8) for line in succeeded(result).splitlines() if line.startswith("[[")]


def test_champion_and_challenger_run_their_own_code_side_by_side(root: Path, tmp_path: Path) -> None:
    script = f"""
        one, other = load({NEW}), load({OTHER})
        for model in (one, other, one, load({OTHER}), load({NEW})):
            show(model)
    """
    one, other, again, other_again, last = made(root, script, tmp_path)
    assert np.array_equal(other, 255 - one)
    assert np.array_equal(other_again, other)
    assert np.array_equal(again, one)
    assert np.array_equal(last, one)


def test_the_order_of_loading_changes_nothing_beside_a_model_from_before(root: Path, tmp_path: Path) -> None:
    """Those bring a module `gan` of their own."""
    script = f"""
        for version in ({OTHER}, {OLD}, {NEW}):
            show(load(version))
    """
    other, _, one = made(root, script, tmp_path)
    assert np.array_equal(other, 255 - one)


def test_many_threads_load_at_once(root: Path, tmp_path: Path) -> None:
    script = f"""
        loaded, begin = {{}}, threading.Barrier(8)
        def work(number):
            begin.wait()
            loaded[number] = load(({NEW}, {OTHER})[number % 2])
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        for number in range(8): show(loaded[number])
    """
    images = made(root, script, tmp_path)
    assert len(images) == 8
    for number, found in enumerate(images):
        assert np.array_equal(found, 255 - images[0] if number % 2 else images[0])


def test_a_module_gan_of_the_user_stays_the_users(root: Path, tmp_path: Path) -> None:
    (tmp_path / "gan.py").write_text("whose = 'mine'\n")
    script = f"""
        sys.path.insert(0, ".")
        import gan
        show(load({NEW}))
        import gan as after
        assert (gan.whose, after) == ("mine", gan), after
        show(load({OTHER}))
    """
    one, other = made(root, script, tmp_path)
    assert np.array_equal(other, 255 - one)


def test_the_name_says_which_code_it_is(root: Path) -> None:
    names = {
        path.name for path in (root / "mlruns" / "artifacts" / "models").glob("*/artifacts/code/*") if path.is_dir()
    }
    assert len(names) == 3
    assert "gan" in names
