"""Photos through a model of an image task: what is done, what is refused, and what stands in the folder of results."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
import safetensors.torch
from moto.server import ThreadedMotoServer
from PIL import Image

from components.apply import Applied, apply, apply_to_arrived
from components.gan.errors import NotThereError, StoppedError, UserError
from components.gan.network_options import TASK_NETWORKS
from components.gan.options import Execution, ImageFormat, TrainingOptions
from components.gan.tasks.options import Colorize, Inpaint, Restore, SuperResolve
from components.photos import maker, results
from components.photos.maker import ApplyRequest
from components.photos.results import JOURNAL
from components.pictures import metadata
from components.workspace.artifacts import Key, Model
from components.workspace.files import staging
from components.workspace.params import Params
from components.workspace.workspace import Workspace
from tests.conftest import environment, ganflow, refused
from tests.gan.tasks.test_networks import NARROW, generator_of
from tests.pictures.test_photo import saved
from tests.services.test_cluster import running  # noqa: F401

KEY = Key(options="0" * 64, inputs="1" * 64, code="2" * 64)
IMAGE = ImageFormat(height=48, width=48, channels=3, classes=("any",))


def workspace_with(root: Path, task: Any, network: str = "edsr", image: ImageFormat = IMAGE) -> Workspace:
    """A workspace whose model does `task`, by a network of which no layer is 0."""
    workspace = Workspace(root)
    workspace.state.mkdir(parents=True)
    workspace.params.write_text("")
    training = TrainingOptions(task=task, network=TASK_NETWORKS[network](**NARROW[network]))
    with staging(workspace.model) as folder:
        state = {name: value.contiguous() for name, value in generator_of(network, task, image).state_dict().items()}
        safetensors.torch.save_file(state, folder / "generator.safetensors")
        facts = {"images": 0, "score": 0.0, "generator_parameters": 1, "discriminator_parameters": 1, "dataset": "d"}
        execution = Execution(workers=1, threads=1, device="cpu", precision="fp32")
        Model.describe(folder, KEY, training=training, image=image, execution=execution, **facts)
    return workspace


class Bucket:
    """A bucket of a server of this machine."""

    def __init__(self) -> None:
        self._client, self._name = boto3.client("s3"), f"bucket-{uuid.uuid4().hex[:8]}"
        self._client.create_bucket(Bucket=self._name)

    def address(self, prefix: str) -> str:
        return f"s3://{self._name}/{prefix}".rstrip("/")

    def put(self, name: str, content: bytes) -> None:
        self._client.put_object(Bucket=self._name, Key=name, Body=content)

    def get(self, name: str) -> bytes:
        content: bytes = self._client.get_object(Bucket=self._name, Key=name)["Body"].read()
        return content

    def names(self, prefix: str) -> set[str]:
        listed = self._client.list_objects_v2(Bucket=self._name, Prefix=f"{prefix}/").get("Contents", ())
        return {each["Key"].removeprefix(f"{prefix}/") for each in listed}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    address = f"http://127.0.0.1:{moto.get_host_and_port()[1]}"
    values = {"ENDPOINT_URL": address, "ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s", "DEFAULT_REGION": "us-east-1"}
    for name, value in values.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    yield Bucket()
    moto.stop()


@pytest.fixture
def larger(tmp_path: Path) -> Workspace:
    return workspace_with(tmp_path / "w", SuperResolve(factor=2))


def photo(seed: int = 0, size: tuple[int, int] = (12, 10)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8))


def done(workspace: Workspace, photos: list[Path], mask: Path | None = None, **asked: Any) -> Applied:
    request = ApplyRequest.model_validate({"model": "workspace", **asked})
    out = workspace.root.parent / "out"
    named, masked = [str(photo) for photo in photos], None if mask is None else str(mask)
    return apply(named, str(out), request, masked, Params.load(workspace.params), workspace)


def files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_a_folder_keeps_its_structure_and_bad_photos_stop_nothing(larger: Workspace, tmp_path: Path) -> None:
    given = tmp_path / "holiday"
    (given / "sea").mkdir(parents=True)
    photo(1).save(given / "a.png")
    photo(2).save(given / "sea" / "b.jpg")
    photo(3, (1, 1)).convert("L").save(given / "sea" / "dot.bmp")
    (given / "broken.png").write_bytes(saved(photo())[:60])
    (given / "empty.jpg").write_bytes(b"")
    (given / "notes.txt").write_text("notes")
    (given / "Thumbs.db").write_bytes(b"x")
    (given / "sea" / "around").symlink_to("..")
    found = done(larger, [given])
    out = tmp_path / "out"
    assert files(out) == {"a.png", "sea/b.jpg", "sea/dot.bmp", JOURNAL}
    assert {Path(name).name for name in found.refused} == {"broken.png", "empty.jpg"}
    assert {Path(name).name for name in found.left} == {"notes.txt", "around"}
    assert Image.open(out / "a.png").size == (20, 24) and Image.open(out / "sea" / "dot.bmp").mode == "L"
    # What is there is not made again, and looked at no more.
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    again = done(larger, [given])
    assert again.made == [] and again.before == 3 and len(again.refused) == 2
    assert before == {file: file.stat().st_mtime_ns for file in out.rglob("*")}


def test_a_result_says_what_it_is_made_of(larger: Workspace, tmp_path: Path) -> None:
    import hashlib

    content = saved(photo())
    (tmp_path / "x.png").write_bytes(content)
    done(larger, [tmp_path / "x.png"], strength=0.5)
    made = Image.open(tmp_path / "out" / "x.png")
    assert made.info["ganflow:input"] == hashlib.sha256(content).hexdigest()
    assert (made.info["ganflow:task"], made.info["ganflow:strength"]) == ("super_resolve", "0.5")
    assert metadata.ENHANCED in made.info["XML:com.adobe.xmp"]


def test_nothing_foreign_is_overwritten(larger: Workspace, tmp_path: Path) -> None:
    photo().save(tmp_path / "x.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x.png").write_bytes(b"mine")
    found = done(larger, [tmp_path / "x.png"])
    assert "is in the way" in found.refused[str(tmp_path / "x.png")]
    assert (tmp_path / "out" / "x.png").read_bytes() == b"mine"
    (tmp_path / "out" / "x.png").unlink()
    done(larger, [tmp_path / "x.png"])
    made = (tmp_path / "out" / "x.png").read_bytes()
    assert "otherwise" in done(larger, [tmp_path / "x.png"], strength=0).refused[str(tmp_path / "x.png")]
    photo(5).save(tmp_path / "x.png")
    assert done(larger, [tmp_path / "x.png"]).refused
    assert (tmp_path / "out" / "x.png").read_bytes() == made


def test_what_was_stopped_goes_on(larger: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tmp_path / "in"
    given.mkdir()
    for i in range(3):
        photo(i).save(given / f"{i}.png")
    write, calls = results.write_whole, []

    def interrupted(file: Path, content: bytes) -> None:
        calls.append(file)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(file, content)

    with monkeypatch.context() as patch, pytest.raises(StoppedError, match="what is lacking"):
        patch.setattr(results, "write_whole", interrupted)
        done(larger, [given])
    assert files(tmp_path / "out") == {"0.png", JOURNAL}
    # As a crash leaves it.
    with (tmp_path / "out" / JOURNAL).open("a") as journal:
        journal.write('\n{"result": "2", "fi')
    found = done(larger, [given])
    assert (found.before, len(found.made), found.refused) == (1, 2, {})
    assert done(larger, [given]).before == 3


def test_two_results_of_one_name_and_odd_places_are_refused_before_anything(larger: Workspace, tmp_path: Path) -> None:
    given = tmp_path / "in"
    given.mkdir()
    photo().save(given / "a.png")
    photo().save(given / "A.JPG", "JPEG")
    with pytest.raises(UserError, match="would have one result"):
        done(larger, [given])
    assert not files(tmp_path / "out") if (tmp_path / "out").exists() else True
    with pytest.raises(NotThereError, match=r"there is no .*nowhere"):
        done(larger, [tmp_path / "nowhere"])
    request, params = ApplyRequest(model="workspace"), Params()
    with pytest.raises(UserError, match="lies in"):
        apply([str(given)], str(given / "sub"), request, None, params, larger)
    with pytest.raises(UserError, match="data/, which is not for pictures"):
        apply([str(given / "a.png")], str(larger.data), request, None, params, larger)


def test_what_arrives_is_made_once_by_whichever_model(larger: Workspace, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    (inbox / "day").mkdir(parents=True)
    # Two cameras, one name.
    photo(1).save(inbox / "IMG_1.png")
    photo(2).save(inbox / "day" / "IMG_1.png")
    photo(3).save(inbox / "late.png")
    (inbox / "notes.txt").write_text("notes")
    outside = tmp_path / "secret.png"
    photo(4).save(outside)
    (inbox / "link.png").symlink_to(outside)
    for file in inbox.rglob("*.*"):
        os.utime(file, (1e9, 1e9), follow_symlinks=False)
    (inbox / "late.png").touch()
    request = ApplyRequest(model="workspace")
    with pytest.raises(UserError, match=r"no apply\.inbox is named"):
        apply_to_arrived(request, Params(), larger)

    def arrive(**asked: Any) -> Applied:
        params = Params.load(larger.params, [f"apply.inbox={inbox}", "apply.out=../out"])
        return apply_to_arrived(request.model_copy(update=asked), params, larger)

    out = tmp_path / "out"
    first = arrive()
    assert files(out) == {"IMG_1.png", "day/IMG_1.png", JOURNAL} and first.refused == {}
    assert {Path(name).name for name in first.left} == {"notes.txt", "link.png"}
    # Another model or other options make nothing again; another photo of a name that was there stands beside it.
    before = (out / "IMG_1.png").read_bytes()
    photo(5).save(inbox / "IMG_1.png")
    os.utime(inbox / "IMG_1.png", (1e9, 1e9))
    second = arrive(strength=0.5)
    assert (len(second.made), second.before, second.refused) == (1, 1, {})
    (beside,) = files(out) - {"IMG_1.png", "day/IMG_1.png", JOURNAL}
    assert beside.startswith("IMG_1-") and (out / "IMG_1.png").read_bytes() == before
    assert (arrive().made, arrive(strength=0).before) == ([], 2)


def test_an_inbox_beside_its_results_and_one_that_is_not_there_are_refused(larger: Workspace, tmp_path: Path) -> None:
    def arrive(inbox: str, out: str) -> None:
        params = Params.load(larger.params, [f"apply.inbox={inbox}", f"apply.out={out}"])
        apply_to_arrived(ApplyRequest(model="workspace"), params, larger)

    with pytest.raises(UserError, match="lies in"):
        (tmp_path / "in").mkdir()
        arrive("../in", "../in/out")
    with pytest.raises(NotThereError, match="create it"):
        arrive("../nowhere", "../out")
    with pytest.raises(UserError, match="by --mask"):
        other = workspace_with(tmp_path / "masked", Inpaint(), "unet")
        params = Params.load(other.params, [f"apply.inbox={tmp_path / 'in'}"])
        apply_to_arrived(ApplyRequest(model="workspace"), params, other)


def test_from_a_bucket_into_a_bucket(
    larger: Workspace, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.photos.sources.SETTLED_SECONDS", -1)
    for name in ("holiday/a.png", "holiday/sea/b.png"):
        bucket.put(name, saved(photo(len(name))))
    bucket.put("holiday/notes.txt", b"notes")
    bucket.put("holiday/broken.png", b"x")
    bucket.put("holiday/../../../up.png", saved(photo()))
    bucket.put("out/sea/b.png", b"mine")

    def ran(*photos: str, **asked: Any) -> Applied:
        request = ApplyRequest.model_validate({"model": "workspace", **asked})
        named = [bucket.address(name) for name in photos]
        return apply(named, bucket.address("out"), request, None, Params(), larger)

    found = ran("holiday")
    assert [made.name for made in found.made] == ["a.png"]
    refused = {name.rpartition("/")[2]: why for name, why in found.refused.items()}
    assert refused.keys() == {"b.png", "broken.png", "up.png"} and "in the way" in refused["b.png"]
    assert [name.rpartition("/")[2] for name in found.left] == ["notes.txt"]
    assert bucket.get("out/sea/b.png") == b"mine"
    # The result is that of a folder.
    (tmp_path / "a.png").write_bytes(bucket.get("holiday/a.png"))
    done(larger, [tmp_path / "a.png"])
    assert bucket.get("out/a.png") == (tmp_path / "out" / "a.png").read_bytes()
    again = ran("holiday/a.png")
    assert (again.made, again.before, again.refused) == ([], 1, {})
    assert "otherwise" in str(ran("holiday/a.png", strength=0).refused)
    with pytest.raises(NotThereError, match="nothing at"):
        ran("nowhere")
    with pytest.raises(UserError, match="lies in"):
        apply([bucket.address("")], bucket.address("out"), ApplyRequest(model="workspace"), None, Params(), larger)
    params = Params.load(larger.params, [f"apply.inbox={bucket.address('holiday/sea')}", "apply.out=../arrived"])
    assert len(apply_to_arrived(ApplyRequest(model="workspace"), params, larger).made) == 1
    assert files(tmp_path / "arrived") == {"b.png", JOURNAL}


def test_what_waits_for_a_bucket_is_written_on_ctrl_c(
    larger: Workspace, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(3):
        bucket.put(f"in/{i}.png", saved(photo(i)))
    made, calls = maker.Maker.made, []

    def interrupted(self: maker.Maker, job: maker.Job) -> maker.Made:
        calls.append(job)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return made(self, job)

    def ran() -> Applied:
        return apply(
            [bucket.address("in")], bucket.address("out"), ApplyRequest(model="workspace"), None, Params(), larger
        )

    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(maker.Maker, "made", interrupted)
        ran()
    assert bucket.names("out") == {"0.png", "1.png", JOURNAL}
    found = ran()
    assert (len(found.made), found.before) == (1, 2)


def test_nodes_of_a_cluster_make_the_bytes_of_one_machine(
    larger: Workspace,
    tmp_path: Path,
    running: dict[str, str],  # noqa: F811
) -> None:
    given = tmp_path / "in"
    given.mkdir()
    for i in range(5):
        photo(i).save(given / f"{i}.png")
    (given / "broken.png").write_bytes(b"\x89PNG")
    done(larger, [given])
    told = ganflow(larger.root, "apply", str(given), "--out", "../there", "--model", "workspace", **running)
    assert told.returncode == 1 and "5 pictures" in told.stdout and "1 refused" in told.stderr
    here, there = tmp_path / "out", tmp_path / "there"
    assert {name: (here / name).read_bytes() for name in files(here)} == {
        name: (there / name).read_bytes() for name in files(there)
    }


def test_the_flow_takes_what_arrived(larger: Workspace, tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    photo().save(tmp_path / "inbox" / "a.png")
    (tmp_path / "inbox" / "b.png").write_bytes(b"x")
    for file in (tmp_path / "inbox").iterdir():
        os.utime(file, (1e9, 1e9))
    larger.params.write_text("apply: {inbox: ../inbox, out: ../out}")
    code = "import pathlib; from flows.apply import apply; apply(model='workspace', workspace=pathlib.Path())"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=larger.root, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert told.returncode == 0, told.stderr
    assert "1 pictures in ../out" in told.stderr and "refused" in told.stderr and "b.png" in told.stderr
    assert files(tmp_path / "out") == {"a.png", JOURNAL}


def test_odd_names_and_places_are_refused_in_a_sentence(larger: Workspace, tmp_path: Path) -> None:
    given = tmp_path / "in"
    (given / "sea").mkdir(parents=True)
    photo(1).save(given / "a.png")
    (given / "a.png").rename(given / os.fsdecode(b"\xff.png"))
    photo(2).save(given / "two\nlines.png")
    photo(3).save(given / "sea" / "b.png")
    photo(4).save(given / "c.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sea").write_text("a file")
    (tmp_path / "out" / "c.png").mkdir()
    found = done(larger, [given])
    whys = {name.rpartition("/")[2]: why for name, why in found.refused.items()}
    assert len(whys) == 4 and found.made == []
    assert "no UTF-8" in whys[os.fsdecode(b"\xff.png")] and "shown" in whys["two\nlines.png"]
    assert "in the way" in whys["b.png"] and "in the way" in whys["c.png"]
    with pytest.raises(UserError, match="is a file"):
        apply([str(given)], str(tmp_path / "out" / "sea"), ApplyRequest(model="workspace"), None, Params(), larger)
    (tmp_path / "out" / JOURNAL).mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        done(larger, [given])


def test_limits_are_parameters(larger: Workspace, tmp_path: Path) -> None:
    photo().save(tmp_path / "x.png")
    larger.params.write_text("apply: {max_output_pixels: 400}")
    assert "apply.max_output_pixels = 400" in str(done(larger, [tmp_path / "x.png"]).refused)
    larger.params.write_text("apply: {max_input_pixels: 100}")
    assert "too many" in str(done(larger, [tmp_path / "x.png"]).refused)


def test_before_and_after_and_formats(larger: Workspace, tmp_path: Path) -> None:
    photo().save(tmp_path / "x.png")
    done(larger, [tmp_path / "x.png"], compare=True, format="jpeg")
    assert files(tmp_path / "out") == {"x.jpg", "x-compare.png", JOURNAL}
    assert Image.open(tmp_path / "out" / "x-compare.png").size == (40, 24)


def test_masks(tmp_path: Path) -> None:
    workspace = workspace_with(tmp_path / "w", Inpaint(), "unet")
    given, masks = tmp_path / "in", tmp_path / "masks"
    given.mkdir(), masks.mkdir()
    hole = np.zeros((40, 30), np.uint8)
    hole[10:20, 5:15] = 255
    for name, form in (("a.png", "PNG"), ("b.jpg", "JPEG"), ("unmasked.png", "PNG"), ("other.png", "PNG")):
        photo(1, (40, 30)).save(given / name, form)
    for name in ("a.png", "b.webp"):
        Image.fromarray(hole).save(masks / name)
    Image.fromarray(hole[:9]).save(masks / "other.png")
    with pytest.raises(UserError, match="by --mask"):
        done(workspace, [given])
    found = done(workspace, [given], masks, grow=2)
    assert {Path(name).name: why.split(":")[0] for name, why in found.refused.items()} == {
        "unmasked.png": f"there is no mask of this name in {masks}",
        "other.png": "its mask is 30x9, and it is 30x40",
    }
    # A JPEG would change what is known.
    assert files(tmp_path / "out") == {"a.png", "b.png", JOURNAL}
    known = np.ones((40, 30), bool)
    known[8:22, 3:17] = False
    for name in ("a.png", "b.jpg"):
        with Image.open(given / name) as before, Image.open(tmp_path / "out" / f"{name[0]}.png") as after:
            one, other = np.asarray(before), np.asarray(after)
            assert (one[known] == other[known]).all() and (one[~known] != other[~known]).any()
            assert metadata.COMPOSITE in after.info["XML:com.adobe.xmp"]
    assert any("PNG" in said for result in found.made for said in result.said)


def test_only_repairs_take_masks_and_only_tasks_take_photos(tmp_path: Path, finished: Path) -> None:
    photo().save(tmp_path / "x.png")
    with pytest.raises(UserError, match="only a model that repairs"):
        done(workspace_with(tmp_path / "w", Restore()), [tmp_path / "x.png"], tmp_path / "x.png")
    told = refused(finished, "apply", str(tmp_path / "x.png"), "--out", str(tmp_path / "o"), "--model", "workspace")
    assert "makes images of noise" in told


def test_the_command(larger: Workspace, tmp_path: Path) -> None:
    photo().save(tmp_path / "x.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG")
    command = ("apply", "../x.png", "../bad.png", "--out", "../out", "--model", "workspace")
    told = ganflow(larger.root, *command)
    assert told.returncode == 1 and "1 pictures in" in told.stdout
    assert "1 refused" in told.stderr and "bad.png" in told.stderr and "Traceback" not in told.stderr
    assert ganflow(larger.root, *command[:2], *command[3:]).returncode == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / JOURNAL).read_text().splitlines()]
    assert rows[0]["files"] == ["x.png"]
    assert "--frames" in refused(larger.root, *command, "--frames", "all")


@pytest.mark.parametrize("size", [(61, 90), (8, 300)])
def test_colours_leave_the_brightness_as_it_is(tmp_path: Path, size: tuple[int, int]) -> None:
    workspace = workspace_with(tmp_path / "w", Colorize(), "unet")
    workspace.params.write_text("apply: {window: 32}")
    photo(1, size).save(tmp_path / "x.png")
    assert done(workspace, [tmp_path / "x.png"]).refused == {}
    before, after = (np.asarray(Image.open(file)) for file in (tmp_path / "x.png", tmp_path / "out" / "x.png"))
    # Rec. 601.
    weights = np.array((0.299, 0.587, 0.114))
    assert np.abs(before @ weights - after @ weights).max() <= 1.001
    assert np.abs(before.astype(int) - after).max() > 20


def test_alpha_is_enlarged_with_the_photo(larger: Workspace, tmp_path: Path) -> None:
    pixels = np.dstack((np.asarray(photo()), np.full((12, 10), 255, np.uint8)))
    pixels[:, 5:, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "x.png")
    done(larger, [tmp_path / "x.png"])
    with Image.open(io.BytesIO((tmp_path / "out" / "x.png").read_bytes())) as made:
        alpha = np.asarray(made.getchannel("A"))
    assert made.size == (20, 24) and (alpha[:, :7] > 240).all() and (alpha[:, 13:] < 15).all()
