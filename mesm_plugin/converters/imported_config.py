# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Writes the config that an imported checkpoint runs with: a shipped one's data set, as the options change it."""

import copy
import inspect
import os
import pprint
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from mmengine.runner import Runner

from mesm_plugin.converters.find_peer import Converted
from mesm_plugin.converters.peer import Options
from mesm_plugin.engine.config_loading import read_config, shipped_configs
from mesm_plugin.registry import MODELS

_DATA = "{{$MESM_DATA:data}}/"
_DATASETS = {
    "charades": "charades",
    "charadessta": "charades",
    "charadescg": "charades_cg",
    "charadescd": "charades_cd",
    "tacos": "tacos",
    "hl": "qvhighlights",
    "qvhighlight": "qvhighlights",
    "qvhighlights": "qvhighlights",
}
_FEATURES = {
    ("charades", 512): "clip_slowfast",
    ("charades", 300): "vgg_glove",
    ("charades_cg", 512): "clip_slowfast",
    ("charades_cg", 300): "i3d_glove",
    ("charades_cd", 512): "clip_slowfast",
    ("tacos", 300): "c3d_glove",
    ("qvhighlights", 512): "clip_slowfast",
}
_WIDTHS = {"slowfast": 2304, "clip": 512, "vgg": 4096, "c3d": 4096, "i3d": 1024, "resnet": 2048}
_TOKENIZERS = {"CLIP": 512, "GloVeNLTK": 300}
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


@dataclass
class ImportedConfig:
    """A config of an imported checkpoint.

    Attributes:
        text: The config, which needs no other file.
        base: Name of the shipped config whose data set, evaluation and training it has.
        same_model: Whether that has the same model, too.
        notes: What a reader should know, such as options that have no counterpart.
    """

    text: str
    base: str
    same_model: bool
    notes: list[str] = field(default_factory=list)


def imported_config(converted: Converted, options: Mapping[str, Any], origin: str) -> ImportedConfig:
    """Writes the config of a converted checkpoint.

    Args:
        converted: The checkpoint.
        options: Its training options, under the authors' names.
        origin: Name of the file that they are from, for a comment.

    Raises:
        ValueError: An option that says how data are read is missing or has a value that is not supported.
    """
    opts = Options(options, converted.code)
    base = _base(converted, opts)
    with default_data_folder():
        shipped = read_config(base).to_dict()
    config = {key: value for key, value in shipped.items() if key in _RUNNER_KEYS}
    notes: list[str] = []
    changes = _data_changes(converted, opts, config, notes)
    for name in _LOADERS:
        config[name] = copy.deepcopy(config[name])
        for path, value in changes.items():
            _set(config[name]["dataset"], path.split("."), value)
    same_model = _completed(converted.model) == _completed(shipped["model"])
    config["model"] = converted.model
    if options.get("nms_thd", -1) not in (-1, None):
        notes.append(f"option nms_thd={options['nms_thd']!r} has no counterpart: predictions are not thinned out")
    if changes:
        values = ", ".join(f"{path}={value!r}" for path, value in changes.items())
        notes.append(f"data are read otherwise than by {base}, which so cannot take its place: {values}")
    config = _portable(config)
    _check_strings(config, converted.code)
    header = (
        "# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0\n"
        f"# Written by `mesm import-checkpoint` for {ascii(origin).replace('{', '(')},\n"
        f"# a checkpoint of {converted.code}. Model and reading of data follow its options.\n"
        f"# Evaluation and training{' and model' if same_model else ''} are those of the shipped config {base}.\n"
    )
    body = "\n".join(
        f"{key} = {pprint.pformat(value, width=120, sort_dicts=False)}" for key, value in sorted(config.items())
    )
    return ImportedConfig(f"{header}{body}\n", base, same_model, notes)


_RUNNER_KEYS = set(inspect.signature(Runner.__init__).parameters) - {"self", "cfg", "work_dir"}


@contextmanager
def default_data_folder() -> Iterator[None]:
    """Has shipped configs name files in `data/`, which the text then replaces by the variable again."""
    folder = os.environ.pop("MESM_DATA", None)
    try:
        yield
    finally:
        if folder is not None:
            os.environ["MESM_DATA"] = folder


