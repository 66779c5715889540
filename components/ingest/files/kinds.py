"""What a file of raw data is: by its first bytes, and by its name where those do not tell."""

from __future__ import annotations

import gzip
import re
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Literal

from ...pictures.opening import is_picture
from ..names import IMAGE_ENDINGS

Kind = Literal[
    "picture", "zip", "tar", "Parquet", "IDX images", "IDX labels", "arrays", "table", "foreign", "left out", "litter"
]
HEAD_BYTES = 560

# Folders and files that systems and programs make by themselves. Hidden ones are such too.
_LITTER_FOLDER = re.compile(
    r"\..*|__macosx|@eadir|#recycle|@recycle|#snapshot|\$recycle\.bin|recycler|system volume information|lost\+found|"
    r"found\.\d{3}|thumbnails([_\-]?\d+x\d+)?|.*\.lrdata",
    re.IGNORECASE,
)
_LITTER = re.compile(
    r"thumbs\.db|ehthumbs(_vista)?\.db|desktop\.ini|icon\r|synophoto_.*|.*@syno(resource|eastream)|.*\.(thm|ctg|aae|xmp)"
    r"|zbthumbnail\.info|picasa\.ini|.*~|.*\.(part|tmp|crdownload|lock|md5|sha256)",
    re.IGNORECASE,
)
_TABLES = frozenset(("csv", "tsv", "txt", "json", "jsonl", "ndjson"))
# What a camera wrote before it was developed. Many are TIFF files whose first page is a thumbnail.
_RAW = frozenset(("cr2", "cr3", "crw", "nef", "nrw", "arw", "srf", "sr2", "dng", "orf", "rw2", "raf", "pef", "x3f"))
_DOCUMENTS = {
    **dict.fromkeys(("xml", "yaml", "yml", "names", "data", "pbtxt"), "an annotation, or a description of the data"),
    **dict.fromkeys(("md", "rst", "html", "htm", "pdf", "doc", "rtf", "url", "lnk"), "a document"),
    **dict.fromkeys(("svg", "eps", "ai"), "a drawing, which is not read: export it as PNG"),
    **dict.fromkeys(("py", "sh", "m", "ipynb", "exe", "dll", "so"), "a program"),
    **dict.fromkeys(("mp4", "avi", "mov", "mkv", "webm", "mp3", "wav"), "a film or a sound"),
}
# What holds images in a way that is not read: its name, and what to do.
FOREIGN = {
    "HDF5": "write its images as PNG files, or as arrays in an .npz file (h5py, numpy.savez)",
    "MATLAB": "write its arrays into an .npz file (scipy.io.loadmat, numpy.savez)",
    "pickled": "unpickling runs code that stands in the file: where you trust it, write its arrays into an .npz file",
    "LMDB": "write its images as files in one folder for each class",
    "TFRecord": "write its images as files in one folder for each class, or as WebDataset shards",
    "RAR": "unpack it",
    "7-Zip": "unpack it",
    "xz": "unpack it, or pack it as .tar.gz",
    "bzip2": "unpack it, or pack it as .tar.gz",
    "Zstandard": "unpack it, or pack it as .tar.gz",
    "weights": "weights of a model are no images",
    "DICOM": "export its pictures as PNG of 8 or 16 bits (pydicom, dcm2img)",
    "NIfTI": "export its slices as PNG files, or as arrays in an .npz file (nibabel, numpy.savez)",
    "Arrow": "write it as Parquet (datasets.load_from_disk, to_parquet)",
    "Git LFS": "it only stands for a file: fetch that by git lfs pull",
    "bare values": "write its arrays into an .npz file (numpy.fromfile, numpy.savez)",
    "a piece of an archive": "put the pieces together again, or unpack them",
}
_FOREIGN_MARKS = (
    (b"\x89HDF\r\n", "HDF5"),
    (b"MATLAB 5.0 MAT", "MATLAB"),
    (b"Rar!\x1a", "RAR"),
    (b"7z\xbc\xaf", "7-Zip"),
    (b"ARROW1", "Arrow"),
    (b"version https://git-lfs", "Git LFS"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"\x80\x02", "pickled"),
    (b"\x80\x03", "pickled"),
    (b"\x80\x04", "pickled"),
    (b"\x80\x05", "pickled"),
)
_FOREIGN_ENDINGS = {
    **dict.fromkeys(("h5", "hdf5"), "HDF5"),
    "mat": "MATLAB",
    **dict.fromkeys(("pkl", "pickle", "p"), "pickled"),
    **dict.fromkeys(("mdb", "lmdb"), "LMDB"),
    **dict.fromkeys(("tfrecord", "tfrecords", "tfrec"), "TFRecord"),
    **dict.fromkeys(("dcm", "dicom"), "DICOM"),
    "nii": "NIfTI",
    "arrow": "Arrow",
    "bin": "bare values",
    **dict.fromkeys(("pt", "pth", "ckpt", "onnx", "safetensors"), "weights"),
}


