"""What the nodes of a cluster share when they share no disk: a bucket or folder."""

from __future__ import annotations

import copy
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs

from ..gan.errors import NotThereError, RefusedError, UnreachableError, UserError
from ..workspace.files import disk_errors

CHUNK = 16 * 2**20
# Three attempts, each of this many seconds: an endpoint that does not answer costs less than 15 s.
ATTEMPTS = 3
TIMEOUT = 4.0
# What workers need to know of the machine that starts them; GANFLOW_PASS_ENV names more.
PASSED = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
)
_DENIED = RefusedError, "access is denied: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they permit"
_REASONS: Mapping[str, tuple[type[UserError], str]] = {
    "NO_SUCH_BUCKET": (NotThereError, "there is no such bucket: create it or correct the address"),
    "NETWORK_CONNECTION": (UnreachableError, "it does not answer: check the network and AWS_ENDPOINT_URL"),
    "ACCESS_DENIED": _DENIED,
    "INVALID_ACCESS_KEY_ID": _DENIED,
    "SIGNATURE_DOES_NOT_MATCH": _DENIED,
}


class _Environment(dict[str, str]):
    """Variables whose values stay out of logs and tracebacks."""

    def __repr__(self) -> str:
        return f"<values of {', '.join(self)}>"


def passed_environment() -> dict[str, str]:
    """Return the variables that may travel to workers and are set; printing them shows their names alone."""
    names = (*PASSED, *(name.strip() for name in os.environ.get("GANFLOW_PASS_ENV", "").split(",")))
    return _Environment({name: os.environ[name] for name in names if name in os.environ})


class StoredFile(NamedTuple):
    """A file's bytes, and when it was stored, in nanoseconds since 1970."""

    size: int
    time_ns: int


class Storage:
    """Files by name, `a/b.c`, below an absolute path or a URI; S3 is told its endpoint, region and keys by AWS_*.

    Every method raises UserError, with the URI and what to do: no such bucket, access denied, no answer, disk full.
    """

    def __init__(self, uri: str) -> None:
        # For messages: without the query, user and password.
        scheme, _, rest = uri.partition("?")[0].rpartition("://")
        self.uri = f"{scheme}://{rest.rpartition('@')[2]}" if scheme else uri
        try:
            if scheme == "s3":
                if not rest or self.uri != uri:
                    raise ValueError
                self._files, root = _s3(), rest
            else:
                self._files, root = pyarrow.fs.FileSystem.from_uri(uri)
            # In others a file is seen before it is whole.
            if self._files.type_name not in ("local", "s3", "gcs", "abfs"):
                raise ValueError
        except (OSError, ValueError, pa.ArrowException):
            # What pyarrow says may quote a URI with its password.
            raise UserError(
                f"cannot use {self.uri} as a storage: give an absolute path, s3://bucket/prefix (endpoint, region and "
                "keys are read from AWS_* variables alone), gs://bucket/prefix or abfs://container@account/prefix"
            ) from None
        self._root = root.rstrip("/")

    def __repr__(self) -> str:
        return f"Storage({self.uri})"

    def __truediv__(self, folder: str) -> Storage:
        """Return what is below `folder`."""
        below = copy.copy(self)
        below.uri, below._root = f"{self.uri.rstrip('/')}/{folder}", self._at(folder)
        return below

    def put(self, file: Path, name: str) -> None:
        """Store `file` as `name`, in place of what was there; a reader finds the old or the new."""
        target, data = self._at(name), pa.memory_map(str(file)).read_buffer()
        with self._answer():
            if self._files.type_name != "local":
                self._write(target, data)
                return
            self._files.create_dir(target.rpartition("/")[0], recursive=True)
            part = f"{target}.{uuid.uuid4().hex}.part"
            try:
                self._write(part, data)
                self._files.move(part, target)
            except BaseException:
                with suppress(OSError):
                    self._files.delete_file(part)
                raise

    def get(self, name: str, file: Path) -> bool:
        """Fetch `name` to `file`, which appears when it is whole; False if there is no such name."""
        part = file.with_name(f"{file.name}.part")
        with disk_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("wb") as target:
                    target.writelines(self._chunks(name))
                    target.flush()
                    os.fsync(target.fileno())
                part.replace(file)
            except FileNotFoundError:
                return False
            finally:
                part.unlink(missing_ok=True)
        return True

    def read(self, name: str, count: int | None = None) -> bytes:
        """Return the bytes of `name`, of a large file the first `count`.

        Raises:
            FileNotFoundError: there is no such name.
        """
        found = bytearray()
        for chunk in self._chunks(name):
            found += chunk
            if count is not None and len(found) >= count:
                break
        return bytes(found[:count])

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Bytes of every name below `folder`; none if there is no such folder (or no such bucket)."""
        return {name: file.size for name, file in self.files(folder).items()}

    def files(self, folder: str = "") -> dict[str, StoredFile]:
        """Every file by its name below `folder`; none if there is no such folder (or no such bucket)."""
        selector = pyarrow.fs.FileSelector(self._at(folder).rstrip("/"), recursive=True, allow_not_found=True)
        with self._answer():
            found = self._files.get_file_info(selector)
        files = {info.path.removeprefix(f"{self._root}/"): info for info in found if info.is_file}
        return {
            name: StoredFile(info.size, info.mtime_ns or 0)
            for name, info in files.items()
            if not name.endswith(".part")
        }

    def delete(self, name: str) -> None:
        """Remove `name`, or all that is below it, if there is any."""
        with self._answer(), suppress(FileNotFoundError):
            if self._files.get_file_info(self._at(name)).type == pyarrow.fs.FileType.Directory:
                self._files.delete_dir(self._at(name))
            else:
                self._files.delete_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _write(self, path: str, data: pa.Buffer) -> None:
        with self._files.open_output_stream(path) as stream:
            # In one call: closing the stream after an error between two would publish the first.
            stream.write(data)

    def _chunks(self, name: str) -> Iterator[bytes]:
        with self._answer(), self._files.open_input_file(self._at(name)) as source:
            while chunk := source.read(CHUNK):
                yield chunk

    @contextmanager
    def _answer(self) -> Iterator[None]:
        """Turn what goes wrong in the storage, but a missing file, into one sentence."""
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            kind: type[UserError] = UserError
            number = error.errno if isinstance(error, OSError) else None
            reason = os.strerror(number).lower() if number else str(error).partition("\n")[0]
            if found := re.search(r"AWS Error ((\w+).*?) during \w+ operation: (.*?)( \(Request ID|$)", reason):
                kind, reason = _REASONS.get(found[2], (kind, f"{found[1]} {found[3]}".strip()))
            raise kind(f"cannot use the storage {self.uri}: {reason[:300]}") from None


def _s3() -> pyarrow.fs.S3FileSystem:
    """S3, or what AWS_ENDPOINT_URL names; unlike `from_uri` it gives up in time."""
    endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL", ""))
    if endpoint.geturl() and not (endpoint.scheme in ("http", "https") and endpoint.hostname):
        raise UserError("AWS_ENDPOINT_URL is no address of a server: set it to one like https://host:9000")
    return pyarrow.fs.S3FileSystem(
        endpoint_override=endpoint.netloc + endpoint.path.rstrip("/") or None,
        scheme=endpoint.scheme or None,
        region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        retry_strategy=pyarrow.fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        connect_timeout=TIMEOUT,
        request_timeout=TIMEOUT,
        # A small file then costs one request instead of three.
        allow_delayed_open=True,
    )
