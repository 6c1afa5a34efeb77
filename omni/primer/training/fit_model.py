"""Fit the transformer: ``python -m omni.primer.training.fit_model --out FOLDER --minutes 75``.

Next-token loss by modality, the naming of spoken words and shown things, contrast between modalities (InfoNCE), and
what keeps a router healthy. The last two fifths train with weights rounded as they will be shipped. The same command
goes on from its last checkpoint; it runs on a CPU or on a CUDA GPU.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from omni.primer import shipping, vocabulary
from omni.primer.configuration import SIZES, PrimerConfig
from omni.primer.modeling import PrimerForCausalLM, Router
from omni.primer.processing import Tokenizers
from omni.primer.training import diary, precision
from omni.primer.training.batches import Stream
from omni.primer.training.budget import Budget, load_checkpoint, save_checkpoint
from omni.primer.training.optim import muon_for, set_rate
from omni.primer.training.packing import open_pack
from omni.primer.training.report import write_report
from omni.primer.vocabulary import AUDIO_CODES

log = logging.getLogger(__name__)
CHECKPOINT_SECONDS = 600
TOLD_STEPS = 25
DECAY = 0.6  # of a run, in which the learning rate falls
WEIGHTS = {"text": 3.5, "audio": 1.8, "visual": 1.5}
VERDICT = 14.0  # on top of what they weigh as text: few, and hard, since words are compared
NAMING, CONTRAST, OUTPUT_Z, ROUTER_Z, SEQUENCE_BALANCE = 1.0, 3.0, 1e-4, 1e-3, 1e-4
BALANCE_STEP = 1e-3
TEMPERATURE = 0.07
REMEMBERED = 64  # micro-batches whose pairs are negatives for the next ones
PLACES = 256  # hidden states are read in multiples of this
IGNORED = -100
CODED = ("visual", "audio")  # groups of the vocabulary that are codes of a tokeniser
ROUNDED_SHARE = 0.4  # from here on, weights are rounded to four bits in the forward pass
Memory = deque[tuple[Tensor, Tensor]]  # unit vectors (P, C) of told and of shown scenes, one tuple a micro-batch


def loss_of(
    model: PrimerForCausalLM, batch: dict[str, Tensor], predicted: int, report: dict, memory: Memory | None = None
) -> Tensor:
    """The loss of one micro-batch, as its share of a step that predicts ``predicted`` tokens; sums go to ``report``."""
    with halfway(model) as early:
        output = model.model(batch["ids"], batch["positions"])
    hidden, labels = output.last_hidden_state.flatten(0, 1), batch["labels"].flatten()
    total = hidden.new_zeros((), dtype=torch.float32)
    for group, ids in vocabulary.GROUPS.items():
        targets = torch.where((labels >= ids.start) & (labels < ids.stop), labels - ids.start, IGNORED)
        loss, spread = _read(model, hidden, targets, group, group, report)
        total = total + WEIGHTS[group] * loss + OUTPUT_Z * spread
    names = batch["names"].flatten()
    total = total + NAMING * _read(model, hidden, names, "text", "naming", report)[0]
    total = total + NAMING * _read(model, early[0].flatten(0, 1), names, "text", "early naming", report)[0]
    total = total + VERDICT * _read(model, hidden, batch["verdicts"].flatten(), "text", "verdict", report)[0]
    if len(batch["pairs"]):
        memory = deque() if memory is None else memory
        total = total + CONTRAST * contrast(model, output.last_hidden_state, batch["pairs"], memory, report)
    real = batch["ids"] != vocabulary.PAD
    return total / predicted + router_loss(output.routing, real) * real.sum() / predicted


@contextmanager
def halfway(model: PrimerForCausalLM):
    """Inside, each forward pass adds its hidden states (B, L, H) from the middle of the layers, ready for the head.

    What is named there already is there for the layers above to compare with the words of a question (deep supervision,
    arXiv 1409.5185).
    """
    seen: list[Tensor] = []
    layer = model.model.layers[(len(model.model.layers) - 1) // 2]
    hook = layer.register_forward_hook(lambda _module, _given, output: seen.append(model.model.norm(output[0])))
    yield seen
    hook.remove()


def _read(model: PrimerForCausalLM, hidden: Tensor, targets: Tensor, group: str, name: str, report: dict):
    """Summed cross entropy and squared log-normalisers where hidden states (N, H) have a target (N,) in ``group``.

    As many are read as a multiple of PLACES holds: oneDNN compiles a kernel for every new size.
    """
    places = (targets >= 0).nonzero().squeeze(1)
    if not len(places):
        return 0.0, 0.0
    filled = F.pad(places, (0, -len(places) % PLACES))
    logits = model.head(hidden.index_select(0, filled), vocabulary.GROUPS[group])[: len(places)].float()
    normalisers = logits.logsumexp(-1)
    return _cross_entropy(logits, normalisers, targets[places], name, report), normalisers.square().sum()


def _cross_entropy(logits: Tensor, normalisers: Tensor, targets: Tensor, name: str, report: dict) -> Tensor:
    """Summed cross entropy of (N, V) with its log-normalisers (N,); the sum, count and hits are noted as ``name``."""
    loss = (normalisers - logits.gather(1, targets[:, None]).squeeze(1)).sum()
    report[name] += torch.tensor([loss.item(), len(targets), (logits.argmax(-1) == targets).sum().item()])
    return loss


def contrast(model: PrimerForCausalLM, hidden: Tensor, pairs: Tensor, memory: Memory, report: dict) -> Tensor:
    """InfoNCE (arXiv 1807.03748) between the ends of first mentions of one scene; its sum over the pairs.

    A micro-batch has few pairs, so those of earlier ones, in ``memory``, are negatives too (arXiv 1912.06798).
    """
    told, shown = (
        F.normalize(model.contrast(hidden[pairs[:, side], pairs[:, side + 1]]).float(), dim=-1) for side in (0, 2)
    )
    all_told = torch.cat([told, *(earlier for earlier, _ in memory)])
    all_shown = torch.cat([shown, *(earlier for _, earlier in memory)])
    memory.append((told.detach(), shown.detach()))
    targets = torch.arange(len(pairs), device=hidden.device)
    scores = [(one @ others.T).float() / TEMPERATURE for one, others in ((told, all_shown), (shown, all_told))]
    return sum(_cross_entropy(one, one.logsumexp(1), targets, "contrast", report) for one in scores)


def router_loss(routing, real: Tensor) -> Tensor:
    """Small logits, and experts used evenly within a sequence (arXiv 2412.19437); a mean over tokens and layers.

    ``real`` (B, L) says where there is a token and no padding.
    """
    total, weight = 0.0, real[..., None] / real.sum(1)[:, None, None].clamp(min=1)
    rows = real.any(1).sum()
    for layer in routing:
        share = layer.scores / layer.scores.sum(-1, keepdim=True)
        used = F.one_hot(layer.chosen, share.shape[1]).sum(1).float()
        share, used = ((x.view(*real.shape, -1) * weight).sum(1) for x in (share, used))
        balance = (share * used).sum() / rows * share.shape[1] / layer.chosen.shape[1]
        squares = (layer.logits.square().mean(-1) * real.flatten()).sum() / real.sum()
        total = total + ROUTER_Z * squares + SEQUENCE_BALANCE * balance
    return total / len(routing)


@torch.no_grad()
def balance(model: PrimerForCausalLM, counts: list[Tensor]) -> None:
    """Nudge every router's bias towards the experts that got too little (arXiv 2408.15664)."""
    routers = [module for module in model.modules() if isinstance(module, Router)]
    for router, count in zip(routers, counts, strict=True):
        router.balance += BALANCE_STEP * (count.mean() - count).sign()


