"""Parameters of the demo board: section `demo` of `params.yaml`."""

from pydantic import BaseModel, ConfigDict, Field


class Params(BaseModel):
    """Section `demo`: the size and mix of the built-in board, and how it serves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, description="seed of everything that the board generates")
    posts_large: int = Field(
        1_060, ge=1, description="good posts of each of four personae, so that 1,000 are reached"
    )
    posts_small: int = Field(330, ge=1, description="good posts of each of eight personae")
    posts_minor: int = Field(60, ge=1, description="good posts of each of three minor personae")
    refused_share: float = Field(
        0.15, ge=0, le=3, description="posts that a filter must refuse, per good post"
    )
    mistagged_share: float = Field(
        0.01, ge=0, le=0.5, description="share of good posts whose tags are wrong on purpose"
    )
    duplicate_share: float = Field(
        0.04,
        ge=0,
        le=0.5,
        description="exact, pixel, near and family duplicates, per good post",
    )
    rate: float = Field(
        10.0, ge=0, description="requests a second to /posts*, per address; 0 means no limit"
    )
    burst: int = Field(20, ge=0, description="requests that may queue before the board answers 429")
    latency_seconds: float = Field(0.0, ge=0, le=60, description="wait before each answer")
    workers: int = Field(
        2, ge=0, le=64, description="processes that draw; 0 draws in a thread of the server"
    )
    cache: str = Field(
        "work/demo", description="folder that remembers what was drawn; empty means memory only"
    )
    faults: tuple[str, ...] = Field(
        (), description="kinds of fault to commit, as kind=share; the kinds stand in faults.py"
    )
    fault_attempts: int = Field(
        1, ge=1, description="attempts at one address that fail before one succeeds"
    )
    control: bool = Field(
        default=False, description="let requests order faults and changes (for tests)"
    )
