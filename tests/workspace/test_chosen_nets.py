"""`evaluate.feature_net`: which nets are used, and what a file of the user's own changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from components.gan.dataset import Split
from components.gan.errors import UserError
from components.gan.published import one_thread
from components.measures.features import train_classifier
from components.workspace import chosen_nets
from components.workspace.artifacts import Dataset
from components.workspace.chosen_nets import load_nets, nets_of_other_seeds
from components.workspace.params import Params
from components.workspace.workspace import Workspace
from tests.conftest import ganflow, refused, succeeded
from tests.harness.onnx_files import write


def test_nets_of_other_seeds_are_those_that_their_seeds_make(split: Split, tmp_path: Path) -> None:
    """Also where two are trained beside each other; kept ones are found again, damaged ones told of."""
    workspace = Workspace(tmp_path)
    nets = load_nets("auto", split, "content", workspace)
    assert nets.main is nets.classifier and nets.all == (nets.main,)
    others = nets_of_other_seeds(nets, split, "content", workspace, 2)
    assert len({net.sha256 for net in (nets.main, *others)}) == 3
    for seed, other in enumerate(others, 1):
        with one_thread():
            alone = train_classifier(split, seed).state_dict()
        assert all(torch.equal(value, alone[name]) for name, value in other.net.state_dict().items())  # type: ignore[attr-defined]
    again = nets_of_other_seeds(nets, split, "content", workspace, 1)
    assert again[0].sha256 == others[0].sha256
    (file,) = (tmp_path / ".ganflow" / "features").glob("*-1.safetensors")
    file.write_bytes(b"torn")
    with pytest.raises(UserError, match="is damaged: delete it"):
        nets_of_other_seeds(nets, split, "content", workspace, 1)


def test_a_net_of_ones_own_carries_its_hash_and_keeps_the_classifier_for_classes(split: Split, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write(tmp_path)
    nets = load_nets("tiny.onnx", split, "content", workspace)
    sha256 = chosen_nets.hash_of_file("tiny.onnx", workspace)
    assert nets.main.name == f"tiny-{sha256[:8]}" and nets.main.sha256 == sha256
    assert nets.classifier is not None and len(nets.all) == 2
    assert nets.main.real.shape == (500, 12)
    # Nobody here trained it, so there are no others like it.
    assert nets_of_other_seeds(nets, split, "content", workspace, 3) == []
    write(tmp_path, mean=[0.5])
    assert chosen_nets.hash_of_file("tiny.onnx", workspace) != sha256


def test_what_is_wrong_with_the_files_is_one_sentence(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(UserError, match=r"cannot read .*tiny\.onnx"):
        load_nets("tiny.onnx", split, "content", workspace)
    file = write(tmp_path, std=[0, 0, 0])
    with pytest.raises(UserError, match=r"tiny\.json: .*std may not be 0"):
        load_nets("tiny.onnx", split, "content", workspace)
    file.with_suffix(".json").write_text("{")
    with pytest.raises(UserError, match=r"tiny\.json: .*JSON"):
        load_nets("tiny.onnx", split, "content", workspace)
    monkeypatch.setattr(chosen_nets, "MAX_BYTES", 100)
    with pytest.raises(UserError, match="more than 100 bytes"):
        load_nets("tiny.onnx", split, "content", workspace)
    file.with_suffix(".json").unlink()
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"cannot read .*tiny\.json .*describes tiny\.onnx"):
        load_nets("tiny.onnx", split, "content", workspace)


def test_the_default_is_in_no_key() -> None:
    assert "feature_net" not in Params().evaluate.hashed
    own, moved = (
        Params.model_validate({"evaluate": {"feature_net": name}}).evaluate.hashed for name in ("a.onnx", "b/c.onnx")
    )
    assert own == moved and own["feature_net"] == "file"


def test_evaluation_and_gate_go_by_a_net_of_ones_own(finished: Path, tmp_path: Path) -> None:
    """Its name stands in the metrics, another file is another key, and the gate refuses what was not measured by it."""
    root = Path(shutil.copytree(finished, tmp_path / "own"))
    write(root)
    chosen = ("--set", "evaluate.feature_net=tiny.onnx")
    succeeded(ganflow(root, "evaluate", *chosen))
    metrics = json.loads((root / "artifacts" / "evaluation" / "metrics.json").read_text())
    name = f"tiny-{chosen_nets.hash_of_file('tiny.onnx', Workspace(root))[:8]}"
    held_out = Dataset.load(root / "artifacts" / "dataset").splits["holdout"]
    assert {f"kid_{name}_{held_out}", f"recall_{name}_{held_out}_floor", "agreement_classifier_500"} <= metrics.keys()
    assert not [each for each in metrics if each.startswith("fid")]
    held = np.load(root / "artifacts" / "evaluation" / "holdout.npy")
    assert held.shape[1] == 12
    before = json.loads((root / "artifacts" / "evaluation" / "evaluation.json").read_text())["key"]
    write(root, mean=[0.5])
    succeeded(ganflow(root, "evaluate", *chosen))
    after = json.loads((root / "artifacts" / "evaluation" / "evaluation.json").read_text())["key"]
    assert before["inputs"] != after["inputs"] and before["options"] == after["options"]
    for stage in ("postprocess", "register"):
        succeeded(ganflow(root, stage, *chosen))
    # It is champion already, so the gate looks again only where the verdict is gone.
    shutil.rmtree(root / "mlruns" / "verdict")
    assert "feature_net is not the net of this evaluation" in refused(root, "promote")
    succeeded(ganflow(root, "promote", *chosen))
    verdict = json.loads((root / "mlruns" / "verdict" / "verdict.json").read_text())
    assert verdict["net_name"].startswith("tiny-") and verdict["answer"] == "promote"
