"""What every upsampler can do, and what it adds to a model: capabilities, parameters, FLOPs."""
