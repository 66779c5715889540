"""What a training needs around the loop: its workers, folder, score, progress and cost, its copy at a storage."""
