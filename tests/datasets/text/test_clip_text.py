# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mesm_plugin.datasets.text import CLIPText
from mesm_plugin.datasets.text.byte_pair import BytePairTokenizer
from mesm_plugin.registry import TRANSFORMS

SaveTower = Callable[[str], str]
FORMS = (
    "openai",
    "torchscript",
    "open_clip",
    "open_clip_folder",
    "legacy",
    "transformers",
    "transformers_text",
    "authors",
)
SENTENCES = ["the door opens", "a", "The door and the door, and the door opens in 1928!"]
FIRST_MERGE, START, END = 512, 524, 525
THE, DOOR, OPENS = FIRST_MERGE + 2, FIRST_MERGE + 9, FIRST_MERGE + 6


def reference(tower: nn.Module, ids: list[int], gelu: bool = False) -> Tensor:
    """The tower's output for a sentence, in plain PyTorch and float64."""
    p = {name: value.detach().double() for name, value in tower.state_dict().items()}

    def norm(x: Tensor, name: str) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * p[f"{name}.weight"] + p[f"{name}.bias"]

    x = p["token_embedding.weight"][ids] + p["positional_embedding"][: len(ids)]
    later = torch.ones(len(ids), len(ids), dtype=torch.bool).triu(1)
    for layer in range(2):
        name = f"transformer.resblocks.{layer}."
        qkv = norm(x, f"{name}ln_1") @ p[f"{name}attn.in_proj_weight"].T + p[f"{name}attn.in_proj_bias"]
        q, k, v = (part.reshape(len(ids), 2, 64).transpose(0, 1) for part in qkv.chunk(3, dim=-1))
        attention = (q @ k.transpose(1, 2) / 8).masked_fill(later, -torch.inf).softmax(-1)
        joined = (attention @ v).transpose(0, 1).reshape(len(ids), 128)
        x = x + joined @ p[f"{name}attn.out_proj.weight"].T + p[f"{name}attn.out_proj.bias"]
        hidden = norm(x, f"{name}ln_2") @ p[f"{name}mlp.c_fc.weight"].T + p[f"{name}mlp.c_fc.bias"]
        hidden = nn.functional.gelu(hidden) if gelu else hidden * torch.sigmoid(1.702 * hidden)
        x = x + hidden @ p[f"{name}mlp.c_proj.weight"].T + p[f"{name}mlp.c_proj.bias"]
    return norm(x, "ln_final")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_features_of_the_reference(
    form: str, save_tower: SaveTower, bpe: str, tower: nn.Module
) -> None:
    text = CLIPText(save_tower(form), bpe, max_words=20, normalize=False)
    text.prepare([(sentence, index) for index, sentence in enumerate(SENTENCES)])
    for sentence in SENTENCES:
        expected = reference(tower, text.tokenize(sentence)).float()
        torch.testing.assert_close(text.encode(sentence)["words"], expected, rtol=1e-5, atol=1e-5)


def test_forms_agree(save_tower: SaveTower, bpe: str) -> None:
    first, *others = (CLIPText(save_tower(form), bpe).encode(SENTENCES[0])["words"] for form in FORMS)
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=1e-6)


def test_tokens_of_a_sentence(save_tower: SaveTower, bpe: str) -> None:
    text = TRANSFORMS.build({"type": "CLIPText", "file": save_tower("authors"), "tokenizer": bpe})
    assert text.tokenize("The door opens") == [START, THE, DOOR, OPENS, END]
    encoded = text.encode("The door opens", 7)
    assert encoded.keys() == {"words", "words_weight"}
    assert encoded["words"].shape == (5, 128)
    assert encoded["words"].dtype == torch.float32
    torch.testing.assert_close(encoded["words"].norm(dim=1), torch.ones(5))
    assert encoded["words_weight"].tolist() == [0, 1, 1, 1, 0]
    assert text.num_classes is None


def test_long_sentences_keep_their_end(save_tower: SaveTower, bpe: str, tower: nn.Module) -> None:
    text = CLIPText(save_tower("openai"), bpe, max_words=4, normalize=False)
    ids = [START, THE, DOOR, END]
    assert text.tokenize("the door opens in") == ids
    torch.testing.assert_close(
        text.encode("the door opens in")["words"], reference(tower, ids).float(), rtol=1e-5, atol=1e-5
    )


