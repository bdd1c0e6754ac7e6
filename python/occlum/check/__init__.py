"""`occlum check`: what of a program will not work in an enclave, and why, before it runs and while it runs.

Parts: `findings` (what is said), `files` (the program and its libraries, as the loader finds them), `static` (reads
them), `observed` (runs the program and watches). `cli/check` prints. Neighbours: `occlum._native` has the table of
system calls, the verifier and the scanner; `occlum.trace` the records of a run.
"""
