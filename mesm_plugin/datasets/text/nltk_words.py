# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Words and punctuation as NLTK's `word_tokenize` splits English, without its downloaded models."""

import re

# A full stop behind these ends no sentence, and stays with them inside one; NLTK learns them from a corpus.
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[])(?:[a-z]|[a-z](?:\.[a-z])+|mr|mrs|ms|dr|prof|st|vs|jr|sr|co|inc|ltd|gen|sen|rep|gov|u\.s)$", re.I
)
_SENTENCE_END = re.compile(r"(?<!\.)\.(?=([\"')\]]*)(\s|$))")
_RULES = [
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        # Quotation marks become `` and ''.
        (r"(?<=[\s(\[{<])\"", " `` "),
        (r"\"|''", " '' "),
        # An apostrophe before a word is a quotation mark, in words and behind them it is none.
        (r"(?<=\s)'(?=\w{3})", " ' "),
        (r"\.{2,}|\u2026", r" \g<0> "),
        # Neither 1,000 nor 10:30 is split.
        (r"[:,](?!\d)", r" \g<0> "),
        (r"[;@#$%&?!\[\](){}<>\u2013\u2014\u201c\u201d\u00ab\u00bb]", r" \g<0> "),
        (r"--+", r" \g<0> "),
        (r"(?<=[^'\s])'(?=\s)", " ' "),
        (r"(?<=[^'\s])('s|'m|'d|'ll|'re|'ve|n't)(?=\W|$)", r" \1 "),
        (r"\b(can)(not)\b|\b(gim|lem)(me)\b|\b(gon|got)(ta|na)\b|\b(wan)(na)\b", r"\1\3\5\7 \2\4\6\8"),
    )
]


def nltk_words(sentence: str) -> list[str]:
    """Words and punctuation of an English sentence or several, in lower case.

    A contraction is two words ("does", "n't"), punctuation is words of its own, and what a hyphen, a slash or a full
    stop joins stays one. In place of NLTK's learnt model of where sentences end, a full stop before a blank is one
    unless it is behind a letter or a usual abbreviation.
    """
    text = sentence.strip()

    def separate(stop: re.Match[str]) -> str:
        inside = stop.end() + len(stop[1]) < len(text)
        return stop[0] if inside and _ABBREVIATION.search(text[: stop.start()]) else " ."

    text = _SENTENCE_END.sub(separate, text)
    text = f" {text} "
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text.lower().split()
