"""FaceID: faces as prompts, by the vector of a recogniser, for some kinds with a picture of the face."""
