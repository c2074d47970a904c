import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import segalgos.training.loop as loop
from segalgos.parallel import thread_limit
from segalgos.training.loop import train


class Tiny(nn.Module):
    """Convolution, batch norm, dropout, convolution."""

    def __init__(self, dropout=0.0, channels=8):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Conv2d(channels, 2, 1)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.2, generator=generator)

    def forward(self, x):
        return self.head(self.drop(F.relu(self.norm(self.conv(x)))))


def draw(rng):
    images = torch.tensor(rng.normal(size=(2, 3, 16, 16)), dtype=torch.float32)
    return images, (images[:, 0] > 0).long(), None


def loss(logits, labels, weight):
    return F.cross_entropy(logits, labels)


def run(network=None, **options):
    network = Tiny(dropout=0.3) if network is None else network
    options = {"steps_per_epoch": 4, "epochs": 3, "n_parts": 2, "learning_rate": 0.01} | options
    return network, train(network, draw, loss, **options)


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


def test_training_lowers_the_loss_and_tells_it():
    network, history = run(Tiny(), epochs=5, steps_per_epoch=10, learning_rate=0.05)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5]
    assert [row["steps"] for row in history] == [10, 20, 30, 40, 50]
    assert history[-1]["loss"] < 0.6 * history[0]["loss"]
    assert all(row.keys() == history[0].keys() for row in history)
    seconds = [row["seconds"] for row in history]
    assert seconds == sorted(seconds)
    assert not network.training


def test_one_step_equals_torch():
    network, reference = Tiny(), Tiny()
    run(network, epochs=1, steps_per_epoch=1, weight_decay=0.1, warmup=0.0)
    batches = [draw(loop.part_generator(0, 0, part)) for part in range(2)]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in reference.parameters() if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in reference.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=0.01,
    )
    value = sum(loss(reference(images), labels, None) for images, labels, _ in batches) / 2
    value.backward()
    nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
    optimizer.step()
    for (name, a), b in zip(network.named_parameters(), reference.parameters()):
        torch.testing.assert_close(a, b, msg=name, rtol=1e-4, atol=1e-5)


class Scattered(nn.Module):
    """Weights in one memory layout, whose gradient comes in another."""

    def __init__(self, layout):
        super().__init__()
        weight = torch.randn((4, 3, 5, 5), generator=torch.Generator().manual_seed(0))
        self.weight = nn.Parameter(weight.contiguous(memory_format=layout))
        self.other = torch.contiguous_format
        if layout == torch.contiguous_format:
            self.other = torch.channels_last

    def forward(self, x):
        return _Relaid.apply(self.weight, self.other)


class _Relaid(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, layout):
        ctx.layout = layout
        return weight.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.contiguous(memory_format=ctx.layout).clone(), None


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_gradients_in_another_memory_layout(layout, optimizer):
    network = Scattered(layout)
    target = torch.randn((4, 3, 5, 5), generator=torch.Generator().manual_seed(1))
    reference = nn.Parameter(network.weight.detach().contiguous())
    if optimizer == "sgd":
        steps = torch.optim.SGD([reference], lr=0.01, momentum=0.9, nesterov=True, fused=False)
    else:
        steps = torch.optim.AdamW([reference], lr=0.01, weight_decay=0.0, fused=False)
    for _ in range(5):
        reference.grad = (2 * (reference.detach() - target) / target.numel()).contiguous()
        steps.step()
    train(
        network,
        lambda rng: (torch.zeros(1, 1, 1, 1), target, None),
        lambda found, wanted, _: ((found - wanted) ** 2).mean(),
        steps_per_epoch=5, epochs=1, optimizer=optimizer, learning_rate=0.01, warmup=0.0,
        schedule="constant", weight_decay=0.0,
    )  # fmt: skip
    torch.testing.assert_close(network.weight.contiguous(), reference)


def test_running_statistics_are_averaged_over_the_parts():
    network = Tiny()
    start = [
        network.norm.running_mean.clone(), network.norm.running_var.clone()
    ]  # fmt: skip
    expected = []
    for part in range(3):
        alone = Tiny()
        alone(draw(loop.part_generator(0, 0, part))[0])
        expected.append([alone.norm.running_mean, alone.norm.running_var])
    run(network, epochs=1, steps_per_epoch=1, n_parts=3)
    for found, *parts in zip([network.norm.running_mean, network.norm.running_var], *expected):
        torch.testing.assert_close(found, sum(parts) / 3)
    assert not torch.equal(start[0], network.norm.running_mean)
    assert int(network.norm.num_batches_tracked) == 1


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_same_seed_same_weights_for_any_number_of_threads(optimizer):
    results = []
    before = torch.get_num_threads()
    try:
        for own, torchs in [(1, 1), (2, 4), (4, 2)]:
            torch.set_num_threads(torchs)
            # 32 channels and 16 x 16 pixels: torch's own threads would change the sums.
            network = Tiny(dropout=0.3, channels=32)
            with thread_limit(own):
                results.append(run(network, n_parts=3, optimizer=optimizer)[0])
            assert torch.get_num_threads() == torchs
    finally:
        torch.set_num_threads(before)
    assert same(results[0], results[1])
    assert same(results[0], results[2])
    assert not same(results[0], run(Tiny(dropout=0.3, channels=32), n_parts=3, seed=1)[0])


