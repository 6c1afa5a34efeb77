"""What training takes from voices and a font, packed for a machine that has neither: ``make train-pack``.

One file: the glyphs as PNG, and dialogues in which somebody speaks, tokenised (100 bytes a second of speech). All else
is drawn, as ever, where it is trained on: ``make train SIZE=mini PACK=FILE``. The pack belongs to the tokenisers that
it was made with.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from omni.primer.processing import TOKENIZERS, Tokenizers
from omni.primer.shipping import WEIGHTS
from omni.primer.training import precision, world
from omni.primer.training.batches import MAX_TOKENS, Sample, Scribe, some_dialogues

log = logging.getLogger(__name__)
FINE = 8  # positions are whole multiples of an eighth
BATCH = 64  # dialogues that are written before their media are encoded
COMPRESSED = 1.35  # bytes that a token takes in the file, about


@dataclass(frozen=True)
class Pack:
    """Packed dialogues, made into samples when they are asked for.

    ``ids`` (T,) uint16, ``steps`` (T, 3) int16: how far a token stands from the one before, in 1 / FINE; ``predicted``
    and ``verdicts`` (T,) bool; ``names`` (T,) uint16: one more than the text id to be named, 0 for none. By sample:
    ``starts`` (S + 1,) int64, ``anchors`` (S,) int16, -1 for none; ``pairs``: the first samples of pairs, ``singles``:
    all other samples.
    """

    ids: np.ndarray
    steps: np.ndarray
    predicted: np.ndarray
    names: np.ndarray
    starts: np.ndarray
    anchors: np.ndarray
    verdicts: np.ndarray
    pairs: np.ndarray
    singles: np.ndarray

    def __call__(self, rng: np.random.Generator, count: int) -> list[Sample]:
        """A sample of its own, or the two of a pair; see batches.Voiced."""
        first = int(rng.choice(self.pairs if count == 2 else self.singles))
        return [self.sample(first + index) for index in range(count)]

    def sample(self, index: int) -> Sample:
        """The sample of that number, as it was written."""
        start, stop = self.starts[index : index + 2]
        sample = Sample()
        sample.sequence.ids = self.ids[start:stop].tolist()
        positions = self.steps[start:stop].cumsum(0, dtype=np.int64) / FINE
        sample.sequence.positions = [tuple(row) for row in positions.tolist()]
        sample.sequence.line = float(positions[-1, 0]) + 1
        sample.predicted = self.predicted[start:stop].tolist()
        named = self.names[start:stop]
        sample.names = {int(place): int(named[place]) - 1 for place in named.nonzero()[0]}
        sample.verdicts = self.verdicts[start:stop].nonzero()[0].tolist()
        sample.anchor = int(self.anchors[index]) if self.anchors[index] >= 0 else None
        return sample


def write_pack(path: Path, groups: Sequence[list[Sample]], tokenizers: str) -> None:
    """Write the glyphs and ``groups`` of one sample, or of two that are a pair; ``tokenizers`` is their fingerprint."""
    samples = [sample for group in groups for sample in group]
    firsts = np.cumsum([0, *(len(group) for group in groups)])[:-1]
    paired = np.array([len(group) == 2 for group in groups])
    lengths = [len(sample.sequence) for sample in samples]
    pictures = [_png(world.glyph_image(character)) for character in world.glyphs()]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(
            file,
            tokenizers=np.array(tokenizers),
            ids=np.concatenate([np.array(sample.sequence.ids, np.uint16) for sample in samples]),
            steps=np.concatenate([_steps(sample) for sample in samples]),
            predicted=np.concatenate([np.array(sample.predicted, bool) for sample in samples]),
            names=np.concatenate([_names(sample) for sample in samples]),
            verdicts=np.concatenate([_verdicts(sample) for sample in samples]),
            starts=np.cumsum([0, *lengths]),
            anchors=np.array([-1 if sample.anchor is None else sample.anchor for sample in samples], np.int16),
            pairs=firsts[paired],
            singles=firsts[~paired],
            glyphs=np.frombuffer(b"".join(pictures), np.uint8),
            glyph_ends=np.cumsum([len(one) for one in pictures]),
        )


def open_pack(path: Path, weights: Path) -> Pack:
    """The packed dialogues; from now on things are drawn with the packed glyphs.

    Raises ValueError where they were made with other tokenisers than those in ``weights``.
    """
    with np.load(path) as stored:
        if str(stored["tokenizers"]) != fingerprint(weights):
            raise ValueError(f"{path} was packed with other tokenisers than those in {weights}.")
        pieces = np.split(stored["glyphs"], stored["glyph_ends"][:-1])
        images = (Image.open(io.BytesIO(piece.tobytes())) for piece in pieces)
        world.use_glyphs(dict(zip(world.glyphs(), images, strict=True)))
        return Pack(**{name: stored[name] for name in Pack.__dataclass_fields__})


def fingerprint(weights: Path) -> str:
    """What tells the tokenisers in a folder from all others."""
    return hashlib.sha256(b"".join((weights / name).read_bytes() for name in TOKENIZERS)).hexdigest()


def _steps(sample: Sample) -> np.ndarray:
    places = np.array(sample.sequence.positions) * FINE
    steps = np.diff(places, axis=0, prepend=0)
    assert (steps == steps.astype(np.int16)).all()
    return steps.astype(np.int16)


def _names(sample: Sample) -> np.ndarray:
    named = np.zeros(len(sample.sequence), np.uint16)
    for place, token in sample.names.items():
        named[place] = token + 1
    return named


def _verdicts(sample: Sample) -> np.ndarray:
    marked = np.zeros(len(sample.sequence), bool)
    marked[sample.verdicts] = True
    return marked


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def voiced(scribe: Scribe) -> Iterator[list[Sample]]:
    """Dialogues and pairs in which somebody speaks, as often as training draws them; endless."""
    while True:
        groups = []
        while len(groups) < BATCH:
            dialogues = some_dialogues(scribe.rng)
            if any(one.voiced for one in dialogues):
                groups.append([scribe.write(dialogue) for dialogue in dialogues])
        scribe.flush()
        yield from (group for group in groups if all(len(sample.sequence) <= MAX_TOKENS for sample in group))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("data/pack.npz"))
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder with the tokenisers")
    parser.add_argument("--megabytes", type=float, default=20.0, help="about how large the file gets")
    parser.add_argument("--minutes", type=float, default=60.0, help="after which it is as large as it is")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    scribe = Scribe(Tokenizers.load(arguments.weights), np.random.default_rng(arguments.seed))
    groups, tokens, started = [], 0, time.monotonic()
    with precision.autocast():
        for group in voiced(scribe):
            groups.append(group)
            tokens += sum(len(sample.sequence) for sample in group)
            if len(groups) % 1000 == 0:
                log.info("%d dialogues, %.1f million tokens", len(groups), tokens / 1e6)
            over = time.monotonic() - started > 60 * arguments.minutes
            if over or tokens * COMPRESSED > arguments.megabytes * 1e6:
                break
    write_pack(arguments.out, groups, fingerprint(arguments.weights))
    log.info("%s: %d tokens, %.1f MB", arguments.out, tokens, arguments.out.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
