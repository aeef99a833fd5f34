"""Rules: what one is (`rule.py`), how its patterns are searched for (`matching.py`), and the packs that ship (`*.toml`)."""
