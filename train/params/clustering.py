"""Section `clustering` of params.yaml: the confusion matrix, and the parameters of every rule."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

GROUPINGS = (
    "modularity",
    "bisection",
    "laplacian",
    "average_linkage",
    "spectral",
    "agglomerative",
    "dendrogram",
    "hdcnn",
    "hdcnn_spectral",
    "hdcnn_disjoint",
    "given",
    "given_deep",
    "families",
    "random",
    "random_1",
    "random_2",
    "random_given",
    "random_given_deep",
    "random_families",
    "random_average_linkage",
    "random_bisection",
    "random_dendrogram",
    "random_hdcnn",
)
"""Every grouping that stage `clustering` can write; a run names one."""


class Params(BaseModel):
    """Section `clustering`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    confusion: Literal["counts", "soft"] = Field(
        "counts",
        description="confusion matrix: counts of predicted labels (as in the Uppsala report), "
        "or soft: mean predicted probabilities, which have less noise if a label has few validation images",
    )
    diagonal: bool = Field(
        False,
        description="modularity, bisection, laplacian: keep the diagonal of the confusion matrix; "
        "correct predictions do not show which labels are confused",
    )
    gamma_first: float = Field(
        2.0,
        gt=0,
        le=10,
        description="first resolution of the sweep; a high one gives small clusters",
    )
    gamma_last: float = Field(0.1, gt=0, le=10, description="last resolution of the sweep")
    gamma_step: float = Field(
        0.1, gt=0, le=1, description="difference between two resolutions of the sweep"
    )
    largest: float = Field(
        0.5,
        gt=0,
        le=1,
        description="largest share of the labels that one cluster of the sweep may have",
    )
    g_max: int | None = Field(
        None,
        ge=1,
        description="largest number of labels in a group of average_linkage; unset: half of the "
        "labels (HierNet: 50 of 100)",
    )
    p_min: float | None = Field(
        None,
        ge=-1,
        le=2,
        description="average_linkage merges groups above this proximity (HierNet 0.0075 with "
        "ReLU, 0.005 with ELU); unset: the one that gives nearest to groups_wanted groups",
    )
    groups_wanted: int | None = Field(
        None,
        ge=2,
        description="number of groups that p_min is chosen for; unset: square root of the number "
        "of labels (HierNet: 6 to 8 of 100)",
    )
    clusters: int | None = Field(
        None,
        ge=2,
        description="clusters of spectral, agglomerative and the lower level of dendrogram; unset: "
        "as many as modularity gives",
    )
    given: Path | None = Field(
        None,
        description="JSON or DOT file with the tree of grouping `given`, by label names; unset: "
        "the families of the data set. After editing it: dvc repro --force -s clustering",
    )
    neighbours: int | None = Field(
        None,
        ge=1,
        description="nearest labels that each label is joined with in the graph of hdcnn; unset: "
        "half the square root of the number of labels (HD-CNN: 5 of 100)",
    )
    sweep_neighbours: bool = Field(
        False,
        description="choose neighbours, then unset, as a resolution is chosen: from 1 to the square root of the "
        "number of labels, the one whose groups have the largest excess MICP",
    )
    overlap: float = Field(
        5.0,
        gt=0,
        le=1e6,
        description="gamma of HD-CNN: a label joins each of K sets to whose labels its images get "
        "a mean probability of at least 1 / (gamma K); a larger gamma gives more overlap",
    )
    overlap_largest: float = Field(
        0.8, gt=0, le=1, description="share of the labels up to which overlap may enlarge a set"
    )
    bootstrap: int = Field(
        100,
        ge=0,
        le=10_000,
        description="number of resamples of the validation images for the stability",
    )

    @model_validator(mode="after")
    def _check_sweep(self) -> "Params":
        if self.gamma_first < self.gamma_last:
            raise ValueError(
                f"gamma_first {self.gamma_first} is below gamma_last {self.gamma_last}: the sweep "
                "goes from the higher to the lower resolution"
            )
        if self.p_min is not None and self.groups_wanted is not None:
            raise ValueError(
                f"groups_wanted {self.groups_wanted} has no effect with p_min, which decides the "
                "groups: leave one of them out"
            )
        if self.sweep_neighbours and self.neighbours is not None:
            raise ValueError(
                f"neighbours {self.neighbours} has no effect with sweep_neighbours, which chooses the "
                "number: leave one of them out"
            )
        return self
