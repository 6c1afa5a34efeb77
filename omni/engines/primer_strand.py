"""What a Decoder of Primer watches, as a trace of tokens: their modality, what they stand for, their experts."""

from __future__ import annotations

import numpy as np

from omni.engines.primer_writer import Kinds
from omni.engines.trace import Made, Trace
from omni.primer import vocabulary
from omni.primer.processing import Tokenizers
from omni.primer.sampling import Decoder

POOL = "experts"  # the one pool that Primer has


class Strand:
    """Follows one sequence into a trace. State: how far it has come in the sequence and among the routes."""

    def __init__(self, trace: Trace, decoder: Decoder, tokenizers: Tokenizers):
        self.trace, self.decoder, self.tokenizers = trace, decoder, tokenizers
        self.prompt = len(decoder.sequence)
        self.kinds = Kinds()
        self.named = self.routed = 0

    def feed(self) -> None:
        """Bring into the trace what came since the last time."""
        ids, routes = self.decoder.sequence.ids, self.decoder.routes
        for token in ids[self.named :]:
            self.trace.expect([Made(POOL, self.named < self.prompt, self.kinds.of(token), self._piece(token))])
            self.named += 1
        if new := routes[self.routed :]:
            self.trace.arrive(POOL, np.array(new, np.int16))
            self.routed += len(new)

    def _piece(self, token: int) -> str:
        """A word piece, or the name of a mark; a code stands for nothing by itself."""
        if token < vocabulary.TEXT_CODES:
            return self.tokenizers.text.decode([token])
        mark = token - vocabulary.TEXT_CODES
        return vocabulary.MARKS[mark] if mark < len(vocabulary.MARKS) else ""
