"""Section `flat` of params.yaml: how images are balanced, and what the network learns beside labels."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from personae.balance import Balance


class Params(BaseModel):
    """Section `flat`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    balance: Balance = Field(
        "none",
        description="equal numbers of images per label: resample (drawn anew each epoch), "
        "fixed (drawn once), weights (all images, weighted loss); none: all images, as `curation` "
        "has already balanced the labels",
    )
    smoothing: Literal["uniform", "tree", "online"] = Field(
        "uniform",
        description="where smoothed targets come from: uniform; the groups of the run's tree; "
        "online: the network's mean probabilities in the epoch before",
    )
    tree_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="smoothing tree: share of the smoothed mass that stays in the label's group",
    )
    curriculum: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the schedule in which the groups of the run's tree are learnt, before "
        "the labels; 0: none",
    )
    hierarchical_decay: float | None = Field(
        None,
        ge=0,
        le=100,
        description="hierarchical cross-entropy: the group of the run's tree counts exp(-decay) times "
        "the label within the group; unset: plain cross-entropy",
    )
    coarse_weight: float = Field(
        0.0,
        ge=0,
        le=100,
        description="weight of the loss of a second head, over the groups of the run's tree, that "
        "is dropped after training; 0: no such head",
    )
    coarse_after: int | None = Field(
        None, ge=1, le=1000, description="blocks below the second head; unset: half of the blocks"
    )

    @property
    def uses_groups(self) -> bool:
        """Whether training needs the groups of a tree."""
        return self.smoothing == "tree" or any(
            (self.curriculum > 0, self.hierarchical_decay is not None, self.coarse_weight > 0)
        )

    @model_validator(mode="after")
    def _check_signals(self) -> "Params":
        signals = (
            self.smoothing != "uniform",
            self.curriculum > 0,
            self.hierarchical_decay is not None,
            self.coarse_weight > 0,
        )
        if sum(signals) > 1:
            raise ValueError(
                "smoothing, curriculum, hierarchical_decay and coarse_weight exclude each other: "
                "use one"
            )
        return self
