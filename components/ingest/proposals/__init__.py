"""What `ganflow init` sees in raw images, and the parameters that it proposes for them."""