def test_training_leaves_the_global_generator_alone():
    network = Tiny(dropout=0.3)
    state = torch.get_rng_state()
    run(network)
    assert torch.equal(state, torch.get_rng_state())


class Killed(Exception):
    pass


@pytest.mark.parametrize("ema_decay", [None, 0.8])
@pytest.mark.parametrize("best", [None, "growing", "shrinking"])
def test_resume_gives_the_same_weights_bit_for_bit(tmp_path, best, ema_decay):
    def options(network):
        if best is None:
            return {"ema_decay": ema_decay}
        sign = 1 if best == "growing" else -1  # the best epoch is late for one, early for one
        score = lambda: sign * network.conv.weight.abs().sum().item()  # noqa: E731
        return {"validate": score, "ema_decay": ema_decay}

    def kill(row):
        if row["epoch"] == 2:
            raise Killed

    whole = Tiny(dropout=0.3)
    _, history = run(whole, epochs=5, **options(whole))
    path = tmp_path / "run.pt"
    first = Tiny(dropout=0.3)
    with pytest.raises(Killed):
        run(first, epochs=5, checkpoint=path, on_epoch_end=kill, **options(first))
    second = Tiny(dropout=0.3)
    _, resumed = run(second, epochs=5, checkpoint=path, **options(second))
    assert same(whole, second)
    assert not same(whole, first)
    for a, b in zip(history, resumed, strict=True):
        a.pop("seconds"), b.pop("seconds")
        assert a == b
    third = Tiny(dropout=0.3)
    run(third, epochs=5, checkpoint=path, **options(third))  # a finished run: nothing to do
    assert same(whole, third)
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


def test_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    run(checkpoint=path, identity="a")
    with pytest.raises(ValueError, match=r"run\.pt belongs to another run"):
        run(checkpoint=path, identity="b")


def test_checkpoint_of_another_network_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    run(checkpoint=path)
    with pytest.raises(ValueError, match=r"run\.pt does not fit the network"):
        run(Tiny(channels=4), checkpoint=path)


