"""Networks and what judges their results: bundles and their checks, weights, baselines, uncertainty.

Here belongs what both training and inference need of a model. Loops that train belong to `train` and
`train_segmenter`.
"""
