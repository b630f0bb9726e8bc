"""Editing by instruction: InstructPix2Pix checkpoints and their two guidances."""
