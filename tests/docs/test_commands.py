# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The commands of the documentation are commands that `mesm` takes."""

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesm_plugin.cli.main import build_parser
from mesm_plugin.engine.config_loading import shipped_configs

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def parser() -> argparse.ArgumentParser:
    return build_parser()


def command_lines(page: Path) -> Iterator[list[str]]:
    """The arguments of `mesm` wherever a block of shell commands runs it."""
    for language, block in FENCE.findall(page.read_text(encoding="utf-8")):
        if language != "bash":
            continue
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
            lexer.whitespace_split = True
            command: list[str] = []
            for word in [*lexer, ";"]:
                if word.strip(";&|"):
                    if command or not re.match(r"\w+=", word):
                        command.append(word)
                    continue
                if command[:1] == ["mesm"]:
                    yield command[1:]
                command = []


def named_in_text(page: Path) -> Iterator[list[str]]:
    """The words behind `mesm` in the text between the blocks."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for code in re.findall(r"`mesm ([a-z][^`]*)`", text):
        yield code.split()


def options(parser: argparse.ArgumentParser, command: str) -> set[str]:
    (commands,) = (action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    assert command in commands
    return set(commands[command]._option_string_actions)


def test_commands_are_found() -> None:
    found = [command[0] for page in PAGES for command in command_lines(page)]
    assert len(found) > 30
    assert {"train", "test", "predict", "check", "convert-features"} <= set(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks(page: Path, parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]) -> None:
    for command in command_lines(page):
        try:
            arguments = parser.parse_args(command)
        except SystemExit:
            pytest.fail(f"mesm {shlex.join(command)}: {capsys.readouterr().err}")
        config = getattr(arguments, "config", None)
        if config is not None and re.fullmatch(r"[a-z_\d]+", config):
            assert config in shipped_configs()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_text(page: Path, parser: argparse.ArgumentParser) -> None:
    for command, *words in named_in_text(page):
        unknown = {word.partition("=")[0] for word in words if word.startswith("--")} - options(parser, command)
        assert not unknown, f"mesm {command} {' '.join(words)}"
