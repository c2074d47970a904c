"""The loop that trains any network.

The result does not depend on the number of threads: torch sums weight gradients in an
order that depends on its own threads, so a batch is cut into fixed parts, each computed
by one thread, and the gradients of the parts are added in order. On a CPU this is also
faster than threads inside each operation.

All randomness is a function of (seed, step, part), so a run that is resumed continues
exactly as if it had never stopped.

Several processes share the parts of each batch, and add up their gradients: all have the same
weights after each step.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from segalgos.files import atomic_path
from segalgos.parallel import map_items
from segalgos.torch_threads import threads_per_operation
from segalgos.training.processes import Processes
from segalgos.training.replicas import replicate
from segalgos.training.schedule import learning_rate_factor

__all__ = ["OPTIMIZERS", "PRECISIONS", "part_generator", "train"]

OPTIMIZERS = ("adamw", "sgd")
PRECISIONS = ("float32", "bfloat16")
CHECKPOINT_FORMAT = 2
# Parts whose gradients are held at once: a batch of any size needs no more memory than this.
PARTS_AT_ONCE = 8

# What a checkpoint holds of a run, besides the states of network and optimizer.
_CONTENT = ("step", "seconds", "history", "best_score", "best_weights", "average")

Batch = tuple[Tensor, Tensor, Tensor | None]


def part_generator(seed: int, step: int, part: int) -> np.random.Generator:
    """Random numbers of one part of one training step.

    Parameters
    ----------
    seed, step, part : int
        At least 0.

    Returns
    -------
    numpy.random.Generator
    """
    return np.random.default_rng([seed, step, part])


def train(
    network: nn.Module,
    draw: Callable[[np.random.Generator], Batch],
    loss: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    *,
    steps_per_epoch: int,
    epochs: int | None = None,
    time_budget: float | None = None,
    n_parts: int = 1,
    precision: str = "float32",
    optimizer: str = "adamw",
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    schedule: str = "poly",
    warmup: float = 0.05,
    max_gradient_norm: float = 1.0,
    rate_factors: Mapping[str, float] | None = None,
    ema_decay: float | None = None,
    on_step_end: Callable[[], None] | None = None,
    validate: Callable[[], float] | None = None,
    validate_every: int = 1,
    patience: int | None = None,
    measure: Callable[[], dict[str, float]] | None = None,
    on_epoch_end: Callable[[dict[str, float]], None] | None = None,
    checkpoint: str | os.PathLike | None = None,
    identity: str = "",
    seed: int = 0,
    device: torch.device | str = "cpu",
    verbose: bool = False,
) -> list[dict[str, float]]:
    """Train a network in place.

    Parameters
    ----------
    network : torch.nn.Module
        Left in evaluation mode.
    draw : callable
        Called as ``draw(rng)`` on any thread; returns one part of a batch: images
        (n, C, H, W), labels (n, h, w) and weights (n, h, w) or None. It must depend on
        `rng` alone.
    loss : callable
        Called as ``loss(network(images), labels, weights)``; returns a scalar. The loss of
        a batch is the mean over its parts.
    steps_per_epoch : int
        Steps between two rows of the history.
    epochs : int, optional
        When to stop, and what the learning rate follows.
    time_budget : float, optional
        Seconds after which to stop, validation included; the step under way is finished,
        and a last validation follows. The learning rate follows whichever of `epochs` and
        `time_budget` is nearer to its end.
    n_parts : int, default=1
        Parts of a batch, whose gradients are accumulated: more parts take more time, not
        more memory. Batch statistics are those of a part; running statistics are averaged
        over the parts.
    precision : {"float32", "bfloat16"}, default="float32"
        Of convolutions and products of matrices. With "bfloat16" weights, norms and losses are
        still float32: mixed precision.
    optimizer : {"adamw", "sgd"}, default="adamw"
        "sgd" has Nesterov momentum 0.9.
    learning_rate, weight_decay : float
    schedule, warmup : str and float
        See `learning_rate_factor`.
    max_gradient_norm : float, default=1.0
        Longer gradients are shortened to it.
    rate_factors : mapping of str to float, optional
        Factors on the learning rate by the name of a parameter, 1 where not named: layer-wise
        learning rates.
    ema_decay : float, optional
        Validate and return an exponential moving average of the weights instead of the last
        ones: each step keeps this share of the average, less in the first steps.
    on_step_end : callable, optional
        Called after each step, once the weights have changed. What it changes must be part of
        the network's state, or a run that is resumed has lost it.
    validate : callable, optional
        Called without arguments, with the network in evaluation mode; returns a score,
        higher is better. The weights with the best score are kept (the later of equals).
    validate_every : int, default=1
        Epochs between validations. The last epoch is always validated.
    patience : int, optional
        Stop after so many validations in a row without a better score.
    measure : callable, optional
        Called after every epoch without arguments, with the network in evaluation mode; returns
        what else the row of the history holds.
    on_epoch_end : callable, optional
        Called with the row of the history, after the checkpoint was written.
    checkpoint : path-like, optional
        File that the state is written to after every epoch, whole or not at all, and
        resumed from if it exists.
    identity : str, default=""
        What is trained on what: a checkpoint with another identity is refused.
    seed : int, default=0
    device : torch.device or str, default="cpu"
    verbose : bool, default=False
        Show a progress bar on stderr.

    Returns
    -------
    list of dict
        One row an epoch: "epoch", "steps" (so far), "loss" (mean), "learning_rate" (last),
        "seconds" (so far) and, where validated, "score"; and what `measure` returns.

    Raises
    ------
    ValueError
        If neither `epochs` nor `time_budget` is given, or the checkpoint is damaged or of
        another run.
    FloatingPointError
        If the loss becomes NaN or infinite.

    Notes
    -----
    Where ``accelerate launch`` started several processes, they share the parts of each batch.
    Clock, scores, `checkpoint`, `on_epoch_end` and the bar are then those of the first.
    """
    if epochs is None and time_budget is None:
        raise ValueError("train: epochs and time_budget are both None: give at least one.")
    if patience is not None and validate is None:
        raise ValueError("train: patience needs validate: pass both, or neither.")
    processes = Processes()
    run = _Run(
        network.to(device).train(),
        optimizer,
        weight_decay,
        n_parts=n_parts,
        precision=precision,
        rate_factors=rate_factors or {},
        ema_decay=ema_decay,
        seed=processes.agree(seed),
        device=torch.device(device),
        identity=identity,
        processes=processes,
    )
    path = None if checkpoint is None else Path(checkpoint)
    if processes.agree(path is not None and path.exists()):
        run.resume(path)
    start = time.perf_counter() - run.seconds

    def progress() -> float:
        by_steps = 0.0 if epochs is None else run.step / (epochs * steps_per_epoch)
        by_time = 0.0
        if time_budget is not None:
            by_time = processes.agree((time.perf_counter() - start) / time_budget)
        return max(by_steps, by_time if run.step > 0 else 0.0)  # one step at least

    is_first = processes.rank == 0
    with threads_per_operation(1), _progress_bar(verbose and is_first) as show:
        done = progress()
        while done < 1 and not run.is_stuck(patience):
            losses = []
            while done < 1 and len(losses) < steps_per_epoch:
                rate = learning_rate * learning_rate_factor(done, schedule, warmup=warmup)
                losses.append(run.take_step(draw, loss, rate, max_gradient_norm))
                if on_step_end is not None:
                    on_step_end()
                    run.hand_out_buffers()
                done = progress()
                show(min(done, 1.0), losses[-1])
            row = {
                "epoch": len(run.history) + 1,
                "steps": run.step,
                "loss": float(np.mean(losses)),
                "learning_rate": rate,
            }
            if validate is not None and (done >= 1 or row["epoch"] % validate_every == 0):
                row["score"] = run.keep_best(validate)
                done = progress()
            if measure is not None:
                network.eval()
                row.update(measure())
                network.train()
            row["seconds"] = time.perf_counter() - start
            row = processes.agree(row)
            run.seconds = row["seconds"]
            run.history.append(row)
            if path is not None and is_first:
                run.write(path)
            if on_epoch_end is not None and is_first:
                on_epoch_end(dict(row))
    weights = run.average if run.best_weights is None else run.best_weights
    if weights is not None:
        network.load_state_dict(weights)
    network.eval()
    return run.history


class _Run:
    """A network in training, and all that a checkpoint must hold."""

    def __init__(
        self,
        network: nn.Module,
        optimizer: str,
        weight_decay: float,
        *,
        n_parts: int,
        precision: str,
        rate_factors: Mapping[str, float],
        ema_decay: float | None,
        seed: int,
        device: torch.device,
        identity: str,
        processes: Processes,
    ):
        self.network = network
        self.processes = processes
        processes.hand_out(network.state_dict().values())
        learned = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self.parameters = list(learned.values())
        factors = [rate_factors.get(name, 1.0) for name in learned]
        self.optimizer = _make_optimizer(optimizer, self.parameters, weight_decay, factors)
        mixed = precision == "bfloat16"
        self.n_parts = n_parts
        self.replicas = {p: replicate(network, mixed=mixed) for p in processes.own(n_parts)}
        self.ema_decay = ema_decay
        self.average = None if ema_decay is None else _copy(network.state_dict())
        self.seed = seed
        self.device = device
        self.identity = identity
        self.step = 0
        self.seconds = 0.0
        self.history: list[dict[str, float]] = []
        self.best_score = -np.inf
        self.best_weights: dict[str, Tensor] | None = None

    def take_step(self, draw: Callable, loss: Callable, rate: float, max_norm: float) -> float:
        """Change the weights once; return the loss."""

        def compute(part: int) -> tuple[float, tuple[Tensor | None, ...]]:
            if self.device.type == "cpu":
                torch.set_num_threads(1)  # torch keeps this setting by thread
            replica, generator = self.replicas[part]
            rng = part_generator(self.seed, self.step, part)
            images, labels, weight = (
                None if t is None else t.to(self.device, non_blocking=True) for t in draw(rng)
            )
            generator.manual_seed(int(rng.integers(2**63)))
            value = loss(replica(images), labels, weight)
            gradients = torch.autograd.grad(value, self.parameters, allow_unused=True)
            return value.item(), gradients

        total = 0.0
        sums = [_Sum() for _ in self.parameters]
        own = list(self.replicas)
        for first in range(0, len(own), PARTS_AT_ONCE):
            parts = own[first : first + PARTS_AT_ONCE]
            for value, gradients in map_items(compute, parts):  # in order
                total += value
                for gradient_sum, gradient in zip(sums, gradients, strict=True):
                    gradient_sum.add(gradient)
        mean_loss = self._add_up(total, sums) / self.n_parts
        if not np.isfinite(mean_loss):
            raise FloatingPointError(
                f"train: the loss became {mean_loss} at step {self.step}: lower learning_rate."
            )
        for parameter, gradient_sum in zip(self.parameters, sums, strict=True):
            parameter.grad = _laid_out_as(parameter, gradient_sum.mean())
        torch.nn.utils.clip_grad_norm_(self.parameters, max_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("rate_factor", 1.0)
        self.optimizer.step()
        self._merge_buffers()
        self.step += 1
        self._update_average()
        return mean_loss

    def _add_up(self, loss: float, sums: list[_Sum]) -> float:
        """Add sums of gradients, and the loss, over all processes."""
        if self.processes.count == 1:
            return loss
        counts = torch.tensor([loss, *(s.count for s in sums)], device=self.device)
        values = [
            torch.zeros_like(p) if s.total is None else s.total
            for p, s in zip(self.parameters, sums, strict=True)
        ]
        counts, *values = self.processes.add_up([counts, *values])
        loss, *counts = counts.tolist()
        for gradient_sum, value, count in zip(sums, values, counts, strict=True):
            gradient_sum.total, gradient_sum.count = (value, int(count)) if count else (None, 0)
        return loss

    @torch.no_grad()
    def _merge_buffers(self) -> None:
        """Average the running statistics that the parts arrived at."""
        own = list(self.network.buffers())
        copies = [list(replica.buffers()) for replica, _ in self.replicas.values()]
        averaged = [k for k, buffer in enumerate(own) if buffer.is_floating_point()]
        for buffer, part in zip(own, copies[0], strict=True):
            buffer.copy_(part)
        if averaged:
            sums = self.processes.add_up([sum(copy[k] for copy in copies) for k in averaged])
            for k, total in zip(averaged, sums, strict=True):
                own[k].copy_(total / self.n_parts)
        self.hand_out_buffers()

    @torch.no_grad()
    def hand_out_buffers(self) -> None:
        """Copy the network's running statistics to all replicas."""
        for replica, _ in self.replicas.values():
            for own, part in zip(self.network.buffers(), replica.buffers(), strict=True):
                part.copy_(own)

    @torch.no_grad()
    def _update_average(self) -> None:
        if self.average is None:
            return
        # The first weights are random: the average forgets them within a few steps.
        decay = min(self.ema_decay, (1 + self.step) / (10 + self.step))
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, 1 - decay)
            else:
                self.average[name].copy_(tensor)

    def keep_best(self, validate: Callable[[], float]) -> float:
        """Score the network, or its average, and remember the weights if they are the best."""
        last = None
        if self.average is not None:
            last = _copy(self.network.state_dict())
            self.network.load_state_dict(self.average)
        self.network.eval()
        score = self.processes.agree(float(validate()))
        if score >= self.best_score:
            self.best_score = score
            self.best_weights = _copy(self.network.state_dict())
        self.network.train()
        if last is not None:
            self.network.load_state_dict(last)
        return score

    def is_stuck(self, patience: int | None) -> bool:
        """Whether the last `patience` scores are all below or equal to an earlier one."""
        if patience is None:
            return False
        scores = [row["score"] for row in self.history if "score" in row]
        return len(scores) > patience and max(scores[-patience:]) <= max(scores[:-patience])

    def write(self, path: Path) -> None:
        content = {
            "format": CHECKPOINT_FORMAT,
            "identity": self.identity,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **{name: getattr(self, name) for name in _CONTENT},
        }
        # Not by its name: torch refuses those that begin with a dot and have no other.
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            torch.save(content, file)

    def resume(self, path: Path) -> None:
        try:
            content = torch.load(path, map_location=self.device, weights_only=True)
            known = content["format"] == CHECKPOINT_FORMAT
        except (RuntimeError, ValueError, KeyError, TypeError, EOFError, OSError,
                pickle.UnpicklingError) as error:  # fmt: skip
            raise ValueError(
                f"train: the checkpoint {path} is damaged or no checkpoint of training "
                f"({type(error).__name__}): remove it to start anew."
            ) from error
        if not known or content["identity"] != self.identity:
            raise ValueError(
                f"train: the checkpoint {path} belongs to another run (other data, parameters "
                "or library version): remove it to start anew."
            )
        try:
            self.network.load_state_dict(content["network"])
            self.optimizer.load_state_dict(content["optimizer"])
            for name in _CONTENT:
                setattr(self, name, content[name])
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(
                f"train: the checkpoint {path} does not fit the network: remove it to start anew."
            ) from error
        self.hand_out_buffers()


