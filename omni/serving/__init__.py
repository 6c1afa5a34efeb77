"""The engine behind the page for programs: the HTTP protocol of OpenAI and of omni servers, beside the page.

Knows the engine's protocol, conversations, media and events; no engine, and nothing of the page.
"""
