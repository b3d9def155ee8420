"""Training of a recogniser on a dataset: sources of images, loader, margin softmax, trainer."""
