import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, OneCycleLR, SequentialLR

from spatialseg.rates import RiseAndFall


def optimizer() -> torch.optim.AdamW:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.1, 0.03)]
    return torch.optim.AdamW(groups)


def follow(scheduler, steps: int) -> list[tuple[float, ...]]:
    values = []
    for _ in range(steps):
        groups = scheduler.optimizer.param_groups
        values.append(tuple(value for group in groups for value in (group["lr"], *group["betas"])))
        scheduler.optimizer.step()
        scheduler.step()
    return values


@pytest.mark.parametrize(("steps", "share"), [(2, 0.75), (3, 0.5), (40, 0.25), (101, 0.3)])
def test_one_cycle_is_torchs(steps, share):
    expected = follow(OneCycleLR(optimizer(), [0.1, 0.03], steps, pct_start=share), steps - 1)
    assert follow(RiseAndFall(optimizer(), steps, share * steps - 1, "onecycle"), steps - 1) == expected


@pytest.mark.parametrize(("steps", "rise"), [(2, 1), (40, 10), (41, 3)])
def test_cosine_is_torchs(steps, rise):
    other = optimizer()
    parts = [LinearLR(other, 1 / rise, total_iters=rise), CosineAnnealingLR(other, steps - rise)]
    expected = follow(SequentialLR(other, parts, [rise]), steps)
    for ours, theirs in zip(follow(RiseAndFall(optimizer(), steps, rise, "cosine"), steps), expected, strict=True):
        assert ours == pytest.approx(theirs)


@pytest.mark.parametrize("kind", ["onecycle", "cosine"])
@pytest.mark.parametrize("stop", [3, 9, 16, 20])
@pytest.mark.parametrize("steps", [12, 30, 60])
def test_another_plan_goes_on_from_the_rate_that_was_reached_and_never_rises_again(kind, stop, steps):
    before = RiseAndFall(optimizer(), 20, 5, kind)
    follow(before, stop)
    after = RiseAndFall(optimizer(), steps, 0.25 * steps, kind)
    after.optimizer.load_state_dict(before.optimizer.state_dict())
    after.load_state_dict(before.state_dict())
    rates = [before.get_last_lr()[0], *(values[0] for values in follow(after, max(steps - stop, 1) + 5))]
    assert rates[1] == rates[0]
    falling = rates[max(0, 6 - stop) :]
    assert falling == sorted(falling, reverse=True)
    assert rates[-1] == pytest.approx(0.1 / 25e4 if kind == "onecycle" else 0, abs=1e-12)
    assert rates[-1] == rates[-2]  # beyond the end it stays
    if (stop, steps) == (9, 60):
        assert rates[25] > 0.03  # the new plan is used to its end
