"""Other people's programs of the same field, run on our vectors or handed our results."""
