"""Section `split` of params.yaml: the shares of the three splits."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Params(BaseModel):
    """Section `split`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: float = Field(0.6, gt=0, lt=1, description="share of the groups for training, 0..1")
    val: float = Field(
        0.15,
        gt=0,
        lt=1,
        description="share for early stopping and for the confusions to cluster, 0..1",
    )
    test: float = Field(0.25, gt=0, lt=1, description="share that only `evaluate` reads, 0..1")
    seed: int = Field(0, ge=0, description="seed of the draw")
    tolerance: float = Field(
        0.1,
        gt=0,
        le=1,
        description="hash: largest difference between a label's share and the share above, 0..1; 0.1 "
        "is four standard deviations at 300 samples",
    )
    mode: Literal["hash", "stratified", "given"] = Field(
        "hash",
        description="hash: draw each group by itself; stratified: give even small labels their "
        "shares; given: take the source's split, report leaks",
    )
    val_from: Literal["train", "test"] = Field(
        "train",
        description="split that val is taken from if a given split has none; some papers take it "
        "from the official test set",
    )
    val_per_label: int | None = Field(
        None,
        ge=1,
        description="images of each label for val with mode given; unset: draw the share "
        "val / (train + val) by hash",
    )
    least_difference: float = Field(
        0.08,
        ge=0,
        le=2,
        description="smallest difference between images of one label in different splits, 0..2: one "
        "minus the correlation of edge histograms, which no rule for duplicates uses. Nearer pairs "
        "stop the stage unless the split is given. Copies in another format, size or hue are below "
        "0.07. 0: do not compare",
    )
    folds: int | None = Field(
        None,
        ge=2,
        le=100,
        description="folds of cross-validation over train and val, drawn by group like the splits: "
        "column `fold` of split.parquet; unset: none",
    )
    keep: str = Field(
        "splits.csv",
        min_length=1,
        description="file of posts that keep their split, as `python -m curation keep` writes; without "
        "the file, none. Another path is to be named in dvc.yaml too",
    )
    white_border: float = Field(
        0.9,
        ge=0,
        le=1,
        description="least share of white pixels in the border of an image on white, 0..1; 0.9 "
        "allows a foot or hair to cross the border",
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(self.train + self.val + self.test - 1) > 1e-9:
            raise ValueError(
                f"train, val and test add up to {self.train + self.val + self.test:g}, not to 1"
            )
        if self.mode != "given" and (self.val_per_label is not None or self.val_from != "train"):
            raise ValueError("val_from and val_per_label are for `mode: given`")
        return self
