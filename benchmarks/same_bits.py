"""Whether this checkout trains the same weights, and samples the same pixels, as a commit does: bit for bit.

python -m benchmarks.same_bits                        # short trainings: every network, loss, penalty, augmentation
python -m benchmarks.same_bits --only stylegan2 --images 960
python -m benchmarks.same_bits --job                  # and the default job: preprocess, train, evaluate (minutes)

Ours has the options that its stored descriptions mean where they do not say (`AddedWith`). A row may differ where its
options or network have another key, because they compute otherwise on purpose.

Both sides run in processes of their own with the same seeds, on the same digits, and import nothing of each other. The
commit is unpacked into a temporary folder. Prints a row for each training; a row that differs is an error.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from components.gan.options import STORED, TrainingOptions

PROJECT = Path(__file__).resolve().parents[1]
COMMIT = "29edf2a"
SIDE = 28
# Networks that make other bits on purpose, so that none is adopted (components/workspace/same_bits.py).
CHANGED = ("stylegan2",)
RENDERED = 230
# Each network under its recipe, with what only it can have or what it had least of.
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"network": {"conditional": True}, "wgan_gp_weight": 10, "r1_gamma": 0},
    "dcgan": {"network": {"generator_width": 8, "discriminator_width": 8}, "r2_gamma": 0.5},
    "biggan": {"network": {"width": 4, "latent": 12, "embedding": 8}, "r1_gamma": 0.1},
    "stylegan2": {
        "network": {"width": 4, "max_width": 8, "style": 8, "latent": 8, "mapping_layers": 2},
        "path_length_every": 2,
    },
    "r3gan": {"network": {"width": 16, "blocks": 1, "group": 8, "latent": 8, "embedding": 8}, "penalty_every": 1},
}
# What the default network can be trained with.
LOSSES = ("non_saturating", "saturating", "hinge", "least_squares", "wasserstein", "relativistic")
CHANGES: dict[str, dict[str, Any]] = {
    "no penalty": {"r1_gamma": 0},
    "r1, falling": {"r1_gamma": {"start": 2, "end": 0.1, "shape": "linear"}},
    "r1, r2 and wgan_gp": {"r2_gamma": 0.5, "wgan_gp_weight": 10},
    "wgan_gp alone": {"r1_gamma": 0, "wgan_gp_weight": 10},
    "augment": {"augment": ["color", "translation", "cutout"]},
    "ada": {"ada": {"images_to_one": 200, "target": -0.9}},
    "ada by schedule": {"ada": {"probability": {"start": 0.2, "end": 0.8}}, "augment": ["translation"]},
    "mirror": {"mirror": True},
    "mirror, relativistic": {"mirror": True, "loss": "relativistic", "augment": ["color"], "ada": {"probability": 0.3}},
    "three d_steps": {"d_steps": 3, "mirror": True, "r2_gamma": 0.5},
    "orthogonal": {"orthogonal_weight": 1e-4},
    "moving betas and half-life": {
        "adam_betas": [0.5, {"start": 0.9, "end": 0.99}],
        "ema_half_life": {"start": 10, "end": 1000},
        "learning_rate_generator": {"start": 1e-3, "end": 1e-4},
    },
    "without shortcuts": {"shortcuts": False, "r2_gamma": 0.5},
    "unconditional": {"network": {"conditional": False}},
    "odd batch": {"batch": 15},
}
# Run in either tree; it may use only what both have.
DRIVER = r"""
import hashlib, io, json, socket, sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image
from safetensors.torch import save, save_file
from components.gan.dataset import Split
from components.gan.options import Execution, ImageFormat, TrainingOptions
from components.gan.training_loop import training_loop

# Evaluation sampled 250 images at a time and render 100.
EVALUATED, RENDERED = 500, 230

