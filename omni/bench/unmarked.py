"""How often the watermark is seen where it is not: in pictures, sounds and clips that nobody marked with that key.

Most are drawn and spoken anew from the picture book, each another one, and then cropped, scaled, saved with loss, made
noisy or joined; a quarter are noise, soft blots, tones, and media marked with another key. None is an output of Primer.
Each is looked at with a key of its own, in every place and at every size that the check tries.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image as Pillow

from omni.bench import attacks
from omni.exams import questions
from omni.primer.training import sounds, voices, world
from omni.provenance.marks import SpreadSpectrum
from omni.provenance.watermark import Found

log = logging.getLogger(__name__)
RATE = attacks.RATE
SHARES = {"picture": 0.1, "clip": 0.05, "sound": 0.85}  # a picture takes as long as thirty sounds
PICTURE_ATTACKS = ("untouched", "jpeg75", "jpeg50", "webp80", "resize_0.75", "crop10", "screenshot")
SOUND_ATTACKS = ("untouched", "resample_8k", "gain_half", "noise_20db", "trim_1s")


def pictures(rng: np.random.Generator, count: int) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8, each another one."""
    for index in range(count):
        match index % 8:
            case 0:
                small = rng.integers(0, 256, (*rng.integers(8, 200, 2), 3), np.uint8)  # from noise to soft blots
                pixels = np.asarray(Pillow.fromarray(small).resize((256, 256), Pillow.Resampling.BICUBIC))
            case 1:
                another = SpreadSpectrum(rng.bytes(16))
                pixels = another.mark_picture(drawn(rng), int(rng.integers(1024)))
            case _:
                pixels = drawn(rng)
        yield attacks.PICTURES[str(rng.choice(PICTURE_ATTACKS))](pixels, rng)


def drawn(rng: np.random.Generator) -> np.ndarray:
    """A scene of the picture book with its scatter, enlarged as Primer's pictures are."""
    pixels = world.draw(world.random_scene(rng, held_out=bool(rng.integers(2))), rng)
    return np.asarray(Pillow.fromarray(pixels).resize((256, 256), Pillow.Resampling.LANCZOS))


def heard(rng: np.random.Generator, count: int) -> Iterator[np.ndarray]:
    """(N,) float32 at RATE, each another one."""
    for index in range(count):
        match index % 8:
            case 0:
                length = int(rng.integers(RATE // 2, 4 * RATE))
                samples = (0.2 * np.cumsum(rng.standard_normal(length)) / 50).clip(-1, 1).astype(np.float32)
            case 1:
                note, timbre = rng.choice(list(sounds.NOTES)), rng.choice(list(sounds.TIMBRES))
                samples = sounds.tone(str(note), str(timbre), float(rng.uniform(0.5, 3)), rng)
            case 2:
                another = SpreadSpectrum(rng.bytes(16))
                samples = another.sounds.mark(spoken(rng), RATE, int(rng.integers(1024)))
            case _:
                samples = np.concatenate([spoken(rng) for _ in range(int(rng.integers(1, 4)))])
        yield attacks.SOUNDS[str(rng.choice(SOUND_ATTACKS))](samples.astype(np.float32), rng)


def spoken(rng: np.random.Generator) -> np.ndarray:
    """A caption, said by one of the synthetic voices."""
    words = world.caption(world.random_scene(rng, held_out=bool(rng.integers(2))))
    speakers = (*voices.TRAIN_VOICES, *voices.HELDOUT_VOICES)
    return voices.speak(words, questions.pick(rng, speakers)).samples


def clips(rng: np.random.Generator, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames (T, H, W, 3) uint8 and samples at RATE, each another clip."""
    for question in questions.clips_asked(rng, count):
        small, _ = world.animate(question.truth, rng)
        yield np.stack([np.asarray(Pillow.fromarray(one).resize((256, 256))) for one in small]), spoken(rng)


def measure(kind: str, count: int, seed: int, add: Callable[..., None]) -> None:
    """How many alarms a kind's share of ``count`` inputs gave, and the smallest bound that any of them came to."""
    rng = np.random.default_rng([seed, *kind.encode()])
    wanted, smallest, alarms = round(SHARES[kind] * count), 1.0, 0
    for looked, verdict in enumerate(verdicts(kind, rng, wanted), 1):
        smallest, alarms = min(smallest, verdict.p), alarms + verdict.sure
        if looked % 250 == 0:
            log.info("%s: %d of %d looked at, %d alarms, smallest p %.2g", kind, looked, wanted, alarms, smallest)
    add(f"false_{kind}", alarms, "alarms", 0, "lower", wanted)
    add(f"false_{kind}_smallest_p", smallest, "", None, "higher", wanted)


def verdicts(kind: str, rng: np.random.Generator, count: int) -> Iterator[Found]:
    """What is found in ``count`` inputs of a kind, each with a key of its own."""
    if kind == "picture":
        yield from (SpreadSpectrum(rng.bytes(16)).pictures.find(one) for one in pictures(rng, count))
    elif kind == "sound":
        yield from (SpreadSpectrum(rng.bytes(16)).sounds.find(one, RATE) for one in heard(rng, count))
    else:
        yield from (SpreadSpectrum(rng.bytes(16)).find_clip(*one, RATE) for one in clips(rng, count))
