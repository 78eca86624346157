"""Tables of what every upsampler can do and of the parameters and FLOPs that it adds to a model."""
