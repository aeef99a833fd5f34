"""Fine-tune the encoder on the corpus: a low-rank adapter, trained with torch on the CPU, about an hour on two cores.

What is learnt is read from the worst of an exchange's first windows (`Recipe.windows`), as it was written: no disguise is mended
here. Two losses: whether the response is unsafe and in which categories; and, of twins that answer one query, which one is.
Seeded; of the adapters after each step an exponential average is kept, which generalises better than the last one.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from classifiers.encoder.windows import Window, WindowReader
from classifiers.examples import REVIEW, Example, split_of
from classifiers.progress import Progress, silent
from classifiers.result import CATEGORIES

if TYPE_CHECKING:
    import torch


Item = TypeVar("Item")
BARE_WORDS = 20


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the adapter is trained. Chosen on the validation split; `docs/training.md` has the comparison."""

    rank: int = 48
    epochs: int = 4
    learning_rate: float = 1e-3
    batch: int = 32
    """Exchanges in a step, about; twins stay together."""
    twins: float = 0.5
    categories: float = 0.9
    """Weights of the two losses beside the one of P(unsafe)."""
    scale: float = 20.0
    """Of the unit-length embedding before the linear head that is trained with it."""
    windows: int = 3
    """Of one exchange, at most."""
    average: float = 0.995
    bare: float = 0.1
    """Share of the responses of `BARE_WORDS` and more that are read without their query, as some apps send them."""
    seed: int = 20


def finetune(
    examples: Sequence[Example],
    source: Path,
    recipe: Recipe | None = None,
    *,
    progress: Progress = silent,
) -> dict[str, tuple[Any, Any]]:
    """The adapter's `{name of a linear map: (A, B)}`, from the train split of `examples` and reviewers' labels in the pool.

    `source`: the folder of the encoder. `progress` is called between any two batches; after each epoch it is told the loss, and
    the AUC on the validation split.
    """
    import torch

    recipe = recipe or Recipe()
    torch.manual_seed(recipe.seed)
    shuffle = random.Random(recipe.seed)  # noqa: S311 - it deals batches
    trainer = _Trainer(source, recipe)
    train = [e for e in examples if (split := split_of(e.group)) == "train" or (split == "pool" and e.source == REVIEW)]
    held = [e for e in examples if split_of(e.group) == "validation"]
    progress(f"reading {len(train)} examples to learn from and {len(held)} to validate on")
    windows, held_windows = trainer.windows(train), trainer.windows(held)
    bare = trainer.windows(train, with_queries=False)
    may_be_bare = [len(e.response.split()) >= BARE_WORDS for e in train]
    unsafe = torch.tensor([float(e.unsafe) for e in train])
    categories = torch.tensor([[float(c in e.categories) for c in CATEGORIES] for e in train])
    _, groups = np.unique([e.group for e in train], return_inverse=True)
    for epoch in range(1, recipe.epochs + 1):
        batches = _batches(train, windows, recipe.batch, shuffle)
        phase, losses = f"epoch {epoch} of {recipe.epochs}", 0.0
        for number, batch in enumerate(batches, start=1):
            read = [bare[i] if may_be_bare[i] and shuffle.random() < recipe.bare else windows[i] for i in batch]
            loss = trainer.loss(read, unsafe[batch], categories[batch], torch.from_numpy(groups[batch]))
            trainer.step(loss, (epoch - 1 + (number - 1) / len(batches)) / recipe.epochs)
            losses += float(loss.detach())
            progress(phase, number, len(batches))
        area = _auc(held, trainer.scores(held_windows))
        measured = {"name": f"epoch {epoch}", "loss": round(losses / len(batches), 4), "auc": round(area, 4)}
        progress(f"{phase}: validation AUC {area:.4f}", len(batches), len(batches), measured)
    return trainer.adapter()


