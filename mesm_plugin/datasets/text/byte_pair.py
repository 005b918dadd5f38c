# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""CLIP's byte-pair tokens, from a local vocabulary."""

import gzip
import html
import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
# Tokens of whole words, numbers digit by digit, and runs of signs; a contraction's end is a token of its own.
_PIECES = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
# Of the merges in OpenAI's file CLIP uses so many.
_NUM_MERGES = 49152 - 256 - 2


class BytePairTokenizer:
    """Turns sentences into the ids that CLIP was trained with.

    As in OpenAI's code, text in a wrong encoding is repaired, HTML entities are resolved, runs of blanks become one,
    and letters lower case. The names of the special tokens are ordinary text here.

    Args:
        path: `bpe_simple_vocab_16e6.txt.gz` as OpenAI and open_clip have it, unpacked or not; or Hugging Face's
            `tokenizer.json`, or a folder with it or with `vocab.json` and `merges.txt`.

    Attributes:
        start: Id of the token before each sentence.
        end: Id of the token after it.
        size: Number of tokens.

    Raises:
        ImportError: The packages tokenizers and ftfy are not installed.
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or of another kind; the message names it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        vocabulary, merges = _read(self.path)
        missing = [token for token in (START, END) if token not in vocabulary]
        if missing:
            raise ValueError(f"{self.path} has no token {missing[0]!r}; is it the vocabulary of a CLIP model?")
        self.start, self.end, self.size = vocabulary[START], vocabulary[END], len(vocabulary)
        self._tokenizer = _build(vocabulary, merges, self.path)

    def encode(self, sentence: str) -> list[int]:
        """The ids of a sentence, start and end included."""
        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(sentence)))
        text = re.sub(r"\s+", " ", text).strip().lower()
        return [self.start, *self._tokenizer.encode(text, add_special_tokens=False).ids, self.end]

    def words(self, ids: Sequence[int]) -> list[str]:
        """The text of each token, without the mark of the end of a word."""
        texts = (self._tokenizer.decode([token], skip_special_tokens=False) for token in ids)
        return [text.removesuffix(END_OF_WORD) for text in texts]


def _read(path: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Ids of the tokens, and the pairs that are merged, in order."""
    if path.is_dir():
        names = [name for name in ("tokenizer.json", "merges.txt") if (path / name).is_file()]
        if not names:
            raise FileNotFoundError(f"{path} has neither tokenizer.json nor vocab.json and merges.txt")
        path = path / names[0]
    if not path.is_file():
        raise FileNotFoundError(f"byte-pair vocabulary not found: {path}; docs/text.md says where it comes from")
    try:
        if path.suffix == ".json":
            model = json.loads(path.read_text(encoding="utf-8"))["model"]
            pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
            return _checked(model["vocab"], pairs, path)
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else open(path, encoding="utf-8") as file:
            lines = file.read().split("\n")
        if path.name == "merges.txt":
            vocabulary = json.loads(path.with_name("vocab.json").read_text(encoding="utf-8"))
            return _checked(vocabulary, [line.split() for line in lines[1:] if line.strip()], path)
        pairs = [line.split() for line in lines[1 : _NUM_MERGES + 1] if line.strip()]
        letters = [*_BYTES, *(letter + END_OF_WORD for letter in _BYTES)]
        tokens = [*letters, *("".join(pair) for pair in pairs), START, END]
        return _checked({token: index for index, token in enumerate(tokens)}, pairs, path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} needs vocab.json beside it") from error
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is no byte-pair vocabulary, or is damaged ({error})") from error


def _checked(
    vocabulary: Any, pairs: Sequence[Sequence[str]], path: Path
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    if not isinstance(vocabulary, dict) or not all(type(index) is int for index in vocabulary.values()):
        raise ValueError("expected an object with an id for each token")
    for number, pair in enumerate(pairs, 1):
        if len(pair) != 2 or not {*pair, "".join(pair)} <= vocabulary.keys():
            raise ValueError(f"merge {number} is {' '.join(pair)[:40]!r}, expected two tokens that make another one")
    if set(vocabulary.values()) != set(range(len(vocabulary))):
        raise ValueError(f"its {len(vocabulary)} tokens do not have the ids 0 to {len(vocabulary) - 1}, each once")
    if not pairs:
        raise ValueError("it has no merges")
    return vocabulary, [(first, second) for first, second in pairs]


def _letters_of_bytes() -> list[str]:
    """The printable letter that stands for each byte, in the order of CLIP's ids."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [*map(chr, printable), *(chr(256 + index) for index in range(len(others)))]


_BYTES = _letters_of_bytes()


def _build(vocabulary: dict[str, int], merges: list[tuple[str, str]], path: Path) -> "Tokenizer":
    try:
        import ftfy  # noqa: F401 - encode needs it
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    except ImportError as error:
        raise ImportError(
            f"{path} is read with the packages tokenizers and ftfy, which are not installed ({error}): "
            'pip install "mesm_plugin[clip]"'
        ) from error
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix=END_OF_WORD, continuing_subword_prefix="")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
