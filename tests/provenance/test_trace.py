"""From a picture to its data and back, with everything else gone."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from components.gan.dataset import Split
from components.gan.errors import DamagedError, UserError
from components.provenance import impact, trace
from components.provenance.entries import RegistrationEntry, of_kind
from components.provenance.ledger import Ledger
from components.provenance.picture import NEAREST
from components.reports import trace_page
from components.services.tracking import connection, registry
from components.workspace.artifacts import Dataset, Evaluation, Gallery, Model, Picture
from components.workspace.workspace import Workspace
from tests.conftest import ganflow, refused, succeeded

KEYS = ["image", "gallery", "evaluation", "model", "version", "run", "params", "commit", "data"]


@pytest.fixture(scope="module")
def workspace(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished workspace; to be looked at, not changed."""
    root = tmp_path_factory.mktemp("lineage") / "home"
    shutil.copytree(finished, root)
    return Workspace(root)


@pytest.fixture
def own(workspace: Workspace, tmp_path: Path) -> Workspace:
    """A copy of it to be changed."""
    shutil.copytree(workspace.root, tmp_path / "own")
    return Workspace(tmp_path / "own")


def dumped(file: Path, workspace: Workspace) -> dict[str, Any]:
    """What `--json` shows of a picture."""
    return trace.trace(file, workspace).model_dump(mode="json")


@pytest.fixture(scope="module")
def picture(workspace: Workspace) -> Picture:
    return Gallery.load(workspace.gallery).pictures[17]


def test_a_copied_and_renamed_picture_tells_the_whole_chain(
    workspace: Workspace, picture: Picture, tmp_path: Path
) -> None:
    copied = tmp_path / "holiday.png"
    shutil.copy(workspace.gallery / picture.file, copied)
    found = json.loads(
        succeeded(ganflow(tmp_path, "trace", "holiday.png", "--json", "--workspace", str(workspace.root)))
    )
    assert list(found) == KEYS
    for name, artifact in (
        ("gallery", Gallery.load(workspace.gallery)),
        ("evaluation", Evaluation.load(workspace.evaluation)),
        ("model", Model.load(workspace.model)),
        ("data", Dataset.load(workspace.dataset)),
    ):
        assert (found[name]["key"], found[name]["content"]) == (artifact.key.id, artifact.content)
    image = found["image"]
    assert (image["seed"], image["class"], image["steps"]) == (picture.seed, picture.label, list(picture.steps))
    assert (image["found_by"], found["gallery"]["file"]) == ("pixels", picture.file)
    version = found["version"]
    assert (version["name"], version["version"], sorted(version["aliases"])) == (
        "ganflow",
        1,
        sorted(registry.aliases("ganflow", 1, workspace)),
    )
    assert found["run"] == {"mlflow": version["run"], "prefect": None}
    assert re.fullmatch("[0-9a-f]{32}", found["run"]["mlflow"])
    assert found["params"]["train"]["images"] == 4096
    assert found["data"]["class_counts"] == Dataset.load(workspace.dataset).class_counts
    words = succeeded(ganflow(workspace.root, "trace", str(copied)))
    for part in (*KEYS, "nearest"):
        assert re.search(rf"^{part}  ", words, re.MULTILINE), part


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_without_its_metadata_it_is_known_by_its_pixels(
    workspace: Workspace, picture: Picture, tmp_path: Path, mode: str
) -> None:
    with Image.open(workspace.gallery / picture.file) as image:
        stripped = Image.fromarray(np.asarray(image)).convert(mode)
    file = tmp_path / ("stripped.webp" if mode == "RGB" else "stripped.png")
    stripped.save(file, **({"lossless": True} if mode == "RGB" else {}))
    found = trace.trace(file, workspace)
    assert found.image.found_by == "pixels"
    assert found.image.seed == picture.seed
    assert found.gallery and found.gallery.file == picture.file


def test_when_its_pixels_were_changed_it_is_known_by_its_marks(
    workspace: Workspace, picture: Picture, tmp_path: Path
) -> None:
    with Image.open(workspace.gallery / picture.file) as image:
        info = PngInfo()
        for name, value in image.info.items():
            if isinstance(value, str):
                info.add_text(name, value)
        image.resize((20, 20)).save(tmp_path / "small.png", pnginfo=info)
    found = trace.trace(tmp_path / "small.png", workspace)
    assert found.image.found_by == "marks"
    assert found.gallery and found.gallery.file == picture.file
    assert "its pixels are not known" in str(list(trace_page.chain_of(found)))


