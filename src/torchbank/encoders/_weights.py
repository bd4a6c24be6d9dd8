"""Weights of an encoder from a file, without unpickling objects."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from torchbank.encoders._channels import describe_channels
from torchbank.encoders._resnet50 import ResNet50
from torchbank.errors import BankValueError, FileFormatError

__all__ = ["load_weights"]

# Training frameworks save the state dict under one of these names, or wrap the module in another.
NESTED_UNDER = ("state_dict", "model_state_dict", "model")
WRAPPED_AS = ("module.", "encoder.", "model.", "_orig_mod.")


def load_weights(encoder: nn.Module, path: str | Path) -> None:
    """Load every parameter and buffer of an encoder from a file.

    Args:
        encoder: The module to fill.
        path: `.safetensors`, or `.pt` or `.pth` with tensors only (read with `weights_only=True`). A state dict
            nested under `state_dict` or `model`, or whose names all begin with `module.`, `encoder.` or `model.`,
            is unwrapped. A classifier in a published file for `ResNet50` is left out.

    Raises:
        BankValueError: There is no such file, its suffix is another, or its tensors do not fit the encoder.
        FileFormatError: The file is truncated or holds something else.
    """
    path = Path(path)
    state = _unwrap(_read(path), set(encoder.state_dict()))
    if isinstance(encoder, ResNet50):
        state = encoder.complete(state)
    problems = _differences(encoder.state_dict(), state)
    if problems:
        msg = (
            f"weights in {str(path)!r} do not fit the encoder: {'; '.join(problems)}. Expected the state dict of this "
            "very encoder: check its name, dim and image shape"
        )
        raise BankValueError(msg)
    encoder.load_state_dict(state)


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        msg = f"no weights file at {str(path)!r}; expected a .safetensors, .pt or .pth file"
        raise BankValueError(msg)
    try:
        match path.suffix.lower():
            case ".safetensors":
                return _read_safetensors(path)
            case ".pt" | ".pth":
                content = torch.load(path, map_location="cpu", weights_only=True)
            case suffix:
                msg = f"weights file {str(path)!r} has the suffix {suffix!r}; expected .safetensors, .pt or .pth"
                raise BankValueError(msg)
    except (pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        msg = f"cannot read weights from {str(path)!r} ({reason}); expected a whole file of tensors only"
        raise FileFormatError(msg) from error
    return _state_dict_in(content, path)


def _read_safetensors(path: Path) -> Mapping[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        msg = f"cannot read weights from {str(path)!r} ({error}); expected a whole safetensors file"
        raise FileFormatError(msg) from error


def _state_dict_in(content: object, path: Path) -> Mapping[str, Tensor]:
    for name in NESTED_UNDER:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        msg = f"{str(path)!r} holds no state dict; expected names with tensors, as `encoder.state_dict()` gives"
        raise FileFormatError(msg)
    return content


def _unwrap(state: Mapping[str, Tensor], wanted: set[str]) -> Mapping[str, Tensor]:
    for prefix in WRAPPED_AS:
        if not wanted & set(state) and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _differences(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    problems = []
    for what, names in (("missing", expected.keys() - given.keys()), ("unknown", given.keys() - expected.keys())):
        if names:
            problems.append(f"{len(names)} tensors are {what} ({_some(names)})")
    shared = expected.keys() & given.keys()
    reshaped = [name for name in shared if expected[name].shape != given[name].shape]
    problems += [
        f"{name} is given as {tuple(given[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in sorted(reshaped)[:3]
    ]
    for name in sorted(reshaped):
        theirs, ours = given[name].shape, expected[name].shape
        # The first convolution of a network tells grey from colour.
        if len(theirs) == len(ours) == 4 and {theirs[1], ours[1]} == {1, 3}:
            problems.append(
                f"the file is for images with {describe_channels(theirs[1])}, the encoder for "
                f"{describe_channels(ours[1])}"
            )
    return problems


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
