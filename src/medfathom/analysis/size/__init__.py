"""Does size predict AUC? Slopes over architectures, their tests, and the verdict."""
