"""AnimateDiff motion modules: attention over the frames, between the blocks of an SD1.5 UNet."""
