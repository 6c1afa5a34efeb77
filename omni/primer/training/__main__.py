"""Train all of Primer: ``make train``, or ``python -m omni.primer.training``.

Word pieces, pictures, clips and sound are fitted one after the other, then the transformer; the result is shipped to
``omni/primer/weights``. Each stage goes on from its last checkpoint in ``--out``, so the same command goes on after an
interruption; ``report.html`` in there tells how the transformer comes along. ``make train SMOKE=1`` rehearses all of it
in two minutes and leaves the shipped weights alone. It needs the emoji font and espeak-ng (Debian:
fonts-noto-color-emoji, libespeak-ng1).

A machine with a GPU that has neither is sent a pack of them (``make train-pack``); there ``make train SIZE=mini
PACK=FILE`` trains the transformer alone, on the tokenisers that are shipped. With ``--stop 8.5`` it rests after as many
minutes, and the same command goes on.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import subprocess
import sys
from pathlib import Path

from omni.primer.configuration import SIZES
from omni.primer.processing import TOKENIZERS
from omni.primer.shipping import WEIGHTS
from omni.primer.training import voices, world

log = logging.getLogger(__name__)
SHIPPED = ("config.json", "model.safetensors", *TOKENIZERS)
REHEARSAL = 0.002  # share of the usual minutes
MINUTES = {"image": 40.0, "decoder": 90.0, "audio": 60.0, "model": 120.0}  # on two cores


def stages(
    out: Path,
    size: str,
    share: float,
    of_model: float | None = None,
    stop: float | None = None,
    pack: Path | None = None,
) -> list[list[str]]:
    """The commands of a whole training, in order; ``share`` scales their minutes. With a pack the last one alone."""
    minutes = {name: f"{value * share:.3f}" for name, value in MINUTES.items()}
    model = ["fit_model", "--out", str(out), "--size", size, "--minutes", str(of_model or minutes["model"])]
    model += [] if stop is None else ["--stop", str(stop)]
    if pack is not None:
        return [[*model, "--pack", str(pack)]]
    return [
        ["fit_text", "--out", str(out)],
        ["fit_visual", "image", "--out", str(out), "--minutes", minutes["image"]],
        ["fit_visual", "decoder", "--out", str(out), "--minutes", minutes["decoder"]],
        ["fit_audio", "--out", str(out / "audio.safetensors"), "--minutes", minutes["audio"], "--resume"],
        model,
    ]


def take_tokenizers(out: Path) -> None:
    """Those of the package, where ``out`` has none of its own."""
    out.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZERS:
        if not (out / name).exists():
            shutil.copyfile(WEIGHTS / name, out / name)


def ship(out: Path, weights: Path) -> None:
    """Copy what runs from the training folder to the package."""
    weights.mkdir(parents=True, exist_ok=True)
    for name in SHIPPED:
        shutil.copyfile(out / name, weights / name)
        log.info("shipped %s, %.1f MB", name, (weights / name).stat().st_size / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder of checkpoints; data/training if not given")
    parser.add_argument("--weights", type=Path, help="where the result is shipped to; into the package if not given")
    parser.add_argument("--size", choices=list(SIZES), default="nano")
    parser.add_argument("--share", type=float, default=1.0, help="share of the usual minutes, such as 0.01 to rehearse")
    parser.add_argument("--minutes", type=float, help="of the transformer alone, of which it has 120 on two cores")
    parser.add_argument("--stop", type=float, help="minutes after which the transformer rests, to be gone on with")
    parser.add_argument("--pack", type=Path, help="train the transformer alone, with packed speech and glyphs")
    parser.add_argument("--smoke", action="store_true", help="rehearse everything at the smallest size in two minutes")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    pack = arguments.pack
    if pack is None and (not world.FONT.exists() or not voices.available()):
        sys.exit("Training needs the emoji font and espeak-ng: apt-get install fonts-noto-color-emoji libespeak-ng1")
    size, share, out = arguments.size, arguments.share, arguments.out
    if arguments.smoke:
        if out is None:
            out = Path("data/rehearsal")
            shutil.rmtree(out, ignore_errors=True)
        size, share = "tiny", REHEARSAL
    out = out or Path("data/training")
    apart = arguments.smoke or pack or arguments.stop  # the package keeps its weights
    weights = arguments.weights or (out / "shipped" if apart else WEIGHTS)
    if pack is not None:
        take_tokenizers(out)
    for stage in stages(out, size, share, arguments.minutes, arguments.stop, pack):
        log.info("stage: %s", " ".join(stage))
        subprocess.run([sys.executable, "-m", f"omni.primer.training.{stage[0]}", *stage[1:]], check=True)
    ship(out, weights)


if __name__ == "__main__":
    main()