class _Trainer:
    """The encoder with trainable low-rank differences, a linear head, an optimiser, and the running average."""

    def __init__(self, source: Path, recipe: Recipe) -> None:
        import torch
        from torch.nn.utils import parametrize
        from transformers import AutoModel

        class LowRank(torch.nn.Module):  # type: ignore[misc]
            def __init__(self, weight: torch.Tensor) -> None:
                super().__init__()
                rows, columns = weight.shape
                self.a = torch.nn.Parameter(torch.randn(recipe.rank, columns) / math.sqrt(columns))
                self.b = torch.nn.Parameter(torch.zeros(rows, recipe.rank))

            def forward(self, weight: torch.Tensor) -> torch.Tensor:
                return weight + self.b @ self.a

        self.recipe = recipe
        self.reader = WindowReader(source / "tokenizer.json")
        self.encoder = AutoModel.from_pretrained(source, attn_implementation="sdpa")
        for parameter in self.encoder.parameters():
            parameter.requires_grad = False
        self.maps: dict[str, Any] = {
            name: module
            for name, module in self.encoder.named_modules()
            if name.startswith("encoder.") and isinstance(module, torch.nn.Linear)
        }
        for module in self.maps.values():
            parametrize.register_parametrization(module, "weight", LowRank(module.weight))
        self.head = torch.nn.Linear(self.encoder.config.hidden_size, 1 + len(CATEGORIES))
        torch.nn.init.normal_(self.head.weight, std=0.01)
        torch.nn.init.zeros_(self.head.bias)
        self.trained = [p for p in self.encoder.parameters() if p.requires_grad]
        rates = [(self.trained, recipe.learning_rate), (list(self.head.parameters()), 10 * recipe.learning_rate)]
        self.rates = [rate for _, rate in rates]
        self.optimiser = torch.optim.AdamW([{"params": p, "lr": rate} for p, rate in rates], weight_decay=0.01)
        self.average = [p.detach().clone() for p in (*self.trained, *self.head.parameters())]
        self.steps = 0
        self.encoder.train()

    def windows(self, examples: Sequence[Example], *, with_queries: bool = True) -> list[list[Window]]:
        """Of each exchange its first windows."""
        found: list[list[Window]] = [[] for _ in examples]
        queries = [e.query if with_queries else "" for e in examples]
        for window in self.reader.windows([e.response for e in examples], queries):
            if len(found[window.text]) < self.recipe.windows:
                found[window.text].append(window)
        return found

    def logits(self, exchanges: Sequence[Sequence[Window]]) -> torch.Tensor:
        """(exchanges, 1 + categories): of each exchange's windows the highest."""
        import torch

        flat = [window for windows in exchanges for window in windows]
        owners = torch.tensor([number for number, windows in enumerate(exchanges) for _ in windows])
        longest = -(-max(len(window.ids) for window in flat) // 16) * 16  # few different shapes, which the kernels are kept for
        ids, mask, segments = (torch.zeros(len(flat), longest, dtype=torch.long) for _ in range(3))
        for row, window in enumerate(flat):
            ids[row, : len(window.ids)] = torch.tensor(window.ids)
            mask[row, : len(window.ids)] = 1
            segments[row, : len(window.ids)] = torch.tensor(window.segments)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = self.encoder(input_ids=ids, attention_mask=mask, token_type_ids=segments).last_hidden_state
        weight = mask.unsqueeze(-1).float()
        pooled = torch.nn.functional.normalize((hidden.float() * weight).sum(1) / weight.sum(1), dim=1)
        logits: torch.Tensor = self.head(pooled * self.recipe.scale)
        empty = torch.full((len(exchanges), logits.shape[1]), -1e9)
        return empty.scatter_reduce(0, owners.unsqueeze(1).expand_as(logits), logits, "amax")

    def loss(
        self, exchanges: Sequence[Sequence[Window]], unsafe: torch.Tensor, categories: torch.Tensor, groups: torch.Tensor
    ) -> torch.Tensor:
        """One number to be made small: both losses on one batch."""
        from torch.nn import functional

        logits = self.logits(exchanges)
        p_unsafe = logits[:, 0]
        total = functional.binary_cross_entropy_with_logits(p_unsafe, unsafe)
        total = total + self.recipe.categories * functional.binary_cross_entropy_with_logits(logits[:, 1:], categories)
        twins = (groups[:, None] == groups[None]) & (unsafe[:, None] > unsafe[None])
        if twins.any():
            total = total + self.recipe.twins * functional.softplus((p_unsafe[None] - p_unsafe[:, None])[twins]).mean()
        return total

    def step(self, loss: torch.Tensor, done: float) -> None:
        """`done`: share of all steps that lie behind. The rate rises over the first 6 % and falls to nothing."""
        import torch

        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * min(1.0, (done + 1e-3) / 0.06) * max(0.02, 1 - done)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimiser.step()
        self.steps += 1
        keep = min(self.recipe.average, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            for average, parameter in zip(self.average, (*self.trained, *self.head.parameters()), strict=True):
                average.lerp_(parameter, 1 - keep)

    def scores(self, exchanges: Sequence[Sequence[Window]]) -> list[float]:
        """The logit of P(unsafe) of each, by the averaged weights."""
        import torch

        order = sorted(range(len(exchanges)), key=lambda i: sum(len(window.ids) for window in exchanges[i]))
        scores = [0.0] * len(exchanges)
        self.encoder.eval()
        self._swap()
        with torch.no_grad():
            for begin in range(0, len(order), 32):
                batch = order[begin : begin + 32]
                for index, logit in zip(batch, self.logits([exchanges[i] for i in batch])[:, 0].tolist(), strict=True):
                    scores[index] = logit
        self._swap()
        self.encoder.train()
        return scores

    def _swap(self) -> None:
        import torch

        with torch.no_grad():
            for average, parameter in zip(self.average, (*self.trained, *self.head.parameters()), strict=True):
                kept = parameter.detach().clone()
                parameter.copy_(average)
                average.copy_(kept)

    def adapter(self) -> dict[str, tuple[Any, Any]]:
        """The averaged matrices, as numpy arrays."""
        self._swap()
        pairs = {}
        for name, module in self.maps.items():
            low_rank = module.parametrizations.weight[0]
            pairs[name] = (low_rank.a.detach().numpy().copy(), low_rank.b.detach().numpy().copy())
        self._swap()
        return pairs


def _batches(
    examples: Sequence[Example], windows: Sequence[Sequence[Window]], size: int, shuffle: random.Random
) -> list[list[int]]:
    """Indices in batches of about `size`, of like length so that little is padded, in random order.

    Groups stay whole up to `size`; the larger are dealt in parts. A batch has at most `2 * size` windows, or one part, since
    memory goes by windows: a group of a hundred exchanges in one batch took 24 GB.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        groups[example.group].append(index)
    parts = []
    for members in groups.values():
        shuffle.shuffle(members)
        parts += list(_chunks(members, size))
    shuffle.shuffle(parts)
    lengths = [max(len(w.ids) for w in window) for window in windows]
    batches = []
    for chunk in _chunks(parts, 400):
        batches += list(_packed(sorted(chunk, key=lambda part: max(lengths[i] for i in part)), windows, size))
    shuffle.shuffle(batches)
    return batches


def _chunks(items: list[Item], size: int) -> Iterator[list[Item]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def _packed(parts: Sequence[list[int]], windows: Sequence[Sequence[Window]], size: int) -> Iterator[list[int]]:
    batch: list[int] = []
    load = 0
    for part in parts:
        weight = sum(len(windows[index]) for index in part)
        if batch and (len(batch) >= size or load + weight > 2 * size):
            yield batch
            batch, load = [], 0
        batch, load = batch + part, load + weight
    if batch:
        yield batch


def _auc(examples: Sequence[Example], scores: Sequence[float]) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score([e.unsafe for e in examples], scores))