def _base(converted: Converted, options: Options) -> str:
    given = options.get("dataset_name", options.get("dset_name"))
    if given is None:
        raise ValueError("the options lack 'dataset_name' (or 'dset_name'), which says which data set they are for")
    dataset = _DATASETS.get(re.sub("[-_]", "", str(given)).lower())
    if dataset is None:
        known = "charades, charades-cg, charades-cd, tacos, qvhighlights (hl)"
        raise ValueError(f"option dataset_name={given!r} of {converted.code}: supported are {known}")
    text_dims = converted.model["text_dims"]
    tokenizer = options.get("tokenizer_type")
    if tokenizer is not None:
        if tokenizer not in _TOKENIZERS:
            raise ValueError(
                f"option tokenizer_type={tokenizer!r} of {converted.code}: supported are {', '.join(_TOKENIZERS)}"
            )
        if _TOKENIZERS[tokenizer] != text_dims:
            raise ValueError(
                f"option tokenizer_type={tokenizer!r} of {converted.code} goes with word features of "
                f"{_TOKENIZERS[tokenizer]} channels, but the parameters take {text_dims}"
            )
    features = _FEATURES.get((dataset, text_dims))
    if features is None:
        ours = [f"{name} with {dims}" for name, dims in _FEATURES]
        raise ValueError(
            f"no shipped config reads word features of {text_dims} channels for {dataset}; there is {', '.join(ours)}"
        )
    own = f"{converted.name}_{dataset}_{features}"
    return own if own in shipped_configs() else f"mesm_{dataset}_{features}"


def _data_changes(
    converted: Converted, options: Options, config: Mapping[str, Any], notes: list[str]
) -> dict[str, Any]:
    """What the options say about data that differs from the shipped config, by dotted path in a data set."""
    dataset = config["test_dataloader"]["dataset"]
    tef = _uses_tef(options, converted.code)
    files, dims = _video_files(options, dataset["features"], converted.model["video_dims"] - 2 * tef, notes)
    said: dict[str, Any] = {
        "tef": tef,
        "features.files": files,
        "features.dims": dims,
        "features.normalize": options.get("normalize_video", not options.get("no_norm_vfeat", False)) is not False,
        "text.normalize": options.get("normalize_txt", not options.get("no_norm_tfeat", False)) is not False,
    }
    for path, names in {
        "clip_length": ("clip_len", "clip_length"),
        "max_clips": ("max_video_l", "max_v_l"),
        "text.max_words": ("max_words_l", "max_q_l"),
        "max_queries": ("max_gather_size",),
        "text.vocabulary_size": ("vocab_size",),
    }.items():
        name = next((name for name in names if name in options), None)
        if name is not None:
            # Not positive means that there is none.
            said[path] = options[name] if options[name] > 0 else None
    if "vocabulary" not in dataset["text"]:
        said.pop("text.vocabulary_size", None)
    if said.get("text.max_words", 1) is None:
        raise ValueError(f"the option of {converted.code} for words a sentence is not positive")
    _check_vocabulary(converted, options)
    defaults = {"tef": True, "features.normalize": True, "text.normalize": True, "max_queries": None}
    return {path: value for path, value in said.items() if value != _get(dataset, path, defaults.get(path))}


def _check_vocabulary(converted: Converted, options: Options) -> None:
    enhancer = converted.model["aligner"].get("frame_word")
    if converted.name != "mesm" or not enhancer:
        return
    # One for unknown words; the start and the end of a text with CLIP's byte pairs.
    expected = options["vocab_size"] + (3 if converted.model["text_dims"] == _TOKENIZERS["CLIP"] else 1)
    if enhancer["num_word_classes"] != expected:
        raise ValueError(
            f"option vocab_size={options['vocab_size']} of {converted.code} means {expected} classes of words, but the "
            f"parameters have {enhancer['num_word_classes']}"
        )


def _uses_tef(options: Options, code: str) -> bool:
    if "use_tef" in options:
        return bool(options["use_tef"])
    mode = options.get("ctx_mode", "video_tef")
    if mode not in ("video_tef", "video"):
        raise ValueError(f"option ctx_mode={mode!r} of {code}: supported are 'video_tef' and 'video'")
    if options.get("a_feat_dir") or options.get("a_feat_dirs"):
        raise ValueError(f"option a_feat_dir={options.get('a_feat_dir')!r} of {code}: sound is not supported")
    return mode == "video_tef"


