"""What applying a model to one large photo takes: seconds, memory, and how many megapixels a second beside Lanczos.

python -m benchmarks.apply --task "{name: super_resolve, factor: 2}"

A photo of 6000x4000 goes through `ganflow apply` in a process of its own, by networks of the default size for the task.
They are not trained, which changes neither time nor memory. Prints seconds of the clock and of the processor, the peak
of resident memory, and the same of Pillow's Lanczos enlarging the photo as often, without files.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import yaml
from PIL import Image

from components.gan.models import build
from components.gan.options import Execution, ImageFormat, TrainingOptions
from components.workspace.artifacts import Key, Model
from components.workspace.files import staging
from components.workspace.workspace import Workspace

PROJECT = Path(__file__).resolve().parents[1]
_KEY = Key(options="0" * 64, inputs="1" * 64, code="2" * 64)


def workspace_with(root: Path, task: object) -> Workspace:
    """A workspace with an untrained model of `task`."""
    workspace = Workspace(root)
    workspace.state.mkdir(parents=True)
    workspace.params.write_text("")
    image = ImageFormat(height=96, width=96, channels=3, classes=("any",))
    training = TrainingOptions.model_validate({"task": task})
    with staging(workspace.model) as folder:
        torch.manual_seed(0)
        generator = build(training.network, image, training.task).generator
        state = {name: value.contiguous() for name, value in generator.state_dict().items()}
        safetensors.torch.save_file(state, folder / "generator.safetensors")
        Model.describe(
            folder,
            _KEY,
            training=training,
            image=image,
            execution=Execution(workers=1, threads=1, device="cpu", precision="fp32"),
            images=0,
            score=0.0,
            generator_parameters=1,
            discriminator_parameters=1,
            dataset="none",
        )
    return workspace


def photo(width: int, height: int) -> Image.Image:
    """A picture with detail at all sizes: noise of many scales, from a seed."""
    random, whole = np.random.default_rng(0), np.zeros((height, width, 3), np.float32)
    for scale in (1, 8, 64, 512):
        noise = random.normal(0, 20, (-(-height // scale), -(-width // scale), 3)).astype(np.float32)
        whole += noise.repeat(scale, 0).repeat(scale, 1)[:height, :width]
    return Image.fromarray((whole + 128).clip(0, 255).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", default="{name: super_resolve, factor: 2}")
    parser.add_argument("--size", default="6000x4000")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    task = yaml.safe_load(arguments.task)
    with tempfile.TemporaryDirectory() as scratch:
        workspace = workspace_with(Path(scratch, "workspace"), task)
        given = photo(width, height)
        given.save(Path(scratch, "photo.jpg"), quality=95)
        command = [str(Path(sys.executable).parent / "ganflow"), "apply", str(Path(scratch, "photo.jpg"))]
        command += ["--model", "workspace", "--out", str(Path(scratch, "out")), "--workspace", str(workspace.root)]
        begun = time.perf_counter()
        process = subprocess.Popen(command, cwd=PROJECT)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        assert status == 0
        (made,) = (file for file in Path(scratch, "out").iterdir() if file.suffix == ".jpg")
        # Larger than what Pillow takes for a bomb.
        Image.MAX_IMAGE_PIXELS = None
        with Image.open(made) as image:
            scale = image.width // width
    pixels = width * height * scale**2 / 1e6
    print(f"{width}x{height}, {task['name']}: {pixels:.0f} MPix made")
    processor = used.ru_utime + used.ru_stime
    print(
        f"ganflow apply: {seconds:.1f} s, {processor:.1f} s of the processor, {pixels / seconds:.2f} MPix/s, ", end=""
    )
    print(f"peak {used.ru_maxrss / 2**20:.2f} GiB")
    begun = time.perf_counter()
    given.resize((width * scale, height * scale), Image.Resampling.LANCZOS)
    lanczos = time.perf_counter() - begun
    print(f"Pillow's Lanczos: {lanczos:.1f} s, {pixels / lanczos:.1f} MPix/s")


if __name__ == "__main__":
    main()