@pytest.mark.parametrize("seed", ["-1e9", "9" * 5_000, "²"], ids=lambda seed: seed[:4])
def test_what_is_written_in_a_picture_is_not_trusted(workspace: Workspace, tmp_path: Path, seed: str) -> None:
    key = Model.load(workspace.model).key.id
    info = PngInfo()
    for name, value in {"model": key, "seed": seed, "class": "\x1b[31m<b>", "gallery": "../..", "steps": ""}.items():
        info.add_text(f"ganflow:{name}", value)
    Image.new("RGB", (300, 7), (9, 9, 9)).save(tmp_path / "<script>.png", pnginfo=info)
    found = trace.trace(tmp_path / "<script>.png", workspace)
    assert (found.gallery, found.evaluation, found.image.seed) == (None, None, None)
    assert found.model.key == key
    assert "\x1b" not in str(list(trace_page.chain_of(found)))
    page = trace_page.page(found, tmp_path / "<script>.png", workspace)
    assert "<script>" not in page
    assert "&lt;b&gt;" in page


def test_the_nearest_training_images_are_those_of_its_sample(workspace: Workspace, picture: Picture) -> None:
    data = trace.trace(workspace.gallery / picture.file, workspace).data
    nearest = data and data.nearest
    assert nearest
    table = pd.read_csv(workspace.evaluation / "samples.csv")
    row = int(np.flatnonzero(table["seed"] == picture.seed)[0])
    sample = np.load(workspace.evaluation / "samples.npy")[row].astype(float)
    dataset = Dataset.load(workspace.dataset)
    split = Split(workspace.dataset, "training", dataset.image)
    distances = np.sqrt(np.square(split.pixels(np.arange(len(split))).astype(float) - sample).mean((1, 2, 3)))
    # Two that are as near as rounding tells may change places.
    indices = [one.index for one in nearest]
    assert len({*indices}) == len(nearest) == NEAREST
    assert [one.distance for one in nearest] == pytest.approx(np.sort(distances)[: len(nearest)].tolist(), rel=1e-4)
    assert [one.distance for one in nearest] == pytest.approx(distances[indices].tolist(), rel=1e-4)
    assert [one.label for one in nearest] == [dataset.image.classes[split.labels[i]] for i in indices]
    assert {one.compared for one in nearest} == {"sample"}


def test_the_chain_holds_when_all_but_the_ledger_is_gone(own: Workspace, picture: Picture, tmp_path: Path) -> None:
    copied = tmp_path / "kept.png"
    shutil.copy(own.gallery / picture.file, copied)
    before = dumped(copied, own)
    (own.mlruns / "mlflow.db").unlink()
    # The journal of champions is left.
    assert dumped(copied, own) == before
    shutil.rmtree(own.evaluation)
    reduced = dumped(copied, own)
    assert {one["compared"] for one in reduced["data"].pop("nearest")} == {"picture"}
    for folder in (own.root / "artifacts", own.mlruns, own.data, own.state / "training"):
        shutil.rmtree(folder)
    bare = dumped(copied, own)
    assert bare["data"].pop("nearest") is None
    assert bare["version"].pop("aliases") == ["challenger"]
    del before["data"]["nearest"], before["version"]["aliases"]
    assert bare == before
    assert "`dvc checkout`" in succeeded(ganflow(own.root, "trace", str(copied)))


def test_a_damaged_artifact_is_not_taken_for_one_that_is_gone(own: Workspace, picture: Picture) -> None:
    file = own.gallery / picture.file
    for folder, name in ((own.evaluation, "samples.npy"), (own.dataset, "training-labels.npy")):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-1])
        with pytest.raises(DamagedError, match=f"{folder.name} is damaged .{name}"):
            trace.trace(file, own)
        (folder / name).write_bytes(whole)
        assert dumped(file, own)["data"]["nearest"]


def test_the_page_holds_the_pictures_and_asks_for_nothing(
    workspace: Workspace, picture: Picture, tmp_path: Path
) -> None:
    file = workspace.gallery / picture.file
    out = succeeded(ganflow(workspace.root, "trace", str(file), "--html", str(tmp_path / "page.html")))
    assert out.splitlines()[-1].startswith("page  ")
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png;base64,") == 1 + NEAREST
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "default-src 'none'" in page
    assert Model.load(workspace.model).key.id in page