def evaluated_and_rendered(network, image, precision, weights, size=100):
    labels = np.arange(EVALUATED) % len(image.classes)
    sees_nothing = SimpleNamespace(read=lambda pixels: SimpleNamespace(features=None, probabilities=None))
    asked = {"judge": sees_nothing, "seeds": range(1_000_000, 1_000_000 + EVALUATED), "labels": labels}
    batch = {"name": "any", "version": 1, "model": "any", "images": RENDERED, "label": "", "seed": 5}
    batch |= {"truncation": 0.7, "steps": ()}
    files = {}
    if find_spec("components.measure"):
        from components import measure, render
        networks = measure.Networks(network, image, precision, weights)
        evaluated = measure.sampled_part(slice(0, EVALUATED), (), networks=networks, **asked).pixels
        batch = render.Rendering(**batch)
        for start in range(0, RENDERED, size):
            images = range(start, min(start + size, RENDERED))
            part = render.Part(images, tuple(images))
            files |= render.finished_part(part, (), batch=batch, networks=networks, driver=0)
    else:
        from components import generate
        from components.evaluation.samples import sampled_part
        from components.gan.published import FILES, Manifest, Published
        from components.services.picture_folder import PictureBatch
        name, latents = FILES["generator"], "torch-mt19937"
        described = {"latents": latents, "files": {name: hashlib.sha256(weights).hexdigest()}}
        model = Published(Manifest(network=network, image=image, precision=precision, **described), {name: weights})
        asked["feature_nets"] = (asked.pop("judge"),)
        evaluated = sampled_part(slice(0, EVALUATED), (), model=model, logits=False, **asked).pixels
        files = generate.finished_chunk(range(RENDERED), (), batch=PictureBatch(**batch), model=model, driver=0)
    return evaluated, np.stack([np.asarray(Image.open(io.BytesIO(content))) for content in files.values()])

def train(case, data, out):
    torch.set_num_threads(1)
    image = ImageFormat(height=28, width=28, channels=1, classes=tuple("0123456789"))
    options = TrainingOptions.model_validate(case["options"])
    execution = Execution(workers=case["ranks"], threads=1, device="cpu", precision=case["precision"])
    *_, last = training_loop(options, Split(Path(data), "training", image), execution)
    if dist.is_initialized() and dist.get_rank():
        return
    out = Path(out)
    out.mkdir()
    save_file(last.state().tensors, out / "state.safetensors")
    weights = save({name: tensor.contiguous() for name, tensor in last.ema.state_dict().items()})
    evaluated, rendered = evaluated_and_rendered(options.network, image, case["precision"], weights)
    np.save(out / "evaluated.npy", evaluated)
    np.save(out / "rendered.npy", rendered)
    # As many at a time as evaluation samples, which is what counts where the two disagree.
    at_once = evaluated_and_rendered(options.network, image, case["precision"], weights, RENDERED)[1]
    np.save(out / "rendered-at-once.npy", at_once)

def of_rank(rank, port, case, data, out):
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=case["ranks"])
    train(case, data, out)
    dist.destroy_process_group()

