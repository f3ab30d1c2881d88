"""
The parameters of networks with a model of their own: one module for each module of train/networks.

Each has a model `Params`, a subclass of `Backbone` (docs/howto/method.md).
"""
