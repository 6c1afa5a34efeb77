"""Where a file comes from: signed credentials, a watermark, and a check of any file.

Knows what was said and what an engine makes; no engine, no model, nothing of the page.
"""

from omni.provenance.check import Report, check
from omni.provenance.export import export
from omni.provenance.imprint import Imprint
from omni.provenance.keys import FOLDER, Keys, open_keys
from omni.provenance.uploads import discard, keep_credentials

__all__ = ["FOLDER", "Imprint", "Keys", "Report", "check", "discard", "export", "keep_credentials", "open_keys"]
