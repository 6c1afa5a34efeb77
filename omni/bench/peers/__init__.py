"""What the experts engine is measured against, one arm a module: ``python -m omni.bench.peers ARM --json '{...}'``."""
