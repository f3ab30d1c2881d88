"""Section `dhnn` of params.yaml: the decoder of paths."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from personae.balance import Balance

Order = Literal["root_first", "leaf_first"]
ConversionKind = Literal["pool", "linear", "conv"]
Layers = Literal["last", "alt", "all"]
CellKind = Literal["lstm", "gru"]


class Params(BaseModel):
    """Section `dhnn`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["rnn", "s2s"] = Field(
        "rnn",
        description="rnn: a bidirectional RNN over paths of equal length, a shallow leaf "
        "repeated; s2s: an encoder, and a decoder that ends each path, for trees of uneven depth",
    )
    order: Order = Field("root_first", description="of the steps: root_first, or leaf_first")
    conversion: ConversionKind = Field(
        "pool", description="maps to the RNN's inputs: pool (the slides' advice), linear, conv"
    )
    layers: Layers = Field(
        "alt",
        description="stages of the CNN that feed a step: last, alt (deeper step by step; our "
        "reading of the slides), all (their mean)",
    )
    cell: CellKind = Field("lstm", description="lstm, gru")
    hidden: int = Field(256, ge=1, le=8192, description="numbers in an RNN's state; 512 is 'large'")
    residual: bool = Field(
        default=True, description="rnn: add the input of each step to a linear map of its output"
    )
    teacher_forcing: float = Field(
        1.0,
        ge=0,
        le=1,
        description="s2s: share of training steps that read the true previous node; the "
        "others read the likeliest node",
    )
    step_weights: tuple[Annotated[float, Field(ge=0)], ...] | None = Field(
        None, description="of the steps' losses, one per step (s2s: and for the end); unset: equal"
    )
    beam: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="paths that a prediction keeps at each step, 1: greedy; "
        "unset: all, so that every label has the score of its path",
    )
    balance: Balance = Field(
        "none",
        description="equal numbers of images per label: resample (drawn anew each epoch), "
        "fixed (drawn once), weights (all images, weighted loss); none: all images",
    )
