"""Make the small media in ``examples/``: ``python -m omni.primer.training.examples``.

Clips need PyAV, which training does not; they are made where it is installed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from omni.primer.training import effects, sounds, voices, world
from omni.primer.training.world import Scene, Thing

SIDE = 256  # pixels
PICTURES = {
    "cat": Scene(Thing("cat"), "blue"),
    "scene": Scene(Thing("penguin"), "green", relation="above", other=Thing("heart", "red")),
    "apples": Scene(Thing("apple"), "yellow", count=3),
}
SPOKEN = {"question": ("what do you see", "ada"), "request": ("draw two fish on blue", "ben")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("examples"))
    out, rng = parser.parse_args().out, np.random.default_rng(11)
    for name, scene in PICTURES.items():
        Image.fromarray(world.draw(scene, rng, SIDE)).save(out / f"{name}.png")
    for name, (words, speaker) in SPOKEN.items():
        soundfile.write(out / f"{name}.wav", voices.speak(words, voices.voice(speaker)).samples, voices.RATE)
    soundfile.write(out / "tone.wav", sounds.tone("g", "bell"), sounds.RATE)
    soundfile.write(out / "owl.wav", effects.effect("owl"), sounds.RATE)


if __name__ == "__main__":
    main()
