"""Instances and their images: what `occlum new`, `build`, `package` and their like do.

`tree` is what goes into an image, whatever it comes from (`bom`, `include`, `debian`, `oci`, a directory); `store`
writes it, the same bytes for the same tree; `instance` is the directory that a user works in, and its build. Running
what was built needs `built` alone, which imports nothing slow.
"""
