# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The command itself."""

import os
import re
import sys
from types import SimpleNamespace

import pytest

import mesm_plugin
from mesm_plugin.cli import main as cli


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--help"])
    assert exit_.value.code == 0
    assert re.findall(r"^    ([\w-]+)", capsys.readouterr().out, re.MULTILINE) == list(cli.COMMANDS)


def test_version(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"mesm_plugin {mesm_plugin.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["fly"], ["train"], ["test", "mesm_synthetic"], ["predict", "a", "b"]])
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("command", list(cli.COMMANDS))
def test_help_of_the_commands(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main([command, "--help"])
    assert exit_.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    purpose = cli.COMMANDS[command]
    assert f"{purpose[0].upper()}{purpose[1:]}." in text
    assert "--debug" in text


def test_interruption(monkeypatch, capsys):
    def interrupt(args):
        raise KeyboardInterrupt

    parser = SimpleNamespace(parse_args=lambda argv: SimpleNamespace(run=interrupt))
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    assert cli.main([]) == 130
    assert capsys.readouterr().err == "\nmesm: interrupted\n"


def test_output_that_is_no_longer_read(monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)

    def run(args):
        print("a line")
        return 0

    monkeypatch.setattr(cli, "build_parser", lambda: SimpleNamespace(parse_args=lambda _: SimpleNamespace(run=run)))
    with os.fdopen(writer, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert cli.main([]) == 141
    assert capsys.readouterr().err == ""
