"""
The backbones: one module for each network, or for each family of networks, with its `network`.

`train.backbone.build` imports the module that the parameters name. Nothing else names the networks
(docs/howto/method.md).
"""
