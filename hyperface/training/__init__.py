"""What the trainings of a recogniser and of a generator share: sources of images, the loader, ranks, progress."""
