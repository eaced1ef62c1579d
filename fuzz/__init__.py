"""Fuzzing: `python fuzz/run.py`. README.md says how it works and what it found."""