@pytest.mark.parametrize("damage", ["truncated", "text", "pickle", "list"])
def test_damaged_checkpoint_is_refused(tmp_path, damage):
    path = tmp_path / "run.pt"
    run(checkpoint=path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "text":
        path.write_text("no checkpoint")
    elif damage == "pickle":
        torch.save({"format": 1, "identity": "", "network": Tiny()}, path)  # a class, not tensors
    else:
        torch.save([1, 2], path)
    with pytest.raises(ValueError, match=r"the checkpoint .*run\.pt is damaged or no checkpoint"):
        run(checkpoint=path)


def test_best_weights_by_validation_score_are_kept():
    network, scores = Tiny(), iter([0.1, 0.9, 0.4])
    seen = []

    def validate():
        assert not network.training
        seen.append({k: v.clone() for k, v in network.state_dict().items()})
        return next(scores)

    _, history = run(network, validate=validate)
    assert [row["score"] for row in history] == [0.1, 0.9, 0.4]
    assert all(torch.equal(v, seen[1][k]) for k, v in network.state_dict().items())


def test_validation_is_done_every_so_often_and_at_the_end():
    _, history = run(validate=lambda: 0.5, epochs=5, validate_every=2)
    assert ["score" in row for row in history] == [False, True, False, True, True]


def test_averaged_weights_are_validated_and_kept():
    steps = []

    class Recorded(Tiny):
        def forward(self, x):
            steps.append({k: v.detach().clone() for k, v in self.state_dict().items()})
            return super().forward(x)

    network = Recorded()
    validated = []

    def validate():
        validated.append(network.conv.weight.detach().clone())
        return len(validated)

    options = {"epochs": 2, "steps_per_epoch": 3, "n_parts": 1}
    run(network, ema_decay=0.5, validate=validate, **options)
    last, _ = run(Tiny(), **options)
    weights = [step["conv.weight"] for step in steps[1:]] + [last.conv.weight.detach()]
    expected = steps[0]["conv.weight"]
    for step, weight in enumerate(weights, start=1):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
        if step == 3:
            torch.testing.assert_close(validated[0], expected)
    torch.testing.assert_close(network.conv.weight.detach(), expected)
    alone, _ = run(Tiny(), ema_decay=0.5, **options)
    assert torch.equal(alone.conv.weight, network.conv.weight)
    assert int(network.norm.num_batches_tracked) == 6


def test_training_stops_when_the_score_no_longer_grows():
    scores = [0.1, 0.5, 0.5, 0.4, 0.6, 0.9]
    for patience, epochs in ((2, 4), (3, 6), (1, 3)):
        found = iter(scores)
        _, history = run(validate=lambda found=found: next(found), epochs=6, patience=patience)
        assert [row["score"] for row in history] == scores[:epochs]


def test_a_stopped_run_is_not_resumed(tmp_path):
    options = {"validate": lambda: 0.5, "epochs": 6, "patience": 1, "checkpoint": tmp_path / "c"}
    first, history = run(**options)
    again, same_history = run(**options)
    assert len(history) == 2
    assert history == same_history
    assert same(first, again)


def test_patience_needs_a_score():
    with pytest.raises(ValueError, match="patience needs validate"):
        run(patience=3)


def test_many_parts_are_accumulated(monkeypatch):
    whole, _ = run(n_parts=11)
    monkeypatch.setattr(loop, "PARTS_AT_ONCE", 2)
    assert same(whole, run(n_parts=11)[0])


def fake_clock(monkeypatch, seconds_per_call):
    now = [0.0]

    def perf_counter():
        now[0] += seconds_per_call
        return now[0]

    monkeypatch.setattr(loop.time, "perf_counter", perf_counter)
    return now


def test_time_budget_stops_and_leads_the_learning_rate(monkeypatch):
    fake_clock(monkeypatch, 1.0)  # one look at the clock after each step
    _, history = run(epochs=None, time_budget=10.5, steps_per_epoch=2, warmup=0.0)
    assert history[-1]["seconds"] < 10.5 + 2
    rates = [row["learning_rate"] for row in history]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.4 * rates[0]


def test_time_budget_and_epochs_whichever_ends_first(monkeypatch):
    fake_clock(monkeypatch, 1.0)
    assert run(epochs=2, time_budget=1e6)[1][-1]["steps"] == 8
    assert run(epochs=1000, time_budget=9)[1][-1]["steps"] < 12


def test_at_least_one_step_is_taken(monkeypatch):
    fake_clock(monkeypatch, 100.0)
    assert run(epochs=None, time_budget=1e-6)[1][-1]["steps"] == 1


def test_neither_epochs_nor_time_is_refused():
    with pytest.raises(ValueError, match="epochs and time_budget are both None"):
        run(epochs=None)


def test_unknown_optimizer_is_refused():
    with pytest.raises(ValueError, match="optimizer is 'adam', expected one of 'adamw'"):
        run(optimizer="adam")


def test_diverging_training_is_told_and_threads_are_restored():
    network, before = Tiny(), torch.get_num_threads()
    with torch.no_grad():
        network.head.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="the loss became nan at step 0"):
        run(network)
    assert torch.get_num_threads() == before


def test_large_gradients_are_shortened():
    network = Tiny()
    before = [p.detach().clone() for p in network.parameters()]
    run(network, optimizer="sgd", epochs=1, steps_per_epoch=1, learning_rate=1.0, warmup=0.0,
        weight_decay=0.0, max_gradient_norm=1e-3)  # fmt: skip
    moved = torch.cat([(p.detach() - b).flatten() for p, b in zip(network.parameters(), before)])
    assert 0 < moved.norm().item() <= 1.91e-3  # Nesterov's first step is 1.9 gradients long


def test_unused_parameters_are_left_alone():
    network = Tiny()
    network.unused = nn.Parameter(torch.ones(3, 3))
    run(network, weight_decay=0.0)
    assert torch.equal(network.unused, torch.ones(3, 3))


def test_verbose_shows_progress_on_stderr(capsys):
    run(verbose=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "training, loss" in err
    run()
    assert capsys.readouterr() == ("", "")


def test_history_holds_plain_numbers():
    _, history = run(validate=lambda: np.float64(0.5))
    assert all(type(value) in (int, float) for row in history for value in row.values())


def test_what_is_measured_is_in_the_history_and_changes_nothing():
    modes = []

    def measure():
        modes.append(network.training)
        return {"rows": float(len(modes))}

    network, reference = Tiny(dropout=0.3), Tiny(dropout=0.3)
    _, history = run(network, measure=measure)
    run(reference)
    assert [row["rows"] for row in history] == [1.0, 2.0, 3.0]
    assert modes == [False] * 3
    assert same(network, reference)
