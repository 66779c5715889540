"""Files of strangers: parameters, descriptions, checkpoints and models may be refused, and never do anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from components.gan.errors import UserError
from components.gan.models import build, restored
from components.gan.network_options import DCGAN, MLP
from components.gan.options import ImageFormat
from components.training.checkpoints import TrainingFolder
from components.workspace.artifacts import Model
from components.workspace.files import sealed, unsealed
from components.workspace.params import Params

quick = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
anything = st.recursive(
    scalars, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=9), x, max_size=3)
)


@quick
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"train: !!python/object/apply:os.system ['touch OWNED']")
@example(b"!!python/name:os.system")
@example(b"a: &a [*a, *a]")
@example(b"train: {images: 1e999}")
@example(b"[" * 10_000)
def test_parameters_are_read_or_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(text)
    try:
        Params.load(path)
    except UserError as error:
        assert "\n" not in str(error)
    assert [file.name for file in tmp_path.iterdir()] == ["params.yaml"]
    assert not Path("OWNED").exists()


@pytest.fixture(scope="module")
def described(finished: Path) -> dict[str, Any]:
    return unsealed((finished / "artifacts" / "model" / "model.json").read_text())


@quick
@given(data=st.data())
def test_a_description_is_read_or_refused(described: dict[str, Any], tmp_path: Path, data: st.DataObject) -> None:
    """The JSON of a model of which any value is another, sealed as a stranger can."""
    changed = json.loads(json.dumps(described))
    node: Any = changed
    while isinstance(node, dict) and node:
        key = data.draw(st.sampled_from(sorted(node)))
        if not isinstance(node[key], dict) or not node[key] or data.draw(st.booleans()):
            node[key] = data.draw(anything)
            break
        node = node[key]
    (tmp_path / "model.json").write_text(sealed(changed), errors="surrogatepass")
    try:
        # None of its files is there.
        assert not Model.load(tmp_path).files
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret", "a/../../b", "", "a//b"])
def test_a_description_names_no_file_elsewhere(described: dict[str, Any], tmp_path: Path, name: str) -> None:
    files = {name: {"size": 1, "sha256": "0" * 64}}
    (tmp_path / "model.json").write_text(sealed(described | {"files": files}))
    with pytest.raises(UserError, match="is damaged, or of another version"):
        Model.load(tmp_path)


@quick
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_a_checkpoint_is_read_or_refused(tmp_path: Path, state: bytes, text: bytes) -> None:
    run = TrainingFolder(tmp_path)
    folder = run.checkpoints / "000000000001"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state.safetensors").write_bytes(state)
    (folder / "checkpoint.json").write_bytes(text)
    assert run.newest() is None


def test_weights_of_another_network_are_refused_before_loading() -> None:
    image = ImageFormat(height=28, width=28, channels=1, classes=("a", "b"))
    small = build(DCGAN(generator_width=8, discriminator_width=8), image).generator.state_dict()
    assert isinstance(restored(DCGAN(generator_width=8, discriminator_width=8), image, small), torch.nn.Module)
    for described in (DCGAN(generator_width=1_000_000), MLP(generator_widths=(10**9,))):
        with pytest.raises(UserError, match="not those of the"):
            restored(described, image, small)


def test_no_file_of_a_model_is_loaded_by_pickle(tmp_path: Path) -> None:
    import pickle

    (tmp_path / "generator.safetensors").write_bytes(pickle.dumps({"weight": torch.zeros(1)}))
    with pytest.raises(safetensors.SafetensorError):
        safetensors.torch.load_file(tmp_path / "generator.safetensors")
