"""T2T-ViT models: the general constructor and the published variants."""