@contextmanager
def rounded_weights(model: PrimerForCausalLM, active: bool):
    """Inside, the weights are what shipping will leave of them; gradients go to the exact ones (straight through)."""
    if not active:
        yield
        return
    exact = {}
    for name, parameter in model.named_parameters():
        exact[name] = parameter.data
        parameter.data = shipping.rounded(name, parameter.data)
    yield
    for name, parameter in model.named_parameters():
        parameter.data = exact[name]


class Trainer:
    """One run. State: model, optimiser, the clock with the steps done, and the last pairs of the contrast."""

    def __init__(
        self,
        config: PrimerConfig,
        out: Path,
        minutes: float,
        device: str,
        start_from: Path | None = None,
        renew: Sequence[str] = CODED,
        rate: float = 1.0,
        steps: int | None = None,
    ):
        torch.manual_seed(0)
        self.out, self.device = out, device
        self.model = PrimerForCausalLM(config) if start_from is None else shipping.load(start_from).requires_grad_(True)
        _structure_embeddings(self.model, Tokenizers.load(out), CODED if start_from is None else renew)
        self.model.set_experts_implementation("eager")
        self.model.to(device).train()
        self.optimizer = muon_for(
            self.model, lr=0.02 * rate, adam_lr=3e-3 * rate, adam_names=("embed_tokens", "gate.weight")
        )
        self.memory: Memory = deque(maxlen=REMEMBERED)
        step, spent = 0, 0.0
        self.seen: list[dict[str, Tensor]] = []  # the last step
        if state := load_checkpoint(out / "model.checkpoint"):
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            step, spent = state["step"], state["spent"]
        else:
            (out / diary.FILE).unlink(missing_ok=True)
        self.budget = Budget(minutes, spent, steps, step)

    @property
    def step(self) -> int:
        """Steps that were taken."""
        return self.budget.step

    def take_step(self, micro_batches: list[dict[str, Tensor]], report: dict) -> None:
        """Forward, backward and update over all micro-batches of one step."""
        predicted = sum((batch["labels"] >= 0).sum().item() for batch in micro_batches)
        counts = None
        with rounded_weights(self.model, self.budget.share > ROUNDED_SHARE):
            for batch in micro_batches:
                batch = {name: value.to(self.device) for name, value in batch.items()}
                with precision.autocast(self.device), self._counting(batch["ids"]) as counted:
                    loss = loss_of(self.model, batch, predicted, report, self.memory)
                loss.backward()
                counts = counted if counts is None else [a + b for a, b in zip(counts, counted, strict=True)]
                report["tokens"] += (batch["ids"] != vocabulary.PAD).sum().item()
        self.seen = micro_batches
        set_rate(self.optimizer, self.budget.rate(decay=DECAY))
        self.optimizer.step()
        self.optimizer.zero_grad()
        balance(self.model, counts)
        self.budget.step += 1

    @contextmanager
    def _counting(self, ids: Tensor):
        """Tokens by expert of each router, padding left out, filled in as the forward pass goes."""
        counts: list[Tensor] = []
        real = (ids != vocabulary.PAD).flatten()

        def note(module: Router, _, output) -> None:
            counts.append(output[0].chosen[real].flatten().bincount(minlength=len(module.weight)).float())

        hooks = [module.register_forward_hook(note) for module in self.model.modules() if isinstance(module, Router)]
        yield counts
        for hook in hooks:
            hook.remove()

    def save(self) -> None:
        """A checkpoint to go on from, the weights as they would be shipped, and the page that tells of the run."""
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        save_checkpoint(self.out / "model.checkpoint", {**state, "step": self.step, "spent": self.budget.spent})
        shipping.ship(self.model, self.out)
        self._look()

    def _look(self) -> None:
        """Note what the shipped weights answer and which experts they use."""
        shipped = shipping.load(self.out)
        told = diary.answers(shipped, Tokenizers.load(self.out))
        diary.note(self.out, step=self.step, answers=told, experts=diary.expert_use(shipped, self.seen))
        write_report(self.out)

    def _tell(self, report: dict, seconds: float) -> None:
        """Note what the last steps gave."""
        losses = {name: (row[0] / row[1], row[2] / row[1]) for name, row in report.items() if name != "tokens"}
        losses = {name: [round(float(one), 4) for one in pair] for name, pair in sorted(losses.items())}
        rows = "  ".join(f"{name} {loss:.3f} ({right:.0%})" for name, (loss, right) in losses.items())
        share, speed = self.budget.share, report["tokens"] / seconds
        log.info("step %d %.0f%% %.0f tokens/s  %s", self.step, 100 * share, speed, rows)
        figures = {"share": round(share, 4), "seconds": round(self.budget.spent), "tokens_a_second": round(speed)}
        rate = round(self.budget.rate(decay=DECAY), 4)
        diary.note(self.out, step=self.step, **figures, rate=rate, losses=losses)

    def run(self, stream: Iterable[list[dict[str, Tensor]]], stop: float = math.inf) -> None:
        """Train on the steps of ``stream`` until the clock runs out, or for ``stop`` minutes, to be gone on from."""
        config, parameters = self.model.config, sum(one.numel() for one in self.model.parameters())
        told = {"layers": config.num_hidden_layers, "width": config.hidden_size, "experts": config.num_experts}
        diary.note(self.out, run={**told, "parameters": parameters})
        report, saved, last = _fresh_report(), self.budget.spent, self.budget.spent + 60 * stop
        started = self.budget.spent
        for micro_batches in stream:
            self.take_step(micro_batches, report)
            if self.step % TOLD_STEPS == 0:
                self._tell(report, self.budget.spent - started)
                report, started = _fresh_report(), self.budget.spent
            if self.budget.share >= 1 or self.budget.spent > last:
                break
            if self.budget.spent - saved > CHECKPOINT_SECONDS:
                saved = self.budget.spent
                self.save()
        if report["tokens"]:
            self._tell(report, self.budget.spent - started)
        self.save()


