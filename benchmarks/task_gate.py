"""How often the gate is wrong about models of an image task, and what it sees: with real models, on photographs.

python -m benchmarks.task_gate --photos /usr/share/games/endless-sky/images/land --keep /tmp/task_gate

Trainings from several seeds, each with some checkpoints, are measured once on every held-out photograph. Then again and
again the held-out files are divided by chance: some are what the gate compares on, at least 100 others are a reserve
that says what is true. Each division shows the gate pairs of models, one after another, as looks at one holdout.

A promotion is *false* where the mean perceptual distance of the challenger over the reserve, and over feature nets that
no loss used, is not below the champion's. These nets are EfficientNet-Lite0, by which the gate decides, and classifiers
that tell pieces of the training photographs apart, of several seeds. Prints the share of false promotions, with the
upper end of its 95 % interval (Clopper & Pearson); how often a difference of four standard errors is promoted; and the
smallest difference of PSNR that is told apart.

The divisions are of the same files and models, so the interval is that of these, and not of all photographs.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import yaml
from PIL import Image
from scipy.stats import beta  # type: ignore[import-untyped]

from components.evaluation.comparison import Comparison
from components.evaluation.gate import decide
from components.gan.dataset import Pixels, Split
from components.gan.inputs import Inputs
from components.gan.options import Execution, ImageFormat, TrainingOptions
from components.gan.sampling import conditions, sample
from components.gan.tasks.image_tasks import task_of
from components.gan.training_loop import bf16, training_loop
from components.measures.features import EfficientNetLite0, train_classifier
from components.measures.fidelity import psnr, squared_errors
from components.measures.intervals import Values
from components.measures.perceptual import perceptual_distance
from components.workspace.params import Promote

SIDE, PER_FILE = 64, 8
COMPARED, RESERVE = 49, 100
JUDGES = 2
# Of EfficientNet-Lite0 and the classifiers: those by which the gate decides, and those by which it is judged.
NETS = (
    ("lite0, lite0", [0], [0]),
    ("lite0, all", [0], [0, 1, 2]),
    ("classifiers, all", [1, 2], [0, 1, 2]),
    ("all, all", [0, 1, 2], [0, 1, 2]),
)


def pieces(photos: Path, learned_from: int) -> tuple[Split, Pixels, npt.NDArray[np.int64]]:
    """Return pieces (N, 64, 64, 3) to learn from, labelled by their files, and held-out ones with the file of each."""
    files = sorted(file for file in photos.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
    order = np.random.default_rng(0).permutation(len(files))
    found = []
    for number in order:
        whole = np.asarray(Image.open(files[number]).convert("RGB"))
        rows, columns = whole.shape[0] // SIDE, whole.shape[1] // SIDE
        cut = whole[: rows * SIDE, : columns * SIDE].reshape(rows, SIDE, columns, SIDE, 3).swapaxes(1, 2)
        every = cut.reshape(-1, SIDE, SIDE, 3)
        if len(every) >= PER_FILE:
            found.append(every[np.random.default_rng(int(number)).permutation(len(every))])
    learned, held = found[:learned_from], [every[:PER_FILE] for every in found[learned_from:]]
    names = tuple(f"photo {number}" for number in range(len(learned)))
    image = ImageFormat(height=SIDE, width=SIDE, channels=3, classes=names)
    labels = np.repeat(np.arange(len(learned)), [len(each) for each in learned])
    print(f"{len(learned)} photographs to learn from, {len(held)} held out, {PER_FILE} pieces of each", flush=True)
    return (
        Split.of(np.concatenate(learned), labels, image),
        np.concatenate(held),
        np.repeat(np.arange(len(held)), PER_FILE),
    )


def measured(data: Split, held: Pixels, arguments: argparse.Namespace, keep: Path) -> tuple[list[str], Values, Values]:
    """Return the names of the models, their perceptual distances (models, nets, N) and squared errors (models, N)."""
    kept = keep / "measured.npz"
    if kept.exists():
        found = np.load(kept, allow_pickle=False)
        return found["names"].tolist(), found["distances"], found["squared"]
    nets = [EfficientNetLite0().eval(), *(train_classifier(data, seed).eval() for seed in range(JUDGES))]
    execution = Execution(workers=1, threads=1, device="cpu", precision="bf16" if bf16(False) else "fp32")
    names, distances, squared = [], [], []
    for seed, weight in itertools.product(range(arguments.seeds), (0.0, 0.02)):
        ramp = {"start": 0.0, "end": weight, "rest": 0.5} if weight else 0.0
        values = {"task": yaml.safe_load(arguments.task), "images": arguments.images, "batch": 16, "seed": seed}
        values |= {"log_every": arguments.images // 4, "adversarial_weight": ramp}
        options = TrainingOptions.model_validate({**values, "network": yaml.safe_load(arguments.network)})
        task = task_of(options.task)
        assert task is not None
        given = conditions(task, held, range(len(held)), data.image)
        inputs = Inputs.without_latent(torch.zeros(len(held), dtype=torch.long), given)
        for progress in training_loop(options, data, execution):
            # Of the one with the game the second half alone is another.
            if weight and progress.images <= arguments.images // 2:
                continue
            made = sample(progress.ema, inputs, precision=execution.precision)
            names.append(f"seed {seed}, weight {weight}, {progress.images:,} images")
            distances.append(np.stack([perceptual_distance(net, made, held) for net in nets]))
            squared.append(squared_errors(made, held))
            print(f"{names[-1]}: {distances[-1].mean(1).round(4)}, {psnr(squared[-1]):.2f} dB", flush=True)
    np.savez(kept, names=np.array(names), distances=np.stack(distances), squared=np.stack(squared))
    return names, np.stack(distances), np.stack(squared)


def by_file(values: Values, files: npt.NDArray[np.int64]) -> Values:
    """Return means over the pieces of each file, (..., files)."""
    return np.stack([values[..., files == file].mean(-1) for file in range(int(files.max()) + 1)], -1)


def verdicts(
    distances: Values, divisions: int, alpha: float, seen_by: list[int], judged_by: list[int]
) -> Iterator[tuple[str, bool]]:
    """Yield for each pair that is compared the answer, and whether the challenger is truly nearer on the reserve.

    `distances`: (models, nets, files). `seen_by`: nets that the gate has, `judged_by`: those that say what is true.
    """
    rng, count = np.random.default_rng(0), distances.shape[2]
    for _ in range(divisions):
        order = rng.permutation(count)
        compared, reserve = order[:COMPARED], order[COMPARED:]
        assert len(reserve) >= RESERVE
        pairs = [tuple(rng.permutation(len(distances))[:2]) for _ in range(20)]
        for look, (challenger, champion) in enumerate(pairs, 1):
            new, old = (distances[model][np.ix_(seen_by, compared)] for model in (challenger, champion))
            found = decide(Comparison.of_pairs(new, old), (1, look), Promote().perceptual_margin, alpha)
            true = [distances[model][np.ix_(judged_by, reserve)].mean(1) for model in (challenger, champion)]
            # Nets differ in scale.
            yield found.answer, bool(((true[1] - true[0]) / (true[1] + true[0])).mean() > 0)


def power(distances: Values, errors: float, repeats: int, alpha: float) -> float:
    """Return how often a difference of so many standard errors is promoted at the first look.

    Differences of real pairs by file, moved so that their mean is that, and drawn again and again.
    """
    rng, seen = np.random.default_rng(1), []
    for challenger, champion in itertools.permutations(range(len(distances)), 2):
        new, old = distances[challenger, 0], distances[champion, 0]
        difference = old - new
        wanted = errors * difference.std(ddof=1) / COMPARED**0.5
        moved = new + difference.mean() - wanted
        for _ in range(repeats):
            some = rng.integers(0, len(new), COMPARED)
            comparison = Comparison.of_pairs(moved[None, some], old[None, some])
            seen.append(decide(comparison, (1, 1), 0.0, alpha).answer == "promote")
    return float(np.mean(seen))


def told_apart(squared: Values, errors: float) -> Values:
    """Return for each pair of models how many dB of PSNR are `errors` standard errors, by leaving out files."""
    found = []
    for a, b in itertools.combinations(range(len(squared)), 2):
        left = [psnr(np.delete(squared[a], i)) - psnr(np.delete(squared[b], i)) for i in range(squared.shape[1])]
        error = float(np.sqrt((len(left) - 1) / len(left) * np.square(np.array(left) - np.mean(left)).sum()))
        found.append(errors * error * (squared.shape[1] / COMPARED) ** 0.5)
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True, help="folder for what was measured, to go on from")
    parser.add_argument("--task", default="{name: super_resolve, factor: 2}")
    parser.add_argument("--network", default="{name: edsr, width: 32, blocks: 4, discriminator_width: 16}")
    parser.add_argument("--images", type=int, default=6_400)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--learned-from", type=int, default=100, help="photographs")
    parser.add_argument("--divisions", type=int, default=100)
    arguments = parser.parse_args()
    arguments.keep.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    data, held, files = pieces(arguments.photos, arguments.learned_from)
    names, distances, squared = measured(data, held, arguments, arguments.keep)
    alpha, of_files = Promote().alpha, by_file(distances, files)
    for name, seen_by, judged_by in NETS:
        found = list(verdicts(of_files, arguments.divisions, alpha, seen_by, judged_by))
        promoted = [nearer for answer, nearer in found if answer == "promote"]
        false, worse = len(promoted) - sum(promoted), sum(not nearer for _, nearer in found)
        print(
            json.dumps(
                {
                    "gate sees by, truth by": name,
                    "decisions": len(found),
                    "of challengers that are no better": worse,
                    "promoted": len(promoted),
                    "false": false,
                    "share of those no better": round(false / max(1, worse), 4),
                    "upper end": round(float(beta.ppf(0.95, false + 1, max(1, worse - false))), 4),
                    "abstained": sum(answer == "abstain" for answer, _ in found),
                }
            ),
            flush=True,
        )
    told = told_apart(by_file(squared, files), 4.0)
    print(
        json.dumps(
            {
                "models": len(names),
                "files": int(files.max()) + 1,
                "power for four standard errors": round(power(of_files, 4.0, 20, alpha), 3),
                "dB told apart, least and median": np.quantile(told, [0, 0.5]).round(3).tolist(),
            }
        )
    )


if __name__ == "__main__":
    main()
