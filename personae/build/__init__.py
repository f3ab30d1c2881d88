"""One build of the shards: its manifest and labels, its samples, and any image of them."""
