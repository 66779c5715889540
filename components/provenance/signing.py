"""Signed copies of a gallery's pictures: C2PA manifests (Content Credentials), by the user's own key.

Not a stage: a signature holds random numbers and, if the user wants, a time, which an artifact never does.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import os
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..gan.errors import UserError
from ..pictures import metadata
from ..workspace.artifacts import Gallery
from ..workspace.files import disk_errors

_MIME = {".png": "image/png", ".webp": "image/webp"}
# Neither remote manifests nor revocation lists are asked for.
_SETTINGS = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
    "builder": {"thumbnail": {"enabled": False}},
}


def sign(gallery: Gallery, certificate: Path, key: Path, out: Path, timestamp: str | None = None) -> int:
    """Write a signed copy of every picture of `gallery` into the folder `out`, and return how many.

    `certificate` is a PEM file with the signer's certificate first and those that vouch for it behind, `key` one with
    its private key. Nothing is sent anywhere but to the time-stamping server `timestamp`, if there is one.

    Raises:
        UserError: the extra `sign` is not installed, a file is not what it should be, the two do not belong together,
            the certificate may not sign, or the time-stamping server does not answer.
    """
    if not all(map(importlib.util.find_spec, ("c2pa", "cryptography"))):
        raise UserError(
            "signing needs c2pa-python, which is not installed: pip install -c constraints.txt -e '.[sign]' in the "
            "clone of ganflow, then sign again"
        )
    if gallery.folder.resolve() in (out.resolve(), *out.resolve().parents):
        raise UserError(f"{out} lies in the gallery, which no command may change: name another folder by --out")
    algorithm, private = _checked(certificate, key)
    import c2pa

    gallery.verified()
    files = [file for file in sorted(gallery.files) if Path(file).suffix in _MIME]
    info = c2pa.C2paSignerInfo(algorithm, certificate.read_bytes(), private, timestamp)
    try:
        with c2pa.Signer.from_info(info) as signer, c2pa.Context.from_dict(_SETTINGS) as context:
            for file in tqdm(files, desc="sign", disable=None, leave=False):
                signed = io.BytesIO()
                term = metadata.mark_in((gallery.folder / file).read_bytes()) or metadata.GENERATED
                described = _manifest(file, term)
                with c2pa.Builder(described, context) as builder, (gallery.folder / file).open("rb") as source:
                    builder.sign(signer, _MIME[Path(file).suffix], source, signed)
                with disk_errors(out / file):
                    (out / file).parent.mkdir(parents=True, exist_ok=True)
                    staged = out / f"{file}.part"
                    staged.write_bytes(signed.getvalue())
                    staged.replace(out / file)
    except c2pa.C2paError as error:
        server = f", or {timestamp} did not answer as time-stamping servers do" if timestamp else ""
        raise UserError(
            f"C2PA refuses to sign ({' '.join(str(error).split())}): {certificate} has to start with a certificate for "
            f"signing documents or e-mail that is valid today{server}"
        ) from None
    return len(files)


def _manifest(file: str, term: str) -> dict[str, Any]:
    """C2PA's claim that the picture was created by a model that had been trained, or as IPTC's `term` says."""
    created = {"action": "c2pa.created", "digitalSourceType": term}
    return {
        "claim_generator_info": [{"name": "ganflow", "version": importlib.metadata.version("ganflow")}],
        "title": Path(file).name,
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}],
    }


def _checked(certificate: Path, key: Path) -> tuple[str, bytes]:
    """C2PA's name of the algorithm, and the key as PKCS #8, which is the form that the library takes.

    Raises:
        UserError: a file cannot be read, they do not belong together, or nobody else vouches for the signer.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    try:
        chain = x509.load_pem_x509_certificates(_read(certificate))
    except ValueError:
        raise UserError(f"{certificate} holds no certificates in PEM: name the chain, the signer's own first") from None
    try:
        private = serialization.load_pem_private_key(_read(key), password=None)
    except TypeError:
        raise UserError(f"{key} is locked by a passphrase: `openssl pkey -in {key}` writes it without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise UserError(f"{key} holds no private key in PEM: name the key of {certificate}") from None
    if private.public_key() != chain[0].public_key():
        raise UserError(
            f"{key} is not the key of the first certificate in {certificate}: name the two that belong together"
        )
    if chain[0].issuer == chain[0].subject:
        # The library signs by such a one, and no reader trusts it.
        raise UserError(
            f"{certificate} starts with a certificate that vouches for itself: C2PA wants one from an authority"
        )
    match private:
        case ec.EllipticCurvePrivateKey(key_size=256 | 384 | 521 as size):
            algorithm = f"es{512 if size == 521 else size}"
        case ed25519.Ed25519PrivateKey():
            algorithm = "ed25519"
        case rsa.RSAPrivateKey():
            algorithm = "ps256"
        case _:
            raise UserError(f"C2PA does not sign by keys like {key}: take ECDSA (P-256, P-384, P-521), Ed25519 or RSA")
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return algorithm, private.private_bytes(encoding, form, serialization.NoEncryption())


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {os.strerror(error.errno or 0).lower()}") from None
