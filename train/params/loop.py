"""Section `loop` of params.yaml: how networks are trained."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)


class Params(BaseModel):
    """Section `loop`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Literal["report", "step", "fast"] = Field(
        "fast",
        description="report: as in the Uppsala report; step: as in HierNet; fast: one cycle",
    )
    epochs: int = Field(30, ge=1, le=10_000, description="passes over the training set, at most")
    min_updates: int | None = Field(
        None,
        ge=1,
        le=10_000_000,
        description="fewest weight updates of each network: where few images give fewer in its "
        "epochs, it trains more epochs; unset: the epochs alone",
    )
    max_seconds: float | None = Field(None, gt=0, description="limit in seconds for each network")
    max_train_flops: float | None = Field(None, gt=0, description="limit in FLOPs for each network")
    lr: float | None = Field(
        None,
        gt=0,
        description="peak learning rate; unset: as in the recipe",
    )
    momentum: float | None = Field(
        None, ge=0, lt=1, description="SGD momentum, or beta1 of AdamW; unset: value of the recipe"
    )
    weight_decay: float | None = Field(
        None,
        ge=0,
        description="weight decay; unset: as in the recipe",
    )
    lr_decay: float = Field(1e-5, ge=0, description="report: decay of the learning rate per update")
    optimiser: Literal["sgd", "adam", "adamw"] = Field(
        "sgd", description="sgd; adamw with recipe fast, adam with recipe report"
    )
    warm_up: float | None = Field(
        None,
        ge=0,
        le=1,
        description="fast, step: warm-up fraction; unset: as in the recipe",
    )
    cuts: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.41026, 0.61538),
        description="step: divide the rate by 10 at these fractions of training",
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="fast: label smoothing, 0..1")
    ema: float = Field(0.98, ge=0, lt=1, description="fast: decay of averaged weights; 0: none")
    clip: float = Field(1.0, ge=0, description="fast: largest gradient norm; 0: no limit")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="number format of forward passes in training"
    )
    channels_last: bool = Field(True, description="memory layout, faster on CPUs")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a GPU if there is one"
    )
    accumulate: int = Field(
        1,
        ge=1,
        le=4096,
        description="gradient accumulation: parts of each batch, with two images or more in each",
    )
    jobs: int = Field(1, ge=1, le=256, description="networks trained at once")
    threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads per network; unset: all cores"
    )

    @model_validator(mode="after")
    def _check_recipe(self) -> "Params":
        of_recipe = {"adam": "report", "adamw": "fast"}.get(self.optimiser, self.recipe)
        if of_recipe != self.recipe:
            raise ValueError(
                f"optimiser {self.optimiser} is for recipe {of_recipe}, and recipe is {self.recipe}"
            )
        if self.recipe == "report" and self.warm_up is not None:
            raise ValueError("recipe report has no warm-up: leave warm_up out")
        return self

    @model_serializer(mode="wrap")
    def _without_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out `min_updates` if it is unset: weights hold this description to the byte."""
        values: dict[str, Any] = handler(self)
        if values.get("min_updates") is None:
            values.pop("min_updates", None)
        return values
