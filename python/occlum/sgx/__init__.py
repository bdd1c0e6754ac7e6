"""An executable specification of the parts of SGX that Occlum uses, in plain typed Python, with SDM section numbers.

It is the second source for what the Rust code derives: the two share no code, and tests compare them.
"""