def _make_optimizer(
    name: str, parameters: list[nn.Parameter], weight_decay: float, factors: list[float]
) -> torch.optim.Optimizer:
    if name not in OPTIMIZERS:
        raise ValueError(
            f"train: optimizer is {name!r}, expected one of {', '.join(map(repr, OPTIMIZERS))}."
        )
    # The norm's scales and all biases are vectors: decaying them only shifts the output.
    sorted_out: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for factor in sorted(set(factors)):
        for decays in (True, False):
            sorted_out[factor, decays] = []
    for parameter, factor in zip(parameters, factors, strict=True):
        sorted_out[factor, parameter.ndim > 1].append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": p, "weight_decay": weight_decay if decays else 0.0, "rate_factor": factor}
        for (factor, decays), p in sorted_out.items()
        if p
    ]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True, fused=True)
    return torch.optim.AdamW(groups, fused=True)


class _Sum:
    """Sum of tensors, added in the order they come in; None is left out."""

    def __init__(self):
        self.total: Tensor | None = None
        self.count = 0

    def add(self, tensor: Tensor | None) -> None:
        if tensor is None:
            return
        if self.count <= 1:  # not in place: autograd may give one tensor for two parameters
            self.total = tensor if self.total is None else self.total + tensor
        else:
            self.total += tensor
        self.count += 1

    def mean(self) -> Tensor | None:
        return self.total if self.count <= 1 else self.total.div_(self.count)


def _laid_out_as(parameter: Tensor, gradient: Tensor | None) -> Tensor | None:
    """Give a gradient in the parameter's memory layout.

    On a CPU torch's fused optimizers take values of both that lie at the same place in memory for
    one another, also where one is in channels-last memory and the other is not (torch 2.13).
    """
    if gradient is None or gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def _copy(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


def _progress_bar(verbose: bool) -> Any:
    """Context manager that gives a function to show progress and loss with."""
    return _RichBar() if verbose else nullcontext(lambda done, loss: None)


class _RichBar:
    def __enter__(self) -> Callable[[float, float], None]:
        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(console=Console(stderr=True))
        self._task = self._bar.add_task("training", total=1.0)
        self._bar.start()
        return self._show

    def _show(self, done: float, loss: float) -> None:
        self._bar.update(self._task, completed=done, description=f"training, loss {loss:.3f}")

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
