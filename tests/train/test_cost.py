"""The cost of training and prediction: critical paths and expected MACs."""

import math

from train.classifier import Cost, FitReport, NetworkReport


def report_of(name, seconds, *, waits_for=None):
    return NetworkReport(
        network=name,
        seconds=float(seconds),
        waiting_seconds=0.0,
        epochs=1,
        discarded_epochs=0,
        images_seen=1,
        pictures=1,
        train_flops=1.0,
        params=1,
        stopped_by="epochs",
        waits_for=waits_for,
    )


def test_critical_path_of_the_worked_example():
    """A root of 3,900 s and six subnetworks take 6,620 s in total, 4,620 s on the critical path."""
    subs = (720, 600, 500, 400, 320, 180)
    networks = [report_of("root", 3900)]
    networks += [report_of(f"cluster-{n}", s, waits_for="root") for n, s in enumerate(subs)]
    report = FitReport(tuple(networks))

    assert (6620, 4620) == (report.total_seconds, report.critical_path_seconds)
    assert math.isclose(453.33, sum(subs) / 6, abs_tol=0.01)


def test_critical_path_of_a_deep_tree():
    """The critical path is the largest sum from the root down, not root plus longest network."""
    took = [("a", 1500, "root"), ("a-0", 300, "a"), ("b", 1400, "root"), ("b-0", 900, "b")]
    networks = [report_of("root", 2220)]
    networks += [report_of(name, seconds, waits_for=parent) for name, seconds, parent in took]
    report = FitReport(tuple(networks))

    assert (6320, 2220 + 1400 + 900) == (report.total_seconds, report.critical_path_seconds)


def test_expected_macs_of_the_worked_example():
    """MACs 100, 40, 60 with shares 1, 0.7, 0.2 give 140 of 200."""
    cost = Cost(params=1, macs={"root": 100, "a": 40, "b": 60})

    assert math.isclose(140, cost.macs_expected({"root": 1.0, "a": 0.7, "b": 0.2}))
    assert cost.macs_max == 200