def test_classes_and_weights(save_tower: SaveTower, bpe: str, tmp_path: Path) -> None:
    counts = tmp_path / "CLIP_tokenized_count.txt"
    counts.write_text(f"{THE} 9\n{DOOR} 8\n{OPENS} 1\n")
    text = CLIPText(save_tower("openai"), bpe, str(counts), vocabulary_size=2, weighting="content_words")
    encoded = text.encode("the door opens")
    assert encoded["words_label"].tolist() == [3, 0, 1, 2, 4]
    assert encoded["unknown_words"].tolist() == [False, False, False, True, False]
    assert encoded["words_weight"].tolist() == [0, 1, 2, 2, 0]
    assert text.num_classes == 5


def test_activation_is_that_of_the_folder_unless_given(
    save_tower: SaveTower, bpe: str, tower: nn.Module, tmp_path: Path
) -> None:
    folder = save_tower("transformers")
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 2, "hidden_act": "gelu"}))
    ids = BytePairTokenizer(bpe).encode("the door")
    for activation, gelu in ((None, True), ("quick_gelu", False), ("gelu", True)):
        words = CLIPText(folder, bpe, normalize=False, activation=activation).encode("the door")["words"]
        torch.testing.assert_close(words, reference(tower, ids, gelu).float(), rtol=1e-5, atol=1e-5)


def test_prepared_sentences_need_no_tower(save_tower: SaveTower, bpe: str, tmp_path: Path) -> None:
    text = CLIPText(save_tower("openai"), bpe, batch_size=2)
    text.prepare([(sentence, None) for sentence in SENTENCES * 2])
    expected = [text.encode(sentence)["words"] for sentence in SENTENCES]
    copy = pickle.loads(pickle.dumps(text))
    (tmp_path / "ViT-B-32.pt").unlink()
    for sentence, words in zip(SENTENCES, expected, strict=True):
        assert torch.equal(copy.encode(sentence)["words"], words)


def test_random_numbers_do_not_depend_on_it(save_tower: SaveTower, bpe: str) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    CLIPText(save_tower("openai"), bpe).encode("the door")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_words": 2}, "max_words is 2, expected at least 3"),
        ({"weighting": "nouns"}, "weighting is 'nouns'"),
        ({"activation": "relu"}, "activation is 'relu'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"file": "absent.pt"}, "absent.pt"),
        ({"tokenizer": "absent.gz"}, "absent.gz"),
    ],
)
def test_wrong_arguments(save_tower: SaveTower, bpe: str, options: dict, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        CLIPText(**{"file": save_tower("openai"), "tokenizer": bpe, **options})


def test_sentences_and_towers_that_do_not_fit(save_tower: SaveTower, bpe: str, tmp_path: Path) -> None:
    text = CLIPText(save_tower("openai"), bpe, max_words=21)
    with pytest.raises(ValueError, match=r"query 5, ' ': the sentence has no words"):
        text.encode(" ", 5)
    with pytest.raises(ValueError, match="max_words is 21, but .* takes at most 20"):
        text.encode("the door")
    with pytest.raises(ValueError, match="have 128 channels, expected 512"):
        CLIPText(save_tower("openai"), bpe, dim=512).encode("the door")
    with pytest.raises(ValueError, match="3 heads do not divide the 128 channels"):
        CLIPText(save_tower("openai"), bpe, heads=3).encode("the door")
    with pytest.raises(ValueError, match="device 'nonsense' cannot be used"):
        CLIPText(save_tower("openai"), bpe, device="nonsense").encode("the door")
    other = tmp_path / "other.txt"
    other.write_text("#version\nt h\n")
    with pytest.raises(ValueError, match=r"embeddings of 526 tokens, but .*other.txt has 515 tokens"):
        CLIPText(save_tower("openai"), str(other)).encode("the door")


def test_transformers_is_not_installed(save_tower: SaveTower, bpe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "mesm_plugin\[clip\]"'):
        CLIPText(save_tower("openai"), bpe)
