# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Configs by path and by name, and options of the command line."""

import os

import pytest
from mmengine.config import Config

from mesm_plugin.engine.config_loading import ConfigError, find_config, merge_options, read_config, shipped_configs


def test_shipped_configs_are_found_by_name():
    path = find_config("mesm_synthetic")
    assert path.name == "mesm_synthetic.py"
    assert find_config("mesm_synthetic.py") == path == shipped_configs()["mesm_synthetic"]
    assert not any("_base_" in path.parts for path in shipped_configs().values())


def test_config_that_does_not_exist_lists_near_names():
    with pytest.raises(FileNotFoundError, match=r"mesm_synthetc is neither a file .*did you mean mesm_synthetic\b"):
        find_config("mesm_synthetc")
    with pytest.raises(FileNotFoundError, match="the shipped ones are .*mesm_synthetic"):
        find_config("zzz/qqq.py")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = dict(", r"bad.py: SyntaxError: '\(' was never closed"),
        ("model = dict(a=b)", "bad.py: NameError: name 'b' is not defined"),
        ("_base_ = 'nothing.py'", "bad.py: FileNotFoundError: .*nothing.py"),
        ("custom_imports = dict(imports=['no_such_module'])", "bad.py: .*Failed to import no_such_module"),
    ],
)
def test_file_that_is_no_config(text, message, tmp_path):
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_config(str(path))


@pytest.mark.parametrize(("value", "folder"), [("elsewhere", "elsewhere"), ("", "data"), (None, "data")])
def test_empty_variables_are_as_if_unset(monkeypatch, value, folder):
    if value is None:
        monkeypatch.delenv("MESM_DATA", raising=False)
    else:
        monkeypatch.setenv("MESM_DATA", value)
    assert read_config("mesm_tacos_c3d_glove").data_root == f"{folder}/tacos/"
    assert os.environ.get("MESM_DATA") == value


def test_options_are_merged():
    config = Config({"model": {"type": "A", "parts": [{"x": 1}, {"x": 2}]}})
    merge_options(config, ["model.y=1e-3", "model.parts.1.x=[3,4]", "model.z=True", "model.name=a=b"])
    assert config.model.to_dict() == {
        "type": "A",
        "parts": [{"x": 1}, {"x": [3, 4]}],
        "y": 1e-3,
        "z": True,
        "name": "a=b",
    }


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("model.y", "option 'model.y' is not of the form key=value"),
        ("=3", "option '=3' is not of the form key=value"),
        ("model.parts.5.x=1", "option 'model.parts.5.x=1': Index 5 exceeds"),
        ("model.type.x=1", "option 'model.type.x=1': .*str"),
        ("model.y=[1,2", r"option 'model.y=\[1,2': Imbalanced brackets"),
    ],
)
def test_option_that_cannot_be_merged(option, message):
    config = Config({"model": {"type": "A", "parts": [{"x": 1}]}})
    with pytest.raises(ConfigError, match=message):
        merge_options(config, [option])


def test_yaml_makes_no_objects_and_calls_nothing(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(f"model: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']\n")
    with pytest.raises(
        ConfigError, match=r"config\.yaml: ConstructorError: could not determine a constructor for the tag"
    ):
        read_config(str(config))
    assert not (tmp_path / "made").exists()
    config.write_text("model: {type: DETRGrounder, dims: 8}\n")
    assert read_config(str(config)).model.dims == 8
