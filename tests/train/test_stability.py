"""Stability of groupings: what is logged of resamples without a grouping."""

from tests.train.test_clustering import write_classes, write_flat
from train import clustering


def test_refused_sweeps_of_resamples_are_one_line(tmp_path, caplog):
    """Of many resamples whose sweep is refused, the log has one line with their number."""
    write_flat(tmp_path / "results" / "flat" / "0", families=[[0, 1, 2], [3]])
    write_classes(tmp_path, dict.fromkeys([f"label_{leaf}" for leaf in range(4)]))
    clustering.run(
        clustering.Params(bootstrap=30, largest=0.5),
        data_dir=tmp_path,
        results_dir=tmp_path / "results",
        seed=0,
    )
    texts = [entry.message for entry in caplog.records if entry.levelname == "WARNING"]
    refused = [text for text in texts if "every partition of the sweep is refused" in text]
    resampled = [text for text in texts if "of 30 resamples" in text]

    assert ["modularity", "laplacian"] == [text.split(": ")[1] for text in refused]
    assert "giant_cluster" in refused[0]
    assert 1 <= len(resampled) <= 2
    assert len(set(texts)) == len(texts) < 10
