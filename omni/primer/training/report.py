"""The diary of a training as one page that needs nothing else: ``python -m omni.primer.training.report --out FOLDER``.

Losses by kind of token, the use of experts by modality, and the answers to the same requests over time.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from omni.primer.training import diary

ASSETS = Path(__file__).parent / "assets"
PAGE = "report.html"
WIDTH, HEIGHT = 320, 120  # of a chart
COLUMNS = 8  # moments at which answers are shown, evenly over the run, the last among them


@dataclass(frozen=True)
class Chart:
    """A line over the steps: its points as SVG wants them, and what stands at its ends."""

    name: str
    points: str
    first: float
    last: float
    least: float
    most: float
    about: str = ""


def write_report(folder: Path) -> Path:
    """Make the page beside the diary in ``folder``."""
    told = diary.entries(folder)
    figures = [one for one in told if "losses" in one]
    looks = [one for one in told if "answers" in one]
    environment = Environment(loader=FileSystemLoader(ASSETS), autoescape=select_autoescape(), trim_blocks=True)
    page = environment.get_template("report.html").render(
        run=next((one["run"] for one in reversed(told) if "run" in one), {}),
        last=figures[-1] if figures else None,
        charts=[*_losses(figures), *_others(figures, looks)],
        looks=_spread(looks),
        modalities=diary.MODALITIES,
        layers=_layers(looks[-1]["experts"]["shares"]) if looks else [],
    )
    path = folder / PAGE
    path.write_text(page)
    return path


def _losses(figures: list[dict[str, Any]]) -> list[Chart]:
    """One chart for each kind of token that is predicted."""
    charts = []
    for name in sorted({name for one in figures for name in one["losses"]}):
        noted = [(one["step"], *one["losses"][name]) for one in figures if name in one["losses"]]
        charts.append(_chart(f"{name}: loss", [(step, loss) for step, loss, _ in noted], f"{noted[-1][2]:.0%} right"))
    return charts


def _others(figures: list[dict[str, Any]], looks: list[dict[str, Any]]) -> list[Chart]:
    charts = []
    if figures:
        charts.append(_chart("learning rate, of its peak", [(one["step"], one["rate"]) for one in figures]))
        charts.append(_chart("tokens a second", [(one["step"], one["tokens_a_second"]) for one in figures]))
    if looks:
        told = [(one["step"], sum(one["experts"]["information"]) / len(one["experts"]["information"])) for one in looks]
        charts.append(_chart("modality told by expert (NMI)", told, "mean of the layers"))
    return charts


def _chart(name: str, noted: list[tuple[int, float]], about: str = "") -> Chart:
    """Steps and values to a chart."""
    steps, values = zip(*noted, strict=True)
    least, most, begin = min(values), max(values), min(steps)
    wide, high = max(1, max(steps) - begin), (most - least) or 1.0
    points = " ".join(
        f"{WIDTH * (step - begin) / wide:.1f},{HEIGHT * (most - value) / high:.1f}" for step, value in noted
    )
    return Chart(name, points, values[0], values[-1], least, most, about)


def _spread(looks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most COLUMNS of them, evenly over the run."""
    if len(looks) <= COLUMNS:
        return looks
    return [looks[round(place * (len(looks) - 1) / (COLUMNS - 1))] for place in range(COLUMNS)]


def _layers(shares: list[list[list[int]]]) -> list[list[list[float]]]:
    """Counts by layer, modality and expert, as shares of the modality's."""
    return [[[count / max(1, sum(experts)) for count in experts] for experts in layer] for layer in shares]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the training")
    print(write_report(parser.parse_args().out))


if __name__ == "__main__":
    main()
