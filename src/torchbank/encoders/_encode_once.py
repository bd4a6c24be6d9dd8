"""Embed a data set once, and find its embeddings in a file afterwards."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from torchbank.encoders._encode import Encoded, LabelledBatch, LabelledViews, encode
from torchbank.errors import BankFileNotFoundError, FileFormatError
from torchbank.io import read_tensors, write_tensors

__all__ = ["encode_once", "fingerprint"]

KIND = "features"


def encode_once(
    encoder: nn.Module,
    loader: Iterable[LabelledBatch | LabelledViews],
    path: str | Path,
    *,
    data: str,
    device: torch.device | str | None = None,
    view: int = 0,
) -> Encoded:
    """What `encode` gives, from a file where one of the same encoder and data is there.

    A file that was made by other weights or of other data, is damaged or is no such file is written anew.

    Args:
        encoder: See `encode`.
        loader: See `encode`; it is not iterated where the file will do.
        path: The file; its folder is made.
        data: A fingerprint of what the loader yields, such as `torchbank.data.LabelledImages.fingerprint`.
        device: See `encode`.
        view: See `encode`.

    Raises:
        BankValueError: See `encode`.

    Example:
        >>> import tempfile
        >>> from torchbank import data
        >>> images = data.ArrayImages(
        ...     torch.zeros(6, 1, 8, 8, dtype=torch.uint8), torch.arange(6), class_names="abcdef", name="blank"
        ... )
        >>> encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/blank.safetensors"
        ...     first = encode_once(encoder, data.loader(images, batch_size=4), path, data=images.fingerprint)
        ...     again = encode_once(encoder, [], path, data=images.fingerprint)
        >>> torch.equal(first.embeddings, again.embeddings)
        True
    """
    path = Path(path)
    key = {"kind": KIND, "encoder": fingerprint(encoder), "data": data, "view": view}
    found = _read(path, key)
    if found is None:
        found = encode(encoder, loader, device=device, view=view)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, found._asdict(), {**key, "checksum": _checksum(found._asdict())})
    return found


def _read(path: Path, key: dict[str, str | int]) -> Encoded | None:
    """The embeddings of a file, or None if it is not what is wanted."""
    try:
        tensors, header = read_tensors(path)
    except (BankFileNotFoundError, FileFormatError):
        return None
    if {name: header.get(name) for name in key} != key or header.get("checksum") != _checksum(tensors):
        return None
    return Encoded(**tensors)


def fingerprint(encoder: nn.Module) -> str:
    """The class of an encoder and all that its state dict holds."""
    return f"{type(encoder).__module__}.{type(encoder).__qualname__} sha256:{_checksum(encoder.state_dict())}"


def _checksum(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
