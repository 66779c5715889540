"""Signed copies, read back by C2PA's own reader: what they say, that an edit is seen, and what is refused."""

from __future__ import annotations

import datetime
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import c2pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image

from components.gan.errors import UserError
from components.provenance.signing import sign
from components.workspace.artifacts import Gallery
from components.workspace.workspace import Workspace
from tests.conftest import ganflow, refused, succeeded
from tests.test_postprocess import OPTIONS, contents, finish, inputs, told_by

GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
# No address answers there (RFC 5737 keeps it for documents); nothing of this machine is asked either.
NOWHERE = "http://127.0.0.1:9/stamp"
PKCS8 = serialization.PrivateFormat.PKCS8
DAY = datetime.timedelta(days=1)


def certificate(name: str, key: Any, issuer: str, signer: Any, *, ca: bool = False, ends: int = 30) -> bytes:
    """A certificate in PEM: of an authority, or of one who may sign documents; valid until in `ends` days."""
    now = datetime.datetime.now(datetime.UTC)

    def named(text: str) -> x509.Name:
        return x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test"), x509.NameAttribute(NameOID.COMMON_NAME, text)]
        )

    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder(named(issuer), named(name), key.public_key(), x509.random_serial_number())
        .not_valid_before(now - 60 * DAY)
        .not_valid_after(now + ends * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def written(key: Any, passphrase: bytes | None = None, form: serialization.PrivateFormat = PKCS8) -> bytes:
    locked = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    content: bytes = key.private_bytes(serialization.Encoding.PEM, form, locked)
    return content


AUTHORITY = ec.generate_private_key(ec.SECP256R1())
ROOT = certificate("authority", AUTHORITY, "authority", AUTHORITY, ca=True)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of an untrained network, a chain and its key. To be read, not changed."""
    root = tmp_path_factory.mktemp("signing")
    finish(OPTIONS, *inputs(root / "inputs"), Workspace(root))
    key = ec.generate_private_key(ec.SECP256R1())
    (root / "chain.pem").write_bytes(certificate("signer", key, "authority", AUTHORITY) + ROOT)
    (root / "key.pem").write_bytes(written(key))
    return root


def read(content: bytes, mime: str = "image/png") -> c2pa.Reader:
    trusting = {
        "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},
        "trust": {"trust_anchors": ROOT.decode()},
    }
    return c2pa.Reader(mime, io.BytesIO(content), context=c2pa.Context.from_dict(trusting))


def test_signed_copies_say_that_a_model_made_them(workspace: Path, tmp_path: Path) -> None:
    before = contents(Gallery.load(workspace / "artifacts" / "gallery"))
    files = ("--certificate", "chain.pem", "--key", "key.pem", "--out", str(tmp_path / "signed"))
    assert "14 signed pictures" in succeeded(ganflow(workspace, "sign", *files))
    gallery = Gallery.load(workspace / "artifacts" / "gallery").verified()
    assert contents(gallery) == before
    pictures = {picture.file for picture in gallery.pictures} | {"contact_sheet.png", "interpolation.webp"}
    assert {p.relative_to(tmp_path / "signed").as_posix() for p in (tmp_path / "signed").rglob("*.*")} == pictures
    for file in pictures:
        copy = tmp_path / "signed" / file
        reader = read(copy.read_bytes(), "image/webp" if file.endswith("webp") else "image/png")
        assert reader.get_validation_state() == "Trusted"
        manifest = reader.get_active_manifest()
        assert manifest is not None
        assert manifest["claim_generator_info"][0]["name"] == "ganflow"
        (actions,) = (a["data"]["actions"] for a in manifest["assertions"] if a["label"].startswith("c2pa.actions"))
        assert [(a["action"], a["digitalSourceType"]) for a in actions] == [("c2pa.created", GENERATED)]
        assert manifest["signature_info"]["alg"].lower() == "es256"
        # Nobody was asked for the time.
        assert "time" not in manifest["signature_info"]
        with Image.open(copy) as signed, Image.open(gallery.folder / file) as original:
            assert told_by(signed) == told_by(original)
            assert signed.tobytes() == original.tobytes()


def test_an_edited_byte_is_noticed(workspace: Path, tmp_path: Path) -> None:
    sign(Gallery.load(workspace / "artifacts" / "gallery"), workspace / "chain.pem", workspace / "key.pem", tmp_path)
    content = bytearray((tmp_path / "contact_sheet.png").read_bytes())
    content[content.index(b"IDAT") + 100] ^= 1
    reader = read(bytes(content))
    assert reader.get_validation_state() == "Invalid"
    results = reader.get_validation_results()
    assert results is not None
    assert "assertion.dataHash.mismatch" in {each["code"] for each in results["activeManifest"]["failure"]}


KEYS: dict[str, Callable[[], Any]] = {
    "Es384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "Es512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "Ps256": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("algorithm", KEYS)
def test_other_keys_sign_too(workspace: Path, tmp_path: Path, algorithm: str) -> None:
    key = KEYS[algorithm]()
    (tmp_path / "chain.pem").write_bytes(certificate("signer", key, "authority", AUTHORITY) + ROOT)
    (tmp_path / "key.pem").write_bytes(written(key))
    gallery = Gallery.load(workspace / "artifacts" / "gallery")
    sign(gallery, tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "signed")
    reader = read((tmp_path / "signed" / "contact_sheet.png").read_bytes())
    assert reader.get_validation_state() == "Trusted"
    assert json.loads(reader.json())["manifests"].popitem()[1]["signature_info"]["alg"] == algorithm


def test_a_key_as_openssl_used_to_write_it_signs_too(workspace: Path, tmp_path: Path) -> None:
    key = serialization.load_pem_private_key((workspace / "key.pem").read_bytes(), None)
    (tmp_path / "key.pem").write_bytes(written(key, form=serialization.PrivateFormat.TraditionalOpenSSL))
    gallery = Gallery.load(workspace / "artifacts" / "gallery")
    assert sign(gallery, workspace / "chain.pem", tmp_path / "key.pem", tmp_path / "signed") == 14


def test_what_cannot_sign_is_told_in_a_sentence(workspace: Path, tmp_path: Path) -> None:
    gallery, chain, key = (
        Gallery.load(workspace / "artifacts" / "gallery"),
        workspace / "chain.pem",
        workspace / "key.pem",
    )
    other = ec.generate_private_key(ec.SECP256R1())

    def file(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    own = file("own.pem", certificate("me", other, "me", other))
    old = file("old.pem", certificate("signer", other, "authority", AUTHORITY, ends=-1) + ROOT)
    others = file("other.pem", written(other))
    for certificates, private, words in (
        (tmp_path / "none.pem", key, "none.pem cannot be read: no such file or directory"),
        (chain, tmp_path, "cannot be read: is a directory"),
        (key, key, "key.pem holds no certificates in PEM"),
        (chain, chain, "chain.pem holds no private key in PEM"),
        (chain, file("text", b"hello"), "text holds no private key in PEM"),
        (chain, file("locked.pem", written(other, b"secret")), "locked.pem is locked by a passphrase"),
        (chain, others, "other.pem is not the key of the first certificate"),
        (own, others, "own.pem starts with a certificate that vouches for itself"),
        (old, others, r"C2PA refuses to sign \(.*not valid at time of signing\): .*old.pem has to start with"),
    ):
        with pytest.raises(UserError, match=words) as told:
            sign(gallery, certificates, private, tmp_path / "signed")
        assert "\n" not in str(told.value)
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9/stamp did not answer"):
        sign(gallery, chain, key, tmp_path / "signed", NOWHERE)
    assert not (tmp_path / "signed").exists()
    with pytest.raises(UserError, match="lies in the gallery"):
        sign(gallery, chain, key, gallery.folder / "images")
    files = ("--certificate", "chain.pem", "--key", str(others), "--out", "signed")
    assert "is not the key of the first certificate" in refused(workspace, "sign", *files)


def test_without_the_extra_a_sentence_says_how_to_get_it(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What Python takes for a module that is not there.
    monkeypatch.setitem(sys.modules, "c2pa", None)
    gallery = Gallery.load(workspace / "artifacts" / "gallery")
    with pytest.raises(UserError, match=r"pip install -c constraints\.txt -e '\.\[sign\]'"):
        sign(gallery, workspace / "chain.pem", workspace / "key.pem", tmp_path / "signed")
