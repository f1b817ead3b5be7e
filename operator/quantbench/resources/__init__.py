"""Pure builders of the objects that the operator creates."""