@torch.no_grad()
def _structure_embeddings(model: PrimerForCausalLM, tokenizers: Tokenizers, groups: Sequence[str]) -> None:
    """Let the embeddings of FSQ codes start as a random map of their grid points: near codes are near."""
    table = model.model.embed_tokens.weight
    images, audio = tokenizers.image.quantiser, tokenizers.audio
    grids = {"visual": images.grid(torch.arange(images.codes)), "audio": audio.from_codes(torch.arange(AUDIO_CODES))}
    for group in groups:
        start, grid = vocabulary.GROUPS[group].start, grids[group]
        mapped = grid @ torch.randn(grid.shape[1], table.shape[1])
        spread = table.shape[1] ** -0.5  # as a fresh embedding has it
        fresh = torch.randn(len(grid), table.shape[1]) * spread
        table[start : start + len(grid)] = fresh + mapped / mapped.std() * spread


def _fresh_report() -> dict:
    return defaultdict(lambda: torch.zeros(3)) | {"tokens": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="folder with the fitted tokenisers; checkpoints go there"
    )
    parser.add_argument("--size", choices=list(SIZES), default="nano")
    parser.add_argument(
        "--minutes", type=float, default=75.0, help="minutes of training in all, interruptions not counted"
    )
    parser.add_argument("--steps", type=int, help="train by steps, not by the clock: two runs in one go are the same")
    parser.add_argument("--stop", type=float, default=math.inf, help="minutes after which this run rests")
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--tokens", type=int, default=65_536 if on_gpu else 8000, help="tokens a step")
    parser.add_argument(
        "--micro", type=int, default=32_768 if on_gpu else 2400, help="tokens a micro-batch, padding included"
    )
    parser.add_argument(
        "--workers", type=int, default=max(1, (os.cpu_count() or 1) - 2), help="processes that make data"
    )
    parser.add_argument("--pack", type=Path, help="speech and glyphs, for a machine without voices and font")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if on_gpu else "cpu")
    parser.add_argument("--from", dest="start_from", type=Path, help="shipped weights to start from")
    parser.add_argument(
        "--renew", nargs="*", choices=CODED, default=[], help="with --from: codes that another tokeniser makes now"
    )
    parser.add_argument("--rate", type=float, default=1.0, help="share of the usual learning rate, to touch up weights")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    config = PrimerConfig(**SIZES[arguments.size])
    trainer = Trainer(
        config,
        arguments.out,
        arguments.minutes,
        arguments.device,
        arguments.start_from,
        arguments.renew,
        arguments.rate,
        arguments.steps,
    )
    voiced = open_pack(arguments.pack, arguments.out) if arguments.pack else None
    stream = Stream(arguments.out, arguments.tokens, arguments.micro, seed=trainer.step + 1, voiced=voiced)
    trainer.run(DataLoader(stream, batch_size=None, num_workers=arguments.workers), arguments.stop)


if __name__ == "__main__":
    main()
