"""What a workspace of somebody else holds, and how it is read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml

from components.gan.errors import UserError
from components.provenance.ledger import Ledger
from components.workspace.artifacts import Dataset, Evaluation, Gallery, Model, Registration
from components.workspace.files import sealed, unsealed
from components.workspace.journal import _sealed
from components.workspace.params import Params
from components.workspace.params_file import rewritten
from components.workspace.text import printable
from components.workspace.verdict import Verdict
from components.workspace.workspace import Workspace
from flows.drift import Tick
from tests.conftest import SMALL


def _described() -> dict[str, Any]:
    """An artifact's JSON in which every kind has what it asks for."""
    training = json.loads(Params().train.loop.model_dump_json())
    image = {"height": 28, "width": 28, "channels": 1, "classes": ["a", "b"]}
    return {
        "key": {"options": "o", "inputs": "i", "code": "c"},
        "files": {},
        **{"training": training, "image": image, "images": 1, "score": 0.5, "dataset": "d"},
        **{"execution": {"workers": 1, "threads": 1, "device": "cpu", "precision": "fp32"}},
        **{"generator_parameters": 1, "discriminator_parameters": 1},
    }


def _dataset() -> dict[str, Any]:
    return {
        "key": {"options": "o", "inputs": "i", "code": "c"},
        "files": {"training-labels.npy": {"size": 1, "sha256": "0" * 64}},
        "image": {"height": 28, "width": 28, "channels": 1, "classes": ["a", "b"]},
        **{"splits": {"training": 3}, "class_counts": {"training": {"a": 3}}, "mean": [0.5], "std": [0.5]},
        **{"rejected": 0, "duplicates": 0, "source": "s"},
    }


def read_manifest(content: bytes, folder: Path) -> None:
    """As it is, and sealed as a stranger can."""
    texts = [content.decode("utf-8", "surrogateescape")]
    with contextlib.suppress(ValueError, RecursionError, TypeError, AttributeError):
        texts.append(sealed(json.loads(content)))
    for kind in (Dataset, Model, Evaluation, Gallery, Registration):
        for text in texts:
            (folder / kind.manifest).write_text(text, errors="surrogateescape")
            kind.load(folder)


def manifests() -> Sequence[bytes]:
    return [json.dumps(_described()).encode(), sealed(_described()).encode(), json.dumps(_dataset()).encode()]


def read_sealed(content: bytes, folder: Path) -> None:
    with contextlib.suppress(ValueError):
        unsealed(content.decode("utf-8", "replace"))


def read_verdict(content: bytes, folder: Path) -> None:
    (folder / "verdict.json").write_bytes(content)
    Verdict.last(folder, "ganflow", 3)


def verdicts() -> Sequence[bytes]:
    numbers = dict.fromkeys(("improvement", "low", "high", "margin", "alpha", "kid_challenger", "floor"), 0.5)
    said = {"name": "ganflow", "challenger": 3, "champion": 2, "answer": "keep", "reason": "r", "checks": [], **numbers}
    check = {"name": "copying", "passed": False, "words": "w"}
    return [json.dumps(said).encode(), json.dumps(said | {"checks": [check] * 3}).encode()]


def read_ledger(content: bytes, folder: Path) -> None:
    """The lines as they are, and sealed as a stranger can."""
    workspace = Workspace(folder)
    workspace.ledger.parent.mkdir(parents=True)
    for lines in (content, b"\n".join(_sealed(line.rstrip(b"}")) for line in content.splitlines())):
        workspace.ledger.write_bytes(lines)
        ledger = Ledger(workspace)
        ledger.entries()
        for word in ledger.damage():
            assert printable(word) == word


def ledgers() -> Sequence[bytes]:
    facts = {"images": 3, "classes": ["a"], "source": "0" * 64, "files": "f"}
    entry = {
        "kind": "dataset",
        "key": "k",
        "content": "c",
        "parents": {},
        "flow_run": None,
        "time": "t",
        "facts": facts,
    }
    line = json.dumps({"entry": entry, "previous": None}).encode()
    return [line + b"\n" + line, _sealed(line[:-1]) + b"\n"]


def read_journal(content: bytes, folder: Path) -> None:
    from components.workspace.journal import Journal

    (folder / "drift.jsonl").write_bytes(content)
    for tick in Journal(folder / "drift.jsonl").records(Tick):
        tick.described()


def journals() -> Sequence[bytes]:
    tick = {"time": "2026", "champion": 3, "new": 60, "used": 50, "statistic": 0.1, "p_value": 0.5, "alpha": 0.01}
    return [b"\n".join([json.dumps(tick).encode()] * 3)]


def read_params(content: bytes, folder: Path) -> None:
    path = folder / "params.yaml"
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        Params.load(path, ["train.images=9"])
    rewritten(content.decode("utf-8", "replace"), {"train.images": 5})


def params() -> Sequence[bytes]:
    everything = yaml.safe_dump(Params().model_dump(mode="json")).encode()
    aliases = "a: &a [x, x]\n" + "".join(f"{n}: &{n} [*{chr(ord(n) - 1)}, *{chr(ord(n) - 1)}]\n" for n in "bcdef")
    return [SMALL.encode(), everything, aliases.encode(), b"train: &t {images: 5}\nevaluate: {<<: *t}\n"]


def safetensors_files() -> Sequence[bytes]:
    return [
        safetensors.torch.save({"a": torch.zeros(3, 4), "b": torch.ones(2, dtype=torch.bfloat16)}),
        safetensors.torch.save({f"layer{i}.weight": torch.zeros(i, 2) for i in range(8)}),
    ]
