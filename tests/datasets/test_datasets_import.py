# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

from mesm_plugin import datasets, registry


def test_import_is_light() -> None:
    heavy = "h5py scipy matplotlib mmengine.model mmengine.hooks mmengine.runner"
    code = f"import sys, mesm_plugin.datasets\nprint(*[name for name in {heavy.split()!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_components_resolve_by_bare_name() -> None:
    for name in (
        "CharadesSTADataset",
        "HDF5FeatureStore",
        "QVHighlightsDataset",
        "SyntheticDataset",
        "SyntheticFeatures",
    ):
        assert registry.DATASETS.get(name) is registry.DATASETS.parent.get(name) is getattr(datasets, name)
    for name in ("GloVeText", "PreExtractedText", "SyntheticText"):
        assert registry.TRANSFORMS.get(name) is registry.TRANSFORMS.parent.get(name) is getattr(datasets, name)
    assert registry.DATA_SAMPLERS.parent.get("SourceBatchSampler") is datasets.SourceBatchSampler
    assert registry.FUNCTIONS.parent.get("collate_grounding") is datasets.collate_grounding
