"""
Which posts the browse page shows: the parameters of its address, and the SQL condition they make.

Every value is bound as a parameter of the query; no text of an address becomes part of SQL.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

MOST_TAGS = 8  # each is one more pass over the tags of all posts

_Text = Annotated[str, StringConstraints(max_length=300, pattern=r"\A[^\x00]*\z")]
PostId = Annotated[int, Field(ge=0, lt=1 << 63)]


class Selection(BaseModel):
    """The posts that satisfy every given parameter; an empty text sets no condition."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: _Text = Field("", description="label of the sample, or persona of a refused post")
    tags: _Text = Field("", description="tags of the post; -tag: posts without it")
    split: Literal["", "train", "val", "test"] = Field("", description="split of the sample")
    decision: Literal["", "kept", "refused", "all"] = Field(
        "",
        description="kept: samples, the default; refused, the default with a stage or reason; all",
    )
    stage: _Text = Field("", description="stage that refused the post")
    reason: _Text = Field("", description="reason code of the refusal")
    run: _Text = Field(
        "", description="trained run; with seed, true, predicted and verdict: its predictions"
    )
    seed: Annotated[int, Field(ge=0, lt=1 << 31)] | None = Field(
        None, description="seed of the run; all of them when absent"
    )
    true: _Text = Field("", description="true label of a prediction")
    predicted: _Text = Field("", description="predicted label")
    verdict: Literal["", "right", "wrong"] = Field(
        "", description="whether the prediction is the true label"
    )
    after: PostId | None = Field(None, description="posts with a larger id")
    before: PostId | None = Field(None, description="posts with a smaller id, the last of them")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.tags.split()) > MOST_TAGS:
            raise ValueError(f"tags: at most {MOST_TAGS} at once")
        if self.after is not None and self.before is not None:
            raise ValueError("after and before: give one of them")
        return self

    @property
    def has_predictions(self) -> bool:
        """Whether the selection asks for posts with certain predictions."""
        return bool(
            self.run or self.true or self.predicted or self.verdict or self.seed is not None
        )

    def predictions(self, leaves: dict[str, int]) -> tuple[str, list[object]]:
        """Returns the SQL condition on `predictions AS q` and its values; an unknown label fits none."""
        terms, values = ["true"], list[object]()
        if self.run:
            terms.append("q.run = ?")
            values.append(self.run)
        if self.seed is not None:
            terms.append("q.seed = ?")
            values.append(self.seed)
        if self.split:
            terms.append("q.split = ?")
            values.append(self.split)
        for column, label in (("leaf", self.true), ("predicted", self.predicted)):
            if label:
                terms.append(f"q.{column} = ?")
                values.append(leaves.get(label, -1))
        if self.verdict:
            terms.append(f"q.leaf {'=' if self.verdict == 'right' else '<>'} q.predicted")
        return " AND ".join(terms), values

    def posts(self, leaves: dict[str, int]) -> tuple[str, str, list[object]]:
        """
        Returns the table `p` that has the posts, the SQL condition on it, and its values, in order.

        The posts kept are read from the table of the samples: nothing is looked up in it. The
        condition of a selection without others is `true`.
        """
        terms: list[str] = []
        values: list[object] = []

        def among(query: str, *bound: object, negated: bool = False) -> None:
            terms.append(f"p.post_id {'NOT ' if negated else ''}IN ({query})")
            values.extend(bound)

        refused = "SELECT post_id FROM catalog.decisions WHERE NOT kept"
        if self.stage or self.reason:
            named = [("stage", self.stage), ("reason", self.reason)]
            equal = "".join(f" AND {column} = ?" for column, value in named if value)
            among(refused + equal, *(value for _, value in named if value))
        elif self.decision == "refused":
            among(refused)
        is_default = not (self.decision or self.stage or self.reason)
        table = "samples" if self.decision == "kept" or is_default else "posts"
        if self.label:
            among(
                "SELECT post_id FROM catalog.samples WHERE label = ? "
                "UNION ALL SELECT post_id FROM catalog.kept WHERE persona = ?",
                self.label,
                self.label,
            )
        if self.split:
            among("SELECT post_id FROM catalog.splits WHERE split = ?", self.split)
        for word in self.tags.split():
            is_excluded = word.startswith("-") and len(word) > 1
            among(
                "SELECT post_id FROM catalog.post_tags WHERE tag = ?",
                word[1:] if is_excluded else word,
                negated=is_excluded,
            )
        if self.has_predictions:
            condition, bound = self.predictions(leaves)
            among(f"SELECT q.post_id FROM predictions AS q WHERE {condition}", *bound)  # noqa: S608  # constants with ?
        return f"catalog.{table}", " AND ".join(terms) or "true", values
