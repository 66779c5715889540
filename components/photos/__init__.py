"""What `apply` works with: where photos come from, what is made of each, and where results go."""
