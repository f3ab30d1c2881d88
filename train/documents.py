"""
The JSON documents of trained runs, each with one reader and one writer. Those of the shards:
`personae.build.documents`.

ModelDocument    results/RUN/SEED/model.json          how to build the classifier around its weights
FitDocument      results/RUN/SEED/fit.json            what the training took
CostDocument     results/RUN/SEED/cost.json           what a prediction costs
MetricsDocument  results/RUN/SEED/metrics.json        figures on the test images
GroupingDocument data/clustering/SEED/GROUPING.json   groups of the labels, and how they were chosen
RecordDocument   experiments/PRESET/RUN-SEED.json     all of the above, recorded
ClosenessDocument data/split/certificate.json         the closest pairs of images across splits
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, Field, field_validator

from personae.build.documents import ImageDocument
from personae.documents import Background, Document, Part
from train.errors import MixedResults
from train.runs import Equal


class ResolutionDocument(Part):
    """One resolution of the sweep of a grouping."""

    gamma: float
    clusters: tuple[tuple[int, ...], ...]
    micp: float
    excess: float
    selected: bool
    refused: str | None


class GroupingDocument(Document):
    """The fields of a grouping that later stages read; others describe its quality."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
    stage: ClassVar[str] = "clustering"

    labels: tuple[str, ...] = ()
    """Class labels in leaf order."""
    clusters: tuple[tuple[int, ...], ...]
    """The partition of the leaves at the root."""
    tree: list[Any] | None = None
    """All levels as nested lists, of which an integer is a leaf; None: the clusters alone."""
    cover: tuple[tuple[int, ...], ...] | None = None
    """A set for each cluster, which may overlap; None: the clusters."""
    stability: float | None = None
    sweep: tuple[ResolutionDocument, ...] = ()

    @field_validator("tree")
    @classmethod
    def _check_tree(cls, tree: list[Any] | None) -> list[Any] | None:
        nodes = list(tree or [])
        for node in nodes:
            if isinstance(node, list):
                nodes += node
            elif type(node) is not int:
                raise ValueError(f"{node!r} is neither a leaf nor a list")
        return tree


class NodeDocument(Part):
    """A node of the label hierarchy, as `train.tree.hierarchy.to_json` writes it."""

    node: str
    kind: Literal["root", "cluster", "label"]
    members: tuple[int, ...]
    """Sorted leaves at or below the node."""
    net: str | None
    """Network that decides at the node; None where nothing is decided."""
    label: int | None = None
    """Leaf of a label; unset for other nodes."""


class HierarchyDocument(Part):
    """The label hierarchy; edges are (parent, child, output index of the child)."""

    nodes: tuple[NodeDocument, ...]
    edges: tuple[tuple[str, str, int], ...]


class ExtendsDocument(Part):
    """The run that a tree with added labels was made from."""

    run: str
    seed: int
    placed: dict[str, tuple[str, float]]
    """For each added label: its cluster, and the root's probability mass on that cluster."""


