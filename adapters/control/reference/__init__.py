"""Reference control: the model looks at a picture through its own layers, without a control net."""
