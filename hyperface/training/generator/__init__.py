"""Training of a generator, Vec2Face: images by a recogniser's features; losses, discriminator, trainer."""