if __name__ == "__main__":
    cases, data, out = sys.argv[1:]
    for number, case in enumerate(json.loads(Path(cases).read_text())):
        target = f"{out}/{number}"
        if case["ranks"] == 1:
            train(case, data, target)
            continue
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        mp.spawn(of_rank, (port, case, data, target), nprocs=case["ranks"])
"""


def cases(images: int) -> Iterator[dict[str, Any]]:
    """Every training to compare: its name, options, precision and number of ranks."""
    small = {"images": images, "batch": 16, "log_every": 10**9}
    for precision in ("fp32", "bf16"):
        default = {"options": {"images": 4 * images, "log_every": 10**9}, "precision": precision, "ranks": 1}
        yield {"name": "default options", **default}
        for name, own in NETWORKS.items():
            options = {"penalty_every": 3, **small, **own, "network": {"name": name, **own.get("network", {})}}
            yield {"name": name, "options": options, "precision": precision, "ranks": 1}
            if precision == "fp32":
                yield {"name": f"{name}, 3 ranks", "options": options, "precision": precision, "ranks": 3}
        dcgan = {"name": "dcgan", **NETWORKS["dcgan"]["network"]}
        changes = {f"loss {loss}": {"loss": loss} for loss in LOSSES} | CHANGES
        for name, own in changes.items():
            options = {"penalty_every": 2, **small, **own, "network": dcgan | own.get("network", {})}
            yield {"name": f"dcgan, {name}", "options": options, "precision": precision, "ranks": 1}
        # So wide that the number of rows decides in which order a linear layer adds.
        options = {"penalty_every": 3, **small, "images": images // 2, "network": {"name": "biggan"}}
        yield {"name": "biggan, its own width", "options": options, "precision": precision, "ranks": 1}
        biggan = {"name": "biggan", **NETWORKS["biggan"]["network"]}
        options = {**small, "penalty_every": 3, "orthogonal_weight": 0, "network": biggan}
        yield {"name": "biggan, not orthogonal", "options": options, "precision": precision, "ranks": 1}
        stylegan2 = {"name": "stylegan2", **NETWORKS["stylegan2"]["network"], "minibatch_std_group": 5}
        options = {**small, "batch": 15, "path_length_every": 1, "network": stylegan2}
        yield {"name": "stylegan2, odd batch", "options": options, "precision": precision, "ranks": 1}


def as_stored(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with what they mean in a description that was stored before others were added."""
    return TrainingOptions.model_validate(options, context=STORED).model_dump(mode="json")


