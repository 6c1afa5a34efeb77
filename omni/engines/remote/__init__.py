"""An omni server somebody runs, behind the engine protocol: vLLM-Omni, SGLang-Omni, DashScope, or our own."""
