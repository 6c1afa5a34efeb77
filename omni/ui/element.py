"""Parts of the page that draw themselves: a Gradio value and a script in ``assets/`` that shows it.

The template of such an element never holds its value, because Gradio evaluates filled-in templates as code; the
script builds nodes from the value instead.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr

ASSETS = Path(__file__).parent / "assets"


def element(name: str, value: Any, *, uses: tuple[str, ...] = (), render: bool = True, **given: Any) -> gr.HTML:
    """The element drawn by ``assets/<name>.js``, which finds its root in ``element.firstElementChild``.

    ``uses`` names scripts in ``assets/`` that several elements share; they come in front of its own. What the script
    is ``given`` besides the value never changes; as properties of Gradio's it would be lost where an action leaves
    the element as it is.
    """
    scripts = [(ASSETS / f"{script}.js").read_text() for script in ("common", *uses, name)]
    return gr.HTML(
        value,
        html_template=f'<div class="omni-{name}"></div>',
        js_on_load="".join((f"const given = {json.dumps(given)};\n", *scripts)),
        apply_default_css=False,
        elem_id=f"omni-{name}",
        render=render,
    )