def test_what_cannot_be_traced_is_told_in_one_sentence(workspace: Workspace, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "black.png")
    info = PngInfo()
    info.add_text("ganflow:model", "0123456789abcdef")
    Image.new("RGB", (8, 8)).save(tmp_path / "elsewhere.png", pnginfo=info)
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "bomb.png").write_bytes((tmp_path / "black.png").read_bytes().replace(b"\0\0\0\x08", b"\0\x0f\0\0"))
    for name, told in (
        ("black.png", "was not made in"),
        ("elsewhere.png", "0123456789abcdef"),
        ("text.png", "not a picture"),
        ("bomb.png", "bomb.png"),
        ("none.png", "there is no picture"),
    ):
        assert told in refused(workspace.root, "trace", str(tmp_path / name)), name
    assert not (tmp_path / ".ganflow").exists()


def test_impact_by_file_and_by_hash(workspace: Workspace, tmp_path: Path) -> None:
    shutil.copy(workspace.data / "labels.idx", tmp_path / "renamed")
    by_file = json.loads(succeeded(ganflow(workspace.root, "impact", str(tmp_path / "renamed"), "--json")))
    dataset, model, gallery = (
        Dataset.load(workspace.dataset),
        Model.load(workspace.model),
        Gallery.load(workspace.gallery),
    )
    assert [data["content"] for data in by_file["data"]] == [dataset.content]
    assert [found["key"] for found in by_file["models"]] == [model.key.id]
    assert [(found["name"], found["version"]) for found in by_file["versions"]] == [("ganflow", 1)]
    assert [(found["key"], found["model"]) for found in by_file["galleries"]] == [(gallery.key.id, model.key.id)]
    for prefix in (dataset.source[:6], dataset.content, dataset.content[:9].upper(), dataset.key.id):
        found = impact.impact(prefix, workspace).model_dump(mode="json")
        assert {**found, "asked": by_file["asked"]} == by_file
    words = succeeded(ganflow(workspace.root, "impact", dataset.source[:10]))
    assert [line.split()[0] for line in words.splitlines()] == ["data", "model", "version", "gallery"]
    (tmp_path / "renamed").write_bytes(b"other")
    for asked, told in (
        (str(tmp_path / "renamed"), "holds the bytes"),
        ("abcdef0123", "no data version"),
        (dataset.source[:5], "neither a file nor a hash"),
        ("no/such/file", "neither a file nor a hash"),
    ):
        with pytest.raises(UserError, match=told):
            impact.impact(asked, workspace)


def test_an_older_version_of_the_data_keeps_its_models(own: Workspace) -> None:
    old = Dataset.load(own.dataset).source
    labels = (own.data / "labels.idx").read_bytes()
    (own.data / "labels.idx").write_bytes(labels[:-1] + bytes([(labels[-1] + 1) % 10]))
    succeeded(ganflow(own.root, "preprocess"))
    new = Dataset.load(own.dataset).source
    assert len(impact.impact(old, own).models) == 1
    assert impact.impact(new, own).models == []
    both = impact.impact(str(own.data / "images.idx"), own)
    assert [data.source for data in both.data] == [old, new]
    assert [data.source for data in impact.impact(str(own.data / "labels.idx"), own).data] == [new]
    # Its model is an earlier one's now, and the images it is compared with are gone.
    picture = own.gallery / Gallery.load(own.gallery).pictures[0].file
    data = trace.trace(picture, own).data
    assert data and (data.source, data.nearest) == (old, None)


