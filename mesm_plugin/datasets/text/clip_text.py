# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Word features of CLIP's text tower, computed from the sentences."""

import importlib.util
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize as l2_normalize

from mesm_plugin.datasets.text.byte_pair import BytePairTokenizer
from mesm_plugin.datasets.text.clip_tower import ACTIVATIONS, CLIPTextTower, load_clip_text_tower
from mesm_plugin.datasets.text.encoder import TextEncoder, query_name
from mesm_plugin.datasets.text.token_classes import TokenClasses
from mesm_plugin.datasets.text.words import WEIGHTINGS, word_weights
from mesm_plugin.registry import TRANSFORMS
from mesm_plugin.utils.progress import track_progress

_SHORTEST = 3


@TRANSFORMS.register_module()
class CLIPText(TextEncoder):
    """Frozen CLIP text tower on local weights: one feature for each byte-pair token, start and end of text included.

    A feature is the tower's last output after its final normalisation, without the projection to the space of images,
    as in the released code, which computes it in float16; here it is float32. Start and end are never masked, and their
    classes, and that of all rare tokens, are those of `PreExtractedText`.

    All sentences of a data set are encoded once, before training starts. `mesm encode-text` writes what comes out to a
    file for `PreExtractedText`, so that it need not be done at every start. Needs the packages of
    `pip install "mesm_plugin[clip]"`.

    Args:
        file: Weights, see `clip_weights.read_clip_text_weights`.
        tokenizer: The vocabulary that goes with them, see `byte_pair.BytePairTokenizer`.
        vocabulary: `CLIP_tokenized_count.txt` of the data set; None if there is no masked language modelling.
        vocabulary_size: So many of its token ids, from the first line on, have a class of their own.
        max_words: Most tokens of a sentence with its start and end; further ones are cut off before the end.
        weighting: "uniform", the paper's, or "content_words", close to the released code: see `words.word_weights`.
        normalize: Divides the features of every token by their L2 norm.
        dim: Expected width of the features; unchecked if None.
        activation: "quick_gelu" or "gelu"; None for what a config.json beside the weights says, or else "quick_gelu",
            that of OpenAI's models.
        heads: Of attention; None for what a config.json beside the weights says, or else one for each 64 channels.
        batch_size: Sentences that are encoded at a time.
        device: Where to compute, such as "cpu" or "cuda".

    Raises:
        FileNotFoundError: A file does not exist.
        ImportError: A package is not installed.
        ValueError: An argument or a file is wrong.
    """

    def __init__(
        self,
        file: str,
        tokenizer: str,
        vocabulary: str | None = None,
        vocabulary_size: int = 1111,
        max_words: int = 16,
        weighting: str = "uniform",
        normalize: bool = True,
        dim: int | None = None,
        activation: str | None = None,
        heads: int | None = None,
        batch_size: int = 64,
        device: str = "cpu",
    ) -> None:
        if max_words < _SHORTEST:
            raise ValueError(f"max_words is {max_words}, expected at least {_SHORTEST}: start, a word and end")
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting is {weighting!r}, expected one of {', '.join(map(repr, WEIGHTINGS))}")
        if activation not in (None, *ACTIVATIONS):
            raise ValueError(f"activation is {activation!r}, expected one of {', '.join(map(repr, ACTIVATIONS))}")
        for name, value in (("heads", heads), ("batch_size", batch_size)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")
        if importlib.util.find_spec("transformers") is None:
            raise ImportError(
                'CLIPText needs the package transformers, which is not installed: pip install "mesm_plugin[clip]"'
            )
        if not Path(file).exists():
            raise FileNotFoundError(f"CLIP weights not found: {file}; docs/text.md says which files there are")
        self.file = str(file)
        self.tokenizer = BytePairTokenizer(tokenizer)
        start, end = self.tokenizer.start, self.tokenizer.end
        self.classes = None if vocabulary is None else TokenClasses(vocabulary, vocabulary_size, start, end)
        self.max_words = max_words
        self.weighting = weighting
        self.normalize = normalize
        self.dim = dim
        self.activation = activation
        self.heads = heads
        self.batch_size = batch_size
        self.device = device
        self._features: dict[str, Tensor] = {}

    @property
    def num_classes(self) -> int | None:
        return None if self.classes is None else self.classes.count

    def tokenize(self, sentence: str, qid: Hashable | None = None) -> list[int]:
        """Token ids of a sentence, at most `max_words`, start and end included.

        Raises:
            ValueError: The sentence has no words; the message names the query.
        """
        start, *ids, end = self.tokenizer.encode(sentence)
        if not ids:
            raise ValueError(f"{query_name(sentence, qid)}: the sentence has no words")
        return [start, *ids[: self.max_words - 2], end]

    def prepare(self, queries: Sequence[tuple[str, Hashable | None]]) -> dict[int, str]:
        ids: dict[str, list[int]] = {}
        problems = {}
        for place, (sentence, qid) in enumerate(queries):
            if sentence not in self._features:
                try:
                    ids[sentence] = self.tokenize(sentence, qid)
                except ValueError as error:
                    problems[place] = str(error)
        # Sentences of one length in a batch need no padding.
        ordered = sorted(ids, key=lambda sentence: len(ids[sentence]))
        for sentences, features in self._encoded(ordered, ids):
            self._features |= zip(sentences, features, strict=True)
        return problems

    def encode(self, sentence: str, qid: Hashable | None = None) -> dict[str, Tensor]:
        ids = self.tokenize(sentence, qid)
        if sentence not in self._features:
            self.prepare([(sentence, qid)])
        features = self._features[sentence]
        weights = torch.from_numpy(word_weights(self.tokenizer.words(ids), self.weighting))
        weights[[0, -1]] = 0
        encoded = {"words": l2_normalize(features, eps=1e-12) if self.normalize else features, "words_weight": weights}
        return encoded if self.classes is None else encoded | self.classes.labels(ids)

    def _encoded(
        self, ordered: Sequence[str], ids: dict[str, list[int]]
    ) -> Iterator[tuple[Sequence[str], list[Tensor]]]:
        if not ordered:
            return
        tower = self._tower()
        batches = [ordered[begin : begin + self.batch_size] for begin in range(0, len(ordered), self.batch_size)]
        for sentences in track_progress(batches, "encoding sentences", f"batches of {self.batch_size}"):
            yield sentences, tower.encode([ids[sentence] for sentence in sentences])

    def _tower(self) -> CLIPTextTower:
        tower = load_clip_text_tower(self.file, self.heads, self.activation, self.device)
        if tower.num_tokens != self.tokenizer.size:
            raise ValueError(
                f"{self.file} has embeddings of {tower.num_tokens} tokens, but {self.tokenizer.path} has "
                f"{self.tokenizer.size} tokens; weights and vocabulary must be of the same model"
            )
        if self.max_words > tower.context_length:
            raise ValueError(f"max_words is {self.max_words}, but {self.file} takes at most {tower.context_length}")
        if self.dim is not None and tower.dim != self.dim:
            raise ValueError(f"the features of {self.file} have {tower.dim} channels, expected {self.dim}")
        return tower