def _video_files(
    options: Options, features: Mapping[str, Any], width: int, notes: list[str]
) -> tuple[list[str], list[int]]:
    """Files of clip features in the order of the options, in the folder where the shipped config has them."""
    given = options.get("feat_files", options.get("v_feat_dirs"))
    folder = features["files"][0].rpartition("/")[0]
    if given is None:
        if sum(features["dims"]) != width:
            raise ValueError(
                f"the options lack 'feat_files' (or 'v_feat_dirs'), and the parameters take {width} channels, not "
                f"those of {', '.join(features['files'])} ({sum(features['dims'])})"
            )
        return features["files"], features["dims"]
    paths = [given] if isinstance(given, str) else given
    if not isinstance(paths, (list, tuple)) or not paths or not all(isinstance(path, str) for path in paths):
        raise ValueError(f"option feat_files={given!r} of {options.code}: expected paths")
    names = [PurePath(path.replace("\\", "/")).name for path in paths]
    for name in names:
        if not re.fullmatch(r"[\w.+ -]+", name):
            raise ValueError(f"option feat_files of {options.code} has the name {name!r}, expected letters and digits")
    dims = [next((dim for kind, dim in _WIDTHS.items() if kind in name.lower()), 0) for name in names]
    if dims.count(0) == 1:
        dims[dims.index(0)] = width - sum(dims)
    if sum(dims) != width or min(dims) < 1:
        raise ValueError(
            f"option feat_files of {options.code} names {', '.join(names)}, which have {dims} channels, but the "
            f"parameters take {width}"
        )
    files = [f"{folder}/{_file_name(name)}" for name in names]
    if set(files) != set(features["files"]):
        notes.append(f"clip features are read from {', '.join(files).replace('data/', '$MESM_DATA/')}")
    return files, dims


def _file_name(name: str) -> str:
    if name.endswith((".hdf5", ".h5")):
        return name
    kind = next((kind for kind in _WIDTHS if kind in name.lower()), name)
    return "clip_image.hdf5" if kind == "clip" else f"{kind}.hdf5"


def _get(node: Any, path: str, default: Any) -> Any:
    for key in path.split("."):
        if not isinstance(node, Mapping) or key not in node:
            return default
        node = node[key]
    return node


def _set(node: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value


def _portable(node: Any) -> Any:
    """The same with the folder of data as a variable of the environment again."""
    if isinstance(node, Mapping):
        return {key: _portable(value) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_portable(value) for value in node]
    if isinstance(node, str) and node.startswith("data/"):
        return _DATA + node.removeprefix("data/")
    return node


def _check_strings(node: Any, code: str) -> None:
    """Refuses text that MMEngine would replace when it reads the config, but for the folder of data."""
    if isinstance(node, Mapping):
        node = [*node, *node.values()]
    if isinstance(node, list):
        for value in node:
            _check_strings(value, code)
    elif isinstance(node, str) and "{{" in node.removeprefix(_DATA):
        raise ValueError(f"an option of {code} holds {node!r}, expected a plain value")


def _completed(model: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a grounder with the arguments that its classes have by default, for comparison."""
    grounder = MODELS.get(model["type"])
    assert grounder is not None
    parts = getattr(grounder, "default_parts", {})
    merged = {**parts, **model}
    for key, default in parts.items():
        given = model.get(key)
        if isinstance(default, Mapping) and isinstance(given, Mapping):
            merged[key] = given if "type" in given else {**default, **given}
    return _with_defaults(merged)


def _with_defaults(node: Any) -> Any:
    if isinstance(node, (list, tuple)):
        return [_with_defaults(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    values = dict(node)
    component = MODELS.get(str(node["type"])) if "type" in node else None
    if component is not None:
        for owner in inspect.getmro(component) if inspect.isclass(component) else (component,):
            for name, parameter in inspect.signature(owner).parameters.items():
                if parameter.default not in (inspect.Parameter.empty, None):
                    values.setdefault(name, parameter.default)
    # Anchors are parameters, which the checkpoint brings.
    values.pop("anchors", None)
    return {key: _with_defaults(value) for key, value in values.items() if value is not None}