def known(workspace: Workspace) -> dict[str, list[Any]]:
    """What the database says, but for times."""
    queries = {
        "versions": "SELECT name, version, run_id, source, storage_location, status FROM model_versions ORDER BY 1, 2",
        "tags": "SELECT name, version, key, value FROM model_version_tags ORDER BY 1, 2, 3",
        "aliases": "SELECT name, alias, version FROM registered_model_aliases ORDER BY 1, 2",
        "runs": "SELECT run_uuid, name, status, lifecycle_stage, artifact_uri FROM runs ORDER BY 1",
        "run tags": "SELECT run_uuid, key, value FROM tags "
        # Which process worked on a run matters as long as it lives; who began it, and what was said of it, is only
        # in MLflow.
        "WHERE key NOT IN ('ganflow.claim', 'mlflow.user', 'mlflow.note.content') AND key NOT LIKE 'mlflow.source.%' "
        "ORDER BY 1, 2",
        "params": "SELECT run_uuid, key, value FROM params ORDER BY 1, 2",
        "metrics": "SELECT DISTINCT run_uuid, key, step, value FROM metrics "
        # How busy the machine was is written down nowhere else.
        "WHERE key NOT LIKE 'system/%' ORDER BY 1, 2, 3, 4",
        "models": "SELECT model_id, name, artifact_location, status, source_run_id FROM logged_models ORDER BY 1",
    }
    with sqlite3.connect(workspace.mlruns / "mlflow.db") as database:
        return {name: database.execute(query).fetchall() for name, query in queries.items()}


@pytest.fixture
def with_two(own: Workspace) -> Workspace:
    """With a second version, of the same weights under another key."""
    connection.open_client(own)  # where the workspace lies now
    model, evaluation, gallery = Model.load(own.model), Evaluation.load(own.evaluation), Gallery.load(own.gallery)
    other = model.model_copy(update={"key": model.key.model_copy(update={"code": "0" * 64})})
    registry.register("ganflow", other, evaluation, gallery, None, own)
    ledger = Ledger(own)
    entries = {entry.kind: entry for entry in ledger.entries()}
    facts = registry.recorded_version("ganflow", 2, own)
    assert facts is not None
    entry = entries["model"]
    # What it used nobody told MLflow either.
    changed = entry.facts.model_copy(update={"run_id": facts.run_id, "cost": None})
    ledger.append(entry.model_copy(update={"key": other.key.id, "facts": changed}))
    entry = entries["registration"]
    changed = entry.facts.model_copy(update={**facts._asdict(), "version": 2, "model_key": other.key.id})
    ledger.append(entry.model_copy(update={"key": "second", "facts": changed}))
    return own


def test_a_lost_registry_is_made_again_as_it_was(with_two: Workspace) -> None:
    workspace = with_two
    before = known(workspace)
    assert [version[:2] for version in before["versions"]] == [("ganflow", 1), ("ganflow", 2)]
    (workspace.mlruns / "mlflow.db").unlink()
    out = succeeded(ganflow(workspace.root, "rebuild-registry"))
    assert "not restored" not in out
    assert known(workspace) == before
    assert succeeded(ganflow(workspace.root, "rebuild-registry")) == out
    assert known(workspace) == before
    ledger = workspace.ledger.read_bytes()
    out = succeeded(ganflow(workspace.root, "verify"))
    assert "damaged" not in out
    assert "ganflow version 2" in out
    assert "Nothing to do" in succeeded(ganflow(workspace.root, "run"))
    # The present one is registered last now, as in the database.
    assert workspace.ledger.read_bytes().startswith(ledger)
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{workspace.mlruns}/mlflow.db")
    images = mlflow.pyfunc.load_model("models:/ganflow@champion").predict([], params={"n": 2})
    assert images.shape == (2, 28, 28, 1)


def test_what_cannot_be_restored_is_told_the_rest_keeps_numbers(with_two: Workspace) -> None:
    workspace = with_two
    (workspace.mlruns / "mlflow.db").unlink()
    first = of_kind(Ledger(workspace).entries(), RegistrationEntry)[0].facts.place or ""
    weights = next((workspace.mlruns / first).rglob("generator.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    out = succeeded(ganflow(workspace.root, "rebuild-registry"))
    assert re.search("not restored ganflow version 1: its files in .* are not those that were registered", out)
    assert [version[1] for version in known(workspace)["versions"]] == [2]
    shutil.rmtree(workspace.mlruns / first)
    out = succeeded(ganflow(workspace.root, "rebuild-registry"))
    assert "ganflow version 1: its files are gone" in out
    assert re.search("^there +ganflow version 2", out, re.MULTILINE)


def test_a_registry_without_a_ledger_or_at_a_server_is_not_made_up(own: Workspace) -> None:
    told = refused(own.root, "rebuild-registry", MLFLOW_TRACKING_URI=f"sqlite:///{own.root}/server.db")
    assert "unset MLFLOW_TRACKING_URI" in told
    own.ledger.unlink()
    assert "knows no run or version" in refused(own.root, "rebuild-registry")
