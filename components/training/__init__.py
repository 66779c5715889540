"""What a training needs around the loop: its folder, its score, its cost, its copy at a storage."""
