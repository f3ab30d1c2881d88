"""Parameters of the demo board: section `demo` of `params.yaml`."""

from pydantic import BaseModel, ConfigDict, Field


class Params(BaseModel):
    """Section `demo`: number and mix of the built-in board's posts, and how it serves them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, description="random seed of every generated post and image")
    posts_large: int = Field(
        1_060, ge=1, description="good posts of each of four personae, so that 1,000 are reached"
    )
    posts_small: int = Field(330, ge=1, description="good posts of each of eight personae")
    posts_minor: int = Field(60, ge=1, description="good posts of each of three minor personae")
    refused_share: float = Field(
        0.15, ge=0, le=3, description="posts that a filter must refuse, per good post"
    )
    mistagged_share: float = Field(
        0.01, ge=0, le=0.5, description="share of good posts with wrong tags on purpose, 0 to 0.5"
    )
    duplicate_share: float = Field(
        0.04,
        ge=0,
        le=0.5,
        description="exact, pixel, near and family duplicates per good post, 0 to 0.5",
    )
    rate: float = Field(
        10.0,
        ge=0,
        description="requests per second to /posts*, for each client address; 0 means no limit",
    )
    burst: int = Field(20, ge=0, description="requests that may queue before the board answers 429")
    latency_seconds: float = Field(0.0, ge=0, le=60, description="seconds to wait before an answer")
    workers: int = Field(
        2, ge=0, le=64, description="processes that draw images; 0 draws in a thread of the server"
    )
    cache: str = Field(
        "work/demo", description="folder that caches md5 and thumbnails; empty means memory only"
    )
    faults: tuple[str, ...] = Field(
        (), description="faults as kind=share, for example reset=0.05; a wrong kind lists all kinds"
    )
    fault_attempts: int = Field(
        1, ge=1, description="failing attempts at one address before an attempt succeeds"
    )
    control: bool = Field(
        default=False, description="let requests order faults and changes (for tests)"
    )


TINY = Params(
    posts_large=24,
    posts_small=12,
    posts_minor=3,
    refused_share=0.35,
    mistagged_share=0.04,
    duplicate_share=0.08,
    rate=0,
    workers=0,
    cache="",
)
"""About 280 posts with every kind of refusal: no rate limit, no process, no cache on disk."""
