# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""A tiny vocabulary and a random text tower, as files of every form."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

MERGES = [
    "i n",
    "t h",
    "th e</w>",
    "o p",
    "e n",
    "op en",
    "open s</w>",
    "d o",
    "o r</w>",
    "do or</w>",
    "a n",
    "an d</w>",
]
NUM_TOKENS = 512 + len(MERGES) + 2
WIDTH, LAYERS, CONTEXT = 128, 2, 20


class Block(nn.Module):
    """A layer of OpenAI's text transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, WIDTH // 64)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(WIDTH, 2 * WIDTH))
        self.mlp.add_module("c_proj", nn.Linear(2 * WIDTH, WIDTH))


class Transformer(nn.Module):
    """The layers, named as OpenAI names them."""

    def __init__(self) -> None:
        super().__init__()
        self.resblocks = nn.Sequential(*(Block() for _ in range(LAYERS)))


class Tower(nn.Module):
    """OpenAI's names of the parameters, and no computation."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = Transformer()
        self.token_embedding = nn.Embedding(NUM_TOKENS, WIDTH)
        self.positional_embedding = nn.Parameter(torch.randn(CONTEXT, WIDTH))
        self.ln_final = nn.LayerNorm(WIDTH)
        self.text_projection = nn.Parameter(torch.randn(WIDTH, 32))
        self.logit_scale = nn.Parameter(torch.ones([]))


@pytest.fixture(scope="session")
def tower() -> Tower:
    """A random tower."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Tower()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
        return model


@pytest.fixture(scope="session")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A vocabulary in OpenAI's form."""
    pytest.importorskip("tokenizers", reason="install mesm_plugin[clip]")
    pytest.importorskip("ftfy", reason="install mesm_plugin[clip]")
    pytest.importorskip("transformers", reason="install mesm_plugin[clip]")
    path = tmp_path_factory.mktemp("bpe") / "bpe.txt"
    path.write_text("\n".join(["#version: 0.2", *MERGES, ""]))
    return str(path)


def of_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The parameters by Hugging Face's names."""
    renamed = {
        "embeddings.token_embedding.weight": state["token_embedding.weight"],
        "embeddings.position_embedding.weight": state["positional_embedding"],
        "final_layer_norm.weight": state["ln_final.weight"],
        "final_layer_norm.bias": state["ln_final.bias"],
    }
    pairs = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    pairs["attn.out_proj"] = "self_attn.out_proj"
    for layer in range(LAYERS):
        for kind in ("weight", "bias"):
            theirs, ours = f"transformer.resblocks.{layer}.", f"encoder.layers.{layer}."
            for source, target in pairs.items():
                renamed[f"{ours}{target}.{kind}"] = state[f"{theirs}{source}.{kind}"]
            for index, which in enumerate("qkv"):
                rows = slice(index * WIDTH, (index + 1) * WIDTH)
                renamed[f"{ours}self_attn.{which}_proj.{kind}"] = state[f"{theirs}attn.in_proj_{kind}"][rows]
    return {f"text_model.{name}": value.contiguous() for name, value in renamed.items()}


def save_openai(tower: Tower, folder: Path) -> Path:
    visual = {"visual.transformer.resblocks.0.ln_1.weight": torch.ones(3), "visual.proj": torch.ones(3, 2)}
    torch.save(tower.state_dict() | visual, folder / "ViT-B-32.pt")
    return folder / "ViT-B-32.pt"


def save_torchscript(tower: Tower, folder: Path) -> Path:
    class Model(Tower):
        def forward(self, ids: Tensor) -> Tensor:
            return self.token_embedding(ids)

    model = Model()
    model.load_state_dict(tower.state_dict())
    torch.jit.save(torch.jit.trace(model, torch.tensor([1])), folder / "scripted.pt")
    return folder / "scripted.pt"


def save_open_clip(tower: Tower, folder: Path) -> Path:
    weights = {f"module.text.{name}": value for name, value in tower.state_dict().items()}
    torch.save({"epoch": 3, "name": "run", "state_dict": weights}, folder / "epoch_3.pt")
    return folder / "epoch_3.pt"


def save_open_clip_folder(tower: Tower, folder: Path) -> Path:
    from safetensors.torch import save_file

    save_file(tower.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text("{}")
    return folder


def save_legacy(tower: Tower, folder: Path) -> Path:
    torch.save(tower.state_dict(), folder / "old.bin", _use_new_zipfile_serialization=False)
    return folder / "old.bin"


def save_transformers(tower: Tower, folder: Path) -> Path:
    from safetensors.torch import save_file

    whole = of_transformers(tower.state_dict()) | {
        "text_model.embeddings.position_ids": torch.arange(CONTEXT)[None],
        "vision_model.embeddings.class_embedding": torch.ones(3),
        "text_projection.weight": torch.ones(2, 3),
    }
    save_file(whole, folder / "model.safetensors")
    described = {"text_config": {"num_attention_heads": 2, "hidden_act": "quick_gelu"}}
    (folder / "config.json").write_text(json.dumps(described))
    return folder


def save_transformers_text(tower: Tower, folder: Path) -> Path:
    state = of_transformers(tower.state_dict())
    torch.save({name.removeprefix("text_model."): value for name, value in state.items()}, folder / "text.bin")
    return folder / "text.bin"


def save_authors(tower: Tower, folder: Path) -> Path:
    state = {name: value for name, value in tower.state_dict().items() if name != "logit_scale"}
    torch.save(state, folder / "clip_text_encoder.pth")
    return folder / "clip_text_encoder.pth"


SAVE: dict[str, Callable[[Tower, Path], Path]] = {
    name.removeprefix("save_"): save for name, save in list(globals().items()) if name.startswith("save_")
}


@pytest.fixture
def save_tower(tower: Tower, tmp_path: Path) -> Callable[[str], str]:
    """Writes the tower in one of the forms and returns the path."""
    pytest.importorskip("safetensors", reason="install mesm_plugin[clip]")
    return lambda form: str(SAVE[form](tower, tmp_path))