def ending(name: str) -> str:
    """Return what stands behind the last dot, in small letters; empty where there is none."""
    stem, dot, last = name.rpartition("/")[2].rpartition(".")
    return last.lower() if dot and stem else ""


def is_litter_folder(name: str) -> bool:
    """Whether people do not make, or do not see, a folder of this name."""
    return _LITTER_FOLDER.fullmatch(name) is not None and name not in (".", "..")


def is_litter(name: str) -> bool:
    """Whether a path has a part that people do not make, or do not see."""
    *folders, last = name.split("/")
    hidden = last.startswith(".") and last not in (".", "..")
    return hidden or any(map(is_litter_folder, folders)) or _LITTER.fullmatch(last) is not None


def is_promised(name: str) -> bool:
    """Whether a file is taken for a picture by its name; whether it is one is seen when it is decoded."""
    return ending(name) in IMAGE_ENDINGS


def kind_of(name: str, head: bytes) -> tuple[Kind, str]:
    """Return what a file is, by its name and its first HEAD_BYTES, and the name of a kind that is not used."""
    last = ending(name)
    if is_litter(name):
        return "litter", "made by a system or a program, not a picture of the data"
    if last in _RAW:
        return "picture", "a camera's raw photo is not read: export it as JPEG, PNG or TIFF"
    if re.fullmatch(r".+\.(zip|7z|rar|tar|gz)\.\d{3}|.+\.z\d\d", name, re.IGNORECASE):
        return "foreign", "a piece of an archive"
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind, ""
    if head[257:262] == b"ustar":
        return "tar", ""
    if head[128:132] == b"DICM":
        return "foreign", "DICOM"
    foreign = next((found for start, found in _FOREIGN_MARKS if head.startswith(start)), _FOREIGN_ENDINGS.get(last, ""))
    if foreign:
        return "foreign", foreign
    if is_picture(head) or last in IMAGE_ENDINGS:
        return "picture", ""
    if last in _TABLES:
        return "table", ""
    return "left out", _DOCUMENTS.get(last, "not a picture")


_STARTS: tuple[tuple[bytes, Kind], ...] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"PAR1", "Parquet"),
    (b"\0\0\x08\x03", "IDX images"),
    (b"\0\0\x08\x01", "IDX labels"),
)


def kind_of_file(path: Path, name: str) -> tuple[Kind, str]:
    """Return what a file on the disk is; a gzipped one is what is packed in it."""
    if is_litter(name):
        return kind_of(name, b"")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "left out", "not a regular file"
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        if head.startswith(b"\x1f\x8b"):
            name = name.removesuffix(".gz").removesuffix(".GZ")
            with gzip.open(path, "rb") as packed:
                head = packed.read(HEAD_BYTES)
            kind, why = kind_of(name, head)
            told = kind in ("tar", "IDX images", "IDX labels", "foreign")
            return (kind, why) if told else ("left out", "gzipped, and not an archive: unpack it")
    except (OSError, EOFError, zlib.error) as error:
        return "left out", f"damaged, or not to be read ({getattr(error, 'strerror', None) or 'cut short'})".lower()
    kind, why = kind_of(name, head)
    return _of_zip(path) if kind == "zip" else (kind, why)


def _of_zip(path: Path) -> tuple[Kind, str]:
    """Return what a zip archive is: Office documents, NumPy's arrays and weights are such too."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:
        # Reading it says what is wrong.
        return "zip", ""
    if "[Content_Types].xml" in names or "META-INF/MANIFEST.MF" in names or names[:1] == ["mimetype"]:
        return "left out", "a document"
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return "foreign", "weights"
    return ("arrays", "") if names and all(name.endswith(".npy") for name in names) else ("zip", "")
