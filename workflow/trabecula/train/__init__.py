"""Training: labelled patients, their regions and splits, the networks, and the bundle that is made of them."""
