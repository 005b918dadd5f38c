# Copyright (c) MESM Plugin Contributors. SPDX-License-Identifier: Apache-2.0
"""The annotated queries of a data set by id."""

import difflib

from mmengine.dataset import BaseDataset

from mesm_plugin.datasets import GroundingDataset


class AnnotatedQueries:
    """Where each annotated query of a data set is.

    Reads the annotations only: that features and words of all queries can be had is not checked, as most are not used.

    Args:
        dataset: Need not be initialised.

    Attributes:
        qids: Of all queries, in the order of the annotations.

    Raises:
        FileNotFoundError, ValueError: What reading the annotations raises.
    """

    def __init__(self, dataset: GroundingDataset) -> None:
        BaseDataset.full_init(dataset)
        self._name = dataset.ann_file or type(dataset).__name__
        self._places: dict[str, list[tuple[int, int]]] = {}
        self.qids: list[int | str] = []
        for index in range(len(dataset)):
            for place, query in enumerate(dataset.get_data_info(index)["queries"]):
                self.qids.append(query["qid"])
                self._places.setdefault(str(query["qid"]), []).append((index, place))

    def place(self, qid: int | str) -> tuple[int, int]:
        """Index of the item that holds a query, and the place of the query in it.

        Raises:
            ValueError: No query or more than one has this id; near ids are named.
        """
        places = self._places.get(str(qid), [])
        if len(places) == 1:
            return places[0]
        if places:
            raise ValueError(f"{self._name} has {len(places)} queries with the id {qid}")
        known = list(self._places)
        near = difflib.get_close_matches(str(qid), known, n=3, cutoff=0.5) or known[:3]
        raise ValueError(f"{self._name} has no query with the id {qid}; it has {len(known)}, such as {', '.join(near)}")
