"""ControlNet-LLLite: small modules that push the inputs of the attention's projections towards a hint."""
