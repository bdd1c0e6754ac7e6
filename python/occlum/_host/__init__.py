"""Host side of an enclave: the image, the units users write, and the launch. Not public."""
