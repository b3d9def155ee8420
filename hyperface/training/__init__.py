"""The trainings of a recogniser and of a generator, and what they share: sources of images, the loader, ranks,
progress."""
