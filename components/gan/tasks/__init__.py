"""Image tasks: what a network is given of an image, and what it is to make of it."""
