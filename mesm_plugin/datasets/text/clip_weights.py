# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Weights of CLIP's text tower, in the forms in which they are published."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mesm_plugin.datasets.text.torchscript_archive import TorchScriptArchive
from mesm_plugin.utils.zip_archive import is_zip

# Of a folder, the files of Hugging Face and of open_clip, the safest form first.
_FILES = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")
# Where checkpoints of a training keep the weights.
_NESTED = ("state_dict", "model", "model_state_dict")

_OPENAI = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
}
_OPENAI_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


@dataclass
class CLIPTextWeights:
    """What a file holds of a text tower.

    Attributes:
        path: The file.
        tensors: By the names of transformers' CLIPTextModel, without a leading "text_model.", float32.
        heads: Attention heads, where a config.json lies beside the file; None otherwise.
        activation: Name of the activation in that config.json; None without.
    """

    path: Path
    tensors: dict[str, Tensor]
    heads: int | None
    activation: str | None


def read_clip_text_weights(source: str | Path) -> CLIPTextWeights:
    """Reads the text tower from a file of OpenAI, open_clip, Hugging Face or MESM's authors.

    The form is told by the content: a TorchScript archive, a state dict of torch.save or safetensors, whose names have
    any prefix, and which may be nested in a checkpoint. Nothing that is in the file is run.

    Args:
        source: A file, or a folder with a file of the name that Hugging Face or open_clip give it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or holds no text tower of CLIP, or more than one.
    """
    path = _find(Path(source))
    heads, activation = _described(path.with_name("config.json"))
    if TorchScriptArchive.is_one(path):
        archive = TorchScriptArchive(path)
        tensors = _text_tower(list(archive.tensors), archive.read, path)
    elif _is_safetensors(path):
        tensors = _read_safetensors(path)
    else:
        state_dict = _read_state_dict(path)
        tensors = _text_tower(list(state_dict), lambda names: {name: state_dict[name] for name in names}, path)
    return CLIPTextWeights(path, tensors, heads, activation)


def _find(path: Path) -> Path:
    if path.is_dir():
        found = next((path / name for name in _FILES if (path / name).is_file()), None)
        if found is None:
            held = ", ".join(sorted(entry.name for entry in path.iterdir())[:10]) or "nothing"
            raise FileNotFoundError(f"{path} has none of {', '.join(_FILES)}; it holds {held}. Give the file itself")
        return found
    if not path.is_file():
        raise FileNotFoundError(f"CLIP weights not found: {path}; docs/text.md says which files there are")
    return path


def _described(path: Path) -> tuple[int | None, str | None]:
    """Heads and activation of the text tower, as the config.json of Hugging Face has them; open_clip's has neither."""
    if not path.is_file():
        return None, None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        described = config.get("text_config") or config
        return described.get("num_attention_heads"), described.get("hidden_act")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); copy or download it again") from error


def _is_safetensors(path: Path) -> bool:
    if path.suffix.lower() == ".safetensors":
        return True
    with open(path, "rb") as file:
        begin = file.read(9)
    return len(begin) == 9 and begin[8:] == b"{"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return _text_tower(list(file.keys()), lambda names: {name: file.get_tensor(name) for name in names}, path)
    except SafetensorError as error:
        raise ValueError(f"{path} is a damaged safetensors file ({error}); copy or download it again") from error


def _read_state_dict(path: Path) -> Mapping[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip(path))
    except PermissionError:
        raise
    # Damaged pickles raise nearly everything.
    except Exception as error:
        refused = re.search(r"GLOBAL ([\w.]+) (?:was not an allowed global|whose module)", str(error))
        if refused:
            raise ValueError(
                f"{path} holds an object of {refused[1]}, which is not read, as that could run code; "
                "save the state dict alone"
            ) from error
        raise ValueError(
            f"{path} is truncated, or is no file of torch.save, TorchScript or safetensors; copy or download it again"
        ) from error
    for key in _NESTED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping):
        raise ValueError(f"{path} holds a {type(loaded).__name__}, expected a state dict")
    return {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}


def _text_tower(
    names: Sequence[str], read: Callable[[Sequence[str]], Mapping[str, Tensor]], path: Path
) -> dict[str, Tensor]:
    """Finds the tower among all names of a file, reads it alone, and gives it transformers' names."""
    roots = {name.removesuffix("token_embedding.weight") for name in names if name.endswith("token_embedding.weight")}
    if len(roots) != 1:
        held = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "no tensor"
        what = "the token embeddings of several models" if roots else "no text tower of CLIP (token_embedding.weight)"
        raise ValueError(f"{path} holds {what}; its names are {held}")
    root = roots.pop()
    groups: tuple[str, ...]
    if root.endswith("embeddings."):
        root = root.removesuffix("embeddings.")
        groups, convert = ("embeddings.", "encoder.layers.", "final_layer_norm."), _of_transformers
    else:
        groups, convert = (
            ("token_embedding.", "positional_embedding", "transformer.resblocks.", "ln_final."),
            _of_openai,
        )
    wanted = [name for name in names if name.startswith(tuple(root + group for group in groups))]
    tensors = {name.removeprefix(root): tensor for name, tensor in read(wanted).items()}
    wrong = next((name for name, tensor in tensors.items() if not _is_usable(tensor)), None)
    if wrong is not None:
        raise ValueError(f"{path}: {root}{wrong} is {tensors[wrong].dtype}, or not finite; expected finite numbers")
    return {name: tensor.float() for name, tensor in convert(tensors.items(), path)}


def _is_usable(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _of_transformers(tensors: Iterable[tuple[str, Tensor]], path: Path) -> Iterable[tuple[str, Tensor]]:
    # Older versions saved the positions 0, 1, 2, ..., too.
    return ((name, tensor) for name, tensor in tensors if name != "embeddings.position_ids")


def _of_openai(tensors: Iterable[tuple[str, Tensor]], path: Path) -> Iterable[tuple[str, Tensor]]:
    for name, tensor in tensors:
        if name in _OPENAI:
            yield _OPENAI[name], tensor
        elif name.startswith("ln_final."):
            yield name.replace("ln_final", "final_layer_norm"), tensor
        else:
            _, _, layer, *rest = name.split(".", 3)
            if not (rest and layer.isdecimal() and "." in rest[0]):
                raise ValueError(f"{path}: {name} is no weight of a layer of CLIP's text tower")
            prefix = f"encoder.layers.{layer}."
            part, _, kind = rest[0].rpartition(".")
            if part == "attn" and kind in ("in_proj_weight", "in_proj_bias"):
                if tensor.ndim == 0 or len(tensor) % 3:
                    raise ValueError(f"{path}: {name} has shape {tuple(tensor.shape)}, expected a multiple of 3 rows")
                for which, third in zip("qkv", tensor.chunk(3), strict=True):
                    yield f"{prefix}self_attn.{which}_proj.{kind.removeprefix('in_proj_')}", third
            else:
                yield f"{prefix}{_OPENAI_LAYER.get(part, part)}.{kind}", tensor