class ModelDocument(Document):
    """model.json: what a classifier is built from, before its weights are loaded."""

    stage: ClassVar[str] = "fit"

    method: str
    run: str
    seed: int
    grouping: str | None
    labels: tuple[str, ...]
    """Class labels in leaf order."""
    hierarchy: HierarchyDocument
    params: dict[str, dict[str, Any]]
    """Effective parameters by section."""
    backbone: str
    side: int = Field(ge=1, le=65_536)
    """Height and width of an image in pixels."""
    background: Background = "border"
    """Colour of the margin of an image; unset where it is that of the border."""
    mean: tuple[float, float, float]
    """Mean of each channel of the training images, in 0..1."""
    root_sha256: str
    """Root hash of the shards, or the hash of the selection of their samples."""
    versions: dict[str, str]
    extends: ExtendsDocument | None = None
    parts: tuple["ModelDocument", ...] | None = None
    """The merged runs of method `fusion`; unset for other methods."""
    weights_sha256: str | None = None
    """SHA-256 of weights.safetensors; unset in files of older versions of the program."""

    @property
    def selection(self) -> str | None:
        """The parameter `data.selection` of the training; None: all samples of the shards."""
        value = self.params.get("data", {}).get("selection")
        return None if value is None else str(value)

    def check_shards(
        self, labels: tuple[str, ...], root_sha256: str, *, folder: Path, where: str = "data/shards"
    ) -> None:
        """
        Refuses shards that the run in `folder` was not trained on.

        Args:
            labels: Class labels of the present shards, in leaf order.
            root_sha256: Root hash of the present shards.
            folder: Folder of this file.
            where: Place of the present shards.

        Raises:
            MixedResults: The root hash or the labels are others.
        """
        if (labels, root_sha256) != (self.labels, self.root_sha256):
            others = "" if labels == self.labels else " and other labels"
            raise MixedResults(
                f"{folder} was trained on the shards {self.root_sha256[:12]}…, and {where} holds "
                f"{root_sha256[:12]}…{others}: its training images may be validation or test images "
                "there. Train again (`dvc repro`), or move the run elsewhere."
            )

    def facts(self) -> dict[str, Any]:
        """
        Returns the description as plain JSON values, without version and hash of the weights.

        This is the metadata of weights.safetensors, so a hash of that file cannot be part of it.
        """
        content = self.model_dump(
            mode="json", exclude_unset=True, exclude={"version", "weights_sha256", "parts"}
        )
        if self.parts is not None:
            content["parts"] = [part.facts() for part in self.parts]
        return content

    def to_json(self) -> dict[str, Any]:
        """Returns the description, the version, and the hash of the weights if it is known."""
        known = {} if self.weights_sha256 is None else {"weights_sha256": self.weights_sha256}
        return self.facts() | known | {"version": self.version}


class NetworkDocument(Part):
    """What the training of one network took; the fields are those of `NetworkReport`."""

    network: str
    seconds: float
    waiting_seconds: float
    epochs: int = Field(ge=1)
    discarded_epochs: int
    images_seen: int
    pictures: int
    """Training images that may be drawn."""
    train_flops: float
    params: int
    stopped_by: str
    peak_memory_mib: float = 0.0
    waits_for: str | None = None


class CountedCost(Part):
    """What a prediction costs, counted; `macs_expected` uses the shares of validation images."""

    params: int
    macs: dict[str, int]
    """Multiply-accumulate operations per image of each part."""
    macs_max: int
    macs_expected: float | None
    shares: dict[str, float] | None = None
    """Share of images that execute each part; absent in 20 records of 0.1.0."""


class MatchDocument(Part):
    """What a control with equal cost had to reach, and what it reached."""

    like: str
    """The run whose cost the control has."""
    equal: Equal
    wanted: float
    reached: float
    ratio: float
    """`reached` / `wanted`."""


class FitDocument(Document):
    """fit.json: time, memory and operations of a training, and the machine."""

    stage: ClassVar[str] = "fit"

    networks: tuple[NetworkDocument, ...] = Field(min_length=1)
    """In the order of training."""
    total_seconds: float
    critical_path_seconds: float
    cost: CountedCost
    device: str
    device_name: str
    threads: int
    processes: int
    cpu_cores: int | None
    versions: dict[str, str]
    needs_flat: bool = True
    """Whether the run needs the flat network of its seed. 158 older records lack the field."""
    match: MatchDocument | None = None
    """None for a run that is no control. 9 older records lack the field."""
    commit: str = ""
    """Commit of the program that trained the run. 9 older records lack the field."""

    @property
    def train_flops(self) -> float:
        """Operations of the training, summed over all networks."""
        return sum(network.train_flops for network in self.networks)


