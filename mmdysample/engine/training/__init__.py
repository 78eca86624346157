"""What a training saves beside the weights, and how it goes on."""
