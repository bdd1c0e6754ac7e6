"""Configurations: `Occlum.toml` and `Occlum.json` to what the enclave reads.

`models` (pydantic) says what can be written, `files` reads it, `compile` makes of it a `page.Config`, whose bytes are
measured. Running a built instance needs `page` alone, which imports nothing slow.
"""
