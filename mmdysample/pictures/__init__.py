"""Draw predictions, feature maps and sampling points of a model."""
