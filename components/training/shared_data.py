"""Data sets at the storage: uploaded once, fetched once by each node."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from ..gan.errors import DamagedError
from ..gan.options import STORED
from ..services.storage import Storage
from ..workspace.artifacts import Dataset
from ..workspace.files import disk_errors, sha256_of, unsealed

# --- data sets: `datasets/<content>/` ---


def publish_dataset(dataset: Dataset, storage: Storage) -> None:
    """Upload what the storage lacks of `dataset`, its manifest last."""
    target = storage / f"datasets/{dataset.content}"
    there = target.sizes()
    sizes = {name: (dataset.folder / name).stat().st_size for name in [*dataset.files, Dataset.manifest]}
    lacking = {name: size for name, size in sizes.items() if there.get(name) != size}
    with tqdm(total=sum(lacking.values()), desc="upload", unit="B", unit_scale=True, delay=1, disable=None) as bar:
        for name, size in lacking.items():
            target.put(dataset.folder / name, name)
            bar.update(size)


def fetch_dataset(content: str, storage: Storage, cache: Path) -> Dataset:
    """Return the data set with this content hash in `cache/<content>`; what is there whole is not fetched again.

    The processes of one node wait for each other, so that one of them downloads.

    Raises:
        UserError: the storage does not have it, or has it damaged; there is no space left in `cache`.
    """
    source, folder = storage / f"datasets/{content}", cache / content
    manifest, fetched = folder / Dataset.manifest, folder / "fetched.json"

    def damaged(name: str) -> DamagedError:
        return DamagedError(
            f"{source.uri}/{name} is missing or damaged: delete it and run again, which uploads it again"
        )

    with disk_errors(folder):
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{content}.lock"):
            described = _described(manifest, content)
            if described is None and source.get(Dataset.manifest, fetched):
                described = _described(fetched, content)
            if described is None:
                raise damaged(Dataset.manifest)
            for name, record in described.files.items():
                file = folder / name
                if file.is_file() and file.stat().st_size == record.size and sha256_of(file) == record.sha256:
                    continue
                if not source.get(name, file) or sha256_of(file) != record.sha256:
                    file.unlink(missing_ok=True)
                    raise damaged(name)
            if fetched.exists():
                fetched.replace(manifest)
    return Dataset.load(folder)


def _described(manifest: Path, content: str) -> Dataset | None:
    """Return the data set that `manifest` describes, if it has this content hash; its files are not read."""
    try:
        described = {**unsealed(manifest.read_text()), "folder": manifest.parent}
        dataset = Dataset.model_validate(described, context=STORED)
    except (OSError, ValueError, TypeError):
        return None
    return dataset if dataset.content == content else None
