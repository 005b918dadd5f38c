# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Files that hold no text tower, or more than one."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mesm_plugin.datasets.text.clip_tower import CLIPTextTower
from mesm_plugin.datasets.text.clip_weights import read_clip_text_weights

SaveTower = Callable[[str], str]


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def load(path: Path) -> CLIPTextTower:
    pytest.importorskip("transformers", reason="install mesm_plugin[clip]")
    return CLIPTextTower(read_clip_text_weights(path), None, None, "cpu")


def test_only_the_text_tower_is_read(save_tower: SaveTower) -> None:
    for form in ("openai", "torchscript", "transformers"):
        weights = read_clip_text_weights(save_tower(form))
        assert len(weights.tensors) == 4 + 2 * 16
        assert {name.split(".")[0] for name in weights.tensors} == {"embeddings", "encoder", "final_layer_norm"}


def test_float16_becomes_float32(tower: nn.Module, tmp_path: Path) -> None:
    halves = {name: value.half() for name, value in tower.state_dict().items()}
    weights = read_clip_text_weights(saved(tmp_path / "half.pt", halves))
    assert {tensor.dtype for tensor in weights.tensors.values()} == {torch.float32}
    ours = weights.tensors["final_layer_norm.bias"]
    assert torch.equal(ours, tower.state_dict()["ln_final.bias"].half().float())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a.weight": torch.ones(2), "b": torch.ones(1)}, "holds no text tower .* its names are a.weight, b$"),
        ({"state_dict": {}}, "its names are no tensor"),
        ([torch.ones(2)], "holds a list, expected a state dict"),
        (
            {"a.token_embedding.weight": torch.ones(2, 2), "b.token_embedding.weight": torch.ones(2, 2)},
            "the token embeddings of several models",
        ),
        ({"token_embedding.weight": torch.full((2, 2), torch.nan)}, "token_embedding.weight is .* not finite"),
        ({"token_embedding.weight": torch.ones(2, 2)}, "embeddings.position_embedding.weight .* is missing"),
        ({"token_embedding.weight": torch.ones(2)}, r"has shape \(2,\), expected a matrix"),
    ],
)
def test_files_of_something_else(content: Any, message: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "clip.pt", content)
    with pytest.raises(ValueError, match=message) as error:
        load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transformer.resblocks.1.ln_2.bias": None}, r"encoder.layers.1.layer_norm2.bias is missing \(1 in all\)"),
        ({"transformer.resblocks.1.ln_9.bias": torch.ones(2)}, "encoder.layers.1.ln_9.bias is no part of it"),
        ({"ln_final.bias": torch.ones(3)}, r"final_layer_norm.bias has shape \(3,\), expected \(128,\)"),
        ({"transformer.resblocks.x.ln_2.bias": torch.ones(3)}, "transformer.resblocks.x.ln_2.bias"),
        ({"transformer.resblocks.0": torch.ones(3)}, "transformer.resblocks.0"),
        ({"transformer.resblocks.0.attn.in_proj_bias": torch.tensor(1.0)}, "expected a multiple of 3 rows"),
        ({"token_embedding.weight": torch.ones(5, 100)}, "100 wide, which is no multiple of 64"),
    ],
)
def test_towers_that_are_not_whole(changes: dict[str, Any], message: str, tower: nn.Module, tmp_path: Path) -> None:
    state = {name: value for name, value in (tower.state_dict() | changes).items() if value is not None}
    with pytest.raises(ValueError, match=message):
        load(saved(tmp_path / "clip.pt", state))


@pytest.mark.parametrize("form", ["openai", "torchscript", "legacy", "transformers"])
def test_truncated_files(form: str, save_tower: SaveTower) -> None:
    path = Path(save_tower(form))
    path = path / "model.safetensors" if path.is_dir() else path
    content = path.read_bytes()
    for length in (0, 5, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=f"{path.name} .*(truncated|damaged)"):
            read_clip_text_weights(path)


def test_missing_files(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(FileNotFoundError, match=r"has none of model.safetensors, .* it holds readme.txt"):
        read_clip_text_weights(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"CLIP weights not found: .*absent.pt"):
        read_clip_text_weights(tmp_path / "absent.pt")
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json cannot be read"):
        read_clip_text_weights(tmp_path)


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def test_hostile_state_dict(tmp_path: Path) -> None:
    path = saved(tmp_path / "clip.pt", {"token_embedding.weight": Hostile(f"touch {tmp_path}/ran")})
    with pytest.raises(ValueError, match=r"clip.pt holds an object of \w+.system, which is not read"):
        read_clip_text_weights(path)
    assert not (tmp_path / "ran").exists()


def torchscript_with(path: Path, content: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("clip/constants.pkl", b"")
        archive.writestr("clip/data.pkl", content)
    return path


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "torch.load", "torch.serialization.load", "_io.open"])
def test_hostile_torchscript(name: str, tmp_path: Path) -> None:
    module, function = name.rsplit(".", 1)
    content = f"c{module}\n{function}\n(Vtouch {tmp_path}/ran\ntR.".encode()
    with pytest.raises(ValueError, match=f"holds an object of {name}"):
        read_clip_text_weights(torchscript_with(tmp_path / "clip.pt", content))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps("text")[:-2],
        b"\x80\x02K\x01Q.",
        b"c__torch__\nM\n(K\x01tR.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(tR.",
        b"",
    ],
)
def test_damaged_pickle_in_torchscript(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"clip.pt is a damaged TorchScript archive"):
        read_clip_text_weights(torchscript_with(tmp_path / "clip.pt", content))


def test_what_a_torchscript_pickle_sets_does_not_last(save_tower: SaveTower, tmp_path: Path) -> None:
    hostile = b"c__torch__\nM\n(N}V__reduce__\nK\x01stb."
    with pytest.raises(ValueError, match=r"clip.pt"):
        read_clip_text_weights(torchscript_with(tmp_path / "clip.pt", hostile))
    assert len(read_clip_text_weights(save_tower("torchscript")).tensors) == 36


def test_torchscript_that_would_fill_the_memory(tmp_path: Path) -> None:
    path = torchscript_with(tmp_path / "clip.pt", b"K\x01." + bytes(10**6), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"data.pkl is compressed"):
        read_clip_text_weights(path)
    giant = (
        b"\x80\x02c__torch__\nM\n)\x81}(X\x05\x00\x00\x00a.bcdc__torch__\nE\n)\x81}X\x06\x00\x00\x00weight"
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
        b"X\x03\x00\x00\x00cpuK\x01tQK\x00J\x00\x00\x00\x40J\x00\x00\x00\x40\x86K\x00K\x00\x86tRsbub."
    ).replace(b"X\x05\x00\x00\x00a.bcd", b"X\x0f\x00\x00\x00token_embedding")
    with zipfile.ZipFile(torchscript_with(path, giant), "a") as archive:
        archive.writestr("clip/data/0", bytes(4))
    with pytest.raises(ValueError, match=r"token_embedding.weight cannot be read, .*but 1 numbers"):
        read_clip_text_weights(path)
