"""A trained network in use: loading, whole images and tiles, and what is written of them."""
