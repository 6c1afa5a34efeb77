"""Where a file comes from: signed credentials, a watermark, and a check of any file.

Knows what was said and what an engine makes; no engine, no model, nothing of the page.
"""
