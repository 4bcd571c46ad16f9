"""What holds for every loss besides what `test_check` has checked."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spatialseg.losses import available_losses, build_loss

from .batches import batch, cases

OPTIONS = [
    ("bce", 1, {"pos_weight": 2.0}),
    ("ce", 3, {"label_smoothing": 0.1}),
    ("ce", 3, {"class_weights": [1.0, 0.5, 2.0]}),
    *(("focal", channels, {"gamma": gamma, "alpha": 0.3}) for channels in (1, 3) for gamma in (0.0, 1.0, 3.5)),
    *((name, channels, {"log": True, "smooth": 1.0}) for name in ("dice", "jaccard", "floss") for channels in (1, 3)),
    *(("floss", channels, {"beta2": 1.0}) for channels in (1, 3)),
    *(("tversky", channels, {"gamma": gamma}) for channels in (1, 3) for gamma in (0.75, 2.0)),
    *(("tversky", channels, {"alpha": 0.5, "beta": 0.2, "smooth": 1.0}) for channels in (1, 3)),
    *(("lovasz", channels, {"per_image": True, "classes": "all"}) for channels in (1, 3)),
    ("structure", 1, {"window": 5, "gamma": 2.0}),
    *(("hausdorff", channels, {"alpha": 1.0}) for channels in (1, 3)),
    *(("rmi", channels, {"radius": 2, "stride": 2, "weight": 0.0}) for channels in (1, 3)),
    *(
        ("wfb", channels, {"dependency": dependency, "importance": importance, "log": log})
        for channels in (1, 3)
        for dependency in ("reference", "local", None)
        for importance in ("distance", None)
        for log in (False, True)
    ),
    *(("wfb", channels, {"reduction": reduction}) for channels in (1, 3) for reduction in ("sum", "none")),
    *(("wfb", channels, {"per_image": False}) for channels in (1, 3)),
    *(("wfb", 3, {"classes": classes}) for classes in ("all", [0, 2])),
    ("wfb", 1, {"beta2": 0.3, "window": 3, "sigma": 1.0, "smooth": 1e-3}),
    *(
        ("lal", channels, {"merge": merge, "weights": weights, "k": k})
        for channels in (1, 3)
        for merge in ("logits", "probabilities")
        for weights in ("uniform", "gaussian")
        for k in (1.0, 5.0)
    ),
    *(("lal", channels, {"window": 5, "stride": 3, "k": 2.5}) for channels in (1, 3)),
    *(("lal", channels, {"window": 5, "weights": "gaussian", "sigma": 2.0}) for channels in (1, 3)),
    *(("lal", 3, {"class_weights": [2.0, 0.0, 0.5], "groups": groups, "k": 2.0}) for groups in ("centre", "all")),
]


@pytest.mark.parametrize(("name", "channels", "args"), OPTIONS)
def test_gradcheck_of_options(name, channels, args):
    logits, target = batch(channels, (2, 5, 6), seed=3)
    loss = build_loss({"name": name, "args": args}).losses[name]
    torch.autograd.gradcheck(lambda x: loss(x, target), logits.requires_grad_(), fast_mode=True)


def value_and_gradient(name, logits, target):
    logits = logits.detach().requires_grad_()
    value = (build_loss(name) if isinstance(name, str) else name)(logits, target)
    value.backward()
    return value.detach(), logits.grad


@pytest.mark.parametrize(("name", "channels", "args"), [(*case.values, {}) for case in cases()] + OPTIONS)
def test_extreme_inputs_stay_finite(name, channels, args):
    loss = build_loss({"name": name, "args": args | ({"reduction": "mean"} if "reduction" in args else {})})
    for shape in [(2, 12, 15), (1, 1, 1), (1, 1, 9)]:
        logits, target = batch(channels, shape)
        perfect = torch.nn.functional.one_hot(target % 255, max(channels, 2)).movedim(-1, 1)[:, -channels:] * 2.0 - 1
        for saturated in (logits, logits.sign() * 1e4, perfect * 1e4, -perfect * 1e4):
            for labels in (target, target * 0, target * 0 + 1, target * 0 + 255):
                value, gradient = value_and_gradient(loss, saturated.float(), labels)
                assert value.isfinite() and gradient.isfinite().all(), (shape, value)
                if (labels == 255).all():
                    assert value == 0 and not gradient.any()


@pytest.mark.parametrize(("name", "channels"), cases())
@settings(deadline=None, max_examples=10)
@given(
    before=st.tuples(*2 * [st.sampled_from([0, 3, 6])]),  # rmi's cells, which other steps would move
    after=st.tuples(*2 * [st.integers(0, 9)]),
    seed=st.integers(0, 10**6),
)
def test_padding_with_ignored_pixels_changes_nothing(name, channels, before, after, seed):
    logits, target = batch(channels, seed=seed)
    sides = (before[0], after[0], before[1], after[1])
    wide = torch.nn.functional.pad(logits, sides, value=3.0)
    labels = torch.nn.functional.pad(target, sides, value=255)
    loss = build_loss(name)
    torch.testing.assert_close(loss(wide, labels), loss(logits, target))


@pytest.mark.parametrize(("name", "channels"), cases())
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_order_of_the_batch_and_flips_change_nothing(name, channels, seed):
    logits, target = batch(channels, (3, 12, 15), seed=seed)  # a multiple of rmi's cells, or flips would move them
    loss = build_loss(name)
    value = loss(logits, target)
    order = torch.randperm(3, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(loss(logits[order], target[order]), value)
    torch.testing.assert_close(loss(logits.flip(3), target.flip(2)), value)
    torch.testing.assert_close(loss(logits.flip(2), target.flip(1)), value)


@pytest.mark.parametrize(("name", "channels"), cases())
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(name, channels, dtype):
    logits, target = batch(channels)
    half = logits.to(dtype)
    with torch.autocast("cpu", dtype=dtype):
        value, gradient = value_and_gradient(name, half, target)
    assert value.dtype is torch.float32 and gradient.dtype is dtype
    torch.testing.assert_close(value, build_loss(name)(half.double(), target).float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(value, build_loss(name)(half.float(), target), rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", sorted(set(available_losses()) - {"ce", "ssim"}))  # ssim would take 4 GB
def test_large_images_do_not_overflow_in_half_precision(name):
    generator = torch.Generator().manual_seed(0)
    logits = (10 * torch.randn(1, 1, 2048, 2048, generator=generator)).half()
    target = torch.rand(1, 32, 32, generator=generator).round().long()
    target = target.repeat_interleave(64, 1).repeat_interleave(64, 2)
    loss = build_loss(name)
    rtol = 1e-3 if name in ("dice", "jaccard", "tversky") else 1e-5  # SMP's sums are long ones in float32
    for half in (logits, logits.bfloat16()):
        with torch.autocast("cpu", dtype=half.dtype):
            value = loss(half, target)
        torch.testing.assert_close(value.double(), loss(half.double(), target), rtol=rtol, atol=0)


@pytest.mark.parametrize(("name", "channels"), cases())
def test_target_types(name, channels):
    logits, target = batch(channels)
    loss = build_loss(name)
    expected = loss(logits, target)
    torch.testing.assert_close(loss(logits, target.to(torch.uint8)), expected)
    if channels == 1:
        torch.testing.assert_close(loss(logits, target[:, None].float()), expected)
        clean = target % 255
        torch.testing.assert_close(loss(logits, clean.bool()), loss(logits, clean))


@pytest.mark.parametrize(("name", "channels"), cases())
def test_a_step_down_the_gradient_lowers_the_loss(name, channels):
    logits, target = batch(channels)
    value, gradient = value_and_gradient(name, logits, target)
    lower = build_loss(name)(logits - 1e-4 * gradient / gradient.norm(), target)
    assert lower < value


@pytest.mark.parametrize(
    ("logits", "target", "error", "message"),
    [
        (torch.zeros(2, 1, 4, 5), torch.zeros(2, 5, 4), ValueError, r"\(N, H, W\) = \(2, 4, 5\).*got \(2, 5, 4\)"),
        (torch.zeros(2, 3, 4, 5), torch.zeros(2, 1, 4, 5).long(), ValueError, r"got \(2, 1, 4, 5\)"),
        (torch.zeros(2, 4, 5), torch.zeros(2, 4, 5), ValueError, r"logits of shape \(N, C, H, W\)"),
        (torch.zeros(2, 1, 4, 5).long(), torch.zeros(2, 4, 5), TypeError, "floating-point logits, got torch.int64"),
        (torch.zeros(2, 3, 4, 5), torch.zeros(2, 4, 5), TypeError, "class indices as integers"),
        (torch.zeros(2, 3, 4, 5), torch.full((2, 4, 5), 3), ValueError, "values 0 … 2 or ignore_index=255, got 3"),
        (torch.zeros(2, 1, 4, 5), torch.full((2, 4, 5), 0.5), ValueError, "values 0 … 1 or ignore_index=255, got 0.5"),
        (torch.zeros(2, 1, 4, 5), torch.full((2, 4, 5), -1), ValueError, "got -1"),
        (torch.zeros(0, 1, 4, 5), torch.zeros(0, 4, 5), ValueError, "at least one pixel"),
    ],
)
def test_wrong_input_is_refused(logits, target, error, message):
    with pytest.raises(error, match=message):
        build_loss("dice")(logits, target)


def test_a_negative_ignore_index_is_not_what_uint8_makes_of_it():
    loss = build_loss({"name": "bce", "args": {"ignore_index": -1}})
    with pytest.raises(ValueError, match=r"ignore_index=-1, got 255"):
        loss(torch.zeros(1, 1, 2, 2), torch.tensor([[[0, 1], [255, 255]]], dtype=torch.uint8))


def test_wrong_number_of_channels_names_the_loss_to_use():
    with pytest.raises(ValueError, match=r'binary.*C = 3; use "ce"'):
        build_loss("bce")(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4).long())
    with pytest.raises(ValueError, match=r'multi-class.*C = 1; use "bce"'):
        build_loss("ce")(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4))
