"""Where bundles lie so that every host can have them: a folder, or an object store that `fsspec` has a driver for.

    objects/SHA256      a file, named by the hash of its content: the encoder that many bundles share lies there once

A bundle's manifest is such a file, too, and names the others. Its hash is the artefact of the model version, in the database: so
what is fetched is what was registered, whoever can write to the storage.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
from django.conf import settings

from classifiers.encoder.bundle import InvalidBundle, appearing_whole, bundle_version, read_manifest

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1_000_000
PIECE = 2**20


class StorageFailed(RuntimeError):
    """The storage cannot be read or written just now."""


def artefact_of(version: str) -> str:
    """The hash of this host's manifest. Raises InvalidBundle if the bundle is missing, altered, or of another version."""
    folder = settings.MODELS_DIR / version
    manifest = read_manifest(folder)
    _check_names(manifest, version, folder)
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def artefact_put(version: str) -> str:
    """Store the bundle of this host, where it is not yet, and return its artefact. Raises InvalidBundle, StorageFailed."""
    artefact = artefact_of(version)
    folder = settings.MODELS_DIR / version
    files, root = _storage()
    names: dict[str, str] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    try:
        # The manifest last: whoever finds it finds all that it names.
        for name, digest in [*names.items(), (MANIFEST, artefact)]:
            target = f"{root}/objects/{digest}"
            if files.exists(target):
                continue
            scratch = f"{target}.{uuid4().hex[:8]}"
            files.makedirs(f"{root}/objects", exist_ok=True)
            files.put_file(str(folder / name), scratch)
            files.mv(scratch, target)
    except Exception as error:  # drivers raise errors of their own
        raise StorageFailed(f"the storage of models cannot be written: {type(error).__name__}") from error
    return artefact


def artefact_fetch(version: str, artefact: str) -> Path:
    """The bundle's folder on this host; what is missing there, or altered, is fetched. Raises InvalidBundle, StorageFailed.

    What was built here from the same inputs counts, too: an encoder built on another machine is not byte-identical.
    """
    folder: Path = settings.MODELS_DIR / version
    try:
        _check_names(read_manifest(folder), version, folder)
        return folder
    except InvalidBundle:
        if not artefact:
            raise
    with appearing_whole(folder) as scratch:
        _fetch(artefact, scratch / MANIFEST, most=MAX_MANIFEST_BYTES)
        try:
            names = dict(json.loads((scratch / MANIFEST).read_text(encoding="utf-8"))["files"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidBundle(f"the artefact of {version} is no manifest") from error
        for name, digest in names.items():
            if Path(name).name != name or not isinstance(digest, str) or not digest.isalnum():
                raise InvalidBundle(f"the artefact of {version} names a file that it may not: {name!r}")
            _fetch(digest, scratch / name)
        _check_names(read_manifest(scratch), version, scratch)
    return folder


def bundle_fault(version: str, artefact: str) -> str:
    """Why this host cannot serve a version now, "" if it can. Reads a bundle's files once, until one of them changes."""
    folder: Path = settings.MODELS_DIR / version
    if not (folder / MANIFEST).is_file():
        return "" if artefact else "Its files are missing, and the storage does not have them."
    try:
        state = tuple((path.name, (stat := path.stat()).st_size, stat.st_mtime_ns) for path in sorted(folder.iterdir()))
    except OSError:
        return "Its files cannot be read."
    return _fault(folder, version, state)


@lru_cache(maxsize=64)
def _fault(folder: Path, version: str, state: tuple[Any, ...]) -> str:
    try:
        _check_names(read_manifest(folder), version, folder)
    except InvalidBundle:
        return "Its files on this host are not what was registered. It is not served unless the storage has them whole."
    return ""


def _check_names(manifest: dict[str, Any], version: str, folder: Path) -> None:
    """A whole bundle in the wrong folder, or with another head, is not the version that it is called."""
    head = folder / "head.json"
    if not head.is_file() or bundle_version(head, manifest["inputs"]["encoder_sha256"]) != version:
        raise InvalidBundle(f"{folder} is not the bundle of {version}")


def _fetch(digest: str, target: Path, *, most: int | None = None) -> None:
    """One object, checked while it is written."""
    files, root = _storage()
    found, size = hashlib.sha256(), 0
    try:
        with files.open(f"{root}/objects/{digest}", "rb") as source, target.open("wb") as copy:
            while piece := source.read(PIECE):
                size += len(piece)
                if most is not None and size > most:
                    raise InvalidBundle(f"the object {digest[:12]} is too large")
                found.update(piece)
                copy.write(piece)
    except InvalidBundle:
        raise
    except FileNotFoundError as error:
        raise InvalidBundle(f"the storage of models lacks the object {digest[:12]}") from error
    except Exception as error:  # drivers raise errors of their own
        raise StorageFailed(f"the storage of models cannot be read: {type(error).__name__}") from error
    if found.hexdigest() != digest:
        raise InvalidBundle(f"the object {digest[:12]} of the storage of models was altered")


def _storage() -> tuple[Any, str]:
    address = settings.MODEL_STORAGE or os.fspath(settings.MODELS_DIR / "artefacts")
    try:
        files, root = fsspec.core.url_to_fs(address, **settings.MODEL_STORAGE_OPTIONS)
    except (ImportError, ValueError) as error:
        raise StorageFailed(f"GUARDREVIEW_MODEL_STORAGE cannot be used: {error}") from error
    return files, root.rstrip("/")
