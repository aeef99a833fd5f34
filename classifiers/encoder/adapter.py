"""What our own training adds to the encoder: a low-rank difference of its weights, small enough to be committed.

    W' = W + B @ A    for every linear map of the encoder's layers; A: (rank, in), B: (out, rank), in float16

As LoRA has it (Hu et al., arXiv 2106.09685). Merged into the weights when the encoder is exported, it costs nothing to serve.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Matrices = dict[str, npt.NDArray[np.float16]]


class InvalidAdapter(RuntimeError):
    """A file that is no adapter, or one for another encoder."""


def save(pairs: dict[str, tuple[Any, Any]], path: Path, *, encoder_sha256: str) -> None:
    """Write `{name of the linear map: (A, B)}` as safetensors, with the encoder that it was trained on."""
    from safetensors.numpy import save_file

    tensors: Matrices = {}
    for name, (a, b) in sorted(pairs.items()):
        tensors[f"{name}.A"], tensors[f"{name}.B"] = (np.ascontiguousarray(m, dtype=np.float16) for m in (a, b))
    save_file(tensors, path, metadata={"encoder_sha256": encoder_sha256})
    path.chmod(0o644)


def load(path: Path, *, encoder_sha256: str) -> Matrices:
    """The matrices by `name.A` and `name.B`. Raises InvalidAdapter."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("encoder_sha256") != encoder_sha256:
                raise InvalidAdapter(f"{path} was trained on another encoder")
            tensors: Matrices = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dict
    except (OSError, SafetensorError) as error:
        raise InvalidAdapter(f"{path} is not an adapter: {error}") from error
    names = {key[:-2] for key in tensors}
    if any(key[-2:] not in (".A", ".B") for key in tensors) or len(tensors) != 2 * len(names):
        raise InvalidAdapter(f"{path} is not an adapter: its matrices do not come in pairs")
    if not all(np.isfinite(matrix).all() for matrix in tensors.values()):
        raise InvalidAdapter(f"{path} is not an adapter: a number in it is not finite")
    return tensors


def merge(encoder: Any, tensors: Matrices) -> None:
    """Add the difference to the weights of a torch encoder, in place. Raises InvalidAdapter where the shapes do not fit."""
    import torch

    maps = dict(encoder.named_modules())
    for name in sorted({key[:-2] for key in tensors}):
        a, b = (torch.from_numpy(tensors[f"{name}.{part}"].astype(np.float32)) for part in "AB")
        weight = getattr(maps.get(name), "weight", None)
        if weight is None or tuple(weight.shape) != (b.shape[0], a.shape[1]) or a.shape[0] != b.shape[1]:
            raise InvalidAdapter(f"the adapter's {name} does not fit the encoder")
        with torch.no_grad():
            weight += b @ a


def adapted_sha256(encoder_sha256: str, path: Path) -> str:
    """What names the encoder with the adapter merged in, as its weights' hash names one without."""
    return hashlib.sha256(encoder_sha256.encode() + hashlib.sha256(path.read_bytes()).digest()).hexdigest()
