# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Components resolve by bare name from every MMEngine codebase, and importing the package stays cheap."""

import subprocess
import sys
import textwrap

import pytest
from mmengine import registry as root
from mmengine.registry import DefaultScope, Registry

from mesm_plugin import registry
from mesm_plugin.models import MESMAligner

NAMES = {
    "MODELS": [
        "MESMAligner",
        "FrameWordEnhancer",
        "SegmentSentenceEnhancer",
        "DETRGrounder",
        "IoUContrastiveLoss",
        "MaskedWordLoss",
        "MomentMatcher",
    ],
    "DATASETS": ["CharadesSTADataset", "SyntheticDataset", "HDF5FeatureStore", "TorchFeatureStore"],
    "TRANSFORMS": ["GloVeText", "PreExtractedText"],
    "FUNCTIONS": ["collate_grounding"],
    "METRICS": ["HighlightDetectionMetric", "MomentRetrievalMetric"],
    "HOOKS": ["CheckpointGuardHook", "PredictionPlotHook"],
}
ALL = [(node, name) for node, names in NAMES.items() for name in names]


@pytest.mark.parametrize(("node", "name"), ALL)
def test_resolves_from_root_own_and_foreign_scope(node: str, name: str) -> None:
    parent = getattr(root, node)
    own = getattr(registry, node)
    foreign = Registry(parent.name, parent=parent, scope=f"foreign_{node}_{name}".lower())
    component = own.get(name)
    assert component is not None
    assert component.__name__ == name
    assert parent.get(name) is component
    assert foreign.get(name) is component
    assert foreign.get(f"mesm_plugin.{name}") is component


def test_builds_from_a_foreign_scope_with_default_scope() -> None:
    foreign = Registry("model", parent=root.MODELS, scope="foreign_build")
    with DefaultScope.overwrite_default_scope("foreign_build"):
        aligner = foreign.build({"type": "MESMAligner", "dims": 16, "heads": 2, "ffn_dims": 16})
    assert isinstance(aligner, MESMAligner)


def test_a_grounder_takes_an_aligner_that_another_codebase_registers() -> None:
    foreign = Registry("model", parent=root.MODELS, scope="foreign_aligner")

    @foreign.register_module()
    class ForeignAligner(MESMAligner):
        pass

    config = {"type": "QDDETR", "video_dims": 10, "text_dims": 8, "dims": 16, "heads": 2, "ffn_dims": 24}
    with DefaultScope.overwrite_default_scope("foreign_aligner"):
        model = foreign.build({**config, "aligner": {"type": "ForeignAligner"}})
    assert isinstance(model.aligner, ForeignAligner)
    assert model.aligner.layers[0].update.linear1.weight.shape == (24, 16)


def test_a_name_of_both_codebases_is_the_own_one() -> None:
    foreign = Registry("dataset", parent=root.DATASETS, scope="foreign_data_set")

    @foreign.register_module(name="CharadesSTADataset")
    class ForeignDataset:
        pass

    assert foreign.get("CharadesSTADataset") is ForeignDataset
    assert foreign.get("mesm_plugin.CharadesSTADataset") is registry.DATASETS.get("CharadesSTADataset")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("features", "there is no dataset 'HDF5FeaturStore'; did you mean 'HDF5FeatureStore'"),
        ("text", "there is no transform 'GloVeTxt'; did you mean 'GloVeText'"),
    ],
)
def test_unknown_part_of_a_data_set_lists_near_names(part: str, message: str) -> None:
    config = {"type": "CharadesSTADataset", "ann_file": "", "duration_file": "", "clip_length": 1.0}
    config |= {"features": {"type": "SyntheticFeatures"}, "text": {"type": "SyntheticText"}}
    config[part] = {"type": message.split("'")[1]}
    with pytest.raises(registry.UnknownTypeError, match=message):
        registry.DATASETS.build(config)


def test_a_deferred_component_builds_from_the_root_before_it_is_imported() -> None:
    script = """
        import sys
        import mesm_plugin
        from mmengine.registry import HOOKS
        assert "mmengine.hooks" not in sys.modules
        print(type(HOOKS.build(dict(type="PredictionPlotHook"))).__name__)
    """
    assert run_python(script) == "PredictionPlotHook"


def test_import_needs_no_slow_package() -> None:
    script = """
        import sys
        import mesm_plugin
        slow = ["triton", "mmengine.model", "mmengine.hooks", "mmengine.runner", "h5py", "scipy", "matplotlib", "cv2"]
        print([name for name in slow if name in sys.modules])
    """
    assert run_python(script) == "[]"


def run_python(script: str) -> str:
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    return result.stdout.strip()