def unpack(commit: str, folder: Path) -> None:
    """Put the files of `commit` into `folder`."""
    archive = subprocess.run(["git", "archive", commit], cwd=PROJECT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")


def digits(folder: Path) -> None:
    """Write a training split of the digits in `data/`."""
    try:
        files = [
            gzip.decompress((PROJECT / "data" / f"{name}-ubyte.gz").read_bytes())
            for name in ("images-idx3", "labels-idx1")
        ]
    except FileNotFoundError as error:
        sys.exit(f"{error.filename} is missing: run `dvc pull data.dvc`")
    np.save(folder / "training-00000.npy", np.frombuffer(files[0], np.uint8, offset=16).reshape(-1, SIDE, SIDE, 1))
    np.save(folder / "training-labels.npy", np.frombuffer(files[1], np.uint8, offset=8).astype(np.int64))


def run(tree: Path, cwd: Path, *command: str) -> None:
    """Run Python with the code of `tree`, in `cwd`.

    Raises:
        SystemExit: it failed.
    """
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{tree} failed at {' '.join(command)}:\n{done.stdout}{done.stderr}")


def difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> str:
    """Empty where all tensors are equal bit for bit, else what is not."""
    if lacking := sorted(ours.keys() ^ theirs.keys()):
        return f"{len(lacking)} tensors on one side alone, such as {lacking[0]}"
    other = [name for name in theirs if not _same(ours[name], theirs[name])]
    if not other:
        return ""
    largest = max((ours[name].double() - theirs[name].double()).abs().max().item() for name in other)
    return f"{len(other)} of {len(theirs)} tensors differ, by up to {largest:.1e}, such as {other[0]}"


def other_pictures(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Empty where all pictures are equal, else how many are not, and by how many grey levels."""
    off = np.abs(ours.astype(int) - theirs).reshape(len(ours), -1).max(1)
    return f"{np.count_nonzero(off)} differ, by up to {off.max()}" if off.any() else ""


def _same(a: Tensor, b: Tensor) -> bool:
    """Equal in type, shape and every bit."""
    return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()


def short_trainings(trees: dict[str, Path], scratch: Path, images: int, only: str) -> bool:
    """Compare short trainings whose name contains `only`; whether all are the same."""
    (scratch / "digits").mkdir()
    digits(scratch / "digits")
    chosen = [case for case in cases(images) if only in case["name"]]
    (scratch / "driver.py").write_text(DRIVER)
    for side, tree in trees.items():
        (scratch / side).mkdir()
        told = [case | {"options": as_stored(case["options"])} for case in chosen] if side == "ours" else chosen
        (scratch / f"cases-{side}.json").write_text(json.dumps(told))
        paths = (str(scratch / name) for name in ("driver.py", f"cases-{side}.json", "digits", side))
        run(tree, scratch, *paths)
    print(f"{'training':<42}{'precision':<11}{'tensors':>8}  {'weights and state':<19} {'evaluation':<13} render")
    good = True
    for number, case in enumerate(chosen):
        ours, theirs = (load_file(scratch / side / str(number) / "state.safetensors") for side in trees)
        told = difference(ours, theirs)
        evaluated, rendered, at_once = (
            other_pictures(*(np.load(scratch / side / str(number) / f"{name}.npy") for side in trees))
            for name in ("evaluated", "rendered", "rendered-at-once")
        )
        options = TrainingOptions.model_validate(case["options"])
        other_key = "corrected" in options.hashed or options.network.name in CHANGED
        good &= other_key or not (told or evaluated or at_once)
        told = f"another key: {told}" if other_key and told else told
        print(
            f"{case['name']:<42}{case['precision']:<11}{len(theirs):>8}  {told or 'same bits':<19} "
            f"{evaluated or 'same pixels':<13} {rendered or 'same pixels'}"
            + (f", {at_once or 'none'} if made {RENDERED} at a time" if rendered else "")
        )
    return good


def default_job(trees: dict[str, Path], scratch: Path, images: int | None) -> bool:
    """Compare model and samples of the default job, as the command line makes them; whether they are the same.

    `images` is the length of the training; None: the default's own.
    """
    params = yaml.safe_load((trees["theirs"] / "params.yaml").read_text())
    if images is not None:
        params["train"]["images"] = images
    made: dict[str, list[Any]] = {}
    for side, tree in trees.items():
        root = scratch / f"job-{side}"
        root.mkdir()
        shutil.copytree(PROJECT / "data", root / "data")
        (root / "params.yaml").write_text(yaml.safe_dump(params))
        scripts = tomllib.loads((tree / "pyproject.toml").read_text())["project"]["scripts"]
        module, function = scripts["ganflow"].split(":")
        command = f"import sys; sys.argv = ['ganflow', '{{stage}}']; from {module} import {function}; {function}()"
        for stage in ("preprocess", "train", "evaluate"):
            run(tree, root, "-c", command.format(stage=stage))
        artifacts = root / "artifacts"
        made[side] = [
            *(load_file(artifacts / "model" / f"{name}.safetensors") for name in ("generator", "discriminator")),
            torch.from_numpy(np.load(artifacts / "evaluation" / "samples.npy")),
        ]
    good = True
    for name, ours, theirs in zip(("generator", "discriminator", "evaluation's samples"), *made.values(), strict=True):
        told = difference(*(x if isinstance(x, dict) else {"samples": x} for x in (ours, theirs)))
        good &= not told
        print(f"{'default job: ' + name:<63}{told or 'same bits'}")
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", default=COMMIT, help=f"to compare with; default: {COMMIT}")
    parser.add_argument(
        "--images", type=int, default=96, help="length of each training; the default options' is 4 times"
    )
    parser.add_argument("--only", default="", help="trainings whose name contains this")
    parser.add_argument("--job", action="store_true", help="also the default job")
    parser.add_argument("--job-images", type=int, help="length of its training; default: its own")
    given = parser.parse_args()
    with TemporaryDirectory() as name:
        scratch = Path(name)
        trees = {"ours": PROJECT, "theirs": scratch / "tree"}
        trees["theirs"].mkdir()
        unpack(given.commit, trees["theirs"])
        good = short_trainings(trees, scratch, given.images, given.only)
        if given.job:
            good &= default_job(trees, scratch, given.job_images)
    if not good:
        sys.exit(f"this checkout computes other bits than {given.commit}")


if __name__ == "__main__":
    main()
