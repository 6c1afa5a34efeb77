"""The one error that may reach a user: a sentence that says what to do.

Everything else is a fault of ours: it goes to the log, and the page shows a general sentence.
"""


class OmniError(Exception):
    """A failure with a sentence for the user; the technical cause travels as ``__cause__``.

    The message must be one plain sentence that a visitor can act on.
    """


class Refused(OmniError):
    """An input that is not accepted: wrong kind, too large, damaged, or disguised."""
