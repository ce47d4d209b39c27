"""Fuzzing with atheris: `python -m fuzz SECONDS [TARGET …]`, or `make fuzz SECONDS=…`.

A target is a module of `targets` with a pure function `one_input(data)`: it gives `data` to a reader
of untrusted bytes and asserts what must hold of every outcome. `corpora` holds the seeds of each
target; what fuzzing finds joins them under a name that says what it was, and stays a test.
"""
