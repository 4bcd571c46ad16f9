"""Every measure as a class: parity on real maps, and what torchmetrics asks of a metric."""

import copy
import pickle
import resource
from functools import partial

import numpy as np
import py_sod_metrics
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from spatialseg.functional.one_vs_rest import one_vs_rest
from spatialseg.metrics import (
    BoundaryFMeasure,
    BoundaryIoU,
    EnhancedAlignmentMeasure,
    MeanAbsoluteError,
    MeanIoU,
    SaliencyFMeasure,
    StructureMeasure,
    WeightedFMeasure,
    available_measures,
    saliency_metrics,
)
from spatialseg.metrics.base import ImageMean
from spatialseg.metrics.registry import families

KINDS = [
    WeightedFMeasure,
    MeanAbsoluteError,
    MeanIoU,
    StructureMeasure,
    EnhancedAlignmentMeasure,
    SaliencyFMeasure,
    BoundaryIoU,
    BoundaryFMeasure,
]
BATCHES = (3, 1, 2, 5, 1)


def batches(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    for size in BATCHES:
        target = torch.zeros(size, 24, 31, dtype=torch.long)
        for one in target:
            row, column = torch.randint(0, 14, (2,), generator=generator).tolist()
            one[row : row + 8, column : column + 10] = 1
        noise = torch.rand(target.shape, generator=generator)
        yield (0.6 * target.roll(2, dims=2) + 0.4 * noise).to(dtype), target


def flat(value):
    """Return what compute() gave as one tensor."""
    return torch.stack(list(value.values())) if isinstance(value, dict) else value.reshape(1)


def of_all(kind, dtype=torch.float32):
    metric = kind()
    for batch in batches(dtype):
        metric.update(*batch)
    return metric


def test_parity_on_real_maps(many_maps, sod_maps):
    pairs = [*many_maps[::4], *sod_maps]
    theirs = {
        "weighted_f": py_sod_metrics.WeightedFmeasure(),
        "s": py_sod_metrics.Smeasure(),
        "e": py_sod_metrics.Emeasure(),
        "mae": py_sod_metrics.MAE(),
    }
    with pytest.warns(UserWarning, match="will be removed"):
        theirs["f"] = py_sod_metrics.Fmeasure()
    ours = {
        "weighted_f": WeightedFMeasure(normalize=True, empty_target="zero"),
        "s": StructureMeasure(normalize=True),
        "e": EnhancedAlignmentMeasure(normalize=True),
        "f": SaliencyFMeasure(normalize=True),
        "mae": MeanAbsoluteError(normalize=True),
    }
    per_image = {name: [] for name in ours}
    for pair in pairs:
        prediction, target = torch.tensor(pair.prediction)[None], torch.tensor(pair.mask > 128)[None]
        for name, metric in ours.items():
            theirs[name].step(pair.prediction, pair.mask)
            value = metric(prediction, target)
            per_image[name].append(value[f"{name}_adaptive"] if isinstance(value, dict) else value)
    lists = {"weighted_f": "weighted_fms", "s": "sms", "e": "adaptive_ems", "f": "adaptive_fms", "mae": "maes"}
    for name, attribute in lists.items():
        found, expected = torch.stack(per_image[name]).numpy(), getattr(theirs[name], attribute)
        np.testing.assert_allclose(found, expected, atol=1e-8, rtol=0, err_msg=name)
    e, f = theirs["e"].get_results()["em"], theirs["f"].get_results()
    expected = {"e_adaptive": e["adp"], "e_mean": e["curve"].mean(), "e_max": e["curve"].max()}
    assert {key: value.item() for key, value in ours["e"].compute().items()} == pytest.approx(expected, abs=1e-10)
    curve = f["fm"]["curve"]
    expected = {"f_adaptive": f["fm"]["adp"], "f_mean": curve.mean(), "f_max": curve.max()}
    assert {key: value.item() for key, value in ours["f"].compute().items()} == pytest.approx(expected, abs=1e-10)
    np.testing.assert_allclose(ours["f"].curves()["precision"].flip(0), f["pr"]["p"], atol=1e-10)
    np.testing.assert_allclose(ours["f"].curves()["recall"].flip(0), f["pr"]["r"], atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_accumulated_is_all_at_once_is_merged(kind):
    expected = flat(of_all(kind).compute())
    together = kind()
    together.update(*(torch.cat(parts) for parts in zip(*batches(), strict=True)))
    torch.testing.assert_close(flat(together.compute()), expected, rtol=0, atol=1e-12)
    left, right = kind(), kind()
    for place, batch in enumerate(batches()):
        (left if place % 3 else right).update(*batch)
    left.merge_state(right)
    torch.testing.assert_close(flat(left.compute()), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_pickle_reset_state_dict_and_plot(kind):
    metric = of_all(kind)
    expected = flat(metric.compute())
    assert expected.isfinite().all()
    assert torch.equal(flat(pickle.loads(pickle.dumps(metric)).compute()), expected)
    metric.persistent(True)
    fresh = kind()
    fresh.persistent(True)
    fresh.load_state_dict(metric.state_dict())
    fresh._update_count = 1
    assert torch.equal(flat(fresh.compute()), expected)
    figure, _ = metric.plot()
    assert figure is not None
    metric.reset()
    for batch in batches():
        metric.update(*batch)
    assert torch.equal(flat(metric.compute()), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input(kind, dtype):
    half = kind()
    single = kind()
    for prediction, target in batches(dtype):
        half.update(prediction, target)
        single.update(prediction.float(), target)
    torch.testing.assert_close(flat(half.compute()), flat(single.compute()), rtol=0, atol=1e-12)
    assert torch.equal(flat(copy.deepcopy(half).half().compute()), flat(half.compute()))


@pytest.mark.parametrize(
    "make",
    [
        *KINDS,
        lambda: WeightedFMeasure(empty_target="zero"),
        lambda: WeightedFMeasure(empty_target="strict"),
        *(partial(ImageMean, each) for each in families(available_measures(further=True)) if each.on_request),
    ],
)
@pytest.mark.filterwarnings("error")
def test_an_image_without_a_counting_pixel_is_left_out(make):
    metric, expected = make(), make()
    prediction, target = next(batches())
    expected.update(prediction, target)
    ignored = torch.full_like(target, 255)
    metric.update(ignored[:2] / 255, ignored[:2])
    assert flat(metric.compute()).isnan().all()
    metric.update(prediction, target)
    assert torch.equal(flat(metric.compute()), flat(expected.compute()))


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_is_named(kind):
    prediction, target = next(batches())
    prediction[1, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="image 1 of the batch holds NaN"):
        kind().update(prediction, target)


@pytest.mark.parametrize("measuring", families(available_measures(further=True)))
def test_direction_and_bound_are_those_of_the_measure(measuring):
    measure, metric = measuring.measures[0], ImageMean(measuring)
    assert metric.higher_is_better == (measure.better == "higher")
    assert metric.plot_upper_bound == (None if measure.counts else 1)


@pytest.mark.parametrize("kind", [BoundaryIoU, BoundaryFMeasure])
def test_masks_of_classes_are_of_the_most_probable_one(kind):
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (2, 4, 5), generator=generator).repeat_interleave(6, 1).repeat_interleave(6, 2)
    logits = one_vs_rest(target, 3).float().roll(2, 2) + torch.rand(2, 3, 24, 30, generator=generator)
    metric, of_masks, of_labels = (kind(classes=3) for _ in range(3))
    metric.update(logits.softmax(dim=1), target)  # of which few reach a half
    winners = one_vs_rest(logits.argmax(dim=1), 3).float()
    of_masks.update(winners, target)
    of_labels.update(winners, one_vs_rest(target, 3))
    assert metric.compute() == of_masks.compute() == of_labels.compute() > 0.1


@pytest.mark.parametrize("kind", [StructureMeasure, EnhancedAlignmentMeasure, SaliencyFMeasure, MeanAbsoluteError])
def test_measures_of_foreground_alone_have_no_classes(kind):
    with pytest.raises(ValueError, match="of a foreground map alone, got classes=3"):
        kind(classes=3)


def test_state_is_constant():
    metric = saliency_metrics(full=True)
    prediction, target = torch.rand(1, 4, 4), torch.eye(4)[None]

    def size():
        states = (getattr(one, name) for one in metric.values() for name in one._defaults)
        return sum(state.numel() * state.element_size() for state in states)

    metric.update(prediction, target)
    before = size()
    one = metric["weighted_f"]
    for _ in range(100):
        one.update(prediction, target)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(10_000):
        one.update(prediction, target)
    assert size() == before < 20_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start < 1000  # kB; a float per image would be 80


def test_keys_of_the_full_set():
    metrics = saliency_metrics(full=True)
    for batch in batches():
        metrics.update(*batch)
    values = metrics.compute()
    assert set(values) == {
        *("weighted_f", "mae", "iou", "s_measure", "boundary_iou", "boundary_f"),
        *("e_adaptive", "e_mean", "e_max", "f_adaptive", "f_mean", "f_max"),
    }
    assert all(0 < value < 1 for value in values.values())
    prefixed = metrics.clone(prefix="test/")
    assert {"test/weighted_f", "test/e_max"} <= set(prefixed.compute())


def run_process(rank, store, queue):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        metrics = [kind() for kind in KINDS]
        for place, batch in enumerate(batches()):
            if (place == 3) == (rank == 1):  # 7 images here, 5 there
                for metric in metrics:
                    metric.update(*batch)
        values = [flat(metric.compute()).tolist() for metric in metrics]
        if rank == 0:
            queue.put(values)
    finally:
        dist.destroy_process_group()


def test_two_processes_with_uneven_shards(tmp_path):
    context = mp.get_context("fork")
    queue = context.SimpleQueue()
    processes = [context.Process(target=run_process, args=(rank, str(tmp_path / "store"), queue)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    for kind, found in zip(KINDS, queue.get(), strict=True):
        assert found == pytest.approx(flat(of_all(kind).compute()).tolist(), abs=1e-12), kind.__name__
