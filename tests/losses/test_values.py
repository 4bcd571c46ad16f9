"""Each rival's value against a computation that shares no code with it."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage, special
from segmentation_models_pytorch import losses as smp
from skimage.metrics import structural_similarity

from spatialseg.losses import build_loss

from .batches import batch


def loss_of(name, logits, target, **args):
    return build_loss({"name": name, "args": args})(logits, target).item()


def arrays(logits, target):
    """Return probabilities (N, C, H, W), regions (N, C, H, W) and the valid pixels (N, H, W) as arrays."""
    x, y = logits.numpy(), target.numpy()
    if x.shape[1] == 1:
        return special.expit(x), (y == 1)[:, None], y != 255
    return special.softmax(x, axis=1), np.stack([y == each for each in range(x.shape[1])], axis=1), y != 255


def test_cross_entropies():
    logits, target = batch(1)
    p, g, valid = arrays(logits, target)
    cost = -np.where(g, 3 * np.log(p), np.log(1 - p))[:, 0]
    assert loss_of("bce", logits, target, pos_weight=3.0) == pytest.approx(cost[valid].mean())
    logits, target = batch(3)
    p, g, valid = arrays(logits, target)
    assert loss_of("ce", logits, target) == pytest.approx(-np.log(p)[g].sum() / valid.sum())
    smooth = F.cross_entropy(logits, target, ignore_index=255, label_smoothing=0.2).item()
    assert loss_of("ce", logits, target, label_smoothing=0.2) == pytest.approx(smooth)
    weights = [0.5, 3.0, 0.0]
    weighted = F.cross_entropy(logits, target, logits.new_tensor(weights), ignore_index=255, label_smoothing=0.2).item()
    assert loss_of("ce", logits, target, class_weights=weights, label_smoothing=0.2) == pytest.approx(weighted)
    with pytest.raises(ValueError, match="one for each class, got 3 for 4 classes"):
        loss_of("ce", logits[:1, [0, 1, 2, 0]], target[:1], class_weights=weights)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_focal(channels, alpha):
    logits, target = batch(channels)
    _, g, valid = arrays(logits, target)
    p = special.expit(logits.numpy())
    right = np.where(g, p, 1 - p)
    cost = -((1 - right) ** 1.5) * np.log(right) * (1 if alpha is None else np.where(g, alpha, 1 - alpha))
    expected = np.moveaxis(cost, 1, -1)[valid].mean()
    assert loss_of("focal", logits, target, gamma=1.5, alpha=alpha) == pytest.approx(expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("smooth", [0.0, 2.0])
def test_dice_jaccard_tversky(channels, log, smooth):
    logits, target = batch(channels)
    p, g, valid = arrays(logits, target)
    p, g = (np.moveaxis(each, 1, -1)[valid] for each in (p, g))
    tp, fp, fn = (p * g).sum(0), (p * ~g).sum(0), ((1 - p) * g).sum(0)
    for name, alpha, beta in (("dice", 0.5, 0.5), ("jaccard", 1, 1)):
        score = (tp + smooth) / (tp + alpha * fp + beta * fn + smooth)
        expected = (-np.log(score) if log else 1 - score).mean()
        assert loss_of(name, logits, target, log=log, smooth=smooth) == pytest.approx(expected)
    score = (tp + smooth) / (tp + 0.2 * fp + 0.8 * fn + smooth)
    expected = (1 - score).mean() ** 0.75
    assert loss_of("tversky", logits, target, alpha=0.2, beta=0.8, gamma=0.75, smooth=smooth) == pytest.approx(expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("per_image", [False, True])
def test_lovasz_equals_smp(channels, per_image):
    for seed in range(5):
        logits, target = batch(channels, seed=seed)
        theirs = smp.LovaszLoss("binary" if channels == 1 else "multiclass", per_image=per_image, ignore_index=255)
        expected = theirs(logits.float(), target).item()
        assert loss_of("lovasz", logits, target, per_image=per_image) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("log", [False, True])
def test_floss(log):
    logits, target = batch(1)
    p, g, valid = arrays(logits, target)
    expected = []
    for d, y, v in zip(p[:, 0], g[:, 0], valid, strict=True):
        tp, fp, fn = (d * y)[v].sum(), (d * ~y)[v].sum(), ((1 - d) * y)[v].sum()
        f = (1.3 * tp + 1) / (0.3 * (tp + fn) + tp + fp + 1)
        expected.append(-math.log(f) if log else 1 - f)
    assert loss_of("floss", logits, target, log=log) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("channels", [1, 3])
def test_boundary(channels):
    logits, target = batch(channels, ignored=False)
    p, g, _ = arrays(logits, target)
    phi = np.zeros(g.shape)
    for index in np.ndindex(g.shape[:2]):
        if g[index].any() and not g[index].all():
            outside, inside = ndimage.distance_transform_edt(~g[index]), ndimage.distance_transform_edt(g[index])
            phi[index] = outside - np.where(g[index], inside - 1, 0)
    assert loss_of("boundary", logits, target) == pytest.approx((phi * p).mean())


@pytest.mark.parametrize("channels", [1, 3])
def test_hausdorff(channels):
    logits, target = batch(channels, ignored=False)
    p, g, _ = arrays(logits, target)

    def field(mask):
        if not mask.any() or mask.all():
            return np.zeros(mask.shape)
        return ndimage.distance_transform_edt(mask) + ndimage.distance_transform_edt(~mask)

    far = np.zeros(g.shape)
    for index in np.ndindex(g.shape[:2]):
        far[index] = field(p[index] > 0.5) ** 1.5 + field(g[index]) ** 1.5
    expected = ((p - g) ** 2 * far).mean()
    assert loss_of("hausdorff", logits, target, alpha=1.5) == pytest.approx(expected, rel=1e-6)


def test_hausdorff_and_boundary_do_not_see_ignored_pixels():
    logits, target = torch.full((1, 1, 1, 9), -5.0), torch.tensor([[[1, 0, 0, 0, 0, 255, 255, 255, 1]]])
    alone = loss_of("boundary", logits[..., :5], target[..., :5])
    assert alone == pytest.approx(torch.tensor(-5.0).sigmoid().item() * 10 / 5)
    target[..., 8] = 255
    assert loss_of("boundary", logits, target) == pytest.approx(alone)
    assert loss_of("hausdorff", logits, target) == pytest.approx(loss_of("hausdorff", logits[..., :5], target[..., :5]))


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_without_a_boundary_costs_nothing(channels):
    logits = torch.randn(1, channels, 4, 5, requires_grad=True)
    value = build_loss("boundary")(logits, torch.ones(1, 4, 5, dtype=torch.long))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value == 0 and not gradient.any()


def test_structure():
    logits, target = batch(1, (2, 20, 24))
    p, g, valid = arrays(logits, target)
    expected = []
    for d, y, v in zip(p[:, 0], g[:, 0].astype(float), valid, strict=True):
        mean = ndimage.uniform_filter(y, 7, mode="constant")
        w = (1 + 2 * abs(mean - y)) * v
        cost = -np.where(y == 1, np.log(d), np.log(1 - d))
        common, union = (w * d * y).sum(), (w * (d + y)).sum()
        expected.append((w * cost).sum() / w.sum() + 1 - (common + 1) / (union - common + 1))
    assert loss_of("structure", logits, target, window=7, gamma=2.0) == pytest.approx(np.mean(expected))


def test_ssim():
    logits, target = batch(1, (2, 20, 24), ignored=False)
    p, g, _ = arrays(logits, target)
    expected = []
    for d, y in zip(p[:, 0], g[:, 0].astype(float), strict=True):
        d0, y0 = np.pad(d, 20), np.pad(y, 20)
        image = structural_similarity(
            d0, y0, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
        )[1]
        cost = -np.where(y == 1, np.log(d), np.log(1 - d))
        iou = 1 - ((d * y).sum() + 1) / ((d + y - d * y).sum() + 1)
        expected.append(cost.mean() + 1 - image[20:-20, 20:-20].mean() + iou)
    assert loss_of("ssim", logits, target) == pytest.approx(np.mean(expected), rel=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_rmi(channels):
    logits, target = batch(channels, (2, 18, 24), ignored=False)
    p, g, _ = arrays(logits, target)
    entropies = []
    for index in np.ndindex(g.shape[:2]):
        cells = [each[index].astype(float).reshape(6, 3, 8, 3).mean((1, 3)) for each in (p, g)]
        vectors = [
            np.array([cell[i : i + 3, j : j + 3].ravel() for i in range(4) for j in range(6)]).T for cell in cells
        ]
        a, b = (each - each.mean(axis=1, keepdims=True) for each in vectors)
        given = b @ b.T - b @ a.T @ np.linalg.inv(a @ a.T + 5e-4 * np.eye(9)) @ a @ b.T
        entropies.append(np.linalg.slogdet(given + 5e-4 * np.eye(9))[1] / 18 - math.log(5e-4) / 2)
    cost = -np.log(np.where(g, p, 1 - p)) if channels == 1 else -np.log(p)[g]
    expected = 0.3 * cost.mean() + 0.7 * np.reshape(entropies, g.shape[:2]).sum(axis=1).mean()
    assert loss_of("rmi", logits, target, weight=0.3) == pytest.approx(expected)
    perfect = torch.from_numpy(np.where(g, 50.0, -50.0))
    assert 0 <= loss_of("rmi", perfect, target, weight=0.0) <= channels * math.log(2) / 2
    logits[0, 0, 5, 5] = math.nan
    assert math.isnan(loss_of("rmi", logits, target))  # so that whoever looks at the loss can say so


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("bce", {"pos_weight": 0.0}, "pos_weight must be positive"),
        ("ce", {"label_smoothing": 1.0}, "label_smoothing"),
        ("bce", {"pos_weight": math.nan}, "pos_weight must be finite"),
        ("wfb", {"sigma": math.nan}, "sigma must be finite"),
        ("ce", {"class_weights": [1.0, -1.0]}, "class_weights must be finite and at least 0"),
        ("ce", {"class_weights": [1.0, math.inf]}, "class_weights must be finite and at least 0"),
        ("ce", {"class_weights": []}, "class_weights must be finite and at least 0"),
        ("lal", {"class_weights": [0.0, 0.0]}, "class_weights must be finite and at least 0"),
        ("focal", {"gamma": 0.5}, "gamma must be 0 or at least 1"),
        ("focal", {"alpha": 2.0}, "alpha must be in"),
        ("tversky", {"gamma": 0.0}, "gamma positive"),
        ("lovasz", {"classes": "some"}, "classes must be"),
        ("floss", {"smooth": 0.0}, "must be positive"),
        ("structure", {"window": 4}, "window must be odd"),
        ("hausdorff", {"alpha": 0.0}, "alpha must be positive"),
        ("rmi", {"weight": 2.0}, "weight in"),
    ],
)
def test_wrong_arguments_are_refused(name, args, message):
    with pytest.raises(ValueError, match=message):
        build_loss({"name": name, "args": args})
