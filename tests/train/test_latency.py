"""Latency: the number of timed calls, their inputs; parameters and bytes in memory."""

import itertools
import math
import resource

import numpy as np
import pytest
import torch

from train.data import augment
from train.evaluation import latency
from train.tree import hierarchy

CPU = torch.device("cpu")


@pytest.fixture
def flat(make_classifier):
    """Builds an untrained flat network in evaluation mode."""
    return make_classifier("flat", hierarchy.flat(4)).eval()


def ticking(step=0.25):
    """Returns a clock that advances by `step` seconds with every reading."""
    return itertools.count(0.0, step).__next__


def test_time_limits_warm_up_and_calls(flat, tiny_data):
    """The warm-up takes a fifth of the seconds, and no call starts after the limit."""
    inputs = latency.inputs_of(tiny_data().train, batch=3, device=CPU)
    measured = latency.measure(flat, inputs, warm_up=50, calls=200, seconds=5.0, clock=ticking())

    assert (3, 3, 6) == (measured.batch, measured.warm_up, measured.calls)
    assert math.isclose(250, measured.median_ms)
    assert math.isclose(250, measured.p95_ms)
    assert math.isclose(3 / 0.25, measured.pictures_per_second)


def test_counts_limit_warm_up_and_calls(flat, tiny_data):
    """With enough time exactly the requested calls are made."""
    inputs = latency.inputs_of(tiny_data().train, batch=1, device=CPU)
    measured = latency.measure(flat, inputs, warm_up=2, calls=7, seconds=1000.0, clock=ticking())

    assert (1, 2, 7) == (measured.batch, measured.warm_up, measured.calls)


def test_one_call_is_always_timed(flat, tiny_data):
    """One call is timed even without enough time."""
    inputs = latency.inputs_of(tiny_data().train, batch=1, device=CPU)
    measured = latency.measure(flat, inputs, warm_up=9, calls=9, seconds=0.1, clock=ticking())

    assert (0, 1) == (measured.warm_up, measured.calls)


@pytest.mark.parametrize(("batch", "expected"), [(1, 8), (3, 2), (8, 1), (20, 1)])
def test_inputs_are_different_images_as_far_as_there_are(tiny_data, batch, expected):
    """Eight images give eight inputs of one, two of three, or one of twenty with repeats."""
    images = tiny_data(2).train
    inputs = latency.inputs_of(images, batch=batch, device=CPU)
    rows = np.arange(expected * batch) % 8

    assert [batch] * expected == [len(some) for some in inputs]
    assert torch.equal(augment.scale(images.batch(rows)), torch.cat(inputs))


def test_resident_numbers_count_shared_tensors_once(make_classifier, two_level_hierarchy):
    """Parameters, statistics and mean colour count; a tensor with two names counts once."""
    classifier = make_classifier("uppsala", two_level_hierarchy)
    statistics = sum(b.numel() for b in classifier.buffers() if b.is_floating_point())
    resident = latency.params_resident(classifier)
    classifier.register_parameter("again", next(classifier.parameters()))

    assert classifier.cost().params + statistics == resident
    assert resident == latency.params_resident(classifier)


def test_state_that_is_no_tensor_is_refused(flat, monkeypatch):
    """A part of the state that cannot be counted is an error."""
    monkeypatch.setattr(flat, "state_dict", lambda: {"network": torch.zeros(2), "extra": "text"})

    with pytest.raises(TypeError, match=r"\['extra'\]"):
        latency.params_resident(flat)


def test_peak_memory_is_that_of_the_process():
    """Without an accelerator the figure is the resident set in MiB, and its name says so."""
    latency.reset_peak_memory(CPU)
    measured = latency.peak_memory(CPU)
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert "resident set of the whole process since it started" == measured["peak_memory_of"]
    assert 10 < measured["peak_memory_mib"] <= highest


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_peak_memory_of_the_accelerator_is_reset(flat, tiny_data):
    """On a GPU the peak counts tensors since the reset, and timing waits for the device."""
    device = torch.device("cuda")
    held = torch.zeros(2**24, device=device)
    del held
    latency.reset_peak_memory(device)
    inputs = latency.inputs_of(tiny_data().train, batch=4, device=device)
    measured = latency.measure(flat.to(device), inputs, warm_up=1, calls=3, seconds=60.0)

    assert 3 == measured.calls
    assert 0 < latency.peak_memory(device)["peak_memory_mib"] < 64
    assert "device" in latency.peak_memory(device)["peak_memory_of"]