class LatencyDocument(Part):
    """How long calls with `batch` images took; the fields are those of `Latency`."""

    batch: int
    warm_up: int
    calls: int
    median_ms: float
    p95_ms: float
    pictures_per_second: float


class CostDocument(Document):
    """cost.json: what a prediction costs, counted and measured on the test images."""

    stage: ClassVar[str] = "evaluate"

    params: int
    params_resident: int
    macs: dict[str, int]
    macs_max: int
    macs_expected: float
    shares: dict[str, float]
    latency: tuple[LatencyDocument, ...]
    peak_memory_mib: float
    peak_memory_of: str
    device: str
    device_name: str
    precision: str
    threads: int
    load: float | None = None
    """Processes that used or awaited a core in the minute before the timing, mean; this one is
    among them. Older records lack it, and systems without it."""

    def median_ms(self, batch: int) -> float | None:
        """Returns the median milliseconds of a call with `batch` images; None if not measured."""
        return next((row.median_ms for row in self.latency if row.batch == batch), None)


class MetricsDocument(Document):
    """metrics.json: figures on the test images; None where a figure is undefined."""

    stage: ClassVar[str] = "evaluate"

    msr: float
    """Accuracy (the Uppsala report's mean success rate)."""
    msr_macro: float | None
    msr_white: float | None
    """Accuracy on images with a white background; None without such images."""
    top5: float | None
    nll: float | None
    ece: float | None
    n_test: int
    n_white: int
    macs_expected: float
    macs_max: int
    params: int
    seconds_total: float
    seconds_critical: float
    brier: float | None = None
    """Brier score, 0..2. Records older than this figure lack it and the next three."""
    temperature: float | None = None
    """Temperature with the least NLL on the validation images; None where these are trained on."""
    nll_scaled: float | None = None
    """NLL at that temperature."""
    ece_scaled: float | None = None
    """ECE at that temperature."""
    msr_mirrored: float | None = None
    """Accuracy of the mean over image and mirror image; only with `evaluate.mirror`."""
    msr_ten_views: float | None = None
    """Accuracy of the mean over ten crops; only with `evaluate.ten_views` and `augment.crop`."""
    msr_full: float | None = None
    """Accuracy of a forward pass over all branches; only for methods with a router."""
    route_msr: float | None = None
    """Equal to `msr`: the default mode, which follows one route in `uppsala` and `hiernet` alone."""
    router_accuracy: float | None = None
    oracle_msr: float | None = None
    """Accuracy if the router always chose the right cluster; None where clusters overlap."""


class DataDocument(Part):
    """What a record keeps of the shards' manifest."""

    root_sha256: str
    labels: int
    samples: dict[str, int]
    """Images of each split."""
    image: ImageDocument


class MachineDocument(Part):
    """The machine of a training."""

    cpu_cores: int | None
    architecture: str


class RecordDocument(Document):
    """experiments/PRESET/RUN-SEED.json: everything that is kept of an evaluated run."""

    stage: ClassVar[str] = "record"

    preset: str
    run: str
    seed: int
    metrics: MetricsDocument
    cost: CostDocument | None = None
    fit: FitDocument
    params: dict[str, dict[str, Any]]
    data: DataDocument
    machine: MachineDocument
    commit: str
    commands: tuple[str, ...]


class ClosePairDocument(Part):
    """Two posts of one label and different splits."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    post_a: int
    post_b: int
    split_a: str
    split_b: str
    label: str
    difference: float
    """Of their edge histograms, 0..2."""
    mirrored: bool
    """Whether one of them is mirrored."""


class ClosenessDocument(Document):
    """The fields of the certificate of the splits that the report shows."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
    stage: ClassVar[str] = "split"

    least_difference: float
    """Smallest difference that passes; 0: edge histograms were not compared."""
    like: tuple[ClosePairDocument, ...]
    """The pairs that differ least, closest first."""
    mode: Literal["hash", "stratified", "given"]
    """How the splits were made: drawn, or given by the source and then only reported."""
