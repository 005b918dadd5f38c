# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""Data sets of video grounding: annotations, features and text from files, and how they become a batch."""

from mesm_plugin.datasets.bucketed_collate import BucketedCollate
from mesm_plugin.datasets.charades_cd import CharadesCDDataset
from mesm_plugin.datasets.charades_cg import CharadesCGDataset
from mesm_plugin.datasets.charades_sta import CharadesSTADataset
from mesm_plugin.datasets.collate import collate_grounding
from mesm_plugin.datasets.feature_store import (
    FeatureStore,
    HDF5FeatureStore,
    MissingFeaturesError,
    NumpyFeatureStore,
    TorchFeatureStore,
)
from mesm_plugin.datasets.grounding_dataset import GroundingDataset
from mesm_plugin.datasets.item import build_item
from mesm_plugin.datasets.qvhighlights import QVHighlightsDataset
from mesm_plugin.datasets.source_batch_sampler import SourceBatchSampler
from mesm_plugin.datasets.synthetic import SyntheticDataset, SyntheticFeatures
from mesm_plugin.datasets.synthetic_export import export_synthetic
from mesm_plugin.datasets.tacos import TACoSDataset
from mesm_plugin.datasets.text import CLIPText, GloVeText, PreExtractedText, SyntheticText, TextEncoder, Vocabulary

__all__ = [
    "BucketedCollate",
    "CLIPText",
    "CharadesCDDataset",
    "CharadesCGDataset",
    "CharadesSTADataset",
    "FeatureStore",
    "GloVeText",
    "GroundingDataset",
    "HDF5FeatureStore",
    "MissingFeaturesError",
    "NumpyFeatureStore",
    "PreExtractedText",
    "QVHighlightsDataset",
    "SourceBatchSampler",
    "SyntheticDataset",
    "SyntheticFeatures",
    "SyntheticText",
    "TACoSDataset",
    "TextEncoder",
    "TorchFeatureStore",
    "Vocabulary",
    "build_item",
    "collate_grounding",
    "export_synthetic",
]
