# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Ways in which a file can be broken, all from a seed."""

import json
import random
import re
from collections.abc import Callable
from typing import Any

HOSTILE_TEXT = (
    *("nan", "-nan", "inf", "-inf", "NaN", "Infinity", "1e999", "-1e999", "1e-999", "0", "-0.0", "-1", "9" * 400),
    *("9223372036854775808", "1e308", "0x10", "1_000", "true", "null", "None", '""', "[]", "{}", "##", '"', "'", ","),
    *(
        "\\",
        "\0",
        "\ud7ff",
        "\u0663",
        "\uff11\uff12",
        "é" * 50,
        "a" * 5000,
        "../../etc/passwd",
        "%s%n",
        "\r",
        "\t",
        "[" * 2000,
    ),
)
HOSTILE_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 10**30, -(10**400), 2**63, 0.0, -0.0, 1e308, 1e-320, float("nan"), float("inf")),
    *(-float("inf"), "", "x", "nan", "1", "\0", "\ud800", "a" * 3000, [], {}, [[]], [None], [[1, 2, 3]], {"a": {}}),
    *([0, 1], [[1, 0]], [[0, float("nan")]], [[-5, 1e300]], [["0", "1"]], [[True, False]], [[0, 1]] * 300),
)


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    """One to three changes of some bytes."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = rng.choice(_OF_BYTES)(content, rng)
    return content


def mutated_text(content: bytes, rng: random.Random) -> bytes:
    """As `mutated_bytes`, mostly with changes that mean something in a text: of lines, words and numbers."""
    if rng.random() < 0.3:
        return mutated_bytes(content, rng)
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = rng.choice(_OF_TEXT)(content.decode("utf-8", "surrogateescape"), rng)
    return content


def mutated_json(content: bytes, rng: random.Random) -> bytes:
    """As `mutated_text`, mostly with other values, keys and items in one of the lines or the whole."""
    if rng.random() < 0.4:
        return mutated_text(content, rng)
    try:
        lines = [content.decode()] if b"\n{" not in content else content.decode().splitlines()
        place = rng.randrange(len(lines))
        value = json.loads(lines[place])
    except ValueError:
        return mutated_text(content, rng)
    for _ in range(rng.choice((1, 1, 2))):
        value = _mutated_value(value, rng)
    lines[place] = json.dumps(value)
    return "\n".join(lines).encode()


def _mutated_value(value: Any, rng: random.Random) -> Any:
    """A JSON value with a random node of it changed."""
    children = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not children or rng.random() < 0.2:
        return rng.choice(HOSTILE_VALUES)
    child = rng.choice(children)
    changed = dict(value) if isinstance(value, dict) else list(value)
    if rng.random() < 0.15:
        del changed[child]
    elif rng.random() < 0.1 and isinstance(changed, list):
        changed.insert(child, changed[child])
    elif rng.random() < 0.1 and isinstance(changed, dict):
        changed[rng.choice(("", "x", "qid", child * 2))] = changed.pop(child)
    else:
        changed[child] = _mutated_value(changed[child], rng)
    return changed


def _span(length: int, rng: random.Random) -> tuple[int, int]:
    first = rng.randrange(length + 1)
    return first, min(length, first + int(rng.expovariate(1 / 20)) + 1)


def _truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 4, 30))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _delete(content: bytes, rng: random.Random) -> bytes:
    first, last = _span(len(content), rng)
    return content[:first] + content[last:]


def _insert(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content) + 1)
    return content[:place] + rng.randbytes(rng.choice((1, 2, 8, 100))) + content[place:]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    first, last = _span(len(content), rng)
    return content[:last] + content[first:last] * rng.choice((1, 2, 50)) + content[last:]


def _overwrite(content: bytes, rng: random.Random) -> bytes:
    first, last = _span(len(content), rng)
    filler = rng.choice((b"\0", b"\xff", b"\x80", b"0", b"9", rng.randbytes(1)))
    return content[:first] + filler * (last - first) + content[last:]


def _nothing(content: bytes, rng: random.Random) -> bytes:
    return rng.choice((b"", b"\n", b"\0" * len(content), rng.randbytes(len(content)), b"\xef\xbb\xbf" + content))


_OF_BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _truncate,
    _truncate,
    _flip,
    _flip,
    _delete,
    _insert,
    _repeat,
    _overwrite,
    _nothing,
)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _lines(text: str, rng: random.Random) -> bytes:
    lines = text.splitlines(keepends=True) or [""]
    first, second = (rng.randrange(len(lines)) for _ in range(2))
    kind = rng.randrange(4)
    if kind == 0:
        lines[first], lines[second] = lines[second], lines[first]
    elif kind == 1:
        lines.insert(first, lines[second])
    elif kind == 2:
        del lines[first]
    else:
        lines[first] = lines[first].rstrip("\n") + lines[second]
    return _encode("".join(lines))


def _token(text: str, rng: random.Random) -> bytes:
    tokens = list(re.finditer(r"[\w.+-]+", text))
    if not tokens:
        return _encode(text + rng.choice(HOSTILE_TEXT))
    token = rng.choice(tokens)
    new = rng.choice((*HOSTILE_TEXT, rng.choice(tokens)[0]))
    return _encode(text[: token.start()] + new + text[token.end() :])


def _separator(text: str, rng: random.Random) -> bytes:
    found = list(re.finditer(r"[^\w]", text))
    if not found:
        return _encode(text)
    place = rng.choice(found)
    new = rng.choice(("", " ", "\n", "\t", ",", ":", '"', "##", "\u2028", "\x1c", "\xa0", place[0] * 2))
    return _encode(text[: place.start()] + new + text[place.end() :])


def _recoded(text: str, rng: random.Random) -> bytes:
    return text.encode(rng.choice(("utf-16", "utf-32", "latin-1", "cp1252")), "replace")


_OF_TEXT: tuple[Callable[[str, random.Random], bytes], ...] = (_lines, _token, _token, _token, _separator, _recoded)
